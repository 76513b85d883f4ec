"""From lanes to their results: in teams, watched, evaluated, pruned and kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lrfind.analysis import halving
from lrfind.analysis.lanes import Lane, LaneResult
from lrfind.errors import LrfindError, Stopped
from lrfind.problem.problem import Problem
from lrfind.problem.randomness import capture, restore
from lrfind.training.calibration import Engine
from lrfind.training.explanations.failures import first_steps_failed
from lrfind.training.team import Alone, Conditions, Record, Stacked, Team
from lrfind.training.watch import Watch, unwatched


def run_lane(
    problem: Problem,
    lane: Lane,
    conditions: Conditions,
    *,
    keep: Callable[[LaneResult], None] = lambda result: None,
    watch: Watch = unwatched,
    begin: Callable[[Alone], None] = lambda alone: None,
    paused: Callable[[Alone], None] = lambda alone: None,
) -> LaneResult:
    """Train one lane to its end or its divergence.

    Args:
        problem: what to train.
        lane: its seed and lrs.
        conditions: as for every lane of the run.
        keep: given the lane's result as soon as it ends; also when it was interrupted or failed, before the
            exception goes on.
        watch: told of every step.
        begin: given the lane before its first step, to put it where an earlier run of it has come to.
        paused: given the lane at every stop of the conditions, with all that belongs to that stop done.

    Raises:
        LrfindError: if training raises; the lane is kept as failed, with what it had measured.
    """

    def interrupted(results: Sequence[LaneResult]) -> None:
        for result in results:  # none before the first step
            keep(result)

    team = Alone(problem, lane, conditions, watch)
    begin(team)
    (result,) = _train([team], problem, conditions, interrupted=interrupted, paused=lambda: paused(team))
    keep(result)
    (record,) = team.records
    if record.failure is not None:
        raise _explained(record) from record.failure
    return result


def run_lanes(
    problem: Problem,
    lanes: Sequence[Lane],
    conditions: Conditions,
    engine: Engine,
    *,
    keep: Callable[[Sequence[LaneResult]], None],
    watch: Watch = unwatched,
    note: Callable[[str], None] = lambda text: None,
) -> None:
    """Train lanes of any number of seeds, as the engine says. A lane that fails does not stop the others.

    Args:
        problem: what to train.
        lanes: all of the same length.
        conditions: what they have in common.
        engine: how to train them.
        keep: given the results of lanes that were trained together (as a stack, or pruned against each
            other) as soon as they have ended; also when they were interrupted.
        watch: told of every step.
        note: told when a stack failed and its lanes were run alone instead.
    """

    def together(chunks: Sequence[Sequence[Lane]]) -> list[LaneResult]:
        teams: list[Team] = [
            Alone(problem, chunk[0], conditions, watch)
            if len(chunk) == 1
            else Stacked(problem, chunk, conditions, watch, compile=engine.compile)
            for chunk in chunks
        ]
        return _train(teams, problem, conditions, interrupted=keep)

    def one_by_one(group: Sequence[Lane]) -> list[LaneResult]:
        if conditions.rungs:  # then they are compared on the way
            return together([[lane] for lane in group])
        done: list[LaneResult] = []
        try:
            for lane in group:
                done += together([[lane]])
        except (KeyboardInterrupt, Stopped):
            keep([replace(result, outcome="interrupted") for result in done])
            raise
        return done

    for queue in companies(lanes):
        size = 1 if _reacts_to_gradients(queue[0]) else engine.chunk
        chunks = [queue[at : at + size] for at in range(0, len(queue), size)]
        for group in [chunks] if conditions.rungs else [[chunk] for chunk in chunks]:
            members = [lane for chunk in group for lane in chunk]
            try:
                results = together(group)
            except (Exception, SystemExit) as error:  # of a stack: a lane alone notes its own
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                which = f"lanes {members[0].lane} to {members[-1].lane}"
                note(f"{which} ran one after another: as a stack they failed ({reason}).")
                results = one_by_one(members)
            keep(results)


def _train(
    teams: Sequence[Team],
    problem: Problem,
    conditions: Conditions,
    *,
    interrupted: Callable[[Sequence[LaneResult]], None],
    paused: Callable[[], None] = lambda: None,
) -> list[LaneResult]:
    """Train teams of one seed side by side, from one stop to the next.

    Args:
        teams: of lanes of one seed.
        problem: what to train.
        conditions: what the lanes have in common.
        interrupted: given what was measured when an interruption goes through.
        paused: called after every stop.

    Returns:
        A result a lane.
    """
    records = [record for team in teams for record in team.records]
    steps, done = records[0].lane.lr.size, len(records[0].steps)
    generators: dict[int, Any] = {}  # by team: what its dropout and its loader draw from
    try:
        for stop in (each for each in conditions.stops(steps) if each > done):
            for number, team in enumerate(teams):
                live = [record for record in team.records if not record.outcome]
                began = time.perf_counter()
                if number in generators:
                    restore(generators[number])
                if live:
                    team.advance(stop)
                    if conditions.evaluated_at(stop, steps):
                        team.evaluate(stop)
                if len(teams) > 1:
                    generators[number] = capture(problem.generators)
                for record in live:
                    record.seconds += (time.perf_counter() - began) / len(live)
            if stop in conditions.rungs:
                _prune(records, conditions.rungs.index(stop))
            paused()
    except (KeyboardInterrupt, Stopped):
        # All of them, also those that had ended: on resume they must be trained, and pruned, together again.
        cut = [record.result("interrupted") for record in records if record.steps]
        interrupted([replace(result, outcome="interrupted", rung=None) for result in cut])
        raise
    return [record.result("finished") for record in records]


def companies(lanes: Sequence[Lane]) -> list[list[Lane]]:
    """The lanes that may train as one stack, seed after seed.

    They have the seed in common and a momentum, where their schedules move it; and those whose lr follows
    the norm of their gradient, which a stack does not measure, are apart.
    """
    found: dict[tuple[Any, ...], list[Lane]] = {}
    for lane in sorted(lanes, key=lambda lane: lane.seed):
        momentum = None if lane.momentum is None else lane.variant
        found.setdefault((lane.seed, momentum, _reacts_to_gradients(lane)), []).append(lane)
    return list(found.values())


def _reacts_to_gradients(lane: Lane) -> bool:
    return lane.reaction is not None and lane.reaction.to == "grad_norm"


def _prune(records: Sequence[Record], rung: int) -> None:
    live = [record for record in records if not record.outcome]
    recent = [halving.recent_loss([step.loss for step in record.steps]) for record in live]
    going_on = halving.survivors(recent, len(records), rung)
    for place, record in enumerate(live):
        if place not in going_on:
            record.outcome, record.rung = "pruned", rung


def _explained(record: Record) -> LrfindError:
    """What to tell when a lane failed."""
    error, step, lane = record.failure, len(record.steps), record.lane
    assert error is not None
    if isinstance(error, LrfindError) or step == 0:
        return first_steps_failed(error)
    lr = lane.lr[min(step, lane.lr.size - 1)]  # the last update comes after the last step
    return LrfindError(
        f"training failed in lane {lane.lane} (seed {lane.seed}) at step {step}, lr {lr:.3g}:"
        f" {type(error).__name__}: {' '.join(str(error).split())}"
    )
