"""Cores: parts of a sweep in several processes of this machine, which are forked from the run.

A forked process has the data and the recorded steps of the run from its beginning, so it starts within
milliseconds. It trains one part after another and sends the results; only the run itself writes them. A team
(`lrfind.training.team`) does the same on other machines, on GPUs and where processes cannot be forked.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from typing import Any

import torch

from lrfind.analysis.lanes import Lane, LaneResult, Watch
from lrfind.errors import LrfindError, Stopped
from lrfind.training.interrupts import deferred, leave_to_driver, stop_if_asked
from lrfind.training.watch import rows_of, watch_reported
from lrfind.training.worker import Answer, answer_of

LOOK_SECONDS = 0.1
"""The longest time between two looks for a signal, and the least between two reports of a part."""
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


Keep = Callable[[Sequence[LaneResult]], None]
"""A function of the results of lanes that were trained together, called as soon as these have ended."""
Note = Callable[[str], None]
"""A function of a sentence for the user."""
TrainPart = Callable[[Sequence[Lane], Keep, Watch, Note], None]
"""A function that trains the lanes of one part in the process that calls it."""


def core_count(device: torch.device) -> int:
    """Return the number of processes that lanes can be trained in at once; 1 where none can be forked.

    Only Linux forks a process safely that has used torch, and only where no GPU is in use: a forked process
    can use neither the GPU nor the threads of the backward pass that torch starts for one.
    """
    safe = sys.platform == "linux" and device.type == "cpu" and not torch.cuda.is_available()
    inside = multiprocessing.parent_process() is not None
    return len(os.sched_getaffinity(0)) if safe and not inside else 1


@deferred()
def train_on_cores(
    processes: int,
    parts: Sequence[Sequence[Lane]],
    train: TrainPart,
    *,
    keep: Keep,
    watch: Watch,
    note: Note,
) -> None:
    """Train parts of a sweep that do not depend on each other, several at a time.

    If a process dies, its part is trained in this process after all the others, as are the parts that no
    process is left for.

    Args:
        processes: the number of processes.
        parts: the lanes of each part.
        train: trains one part in whatever process it is called in.
        keep: called with the results of a part as soon as it ends, also if it was interrupted.
        watch: called with the steps that the processes report.
        note: called with a sentence for the user.

    Raises:
        LrfindError: if `train` raises one.
    """
    waiting, died = deque(parts), list[Sequence[Lane]]()
    stop = mmap.mmap(-1, 1)  # shared with the forked processes; 1 asks them to stop
    with _forked(processes, stop, train) as idle, contextlib.closing(stop):
        busy: dict[Any, Sequence[Lane]] = {}
        interruption: BaseException | None = None
        while busy or (waiting and idle and interruption is None):
            if interruption is None:
                _hand_out(waiting, idle, busy)
            ready: list[Any] = connection.wait([*busy], LOOK_SECONDS)
            for worker in ready:
                try:
                    message = worker.recv()
                except (EOFError, OSError):
                    died.append(busy.pop(worker))
                    continue
                if not isinstance(message, _Ended):
                    watch_reported(watch, *message)
                    continue
                del busy[worker]
                idle.append(worker)
                if message.results:
                    keep(message.results)
                for text in message.notes:
                    note(text)
                try:
                    message.answer.unwrap()
                except (LrfindError, RuntimeError, Stopped) as error:
                    interruption = interruption or error
            try:
                stop_if_asked()
            except (KeyboardInterrupt, Stopped) as error:
                interruption = error
            stop[0] = interruption is not None
        if interruption is not None:
            raise interruption
    for part in died:
        first, last = part[0].lane, part[-1].lane
        lanes = f"lane {first}" if first == last else f"lanes {first} to {last}"
        note(
            f"the process that trained {lanes} died, perhaps because the memory was full; the process of the"
            " run trained this part again."
        )
    for part in [*died, *waiting]:
        train(part, keep, watch, note)


@dataclass(frozen=True)
class _Ended:
    """What a process sends when a part has ended: its results, notes, and what `train` raised."""

    results: Sequence[LaneResult]
    notes: Sequence[str]
    answer: Answer


def _hand_out(waiting: deque[Sequence[Lane]], idle: list[Any], busy: dict[Any, Sequence[Lane]]) -> None:
    """Give waiting parts to processes that have nothing to do."""
    while waiting and idle:
        worker, part = idle.pop(), waiting.popleft()
        try:
            worker.send(part)
            busy[worker] = part
        except OSError:  # it died while it had nothing to do
            waiting.appendleft(part)


@contextmanager
def _forked(processes: int, stop: mmap.mmap, train: TrainPart) -> Iterator[list[Any]]:
    """Fork the processes and yield the connections to them; afterwards kill those that live."""
    context = multiprocessing.get_context("fork")
    workers, ours = [], list[Any]()
    try:
        for _ in range(processes):
            end, theirs = context.Pipe()
            arguments = (theirs, stop, train, os.getpid())
            worker = context.Process(target=_serve, args=arguments, name="lrfind-lanes")
            with warnings.catch_warnings():  # of a fork beside threads, which these processes do not use
                warnings.simplefilter("ignore", DeprecationWarning)
                worker.start()
            theirs.close()  # so that the death of the process shows as the end of the connection
            workers.append(worker)
            ours.append(end)
        yield [*ours]
    finally:
        for worker, end in zip(workers, ours, strict=True):
            end.close()
            worker.kill()  # giving back its memory takes it 20 ms, which nothing has to wait for


def _serve(driver: Any, stop: mmap.mmap, train: TrainPart, parent: int) -> None:
    """Train the parts that the driver sends, until it closes the connection."""
    leave_to_driver()
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before this process could ask to die with it
        os._exit(1)
    reported = time.monotonic()

    def watch(lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
        nonlocal reported
        if stop[0]:
            raise Stopped("the run stops")
        if time.monotonic() - reported >= LOOK_SECONDS:
            reported = time.monotonic()
            driver.send((rows_of(lanes, step), step, [*losses]))

    with contextlib.suppress(EOFError, OSError):
        while True:
            part, results, notes = driver.recv(), list[LaneResult](), list[str]()
            answer = answer_of(partial(train, part, results.extend, watch, notes.append))
            driver.send(_Ended(results, notes, answer))
