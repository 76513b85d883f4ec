"""Parts of gpu.py: K lanes as one stack, beside the same lanes one after another in a bare loop."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import torch
from figures import Row
from gpu_cases import CASES, SEED, BareLoop, References, without_tf32
from gpu_stage import FAILED, LEFT_OUT, Stage, attempt
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import Lane
from lrfind.errors import counted
from lrfind.problem.problem import Problem
from lrfind.training.executor import Conditions
from lrfind.training.stack import Stack
from lrfind.training.stack_executor import StackExecutor
from lrfind.training.watch import unwatched

NUMBERS, TINY_NUMBERS = (8, 32, 1, 128, 2, 64, 4, 16), (2,)
"""The numbers of lanes, the most telling ones first."""
COMPILED, TINY_COMPILED = 32, 2
"""The number of lanes that are also compiled."""
TURNS, TURN_SECONDS = 5, 0.1
CHECKED_STEPS, WARM_STEPS = 6, 3
CLOSE = {"float32": 1e-4, "bfloat16": 2e-2}
"""Relative, by precision: how far losses may differ because a stack sums in another order."""
MOST_STEPS = 1_000_000
GIB = 2**30


class Way(Protocol):
    """One way to train lanes.

    Attributes:
        lanes: K, the number of lanes that a step trains.
        losses: the losses (T, K) so far.
    """

    lanes: int

    def advance(self, steps: int) -> None:
        """Take so many further steps with every lane."""

    @property
    def losses(self) -> Array: ...


class Stacked:
    """Lanes that lrfind trains as one stack, with all that it does in a sweep between two evaluations."""

    def __init__(self, problem: Problem, rates: Array, *, compile: bool = False) -> None:
        lanes = [
            Lane(number, SEED, np.broadcast_to(lr, MOST_STEPS)) for number, lr in enumerate(rates.tolist())
        ]
        conditions = Conditions(evaluated=False)
        self._executor = StackExecutor(problem, lanes, conditions, unwatched, compile=compile)
        self.lanes = len(lanes)

    def advance(self, steps: int) -> None:
        """Take so many further steps.

        Raises:
            RuntimeError: if a lane has diverged, since the stack would then train fewer lanes.
        """
        records = self._executor.records
        self._executor.advance(len(records[0].steps) + steps)
        ended = [record.lane.peak for record in records if record.outcome]
        if ended:
            raise RuntimeError(f"the lane at lr {ended[0]:.3g} diverged")

    @property
    def losses(self) -> Array:
        """The losses (T, K) so far."""
        return np.array([[step.loss for step in record.steps] for record in self._executor.records]).T


class Replayed:
    """Lanes as one stack whose whole step, with its update, is recorded as one CUDA graph and replayed.

    On the CPU, which has no such graphs, the same step is taken anew each time.
    """

    def __init__(self, problem: Problem, rates: Array) -> None:
        self._batch = tuple(torch.empty_like(part) for part in next(problem.setup(SEED).batches))
        setup = problem.setup(SEED)
        self._stack, self._batches = Stack(setup, len(rates)), setup.batches
        (self._lr,) = self._stack._update.rates(rates[None])
        self.lanes, self._losses = len(rates), list[Tensor]()
        self._replay: Callable[[], Tensor] = self._step
        if problem.device.type == "cuda":
            self._replay = self._captured()

    def _step(self) -> Tensor:
        losses, gradients = self._stack.gradients(self._batch)
        self._stack._update.step(gradients, self._lr)
        return losses

    def _captured(self) -> Callable[[], Tensor]:
        """Take the first steps, which make the optimizer's state, and capture the step after them."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self.advance(WARM_STEPS)
        torch.cuda.current_stream().wait_stream(side)
        for group in self._stack._update.optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True  # a fused optimizer counts its steps on the GPU anyway
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            losses = self._step()

        def replay() -> Tensor:
            graph.replay()
            return losses

        return replay

    def advance(self, steps: int) -> None:
        """Take so many further steps."""
        for _ in range(steps):
            for place, part in zip(self._batch, next(self._batches), strict=True):
                place.copy_(part)
            self._losses.append(self._replay().clone())

    @property
    def losses(self) -> Array:
        """The losses (T, K) so far."""
        table: Array = torch.stack(self._losses).cpu().double().numpy()
        return table


def _written_out(problem: Problem, rates: Array) -> Stacked:
    """Return a stack that records attention as matrix products and a softmax, each for all lanes at once.

    torch's one kernel for the backward pass of attention runs lane by lane in a stack.
    """
    problem.setup(SEED).recordings.clear()
    with sdpa_kernel(SDPBackend.MATH):
        way = Stacked(problem, rates)
        way.advance(1)
    return way


