"""What the parts of gpu.py share: where they run, how long they may take, and what becomes of a failure."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from figures import Row

from lrfind.config.registry import load
from lrfind.errors import in_one_line

FAILED, LEFT_OUT = "FAILED: ", "left out: "
"""How the note of a row begins that has no figures because of an error, or for lack of time or memory."""


@dataclass(frozen=True)
class Stage:
    """Where a part runs, and until when.

    Attributes:
        device: the device, "cuda" or "cpu".
        tiny: whether everything has a tiny size, and nothing is compiled, as in the tests.
        precision: the precision of all trainings that are timed.
        ends: when the part should end, by the monotonic clock.
    """

    device: str
    tiny: bool
    precision: str
    ends: float

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.ends - time.monotonic()

    def synchronize(self) -> None:
        """Wait until the device has done all that it was told to do."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the seconds that a work takes, until the device has done it."""
        self.synchronize()
        began = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - began


def attempt(stage: Stage, case: str, what: str, rows: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """Yield the rows that a function makes, unless no time is left.

    If it fails, yield a row that says how, and free the memory that it took.

    Args:
        stage: where it runs, and until when.
        case: the case in the row that is yielded in place of others.
        what: what was to be measured.
        rows: the function.
    """
    if stage.left < 0:
        yield Row(case, what, None, None, LEFT_OUT + "no time was left")
        return
    try:
        yield from rows()
        return
    except Exception as error:
        message = in_one_line(error, 300)
    # Outside of the handler, which keeps the tensors of all functions that the error passed through.
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    yield Row(case, what, None, None, FAILED + message)


def perform(function: str, args: tuple[Any, ...], stage: Stage, sender: Connection) -> None:
    """Do a part in the process that was started for it, and send its rows one by one."""
    if stage.tiny:
        torch.set_num_threads(1)
        torch.compiler.set_stance("force_eager")
    for row in attempt(stage, function, "the part", partial(load(function), stage, *args)):
        sender.send(row)
    sender.send(None)
