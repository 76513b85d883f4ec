"""A schedule that reacts to the training, as Python lines: before it begins to react, and from then on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrfind.config.arguments import is_epochs, length_in_epochs
from lrfind.config.experiment import Experiment
from lrfind.config.sections import Component
from lrfind.config.shapes import parts_of, planned, reaction_start
from lrfind.errors import counted
from lrfind.views.snippets.lines import INDENT, assigned, keywords, value
from lrfind.views.snippets.schedulers import (
    Length,
    Scheduler,
    multipliers_of,
    rise_of,
    settings_of,
)


@dataclass(frozen=True)
class Before:
    """The part of a training before its schedule begins to react.

    Attributes:
        lines: the lines that make `start`, the number of these steps; empty if there are none.
        imports: the import lines.
        is_rise: whether this part is only a warmup; if not, the lines also make a table, `multipliers`.
    """

    lines: Sequence[str] = ()
    imports: Sequence[str] = ()
    is_rise: bool = True


def _before(schedule: Component, length: Length) -> Before:
    """Return the lines for the steps before a schedule begins to react."""
    if length.fixed and length_in_epochs(schedule.args) is None:
        start = str(reaction_start(schedule, length.steps, None))
    else:
        start = _start_of(schedule, "steps")
    if start == "0":
        return Before()
    line = f"start = {start}  # the step at which the schedule begins to react"
    if schedule.name != "join":
        return Before([line])
    imports, multipliers = multipliers_of(planned(schedule))
    return Before([line, *multipliers], imports, is_rise=False)


def _start_of(schedule: Component, steps: str) -> str:
    """Return the number of steps before a schedule begins to react, as an expression of `steps`."""
    setting = schedule.args["at"][-1] if schedule.name == "join" else schedule.args.get("warmup", 0)
    is_share = not is_epochs(setting) and not isinstance(setting, int)
    begin = f"round({setting!r} * {steps})" if is_share else value(setting)
    if schedule.name != "join":
        return begin
    inner = _start_of(parts_of(schedule)[-1], f"({steps} - {begin})")
    return begin if inner == "0" else f"{begin} + {inner}"


def plateau_scheduler(experiment: Experiment, plateau: Component, length: Length) -> Scheduler:
    """Return torch's `ReduceLROnPlateau`, with the lowest lr of each param group.

    Args:
        experiment: the experiment with the schedule.
        plateau: the schedule, or the last part of the schedule, which is a join.
        length: the length of the training.
    """
    settings = settings_of(plateau)
    settings.pop("warmup")
    lowest = settings.pop("min_lr")
    multipliers = [group.lr_multiplier for group in experiment.optimizer.param_groups if not group.frozen]
    if multipliers:
        lowest = [lowest * multiplier for multiplier in (*multipliers, 1.0)]
    every = experiment.training.eval_every
    assert every is not None  # The config requires it for this schedule.
    imports = ["from torch.optim.lr_scheduler import ReduceLROnPlateau"]
    main = assigned("scheduler", "ReduceLROnPlateau", ["optimizer", *keywords(settings | {"min_lr": lowest})])
    call = f"scheduler.step(validation_loss) after every {counted(every, 'step')}"
    before = _before(experiment.training.schedule, length)
    if not before.lines:
        return Scheduler(imports, main, [call])
    name, arguments = rise_of("start")
    if not before.is_rise:
        name, arguments = "LambdaLR", ["lambda step: multipliers[step]"]
    return Scheduler(
        [f"from torch.optim.lr_scheduler import {name}, ReduceLROnPlateau", *before.imports],
        [*before.lines, *assigned("warmup", name, ["optimizer", *arguments]), *main],
        [
            "warmup.step() after each of the first `start` steps",
            f"{call}, from step `start` on",
        ],
    )


def grad_norm_scheduler(experiment: Experiment, grad_norm: Component, length: Length) -> Scheduler:
    """Return the lines of a function that lowers the lr with lrfind's `grad_norm`.

    Args:
        experiment: the experiment with the schedule.
        grad_norm: the schedule, or the last part of the schedule, which is a join.
        length: the length of the training.
    """
    before = _before(experiment.training.schedule, length)
    args = {key: setting for key, setting in grad_norm.args.items() if key != "warmup"}
    norms = "norms[start:]" if before.lines else "norms"
    multiplier = f"grad_norm({', '.join([norms, 'peak', *keywords(args)])})"
    if before.lines:
        planned_value = "len(norms) / (start + 1)" if before.is_rise else "multipliers[len(norms) - 1]"
        multiplier = f"{planned_value} if len(norms) <= start else {multiplier}"
    return Scheduler(
        ["from lrfind.schedules.reactive import grad_norm", *before.imports],
        [
            *before.lines,
            'peaks = [group["lr"] for group in optimizer.param_groups]',
            "norms = []  # the norm of the whole gradient at every step so far",
            "",
            "def lower_lr(norm):",
            f"{INDENT}norms.append(float(norm))",
            f"{INDENT}multiplier = {multiplier}",
            f"{INDENT}for group, lr in zip(optimizer.param_groups, peaks):",
            f'{INDENT * 2}group["lr"] = lr * multiplier',
            "",
        ],
        ["lower_lr(norm) before every optimizer.step(), with the norm of the whole gradient"],
    )
