"""Calibration: choosing the mode that lanes run in.

A choice must not cost what it saves. So the work of one step decides where it is clear, by the table of
measurements that `lrfind.training.estimate` was fitted to. Both modes are timed only where that is not clear,
and the sweep is long enough for it. A stack is always checked against a single lane.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lrfind.config.sections import LanesSection
from lrfind.errors import in_one_line
from lrfind.problem.problem import Problem
from lrfind.problem.setup import Setup
from lrfind.training.estimate import Estimate
from lrfind.training.explanations.failures import raise_explained
from lrfind.training.kernels import digits_as_usual
from lrfind.training.loop import train
from lrfind.training.mode import Mode
from lrfind.training.remembered import remember_ratio, remembered_ratio
from lrfind.training.stack import Stack
from lrfind.training.stack_check import checked_stack
from lrfind.training.stackable import why_not_stackable
from lrfind.training.work import Work, work_of

SHARE = 0.05
"""The share of a sweep's time that the choice of its mode may take."""
FEWEST_TIMED, MOST_TIMED, ENOUGH_SECONDS = 2, 10, 0.25
UNCLEAR = 1.5
"""Stacks are timed if their estimated speed is within this factor of that of single lanes."""
TEST_STEPS = 20
"""What it costs to check and to time a stack, in steps of the stack."""
STACK_FASTER_BY = 1.1
"""How many times as fast a stack must be in a timing test. The test is short, and long sweeps were slower."""
THREADS_WORTH_TRYING = 2e-3
"""The seconds of a step from which more threads than one may pay."""
FASTER_BY = 1.2
"""How many times as fast several threads must be in their slowest step; a busy machine slows them most."""
FORK_SECONDS, SPEED_BESIDE_OTHERS = 0.05, 0.9
"""What it costs to fork the processes, and their speed beside each other as a share of that alone."""
WORTH_FORKING = 0.1
"""The seconds that processes must save."""
MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Plan:
    """What will be trained.

    Attributes:
        lanes: K, the number of lanes of one seed.
        steps: T, the number of steps of each lane.
        seeds: the number of seeds, each with K lanes.
        lr: the lr of the steps that are taken to choose, at which training is calm.
        cores: the most processes that may train at once; see `lrfind.training.cores.core_count`.
    """

    lanes: int
    steps: int
    seeds: int
    lr: float
    cores: int = 1


def calibrate(problem: Problem, section: LanesSection, plan: Plan, seed: int) -> Mode:
    """Choose the mode for lanes.

    Args:
        problem: what to train.
        section: the mode that the config asks for. A named mode runs on `threads` threads, or else on torch's
            own number of threads, so two runs give the same results to the last digit. If stacked lanes are
            not possible or fail their check, single lanes are used.
        plan: what will be trained.
        seed: the seed of the steps that are taken to choose.

    Raises:
        LrfindError: if a single lane cannot take its first steps.
    """
    return _Calibration(problem, section, plan, seed).mode()


