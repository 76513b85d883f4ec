"""Verification: trainings at and around a rate, whole ones or a share of them, and a verdict on it."""

from __future__ import annotations

from collections.abc import Sequence

from lrfind.analysis.lanes import SETTLED, LaneResult, Shape, Watch, planned_lanes
from lrfind.analysis.verification import VERIFY, Verdict, verdict_on, verified_lrs
from lrfind.config.experiment import Experiment
from lrfind.config.sections import FindSection
from lrfind.experiments.prepare import (
    Job,
    Trainable,
    evaluate_once,
    mode_plan,
    schedule_shape,
    training_conditions,
    training_steps,
)
from lrfind.experiments.spread import LaneSource, one_threaded, spread_lanes
from lrfind.problem.problem import Problem, from_config
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.training.calibration import calibrate
from lrfind.training.executor import Conditions
from lrfind.training.mode import Mode
from lrfind.training.run import run_lane, run_lanes
from lrfind.training.team import Team
from lrfind.training.watch import Observer, unwatched


def verify_rate(
    problem: Problem,
    lr: float,
    shape: Shape,
    section: FindSection,
    seed: int,
    *,
    watch: Watch = unwatched,
) -> tuple[Verdict, list[LaneResult]]:
    """Train at and around a rate, with the planned schedule, and judge the rate by the training loss.

    Args:
        problem: what to train.
        lr: the rate.
        shape: the shape of the schedule, with the steps of each training.
        section: the number of seeds.
        seed: the first seed.
        watch: called after every step.
    """
    planned = planned_lanes({VERIFY: verified_lrs(lr, section.verify_beyond)}, seed, section.verify_seeds)
    conditions = Conditions(evaluated=False)
    results = [run_lane(problem, lane.shaped(shape), conditions, watch=watch) for lane in planned]
    return verdict_on(lr, results, "train_loss"), results


def verify_run(
    run: Run, result: RunResult, problem: Problem, resolved: str, observer: Observer, team: Team | None
) -> None:
    """Train at and around the answer of a run, each time from the same weights and on the same batches.

    Args:
        run: the run.
        result: its record and summary.
        problem: what to train.
        resolved: the YAML of the experiment that describes the problem, for workers.
        observer: is called as the trainings go on.
        team: the workers that train; None to train in this process.
    """
    experiment, section = run.experiment, run.experiment.find
    facts = result.facts
    assert facts.planned_training is not None  # it is stored before probing
    steps = experiment.find.verify_steps(facts.planned_training["steps"])
    shape = schedule_shape(experiment, problem, steps)
    verified = result.answer["lr"] if facts.verified is None else facts.verified
    lrs = verified_lrs(verified, section.verify_beyond)
    run.keep_facts(verified=lrs[1])
    # The lanes that have not settled yet.
    assert facts.planned is not None
    first = facts.planned - len(lrs) * section.verify_seeds
    planned = planned_lanes({VERIFY: lrs}, experiment.seed, section.verify_seeds, first)
    settled = {lane.lane for lane in result.lanes if lane.outcome in SETTLED}
    pending = [lane for lane in planned if lane.lane not in settled]
    if not pending:
        return
    if facts.metric is None:
        run.keep_facts(metric=evaluate_once(problem, experiment.seed)[0])
    if team is not None:
        section = one_threaded(experiment, "find").find
    plan = mode_plan(problem, section, pending, steps, {VERIFY})
    mode = calibrate(problem, section, plan, experiment.seed)
    watch = observer.watch(first + len(planned), steps)
    if team is not None:
        source = LaneSource(resolved, "find", (mode,), "lrfind.experiments.verify:prepare_verification")
        spread_lanes(team, source, pending, steps, keep=run.add_lanes, watch=watch, note=run.add_note)
        return
    lanes = [lane.shaped(shape) for lane in pending]
    run_lanes(problem, lanes, training_conditions(experiment), mode, keep=run.add_lanes, watch=watch)


def prepare_verification(experiment: Experiment, command: str, modes: Sequence[Mode]) -> Trainable:
    """Prepare the verifying trainings on a worker; see `lrfind.experiments.spread.LaneSource`."""
    problem = from_config(experiment)
    steps = experiment.find.verify_steps(training_steps(experiment.training, problem))
    shape = schedule_shape(experiment, problem, steps)
    return Trainable([Job(problem, modes[0], {VERIFY: shape})], training_conditions(experiment))
