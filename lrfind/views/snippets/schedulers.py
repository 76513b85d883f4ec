"""A schedule as lines: a scheduler of torch where it has one, else with lrfind's or a user's function."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrfind.catalog import SCHEDULES, optimizer_named
from lrfind.config.arguments import is_epochs
from lrfind.config.experiment import Experiment
from lrfind.config.registry import import_path, resolve
from lrfind.config.sections import Component, OptimizerSection, name_only
from lrfind.views.snippets.lines import INDENT, Code, assigned, imported, keywords, value

EVERY_STEP = "after every optimizer.step()"


@dataclass(frozen=True)
class Scheduler:
    """The lines of a schedule.

    Attributes:
        imports: lines.
        lines: that make `scheduler`; none where the lr stays where it is.
        when: to step it.
    """

    imports: Sequence[str] = ()
    lines: Sequence[str] = ()
    when: str = f"scheduler.step()  # {EVERY_STEP}"


def scheduler_of(experiment: Experiment, steps: int) -> Scheduler:
    """The schedule as torch has it; else from lrfind's own function, or a user's.

    Args:
        experiment: with the schedule.
        steps: that the training has.
    """
    schedule, section = experiment.training.schedule, experiment.optimizer
    if schedule.name == "constant":
        return Scheduler()
    if schedule.name in REACTIONS:
        return REACTIONS[schedule.name](experiment)
    row = optimizer_named(section.name)
    moved = section.args.get("momentum", 0) > 0 or (row is not None and row.momentum == "betas")
    moved = moved and all(group.args.get("momentum", 1) for group in section.param_groups)
    if ":" not in schedule.name and not any(map(_in_epochs, schedule.args.values())):
        settings = _settings(schedule)
        if schedule.name == "one_cycle":
            if settings["rise"] * steps > 1:  # torch divides by zero else
                return _one_cycle(settings, section, moved or "momentum" in schedule.args)
        elif (made := _of_torch(schedule.name, settings, steps, section)) is not None:
            return made
    cycles = schedule.name == "one_cycle" or schedule.args.get("momentum") is not None
    return _of_table(schedule, moves=cycles and moved and _moves_momentum(schedule))


def _in_epochs(given: Any) -> bool:
    return any(map(_in_epochs, given)) if isinstance(given, list | tuple) else is_epochs(given)


def _settings(schedule: Component) -> dict[str, Any]:
    """All arguments of one of lrfind's schedules, with its defaults."""
    known = inspect.signature(resolve(import_path("schedule", schedule.name))).parameters.values()
    defaults = {each.name: each.default for each in known if each.kind is each.KEYWORD_ONLY}
    return defaults | schedule.args


def _count(length: float, steps: int, least: int = 0) -> int:
    """A length in steps; see `lrfind.schedules.functions`."""
    return length if isinstance(length, int) else max(least, round(length * steps))


def _of_torch(
    name: str, settings: Mapping[str, Any], steps: int, section: OptimizerSection
) -> Scheduler | None:
    """A schedule that torch has, after its warmup; None where it has none."""
    if "warmup" not in settings:
        return None
    warmup = _count(settings["warmup"], steps)
    left = steps - warmup
    if name == "linear_warmup":
        main = None
    elif name == "linear":
        main = ("LinearLR", ["start_factor=1.0", f"end_factor={settings['end']!r}", f"total_iters={left}"])
    elif name == "cosine" and (settings["end"] == 0 or not section.param_groups):
        lowest = [f"eta_min={settings['end']!r} * peak"] if settings["end"] else []
        main = ("CosineAnnealingLR", [f"T_max={left}", *lowest])
    elif name == "step_decay":
        every = _count(settings["every"], left, 1)
        main = ("StepLR", [f"step_size={every}", f"gamma={settings['factor']!r}"])
    elif name == "multi_step":
        at = sorted(_count(each, left, 1) for each in settings["at"])
        main = ("MultiStepLR", [f"milestones={at}", f"gamma={settings['factor']!r}"])
    else:
        return None
    rise = ("LinearLR", [f"start_factor=1 / {warmup + 1}", f"total_iters={warmup}"])
    parts = [part for part in (rise if warmup else None, main) if part is not None]
    names = sorted({part for part, _ in parts} | ({"SequentialLR"} if len(parts) > 1 else set()))
    imports = [f"from torch.optim.lr_scheduler import {', '.join(names)}"]
    if not parts:
        return Scheduler()
    if len(parts) == 1:
        ((part, arguments),) = parts
        return Scheduler(imports, assigned("scheduler", part, ["optimizer", *arguments]))
    calls = [f"{part}({', '.join(['optimizer', *arguments])})" for part, arguments in parts]
    rows = [f"rise = {calls[0]}", f"fall = {calls[1]}"]
    rows.append(f"scheduler = SequentialLR(optimizer, [rise, fall], milestones=[{warmup}])")
    return Scheduler(imports, rows)


