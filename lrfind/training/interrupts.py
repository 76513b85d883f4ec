"""Interruptions: a signal asks a run to stop, and the run stops between two steps.

Python ignores an exception that is raised in a `__del__` or in a hook of `os.fork`, as the workers of a
DataLoader bring them. So a handler that only raises loses signals. Here it leaves a mark, which the training
looks at before every step and every batch of an evaluation.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from lrfind.errors import Stopped

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
AFTER_THIS_STEP = "stopping after this step; press Ctrl-C again to stop at once"
CAME_BACK = (
    "error: your code calls os.fork, and the new process came back into the training, which goes on in the"
    " first process; the new one was ended. End it in your code with os._exit(0)."
)


@dataclass
class _State:
    """What is known of the signals of this process.

    Attributes:
        tell: what shows a line to the person at the terminal.
        process: the process that handles signals; None where `handled` is not in use.
        asked: the number of the first signal; None before it.
        deferring: the number of blocks of `deferred` around the code that runs.
    """

    tell: Callable[[str], None] = lambda text: None
    process: int | None = None
    asked: int | None = None
    deferring: int = 0


_state = _State()


@contextmanager
def handled(tell: Callable[[str], None]) -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP inside the block, and restore their handlers afterwards.

    The first signal stops the run before the next step if it trains at that moment (see `deferred`), and at
    once if it does not; a second signal always stops it at once. A signal that the process was started to
    ignore, as `nohup` does with SIGHUP, stays ignored. Outside of the main thread the block changes nothing,
    because Python allows handlers only there.

    Args:
        tell: what shows a line to the person at the terminal.

    Raises:
        KeyboardInterrupt: after SIGINT.
        Stopped: after SIGTERM and SIGHUP.
    """
    global _state
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    outer, _state = _state, _State(tell, os.getpid())
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: old for number, old in before.items() if old not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, _on_signal)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
        _state = outer


@contextmanager
def deferred() -> Iterator[None]:
    """Let a first signal wait inside the block until the training looks for it, or until the block ends."""
    state = _state
    state.deferring += 1
    try:
        yield
    finally:
        state.deferring -= 1
    if not state.deferring:
        stop_if_asked()


@contextmanager
def unheard_by_children() -> Iterator[None]:
    """Keep Ctrl-C, which a terminal sends to all its processes, from those that are started inside the block.

    Threads and processes inherit the signals that are blocked. Where the system cannot block any, nothing
    happens.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker  # takes a while, and few need it

    resource_tracker.ensure_running()  # else multiprocessing starts it inside, and then unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop_if_asked() -> None:
    """Stop here if a signal has asked for it.

    Raises:
        KeyboardInterrupt: after SIGINT.
        Stopped: after SIGTERM and SIGHUP.
    """
    end_forked_copy()
    if _state.asked is not None:
        raise _interruption(_state.asked)


def leave_to_driver() -> None:
    """Ignore signals in this process, which the run has forked on purpose; its driver tells it to stop."""
    global _state
    _state = _State()
    for name in SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)


def end_forked_copy() -> None:
    """End this process if the user's code forked it from the run, because only one may write the results."""
    if _state.process not in (None, os.getpid()):
        _state.tell(CAME_BACK)
        os._exit(1)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _state.process != os.getpid():  # in a worker of a DataLoader, for example
        if number != signal.SIGINT:  # a Ctrl-C reaches the run too, which ends its workers
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return
    first = _state.asked is None
    _state.asked = number if first else _state.asked
    if not (first and _state.deferring):
        raise _interruption(number)
    if number == signal.SIGINT:
        _state.tell(AFTER_THIS_STEP)


def _interruption(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else Stopped(signal.Signals(number).name)
