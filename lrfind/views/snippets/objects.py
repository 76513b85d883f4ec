"""Lines for a training script from a user's own objects, as far as the objects tell how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrfind.catalog import SCHEDULES
from lrfind.config.experiment import Experiment
from lrfind.config.sections import OptimizerSection, ParamGroup, TrainingSection
from lrfind.errors import counted
from lrfind.views.snippets.lines import INDENT
from lrfind.views.snippets.schedulers import Scheduler, scheduler_of
from lrfind.views.snippets.scripts import (
    calls_of,
    meaning_of_steps,
    optimizer_lines,
    other_settings,
    peak_line,
    script_of,
    trust_lines,
)


@dataclass(frozen=True)
class OwnOptimizers:
    """What is known of the optimizers of a training of the user's own.

    Attributes:
        section: how the only optimizer is made anew, over all weights of the model; None if the objects do
            not tell.
        shares: for each optimizer, the lr of each of its param groups as a multiple of the rate; empty if an
            optimizer works through another one.
        has_momentum: whether all of them use a momentum that a schedule can move.
    """

    section: OptimizerSection | None
    shares: Sequence[Sequence[float]]
    has_momentum: bool = False


@dataclass(frozen=True)
class OwnPlan:
    """What is known of a training of the user's own, besides its optimizers.

    Attributes:
        training: how its steps are taken; its length and schedule are those of the plan.
        schedule: the schedule in words, if it is one of the user's own; "" if `training` has it.
    """

    training: TrainingSection
    schedule: str = ""


def snippet_of_plan(
    lr: float, low: float, high: float, confidence: str, optimizers: OwnOptimizers, plan: OwnPlan
) -> str:
    """Return Python lines for an lr and the planned schedule; the user's script must define the rest.

    Args:
        lr: the lr.
        low: the lower end of its interval.
        high: the upper end of its interval.
        confidence: the confidence in it.
        optimizers: the optimizers that the lr is for.
        plan: the training that the lr is for.
    """
    steps = plan.training.steps
    assert steps is not None  # a plan of objects has no length in epochs
    imports, lines = _optimizers(optimizers)
    scheduler, comments = _scheduler(optimizers, plan, steps)
    length = f"steps = {steps}  # {meaning_of_steps(plan.training.accumulate)}"
    before = [*trust_lines(low, high, confidence), peak_line(lr), length]
    return script_of(before, imports, lines, scheduler, [*comments, *other_settings(plan.training)])


def snippet_of_test(lr: float, reason: str, optimizers: OwnOptimizers, training: TrainingSection) -> str:
    """Return Python lines for the lr of a range test, which knows neither length nor schedule.

    Args:
        lr: the lr.
        reason: what this lr is, in words.
        optimizers: the optimizers that the lr is for.
        training: how the steps of the test were taken.
    """
    imports, lines = _optimizers(optimizers)
    before = [
        f"# A range test suggests this lr: {reason}.",
        "# It knows neither the length nor the schedule of your training; `find` does.",
        peak_line(lr),
    ]
    return script_of(before, imports, lines, Scheduler(), other_settings(training))


def _optimizers(optimizers: OwnOptimizers) -> tuple[Sequence[str], Sequence[str]]:
    """Return the imports and the lines that make the optimizer, or give the rate to those that exist."""
    if optimizers.section is not None:
        return optimizer_lines(optimizers.section)
    shares = [[float(f"{share:.3g}") for share in group] for group in optimizers.shares]
    if not shares:
        return [], [
            "# An optimizer works through another one, so lrfind has no lines for it:"
            " use `apply` of the result."
        ]
    inner = [f"for group, share in zip(optimizer.param_groups, {shares[0]}):"]
    if len(shares) > 1:
        inner = [
            f"for optimizer, shares in zip(optimizers, {shares}):",
            f"{INDENT}for group, share in zip(optimizer.param_groups, shares):",
        ]
    name = "optimizer" if len(shares) == 1 else "optimizers"
    groups = counted(sum(map(len, shares)), "param group")
    return [], [
        f"# Make `{name}` as before, with {groups}; then each group gets its share of the rate.",
        *inner,
        f'{INDENT * len(inner)}group["lr"] = share * peak',
    ]


def _scheduler(optimizers: OwnOptimizers, plan: OwnPlan, steps: int) -> tuple[Scheduler, Sequence[str]]:
    """Return the lines that make the scheduler, and comments on what the training loop does with it."""
    schedule = plan.training.schedule
    if plan.schedule:
        return Scheduler(), [f"# The schedule is {plan.schedule}: use it with this peak."]
    row = SCHEDULES.get(schedule.name)
    if len(optimizers.shares) != 1 and schedule.name != "constant":
        return Scheduler(), [f"# The schedule is {schedule.name}: make a scheduler for each optimizer."]
    if row is not None and row.watches is not None:
        return Scheduler(), [f"# The schedule is {schedule.name}, which reacts to the training."]
    section = optimizers.section
    if section is None:  # all groups have an lr of their own
        groups = tuple(
            ParamGroup(name=f"group {n}", match=("*",)) for n, _ in enumerate(optimizers.shares[0])
        )
        momentum = {"momentum": 0.9} if optimizers.has_momentum else {}  # only that there is one counts
        section = OptimizerSection(name="sgd", args=momentum, param_groups=groups)
    scheduler = scheduler_of(Experiment.model_construct(optimizer=section, training=plan.training), steps)
    return scheduler, calls_of(scheduler)