class _Calibration:
    """One choice of a mode, and the time that may still be spent on it."""

    def __init__(self, problem: Problem, section: LanesSection, plan: Plan, seed: int) -> None:
        self._problem, self._section, self._plan, self._seed = problem, section, plan, seed
        self._auto = section.lanes == "auto"
        self._own_threads = section.threads or torch.get_num_threads()
        self._threads = section.threads or (1 if self._auto else torch.get_num_threads())
        self._left = 0.0  # the seconds that may still be spent on the choice

    def mode(self) -> Mode:
        plan, section = self._plan, self._section
        usual = not self._auto
        with computing_with(self._threads, usual):
            step_seconds = self._time_single_lane()
            single = Mode("single", "as requested", self._threads, step_seconds, usual_digits=usual)
            if section.lanes == "single":
                return single
            if plan.lanes < 2:
                reason = "there is one lane for each seed, so there is nothing to stack"
                return self._fastest_single(replace(single, reason=reason))
            obstacle = why_not_stackable(self._problem.setup(self._seed))
            if obstacle:
                return self._fastest_single(replace(single, reason=f"lanes cannot be stacked: {obstacle}"))
            room = self._most_lanes()
            if isinstance(room, str):
                return self._fastest_single(replace(single, reason=room))
            work, most = room
            return self._choose(single, Estimate(work, step_seconds), most)

    def _choose(self, single: Mode, estimate: Estimate, most: int) -> Mode:
        """Choose between stacked and single lanes, from the estimate or, where it is unclear, by timing."""
        plan = self._plan
        size, processes = self._fastest_stacks(estimate, most)
        ratio = estimate.ratio(size)
        signature = self._signature(estimate.work, size)
        earlier = remembered_ratio(signature) if self._auto else None
        on_cpu = self._problem.device.type == "cpu"  # the estimate knows nothing of other devices
        unclear = max(ratio, 1 / ratio) < UNCLEAR or not on_cpu
        timing = not self._auto or (
            unclear and earlier is None and self._left > TEST_STEPS * estimate.stack(size)
        )
        reason, needed = _reason("by the work of a step", "should be about", size, ratio), 1.0
        if earlier is not None:
            ratio, needed = earlier, STACK_FASTER_BY
            reason = _reason("in an earlier timing test on this machine", "were", size, ratio)
        alone = plan.steps * plan.seeds * plan.lanes * single.seconds_per_step
        if not timing and estimate.recording + alone * needed / ratio > alone:
            return self._without_stacks(single, reason, ratio, earlier)
        try:
            stack = checked_stack(self._problem, size, plan.lr, self._seed, compile=self._section.compile)
            measured = None
            if isinstance(stack, Stack) and timing:
                measured = self._time_stack(stack)
        except Exception as error:  # whatever vmap, a tracer or a compiler refuses
            stack = in_one_line(error, 200)
        if isinstance(stack, str):
            reason = f"stacked lanes fail the check against a single one: {stack}"
            return self._fastest_single(replace(single, reason=reason))
        seconds = estimate.stack(size) if measured is None else measured
        if measured is not None:
            ratio, needed = size * single.seconds_per_step / measured, STACK_FASTER_BY
            reason = _reason("in a timing test", "were", size, ratio)
            if self._auto:
                remember_ratio(signature, ratio)
        known = earlier if measured is None else ratio
        if self._auto and ratio < needed:
            return self._without_stacks(single, reason, ratio, known)
        return replace(
            single,
            name="stacked",
            reason=reason if self._auto else f"as requested; {reason}",
            seconds_per_step=seconds / size,
            stack_size=size,
            compile=self._section.compile,
            ratio=known,
            processes=processes,
        )

    def _without_stacks(self, single: Mode, reason: str, ratio: float, known: float | None) -> Mode:
        """Return single lanes, where a stack is `ratio` times as fast."""
        if ratio >= 1:
            reason += ", which is not enough"
        return self._fastest_single(replace(single, reason=reason, ratio=known))

    def _signature(self, work: Work, size: int) -> dict[str, Any]:
        """Return what the ratio of the speeds depends on, besides the machine."""
        setup = self._problem.setup(self._seed)
        return {
            **vars(work),
            "model": type(setup.model).__name__,
            "optimizer": type(setup.optimizer).__name__,
            "precision": setup.recipe.precision,
            "device": self._problem.device.type,
            "threads": self._threads,
            "compile": self._section.compile,
            "lanes": size,
            "torch": torch.__version__,
        }

    def _time_single_lane(self) -> float:
        """Return the seconds of a single lane's step, and set the time that may be spent on the choice."""
        plan = self._plan
        setup = self._problem.setup(self._seed)
        try:
            _step(setup, plan.lr)  # the first step also allocates
            began = time.perf_counter()
            _step(setup, plan.lr)
            seconds = time.perf_counter() - began
            self._left = SHARE * seconds * plan.lanes * plan.seeds * plan.steps - 2 * seconds
            return _median_seconds(lambda: _step(setup, plan.lr), self._left / 4)
        except Exception as error:
            raise_explained(error)

    def _most_lanes(self) -> tuple[Work, int] | str:
        """Return the work of a step and the number of lanes that fit into a stack, or why not even two do."""
        try:
            work = work_of(self._problem.setup(self._seed))
        except Exception as error:  # whatever a user's model refuses
            return f"lanes cannot be stacked: counting the work of a step failed: {in_one_line(error, 200)}"
        memory = self._section.stack_memory
        most = int(memory * GIB / work.memory)
        if most < 2:
            takes = f"one lane of a stack takes {work.memory / MIB:.0f} MiB"
            return f"{takes}, and stack_memory allows {memory:g} GiB"
        return work, most

    def _even_size(self, stacks: int) -> int:
        """Return the size of the stacks if the lanes of a seed are cut into this many even ones."""
        return math.ceil(self._plan.lanes / stacks)

    def _fastest_stacks(self, estimate: Estimate, most: int) -> tuple[int, int]:
        """Return the size of the stacks and the number of processes that train them at once."""
        plan = self._plan
        fewest = math.ceil(plan.lanes / most)
        if not self._auto:
            return self._even_size(fewest), 1

        def seconds(stacks: int, processes: int) -> float:
            rounds = math.ceil(plan.seeds * stacks / processes)
            training = estimate.recording + plan.steps * rounds * estimate.stack(self._even_size(stacks))
            return training if processes == 1 else self._beside(training)

        def fastest(processes: int) -> tuple[float, int]:
            return min((seconds(n, processes), n) for n in range(fewest, math.ceil(plan.lanes / 2) + 1))

        (alone, stacks), (beside, more) = fastest(1), fastest(plan.cores)
        if plan.cores > 1 and beside < alone:
            return self._even_size(more), plan.cores
        return self._even_size(stacks), 1

    def _beside(self, seconds: float) -> float:
        """Return what a process's share of a training costs beside other processes.

        That is more than alone, by what several processes must save to be worth it.
        """
        return seconds / SPEED_BESIDE_OTHERS + FORK_SECONDS + WORTH_FORKING

    def _fastest_single(self, single: Mode) -> Mode:
        """Let single lanes run in several processes or on several threads, where that is faster."""
        plan, seconds = self._plan, single.seconds_per_step
        if not self._auto:
            return single
        lanes = plan.lanes * plan.seeds
        processes = min(plan.cores, lanes)
        share = plan.steps * math.ceil(lanes / processes) * seconds
        if processes > 1 and self._beside(share) < plan.steps * lanes * seconds:
            return replace(single, processes=processes)
        several = self._own_threads if self._problem.device.type == "cpu" else 1
        if several > self._threads and seconds > THREADS_WORTH_TRYING and self._left > 4 * seconds:
            setup = self._problem.setup(self._seed)
            with computing_with(several):
                _step(setup, plan.lr)
                slowest = max(_seconds(lambda: _step(setup, plan.lr)) for _ in range(3))
            if slowest * FASTER_BY < seconds:
                return replace(single, threads=several, seconds_per_step=slowest)
        return single

    def _time_stack(self, stack: Stack) -> float:
        # All steps are timed at once, because a GPU waits wherever a loss is read.
        rows = np.full((MOST_TIMED, stack.lanes), self._plan.lr)
        return _seconds(lambda: stack.train(rows)) / MOST_TIMED


def _reason(source: str, verb: str, lanes: int, ratio: float) -> str:
    """Say how fast stacked lanes are beside single ones, and how this is known."""
    speed = f"{ratio:.2f} times as fast" if ratio >= 1 else f"only {ratio:.2f} times as fast"
    return f"{source}, {lanes} lanes in one stacked model {verb} {speed} as {lanes} lanes one after another"


@contextmanager
def computing_with(threads: int, usual_digits: bool = False) -> Iterator[None]:
    """Let torch compute with `threads` threads inside the block, and with the previous number afterwards.

    Args:
        threads: the number of threads.
        usual_digits: see `Mode`.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with digits_as_usual() if usual_digits else nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


def _step(setup: Setup, lr: float) -> None:
    for _ in train(setup, np.full(1, lr)):
        pass


def _seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _median_seconds(step: Callable[[], object], limit: float) -> float:
    """Return the median time of a step; steps are timed until they took `limit` seconds together."""
    times: list[float] = []
    while len(times) < FEWEST_TIMED or (len(times) < MOST_TIMED and sum(times) < min(limit, ENOUGH_SECONDS)):
        times.append(_seconds(step))
    return float(np.median(times))
