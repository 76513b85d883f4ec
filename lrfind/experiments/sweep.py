"""Sweeps: whole trainings side by side, round after round, until there are no more peaks to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from lrfind.analysis.lanes import SETTLED, LaneResult, PlannedLane
from lrfind.config.variants import Variant
from lrfind.errors import Stopped
from lrfind.experiments.checkpoint import LaneCheckpoints, pause_steps
from lrfind.experiments.prepare import Prepared, environment, prepare
from lrfind.experiments.rounds import rounds_of
from lrfind.runs.best import conclude
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.training.calibration import computing_with
from lrfind.training.mode import Mode
from lrfind.training.run import run_lanes
from lrfind.training.watch import Observer


def run_sweep(run: Run, observer: Observer) -> RunResult:
    """Run a grid, a search or a comparison, or continue it: lanes whose outcome is final are kept.

    Args:
        run: a run directory that this process has locked.
        observer: is called as the run goes on, to show progress.

    Raises:
        LrfindError: if the model or the data cannot be made or trained as described.
    """
    facts = run.facts()
    try:
        prepared = prepare(run.experiment, facts.command, [Mode(**mode) for mode in facts.modes])
        if not facts.modes:
            run.keep_facts(
                environment=environment(prepared.jobs[0].problem.device),
                data=prepared.jobs[0].problem.data,
                metric=prepared.metric,
                modes=[asdict(mode) for mode in prepared.modes],
                notes=[*prepared.notes],
            )
        observer.prepared(prepared.cost, prepared.modes)
        while planned := next_lanes(run, prepared.variants):
            _run_round(run, prepared, planned, observer)
    except (KeyboardInterrupt, Stopped):
        conclude(run)
        raise
    return conclude(run)


def _run_round(run: Run, prepared: Prepared, planned: Sequence[PlannedLane], observer: Observer) -> None:
    """Run the planned lanes, job after job, and store them as they end.

    A lane that is trained alone keeps a checkpoint in the run directory until it has ended.
    """
    every = run.experiment.training.checkpoint_every
    checkpoints = LaneCheckpoints(run.folder, run.facts().resolved, every)

    def keep(results: Sequence[LaneResult]) -> None:
        run.add_lanes(results)
        checkpoints.remove(result.lane for result in results if result.outcome in SETTLED)

    watch = observer.watch(max(prepared.cost.lane_count, planned[-1].lane + 1), prepared.steps)
    for job in prepared.jobs:
        lanes = job.lanes(planned)
        if lanes:
            pause = pause_steps(every, job.mode.seconds_per_step)
            with computing_with(job.mode.threads):
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


def next_lanes(run: Run, variants: Sequence[Variant]) -> list[PlannedLane]:
    """Return the planned lanes that have not settled; if there are none, plan new rounds until there are.

    A repaired run may have lanes without a plan. Its rounds are planned again, each from the results that
    were known when it was planned first, so that they are the same.
    """
    outcomes = run.outcomes()
    rounds = rounds_of(run.experiment, run.facts().command)
    while True:
        plan = run.plan()
        pending = [lane for lane in plan if outcomes.get(lane.lane) not in SETTLED]
        if pending:
            return pending
        known = {lane.lane for lane in plan}
        if plan:
            lanes = rounds.next(plan, [lane for lane in run.lanes() if lane.lane in known])
        else:
            lanes = rounds.first({v.name: v.experiment.optimizer.lr for v in variants})
        done = [*plan, *lanes]
        run.add_plan(lanes, rounds.lanes_in_all(done) if lanes else len(done))
        if not lanes:
            return []
