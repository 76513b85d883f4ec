"""The experiment with a run's answer in it, and the files that conclude a run."""

from __future__ import annotations

from dataclasses import replace

from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.recommendation import moved_lr
from lrfind.config.experiment import Experiment, dump
from lrfind.config.shapes import shape_of
from lrfind.config.variants import with_lr, with_multipliers
from lrfind.errors import UsageError, counted, in_shell
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.runs.summaries.find import group_multipliers
from lrfind.runs.summary import read_result


def conclude(run: Run, result: RunResult | None = None) -> RunResult:
    """Write tables, summary and, where the run chose a rate among several, the config with that rate.

    Args:
        run: the run.
        result: the record and summary of the run; they are read from the run when omitted.

    Returns:
        The result.
    """
    result = result or read_result(run)
    run.export(result.lanes)
    if result.facts.environment is not None:
        run.write_json("environment.json", {**(result.facts.origin or {}), **result.facts.environment})
    run.write_json("summary.json", result.summary)
    best = best_experiment(result)
    if best is not None:
        run.write("best.yaml", _purpose(result) + dump(best))
    return result


def _purpose(result: RunResult) -> str:
    """Return comments that say which training the rate of a `find` is for; empty for other runs."""
    if result.facts.planned_training is None:
        return ""
    planned = PlannedTraining(**result.facts.planned_training)
    return (
        f"# The lr is for {planned.in_words}.\n"
        f"# `lrfind train --from {in_shell(result.path)} --steps N` moves it to another plan.\n"
    )


def best_experiment(result: RunResult) -> Experiment | None:
    """Return the experiment with the answer of a finished run that chose a rate; None if there is none."""
    lanes = result.summary["lanes"]
    finished = result.kind.writes_best and lanes["settled"] == lanes["planned"]
    return answered_experiment(result) if finished and result.answer["lr"] is not None else None


def lr_for_plan(result: RunResult, experiment: Experiment) -> float | None:
    """Return the lr that a `find` recommends for another plan.

    The rate of the run is moved by `analysis.recommendation.moved_lr`, for the steps and the
    schedule of the other experiment.

    Returns:
        The lr; None if the run is no `find`, or if the plan is its own.

    Raises:
        UsageError: if the other experiment has another optimizer or another batch size, or if its number of
            steps is not known here.
    """
    facts, own = result.facts, result.experiment
    if facts.planned_training is None:
        return None
    if experiment.optimizer.name != own.optimizer.name:
        raise UsageError(
            f"'{result.path}' found a rate for {own.optimizer.name}, not for {experiment.optimizer.name}; run"
            " `lrfind find` with this optimizer."
        )
    batches = [(e.data.batch_size, e.training.accumulate) for e in (own, experiment)]
    if batches[0] != batches[1]:
        sizes = [f"batch_size {size} and accumulate {accumulate}" for size, accumulate in batches]
        raise UsageError(
            f"'{result.path}' found a rate for {sizes[0]}, not for {sizes[1]}; run `lrfind find` with these,"
            " or see what `lrfind scale` makes of the rate."
        )
    plans = [(e.training.steps, e.training.epochs, e.training.schedule) for e in (own, experiment)]
    if plans[0] == plans[1]:
        return None
    planned = PlannedTraining(**facts.planned_training)
    steps = experiment.training.steps
    if steps is None:
        raise UsageError(
            f"'{result.path}' found a rate for {planned.steps:,} steps. To move it to another plan, give the"
            " plan in steps (--steps), or run `lrfind find` with the plan in epochs."
        )
    shape = shape_of(experiment.training.schedule, steps)
    other = replace(planned, steps=steps, mean_multiplier=shape.mean_multiplier)
    return moved_lr(result.answer["lr"], planned, other)


def moved_in_words(result: RunResult, experiment: Experiment, lr: float) -> str:
    """Return what a training should know of a rate that `lr_for_plan` moved to this lr, in sentences."""
    found, own, facts = result.answer["lr"], result.experiment.training, result.facts
    assert facts.planned_training is not None  # otherwise nothing was moved
    plans = [
        counted(facts.planned_training["steps"], "step"),
        counted(experiment.training.steps or 0, "step"),
    ]
    if own.epochs is not None:
        plans[0] += f" ({counted(own.epochs, 'epoch')})"
    if own.schedule != experiment.training.schedule:
        schedules = [training.schedule.name for training in (own, experiment.training)]
        plans = [f"{plan} with schedule {name}" for plan, name in zip(plans, schedules, strict=True)]
    moves = "keeps it at" if lr == found else "lowers it to" if lr < found else "raises it to"
    best = result.path / "best.yaml"
    way = f"the config {best}" if best.is_file() else f"--lr {found:.3g}"
    return (
        f"The rate {found:.3g} was found for {plans[0]}. For {plans[1]}, lrfind {moves} {lr:.3g}. To train at"
        f" {found:.3g}, give {way} instead of --from."
    )


def other_plan(result: RunResult, experiment: Experiment) -> str | None:
    """Return what a training should know of a rate that comes from a run with another plan, in a sentence.

    The rate of a `find` is moved (see `lr_for_plan`). All other rates are taken as they are.

    Returns:
        The sentence; None if the rate was measured with this plan, or is moved.
    """
    lr, plan = f"{experiment.optimizer.lr:.3g}", plan_in_words(experiment)
    if result.kind.lanes == "ramps":
        return f"the rate {lr} comes from ramps, which know no plan; `lrfind find` looks for one for {plan}"
    own = plan_in_words(answered_experiment(result))
    if result.facts.planned_training is not None or own == plan:
        return None
    return (
        f"the rate {lr} was measured with {own}. It is taken as it is for {plan}; `lrfind find` would look"
        " for one for that"
    )


def plan_in_words(experiment: Experiment) -> str:
    """Return what a rate depends on, in words: the length, the schedule, the optimizer and the batch size."""
    training, schedule, size = experiment.training, experiment.training.schedule, experiment.data.batch_size
    length = (
        counted(training.steps, "step")
        if training.steps is not None
        else counted(training.epochs or 0, "epoch")
    )
    course = f"{schedule.name} schedule"
    if schedule.args:
        course += f" ({', '.join(f'{key} {value}' for key, value in schedule.args.items())})"
    batches = f" x {training.accumulate}" if training.accumulate > 1 else ""
    rows = "" if size is None else f", batch size {size}{batches}"
    return f"{length} of {experiment.optimizer.name}, {course}{rows}"


def answered_experiment(result: RunResult) -> Experiment:
    """Return a run's experiment with the run's answer in it.

    Raises:
        UsageError: if the run has no answer, or its answer is for a part of the model.
    """
    answer, group = result.answer, result.summary.get("group")
    if group is not None:
        raise UsageError(
            f"'{result.path}' tested only the param group '{group['name']}'; write its answer into the"
            " config yourself, as the lr_multiplier of this group."
        )
    if result.experiment.script is not None:
        raise UsageError(
            f"'{result.path}' found the lr of a script, and only the script can train with it: give it to"
            f" {result.experiment.script.path}."
        )
    if answer["lr"] is None:
        way = "" if result.facts.concluded else f" Run `{result.resume_command}` to continue it."
        raise UsageError(f"'{result.path}' has no learning rate to give: {answer['reason']}{way}")
    name = answer.get("variant") or ""
    (chosen,) = [variant.experiment for variant in result.variants if variant.name == name]
    return with_multipliers(with_lr(chosen, answer["lr"]), group_multipliers(result.summary))
