"""From lanes to their results: lanes are given to executors, watched, evaluated, pruned and stored."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lrfind.analysis import halving
from lrfind.analysis.lanes import Lane, LaneResult, Watch
from lrfind.errors import Stopped, in_one_line
from lrfind.problem.problem import Problem
from lrfind.problem.randomness import capture, restore
from lrfind.training.calibration import computing_with
from lrfind.training.cores import Keep, Note, train_on_cores
from lrfind.training.executor import Conditions, Executor, LaneRecord, SingleExecutor
from lrfind.training.explanations.failures import raise_explained
from lrfind.training.interrupts import deferred, end_forked_copy, stop_if_asked
from lrfind.training.mode import Mode
from lrfind.training.stack_executor import StackExecutor
from lrfind.training.watch import unwatched


@deferred()
def run_lane(
    problem: Problem,
    lane: Lane,
    conditions: Conditions,
    *,
    keep: Callable[[LaneResult], None] = lambda result: None,
    watch: Watch = unwatched,
    begin: Callable[[SingleExecutor], None] = lambda executor: None,
    paused: Callable[[SingleExecutor], None] = lambda executor: None,
) -> LaneResult:
    """Train one lane to its end or its divergence.

    Args:
        problem: what to train.
        lane: the lane's seed and lrs.
        conditions: what all lanes of the run have in common.
        keep: called with the lane's result as soon as the lane ends. If the lane is interrupted or fails,
            this happens before the exception leaves this function.
        watch: called after every step.
        begin: called with the executor before the first step, to restore the state in which an earlier
            run of the lane stopped.
        paused: called with the executor at every stop of the conditions, after evaluation and pruning.

    Raises:
        LrfindError: if training raises an exception; the lane is kept as failed, with its measurements.
    """

    def interrupted(results: Sequence[LaneResult]) -> None:
        for result in results:  # none before the first step
            keep(result)

    executor = SingleExecutor(problem, lane, conditions, watch)
    begin(executor)
    (result,) = _train(
        [executor], problem, conditions, interrupted=interrupted, paused=lambda: paused(executor)
    )
    keep(result)
    if executor.record.failure is not None:
        raise_explained(executor.record.failure, _where(executor.record))
    return result


@deferred()
def run_lanes(
    problem: Problem,
    lanes: Sequence[Lane],
    conditions: Conditions,
    mode: Mode,
    *,
    keep: Keep,
    watch: Watch = unwatched,
    note: Note = lambda text: None,
    begin: Callable[[SingleExecutor], None] = lambda executor: None,
    paused: Callable[[SingleExecutor], None] = lambda executor: None,
) -> None:
    """Train lanes of any number of seeds in a mode. A lane that fails does not stop the others.

    Args:
        problem: what to train.
        lanes: the lanes, all of the same length.
        conditions: what the lanes have in common.
        mode: how to train them, also with how many threads.
        keep: called with the results of lanes that were trained together (as a stack, or pruned against each
            other) as soon as these have ended; also if they were interrupted.
        watch: called after every step.
        note: called with a sentence when a stack failed and its lanes ran one after another instead.
        begin: called with the executor of a lane that is trained alone, before its first step; see
            `run_lane`. Lanes of a stack, and lanes that are pruned against each other, begin again.
        paused: called with the executor of such a lane at every stop of the conditions.

    Raises:
        LrfindError: if `begin` refuses a lane.
    """
    here = _Here(problem, conditions, mode, begin, paused)
    parts = [[lane for stack in unit for lane in stack] for unit in units(lanes, conditions, mode)]
    processes = min(mode.processes, len(parts))
    with computing_with(mode.threads, mode.usual_digits):
        if processes > 1:
            train_on_cores(processes, parts, here.train, keep=keep, watch=watch, note=note)
        else:
            here.train(lanes, keep, watch, note)


@dataclass(frozen=True)
class _Here:
    """Trains lanes in the process that calls it; see `run_lanes` for the attributes."""

    problem: Problem
    conditions: Conditions
    mode: Mode
    begin: Callable[[SingleExecutor], None]
    paused: Callable[[SingleExecutor], None]

    def train(self, lanes: Sequence[Lane], keep: Keep, watch: Watch, note: Note) -> None:
        """Train lanes, one unit after another."""
        for unit in units(lanes, self.conditions, self.mode):
            members = [lane for stack in unit for lane in stack]
            results: list[LaneResult] | None = None
            try:
                results = self._together(unit, keep, watch)
            except Exception as error:  # of a stack; a single lane records its own failure
                stop_if_asked()
                if len(members) == 1:
                    raise
                note(
                    f"lanes {members[0].lane} to {members[-1].lane} ran one after another, because as a stack"
                    f" they failed ({in_one_line(error, 200)})."
                )
            if results is None:  # outside of the handler, where the error still holds the memory of the stack
                results = self._one_by_one(members, keep, watch)
            keep(results)

    def _together(self, stacks: Sequence[Sequence[Lane]], keep: Keep, watch: Watch) -> list[LaneResult]:
        """Train the stacks of a unit side by side."""
        if len(stacks) == len(stacks[0]) == 1:
            return self._alone(stacks[0][0], keep, watch)
        unpaused = replace(self.conditions, pause_every=None)  # so that their losses are read as seldom
        executors: list[Executor] = [
            SingleExecutor(self.problem, stack[0], unpaused, watch)
            if len(stack) == 1
            else StackExecutor(self.problem, stack, unpaused, watch, compile=self.mode.compile)
            for stack in stacks
        ]
        return _train(executors, self.problem, unpaused, interrupted=keep)

    def _alone(self, lane: Lane, keep: Keep, watch: Watch) -> list[LaneResult]:
        executor = SingleExecutor(self.problem, lane, self.conditions, watch)
        self.begin(executor)
        return _train(
            [executor],
            self.problem,
            self.conditions,
            interrupted=keep,
            paused=lambda: self.paused(executor),
        )

    def _one_by_one(self, members: Sequence[Lane], keep: Keep, watch: Watch) -> list[LaneResult]:
        """Train the lanes of a stack that failed."""
        if self.conditions.rungs:  # then the lanes are compared on the way
            return self._together([[lane] for lane in members], keep, watch)
        done: list[LaneResult] = []
        try:
            for lane in members:
                done += self._alone(lane, keep, watch)
        except (KeyboardInterrupt, Stopped):
            keep([replace(result, outcome="interrupted") for result in done])
            raise
        return done


def units(lanes: Sequence[Lane], conditions: Conditions, mode: Mode) -> list[list[list[Lane]]]:
    """Divide lanes into the units that can be trained independently, each a list of stacks.

    A unit is one stack, or one single lane. With pruning it is all the stacks of a group, because they train
    side by side and are pruned against each other.
    """
    parts = []
    for group in stackable_groups(lanes):
        size = 1 if _reacts_to_gradients(group[0]) else mode.stack_size
        stacks = [group[at : at + size] for at in range(0, len(group), size)]
        parts += [stacks] if conditions.rungs else [[stack] for stack in stacks]
    return parts


def _train(
    executors: Sequence[Executor],
    problem: Problem,
    conditions: Conditions,
    *,
    interrupted: Callable[[Sequence[LaneResult]], None],
    paused: Callable[[], None] = lambda: None,
) -> list[LaneResult]:
    """Train lanes of one seed side by side, from one stop to the next.

    Args:
        executors: the executors of the lanes.
        problem: what to train.
        conditions: what the lanes have in common.
        interrupted: called with the results so far if an interruption stops the training.
        paused: called after every stop.

    Returns:
        One result for each lane.
    """
    threads = torch.get_num_threads()
    records = [record for executor in executors for record in executor.records]
    steps, done = records[0].lane.lr.size, len(records[0].steps)
    generators: dict[int, Any] = {}  # number of an executor -> random state of its dropout and loader
    try:
        for stop in (stop for stop in conditions.stops(steps) if stop > done):
            for number, executor in enumerate(executors):
                live = [record for record in executor.records if not record.outcome]
                began = time.perf_counter()
                if number in generators:
                    restore(generators[number])
                if live:
                    executor.advance(stop)
                    if conditions.evaluated_at(stop, steps):
                        executor.evaluate(stop)
                    end_forked_copy()
                if len(executors) > 1:
                    generators[number] = capture(problem.generators)
                for record in live:
                    record.seconds += (time.perf_counter() - began) / len(live)
            if stop in conditions.rungs:
                _prune(records, conditions.rungs.index(stop), conditions.prune_by_val_loss)
            paused()
    except (KeyboardInterrupt, Stopped):
        # All lanes, also those that had ended, because `resume` must train and prune them together again.
        cut = [record.result("interrupted") for record in records if record.steps]
        interrupted([replace(result, outcome="interrupted", rung=None) for result in cut])
        raise
    finally:
        if torch.get_num_threads() != threads:  # the user's code changed it, for this lane
            torch.set_num_threads(threads)
    return [record.result("finished") for record in records]


def stackable_groups(lanes: Sequence[Lane]) -> list[list[Lane]]:
    """Group the lanes that one stack can train together, seed after seed.

    Lanes of one stack share the seed and, where their schedules move the momentum, also the momentum. Lanes
    whose lr follows the norm of their gradient form groups of their own, because a stack does not measure
    that norm.
    """
    groups: dict[tuple[Any, ...], list[Lane]] = {}
    for lane in sorted(lanes, key=lambda lane: lane.seed):
        momentum = None if lane.momentum is None else lane.variant
        groups.setdefault((lane.seed, momentum, _reacts_to_gradients(lane)), []).append(lane)
    return list(groups.values())


def _reacts_to_gradients(lane: Lane) -> bool:
    return lane.reaction is not None and lane.reaction.to == "grad_norm"


def _prune(records: Sequence[LaneRecord], rung: int, by_val_loss: bool) -> None:
    live = [record for record in records if not record.outcome]
    if by_val_loss:
        val_losses = [[evaluation.val_loss for evaluation in record.evaluations] for record in live]
        losses = [min(filter(math.isfinite, values), default=math.inf) for values in val_losses]
    else:
        losses = [halving.recent_loss(record.steps.loss) for record in live]
    survivors = halving.survivors(losses, len(records), rung)
    for place, record in enumerate(live):
        if place not in survivors:
            record.outcome, record.rung = "pruned", rung


def _where(record: LaneRecord) -> str:
    """Say in which lane training failed, and at which step and lr; "" for the first step."""
    step, lane = len(record.steps), record.lane
    if step == 0:
        return ""
    lr = lane.lr[min(step, lane.lr.size - 1)]  # the last update comes after the last step
    return f"training failed in lane {lane.lane} (seed {lane.seed}) at step {step}, lr {lr:.3g}"
