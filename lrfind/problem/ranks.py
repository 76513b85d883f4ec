"""Ranks: the processes of `torch.distributed` that train one model together, each on its own batches.

All ranks must take the same decisions, so losses are averaged over the ranks before anything is decided. A
rank that raises must not leave the others waiting in a collective operation, which nothing can interrupt. So
the work runs in a thread of its own; the main thread watches the other ranks through the key-value store of
the process group, and gives the work up if one of them failed.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from lrfind.errors import LrfindError, in_one_line

T = TypeVar("T")

POLL_SECONDS = 0.1  # between looks at the other ranks
GRACE_SECONDS = 3.0  # for a rank to notice itself that another one failed, or to fail in the same way
LONGEST_FAREWELL = 60.0  # seconds that a rank waits at the end for the others


def rank_count() -> int:
    """Return the number of processes that train together; 1 without an initialised process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    return dist.get_world_size()


def is_first_rank() -> bool:
    """Return whether this process is the only one, or the first of several."""
    return rank_of_this_process() == 0


def rank_of_this_process() -> int:
    """Return the number of this process among those that train together, from 0."""
    return 0 if rank_count() == 1 else dist.get_rank()


def together(work: Callable[[], T], undo: Callable[[], None]) -> T:
    """Do the same work on all ranks; if it fails on one of them, fail on all.

    Args:
        work: the work; `over_ranks` and `all_agree` work inside it.
        undo: sets back what the work changed; called if the work had to be given up.

    Raises:
        LrfindError: if the work failed on another rank; the message is that of the other rank.
    """
    if rank_count() == 1:
        return work()
    return _Session().run(work, undo)


def over_ranks(value: float) -> float:
    """Return the mean of a number over all ranks; it is not finite if the number is not on one of them."""
    session: _Session | None = getattr(_of_thread, "session", None)
    return value if session is None else session.mean(value)


def all_agree(decision: bool) -> bool:
    """Return whether a decision is true on all ranks."""
    return over_ranks(float(decision)) == 1.0


def on_any_rank(fact: bool) -> bool:
    """Return whether a fact holds on at least one rank."""
    return over_ranks(float(fact)) > 0


_of_thread = threading.local()  # the thread that does the work has its session here
_numbers = itertools.count()  # all ranks count their sessions alike


class _Session:
    """One piece of work that all ranks do together."""

    def __init__(self) -> None:
        self._rank, self._count, self._number = dist.get_rank(), dist.get_world_size(), next(_numbers)
        from torch.distributed import distributed_c10d as c10d  # not in every build of torch

        self._store = c10d.PrefixStore(f"lrfind/{self._number}", c10d._get_default_store())
        self._group: Any = None
        self._done, self._stopped = threading.Event(), False
        self._result: list[Any] = []
        self._error: BaseException | None = None

    def mean(self, value: float) -> float:
        if self._stopped:
            raise KeyboardInterrupt
        tensor = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(tensor, group=self._group)
        return float(tensor) / self._count

    def run(self, work: Callable[[], T], undo: Callable[[], None]) -> T:
        thread = threading.Thread(target=self._work, args=(work, _thread_state()), daemon=True)
        thread.start()
        self._wait(undo)
        if self._error is not None:
            raise self._error
        self._say("ended")
        self._part()
        result: T = self._result[0]
        return result

    def _work(self, work: Callable[[], Any], state: Callable[[], Any]) -> None:
        """Do the work, in the thread for it, in the same torch state as the main thread's."""
        _of_thread.session = self
        try:
            with state():
                self._group = dist.new_group(backend="gloo")
                try:
                    self._result.append(work())
                finally:
                    if not self._stopped:
                        dist.destroy_process_group(self._group)
        except BaseException as error:
            self._error = error
            self._say("failed", str(error) if isinstance(error, LrfindError) else in_one_line(error))
        finally:
            self._done.set()

    def _wait(self, undo: Callable[[], None]) -> None:
        """Wait for the work to end here, unless it fails on another rank."""
        try:
            while not self._done.wait(POLL_SECONDS):
                failure = self._failure_elsewhere()
                if failure is not None and not self._done.wait(GRACE_SECONDS):
                    raise failure
        except BaseException as error:
            self._stopped = True
            if isinstance(error, KeyboardInterrupt):
                self._say("failed", "it was interrupted")
                self._done.wait(GRACE_SECONDS)
            undo()
            raise
        failure = self._failure_elsewhere()
        if failure is not None and (self._error is None or not isinstance(self._error, LrfindError)):
            self._error = failure  # this rank only lost the connection to the other one

    def _part(self) -> None:
        """Wait until the work has ended on all ranks; raise if it failed on one."""
        until = time.monotonic() + LONGEST_FAREWELL
        while True:
            if (failure := self._failure_elsewhere()) is not None:
                raise failure
            if self._store.check([f"ended/{rank}" for rank in range(self._count)]):
                return
            if time.monotonic() > until:
                raise LrfindError(f"another of the {self._count} ranks neither ended nor failed in time.")
            time.sleep(POLL_SECONDS)

    def _say(self, what: str, text: str = "") -> None:
        self._store.set(f"{what}/{self._rank}", text)

    def _failure_elsewhere(self) -> LrfindError | None:
        for rank in range(self._count):
            if rank != self._rank and self._store.check([f"failed/{rank}"]):
                text = self._store.get(f"failed/{rank}").decode()
                return LrfindError(f"rank {rank} of {self._count} failed, so all ranks stop: {text}")
        return None


def _thread_state() -> Callable[[], Any]:
    """Return a context that gives another thread the torch state of this one, which belongs to a thread."""
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    casts = [(kind, torch.get_autocast_dtype(kind)) for kind in kinds]
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    device = torch.get_default_device()
    current = torch.cuda.current_device() if torch.cuda.is_available() else None

    @contextmanager
    def state() -> Iterator[None]:
        torch.set_num_threads(threads)
        with ExitStack() as stack:
            if current is not None:
                stack.enter_context(torch.cuda.device(current))
            if device.type != "cpu":
                stack.enter_context(device)
            for kind, dtype in casts:
                stack.enter_context(torch.autocast(kind, dtype))
            stack.enter_context(torch.set_grad_enabled(grad))
            yield

    return state
