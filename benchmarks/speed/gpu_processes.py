"""Part of gpu.py: several processes that share the GPU, each with a bare eager loop, beside one of them."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection

import torch
from figures import Row
from gpu_cases import CASES, BareLoop
from gpu_stage import Stage, attempt

from lrfind.errors import counted, in_one_line

PROCESSES, TINY_PROCESSES = 8, 2
TURNS, TURN_SECONDS, TINY_TURN_SECONDS, WARM_STEPS = 5, 0.5, 0.05, 10
AT_ONCE = 5  # steps between two looks at the clock
GIB = 2**30


def processes(stage: Stage) -> Iterator[Row]:
    """Yield a row for each case: how many steps a second the processes take together."""
    count = TINY_PROCESSES if stage.tiny else PROCESSES
    with _workers(stage, count) as workers:
        for name in CASES:
            what = counted(count, "process")
            yield from attempt(stage, name, what, partial(_rows, stage, workers, name))


@contextmanager
def _workers(stage: Stage, count: int) -> Iterator[list[Connection]]:
    """Yield the connections to processes that take orders; the processes end with the block."""
    context = multiprocessing.get_context("fork")  # which works as long as CUDA has not begun here
    pairs = [context.Pipe() for _ in range(count)]
    started = [context.Process(target=_work, args=(stage, theirs), daemon=True) for _, theirs in pairs]
    for process, (_, theirs) in zip(started, pairs, strict=True):
        process.start()
        theirs.close()
    try:
        yield [ours for ours, _ in pairs]
    finally:
        for process, (ours, _) in zip(started, pairs, strict=True):
            ours.close()
            process.kill()
            process.join()


def _rows(stage: Stage, workers: list[Connection], name: str) -> Iterator[Row]:
    before = _memory_in_use(stage)
    _ask(workers, name)
    memory = f", {(_memory_in_use(stage) - before) / GIB:.2f} GiB" if stage.device == "cuda" else ""
    window = TINY_TURN_SECONDS if stage.tiny else TURN_SECONDS
    together, alone = list[float](), list[float]()
    for turn in range(2 if stage.tiny else TURNS):
        if turn and stage.left < 0:
            break
        alone += _ask(workers[:1], window)
        together.append(sum(_ask(workers, window)))
    speed = statistics.median(together)
    ratio = statistics.median(many / one for many, one in zip(together, alone, strict=True))
    turns = counted(len(together), "turn")
    note = f"{speed:,.0f} lane-steps a second ({turns}){memory}; one process {statistics.median(alone):,.0f}"
    yield Row(name, counted(len(workers), "process"), 1 / speed, ratio, note)


def _ask(workers: list[Connection], order: str | float) -> list[float]:
    """Give the same order to workers, and return their answers.

    Raises:
        RuntimeError: if one of them failed; the message is its own.
    """
    for worker in workers:
        worker.send(order)
    answers = [worker.recv() for worker in workers]
    failure = next((answer for answer in answers if isinstance(answer, str)), None)
    if failure is not None:
        raise RuntimeError(failure)
    return answers


def _memory_in_use(stage: Stage) -> int:
    """Return the bytes of the GPU that all processes take."""
    if stage.device != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free


def _work(stage: Stage, orders: Connection) -> None:
    """Take orders: the name of a case, to begin with it, or the seconds for which to train it.

    The answer to a name is 0, to seconds the steps a second, and to what fails the message.
    """
    torch.set_num_threads(1)
    loop: BareLoop | None = None
    with suppress(EOFError, BrokenPipeError):
        while True:
            order = orders.recv()
            try:
                if isinstance(order, str):
                    loop = None  # which gives its memory back before the next one takes some
                    case = CASES[order]
                    loop = BareLoop(case.problem(stage), case.rates(1)[0])
                    loop.advance(WARM_STEPS)
                    stage.synchronize()
                    answer: float | str = 0.0
                else:
                    assert loop is not None
                    answer = _steps_a_second(loop, stage, order)
            except Exception as error:
                answer = in_one_line(error, 300)
            orders.send(answer)


def _steps_a_second(loop: BareLoop, stage: Stage, seconds: float) -> float:
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        loop.advance(AT_ONCE)
        stage.synchronize()
        steps += AT_ONCE
    return steps / (time.perf_counter() - began)
