"""Sweeps: whole trainings side by side, round after round, until there are no more peaks to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

from lrfind.analysis.lanes import SETTLED, LaneResult, PlannedLane, Shape, Watch
from lrfind.config.variants import Variant, variants_of
from lrfind.errors import LrfindError, Stopped, UsageError
from lrfind.experiments.checkpoint import LaneCheckpoints, pause_steps
from lrfind.experiments.prepare import Prepared, prepare
from lrfind.experiments.rounds import Rounds, rounds_of
from lrfind.experiments.spread import LaneSource, outlook_of, spread_lanes
from lrfind.problem.problem import Problem
from lrfind.problem.ranks import rank_count
from lrfind.runs.best import conclude
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.training.executor import Conditions
from lrfind.training.mode import Mode
from lrfind.training.run import run_lane, run_lanes
from lrfind.training.team import Team
from lrfind.training.watch import Observer, unwatched


def run_sweep(run: Run, observer: Observer, team: Team | None = None) -> RunResult:
    """Run a grid, a search or a comparison, or continue it: lanes whose outcome is final are kept.

    Args:
        run: a run directory that this process has locked.
        observer: is called as the run goes on, to show progress.
        team: the workers that train the lanes; None to train them in this process.

    Raises:
        LrfindError: if the model or the data cannot be made or trained as described.
    """
    facts = run.facts()
    variants, modes = variants_of(run.experiment, facts.command), [*map(Mode.stored, facts.modes)]
    rounds = rounds_of(run.experiment, facts.command)
    checkpoints = LaneCheckpoints(run.folder, facts.resolved, run.experiment.training.checkpoint_every)
    try:
        if team is None:
            prepared = prepare(run.experiment, facts.command, modes)
            outlook, train = prepared.outlook, partial(_run_round, run, prepared, checkpoints)
        else:
            source = LaneSource(facts.resolved, facts.command, tuple(modes))
            outlook = outlook_of(team, source)
            train = partial(
                _spread_round, run, team, replace(source, modes=tuple(outlook.modes)), outlook.steps
            )
        if not facts.modes or facts.environment is None:  # a repaired run may have lost it
            run.keep_facts(
                environment=outlook.environment,
                data=outlook.data,
                metric=outlook.metric,
                modes=[asdict(mode) for mode in outlook.modes],
                notes=[*outlook.notes],
            )
        observer.prepared(outlook.cost, outlook.modes)
        while planned := next_lanes(run, rounds, variants):
            lanes = max(outlook.cost.lane_count, planned[-1].lane + 1)
            train(planned, observer.watch(lanes, outlook.steps))
        checkpoints.remove(run.outcomes())  # left where a lane was stored just before a kill
    except (KeyboardInterrupt, Stopped):
        conclude(run)
        raise
    return conclude(run)


def _run_round(
    run: Run,
    prepared: Prepared,
    checkpoints: LaneCheckpoints,
    planned: Sequence[PlannedLane],
    watch: Watch,
) -> None:
    """Run the planned lanes in this process, job after job, and store them as they end.

    A lane that is trained alone keeps a checkpoint in the run directory until it has ended.
    """
    every = run.experiment.training.checkpoint_every

    def keep(results: Sequence[LaneResult]) -> None:
        run.add_lanes(results)
        checkpoints.remove(result.lane for result in results if result.outcome in SETTLED)

    for job in prepared.jobs:
        lanes = job.lanes(planned)
        if lanes:
            pause = pause_steps(every, job.mode.seconds_per_step)
            run_lanes(
                job.problem,
                lanes,
                replace(prepared.conditions, pause_every=pause),
                job.mode,
                keep=keep,
                watch=watch,
                note=run.add_note,
                begin=checkpoints.begin,
                paused=checkpoints.paused,
            )


def _spread_round(
    run: Run, team: Team, source: LaneSource, steps: int, planned: Sequence[PlannedLane], watch: Watch
) -> None:
    """Run the planned lanes on a team, and store them as they arrive."""
    spread_lanes(team, source, planned, steps, keep=run.add_lanes, watch=watch, note=run.add_note)


def train_rounds(
    problem: Problem,
    rounds: Rounds,
    lrs: Mapping[str, float],
    shapes: Mapping[str, Shape],
    conditions: Conditions,
    *,
    watch: Watch = unwatched,
) -> list[LaneResult]:
    """Train the lanes of all rounds one after another, without a run directory, and return their results.

    Args:
        problem: what to train.
        rounds: the rounds.
        lrs: variant -> the lr of its optimizer, around which peaks may lie.
        shapes: variant -> the shape of its schedule.
        conditions: what all lanes have in common.
        watch: called after every step.

    Raises:
        LrfindError: if a lane cannot take its first step. Other lanes may fail; but none of several processes
            that train together may, since the others would wait for it.
    """
    results, plan = list[LaneResult](), list[PlannedLane]()
    following = rounds.first(lrs)
    while following:
        plan += following
        for lane in following:
            try:
                run_lane(
                    problem, lane.shaped(shapes[lane.variant]), conditions, keep=results.append, watch=watch
                )
            except LrfindError:
                if rank_count() > 1 or not results[-1].lr.size:
                    raise
        following = rounds.next(plan, results)
    return results


def next_lanes(run: Run, rounds: Rounds, variants: Sequence[Variant]) -> list[PlannedLane]:
    """Return the planned lanes that have not settled; if there are none, plan new rounds until there are.

    A repaired run may have lanes without a plan. Its rounds are planned again, each from the results that
    were known when it was planned first, so that they are the same.

    Raises:
        UsageError: if the sampler of a search fails; the message says how to continue the run.
    """
    outcomes = run.outcomes()
    while True:
        plan = run.plan()
        pending = [lane for lane in plan if outcomes.get(lane.lane) not in SETTLED]
        if pending:
            return pending
        known = {lane.lane for lane in plan}
        if plan and rounds.only_one:
            lanes = []
        elif plan:
            try:
                lanes = rounds.next(plan, [lane for lane in run.lanes() if lane.lane in known])
            except UsageError as error:
                kept = f"The lanes so far are kept; after a change, run `{run.resume_command}` to continue."
                raise UsageError(f"{error}\n{kept}") from error
        else:
            lanes = rounds.first({v.name: v.experiment.optimizer.lr for v in variants})
        done = [*plan, *lanes]
        run.add_plan(lanes, rounds.lanes_in_all(done) if lanes else len(done))
        if not lanes:
            return []