class Comparison:
    """Ways to train lanes of one case, each beside a bare eager loop.

    Args:
        stage: where they run.
        name: the name of the case.
    """

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name, self.case = stage, name, CASES[name]
        self.problem = self.case.problem(stage)
        self._references = References(self.problem, CHECKED_STEPS)
        self._loop_memory = self._memory(self._begin_loop)
        self.loop_seconds: list[float] = []

    def _begin_loop(self) -> None:
        self._loop = BareLoop(self.problem, self.case.rates(1)[0])
        self._loop.advance(WARM_STEPS)

    def rows(self, what: str, lanes: int, make: Callable[[], Way], *, checked: bool = True) -> Iterator[Row]:
        """Yield the row of one way.

        Args:
            what: its name.
            lanes: the number of lanes that the row names.
            make: makes the way; a second one trains as the first did.
            checked: whether its losses are compared with those of lanes by themselves.
        """
        gc.collect()  # what is left of the way before this one
        remark = self._remark_on_losses(make) if checked else ""
        ways: list[Way] = []

        def begin() -> None:
            ways.append(make())
            ways[0].advance(WARM_STEPS)

        memory = self._memory(begin)
        times, loop_times = self._turns([ways[0], self._loop])
        self.loop_seconds += loop_times
        ratio = statistics.median(loop / own for loop, own in zip(loop_times, times, strict=True))
        seconds = statistics.median(times)
        yield Row(self.label(lanes), what, seconds, ratio, f"{remark}{_speed(seconds, times)}{memory}")

    def label(self, lanes: int) -> str:
        return f"{self.name}, {counted(lanes, 'lane')}"

    def row_of_the_loop(self) -> Row:
        """Return the row of the bare eager loop, over all turns so far."""
        seconds = statistics.median(self.loop_seconds)
        note = f"{_speed(seconds, self.loop_seconds)}{self._loop_memory}"
        return Row(self.label(1), "bare eager loop", seconds, 1.0, note)

    def _remark_on_losses(self, make: Callable[[], Way]) -> str:
        """Compare the first losses of every lane with those of the lane by itself."""
        with without_tf32():
            way = make()
            way.advance(CHECKED_STEPS)
            ours, rates = way.losses[:CHECKED_STEPS], self.case.rates(way.lanes).tolist()
            alone = self._references.losses(rates, self.stage.ends - 0.8 * self.stage.left)
        difference = float(np.max(np.abs(ours[:, : alone.shape[1]] / alone - 1)))
        agree = "" if difference <= CLOSE[self.stage.precision] else FAILED
        of_all = "" if alone.shape[1] == way.lanes else f"{alone.shape[1]} of "
        lanes = counted(way.lanes, "lane")
        return f"{agree}losses of {of_all}{lanes} differ by {difference:.1e} at most; "

    def _memory(self, work: Callable[[], None]) -> str:
        """Return, in words, the most memory of the GPU that a work takes."""
        if self.stage.device != "cuda":
            work()
            return ""
        gc.collect()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return f", {(torch.cuda.max_memory_allocated() - before) / GIB:.2f} GiB"

    def _turns(self, ways: Sequence[Way]) -> list[list[float]]:
        """Return the seconds of a step of one lane, for each way in each turn."""
        stage, times = self.stage, [list[float]() for _ in ways]
        length = 0.0 if stage.tiny else TURN_SECONDS
        steps = [max(1, round(length / stage.seconds(partial(way.advance, 1)))) for way in ways]
        for turn in range(2 if stage.tiny else TURNS):
            if turn and stage.left < 0:
                break
            for way, count, seconds in zip(ways, steps, times, strict=True):
                seconds.append(stage.seconds(partial(way.advance, count)) / count / way.lanes)
        return times


def _speed(seconds: float, times: Sequence[float]) -> str:
    return f"{1 / seconds:,.0f} lane-steps a second ({counted(len(times), 'turn')})"


def lanes(stage: Stage, name: str) -> Iterator[Row]:
    """Yield the rows of a case: stacks of 1 to 128 lanes, and compiled ones, beside the bare loop."""
    comparison = Comparison(stage, name)
    too_many = math.inf
    took: dict[int, float] = {}  # number of lanes -> the seconds of all that was done with it
    for count in TINY_NUMBERS if stage.tiny else NUMBERS:
        label, began = comparison.label(count), time.monotonic()
        if count >= too_many:
            yield Row(label, "stacked", None, None, LEFT_OUT + "fewer lanes did not fit into the memory")
            continue
        if _expected(took, count) > stage.left:
            yield Row(label, "stacked", None, None, LEFT_OUT + "they would take longer than what is left")
            continue
        for what, make in _stacks(comparison, count).items():
            for row in attempt(stage, label, what, partial(comparison.rows, what, count, make)):
                yield row
                if row.note.startswith(f"{FAILED}OutOfMemoryError"):
                    too_many = count
        took[count] = time.monotonic() - began
    if comparison.loop_seconds:
        yield comparison.row_of_the_loop()
    yield from _compiled(comparison)


def _expected(took: Mapping[int, float], count: int) -> float:
    """Return the seconds that so many lanes will take, by those that the most similar number took."""
    if not took:
        return 0.0
    similar = min(took, key=lambda other: abs(math.log(other / count)))
    return took[similar] * max(1.0, count / similar)


def _stacks(comparison: Comparison, count: int) -> dict[str, Callable[[], Way]]:
    """Return the ways to stack so many lanes that are not compiled; the first two share a recording."""
    rates, problem = comparison.case.rates(count), comparison.problem
    ways: dict[str, Callable[[], Way]] = {
        "stacked": partial(Stacked, problem, rates),
        "stacked, CUDA graph": partial(Replayed, problem, rates),
    }
    if comparison.name == "GPT":
        ways["stacked, written out"] = partial(_written_out, problem, rates)
    return ways


def _compiled(comparison: Comparison) -> Iterator[Row]:
    """Yield the rows of what torch compiles. They come last, because compiling takes an unknown time."""
    stage, case = comparison.stage, comparison.case
    count = TINY_COMPILED if stage.tiny else COMPILED
    problem, rates = comparison.problem, case.rates(count)
    ways: dict[str, tuple[int, Callable[[], Way], bool]] = {
        "stacked, compiled": (count, partial(Stacked, problem, rates, compile=True), True),
        "compiled loop": (1, partial(BareLoop, problem, rates[0], compile=True), False),
    }
    for what, (number, make, checked) in ways.items():
        rows = partial(comparison.rows, what, number, make, checked=checked)
        yield from attempt(stage, comparison.label(number), what, rows)