def _one_cycle(settings: Mapping[str, Any], section: OptimizerSection, moved: bool) -> Scheduler:
    peaks = ["max_lr=peak"]
    if section.param_groups:
        peaks = ['max_lr=[group["lr"] for group in optimizer.param_groups]']
    anneal = {"cosine": "cos"}.get(settings["anneal"], settings["anneal"])
    arguments = [
        "optimizer",
        *peaks,
        "total_steps=steps",
        f"pct_start={settings['rise']!r}",
        f"anneal_strategy={value(anneal)}",
        f"div_factor=1 / {settings['start']!r}",
        f"final_div_factor={settings['start']!r} / {settings['end']!r}",
        *(["three_phase=True"] if settings["three_phase"] else []),
    ]
    if settings["momentum"] is None or not moved:
        arguments.append("cycle_momentum=False")
    else:
        highest, lowest = settings["momentum"]
        arguments += [f"max_momentum={highest!r}", f"base_momentum={lowest!r}"]
    return Scheduler(
        ["from torch.optim.lr_scheduler import OneCycleLR"],
        assigned("scheduler", "OneCycleLR", arguments),
    )


def _moves_momentum(schedule: Component) -> bool:
    row = SCHEDULES.get(schedule.name)
    return row is not None and row.momentum is not None


def _of_table(schedule: Component, *, moves: bool) -> Scheduler:
    """A `LambdaLR` over the multipliers of all steps: any schedule that is a function of the step."""
    imports, made = _multipliers(schedule)
    moved = f"lrfind.schedules.functions.{schedule.name}_momentum"
    note = [f"# it moves the momentum too: {moved} has it for every step"]
    return Scheduler(
        [*imports, "from torch.optim.lr_scheduler import LambdaLR"],
        [
            *made,
            "scheduler = LambdaLR(optimizer, lambda step: multipliers[min(step, steps - 1)])",
            *(note if moves else []),
        ],
    )


def _multipliers(schedule: Component) -> tuple[list[str], list[str]]:
    module, _, attribute = import_path("schedule", schedule.name).partition(":")
    imports, name = imported(module, attribute)
    if ":" in schedule.name:
        each = ", ".join(["step", "steps", *keywords(schedule.args)])
        return imports, [f"multipliers = [float({name}({each})) for step in range(steps)]"]
    inner, arguments = _arguments(schedule)
    made = assigned("multipliers", name, ["np.arange(steps)", "steps", *arguments])
    return ["import numpy as np", *inner, *imports], made


def _arguments(schedule: Component) -> tuple[list[str], list[str]]:
    """Imports that the arguments of a schedule need, and these; the parts of a join as functions."""
    if schedule.name != "join":
        return [], keywords(schedule.args)
    imports, parts = list[str](), list[Code]()
    for each in schedule.args["parts"]:
        part = Component.model_validate(name_only(each))
        lines, name = imported(*import_path("schedule", part.name).split(":"))
        inner, arguments = _arguments(part)
        imports += [*lines, *inner]
        shown = f"{name}({', '.join(['step', 'steps', *arguments])})"
        if ":" in part.name:  # a user's takes one step at a time
            shown = f"np.array([{name}({', '.join(['int(each)', 'steps', *arguments])}) for each in step])"
        parts.append(Code(f"lambda step, steps: {shown}"))
    return imports, keywords(schedule.args | {"parts": parts})


def _reduce_on_plateau(experiment: Experiment) -> Scheduler:
    settings = _settings(experiment.training.schedule)
    lowest = settings.pop("min_lr")
    multipliers = [g.lr_multiplier for g in experiment.optimizer.param_groups if not g.frozen]
    if multipliers:
        lowest = [lowest * each for each in (*multipliers, 1.0)]
    every = experiment.training.eval_every
    return Scheduler(
        ["from torch.optim.lr_scheduler import ReduceLROnPlateau"],
        assigned("scheduler", "ReduceLROnPlateau", ["optimizer", *keywords(settings | {"min_lr": lowest})]),
        f"scheduler.step(validation_loss)  # every {every} steps",
    )


def _grad_norm(experiment: Experiment) -> Scheduler:
    arguments = ", ".join(["norms", "peak", *keywords(experiment.training.schedule.args)])
    return Scheduler(
        ["from lrfind.schedules.reactive import grad_norm"],
        [
            'peaks = [group["lr"] for group in optimizer.param_groups]',
            "norms = []  # of the whole gradient, at every step so far",
            "",
            "def lower_lr(norm):",
            f"{INDENT}norms.append(float(norm))",
            f"{INDENT}for group, lr in zip(optimizer.param_groups, peaks):",
            f'{INDENT * 2}group["lr"] = lr * grad_norm({arguments})',
            "",
        ],
        "lower_lr(norm)  # before every optimizer.step()",
    )


REACTIONS = {"reduce_on_plateau": _reduce_on_plateau, "grad_norm": _grad_norm}
"""The schedules that react to the training."""
