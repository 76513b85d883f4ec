"""A schedule as Python lines: torch's scheduler if there is one, else a function of lrfind or of the user."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrfind.catalog import SCHEDULES, optimizer_named
from lrfind.config.arguments import is_epochs
from lrfind.config.experiment import Experiment
from lrfind.config.registry import import_path, load, resolve
from lrfind.config.sections import Component, OptimizerSection, name_only
from lrfind.errors import counted
from lrfind.views.snippets.lines import INDENT, Code, assigned, import_lines, keywords, value


@dataclass(frozen=True)
class Scheduler:
    """The lines that make a scheduler, and how the training loop uses it.

    Attributes:
        imports: the import lines.
        lines: the lines that make `scheduler`; empty where the lr is constant.
        call: the call that the training loop makes.
        when: when the training loop makes this call.
    """

    imports: Sequence[str] = ()
    lines: Sequence[str] = ()
    call: str = "scheduler.step()"
    when: str = "after every optimizer.step()"


def scheduler_of(experiment: Experiment, steps: int) -> Scheduler:
    """Return torch's scheduler for the schedule; else one that calls lrfind's function or the user's.

    Args:
        experiment: the experiment with the schedule.
        steps: the number of steps of the training.
    """
    # Schedules that are not functions of the step.
    schedule, section = experiment.training.schedule, experiment.optimizer
    if schedule.name == "constant":
        return Scheduler()
    schedule_row = SCHEDULES.get(schedule.name)
    if schedule_row is not None and schedule_row.snippet is not None:
        reacting: Scheduler = load(schedule_row.snippet)(experiment)
        return reacting

    # A schedule can move the momentum only if all groups of the optimizer have one.
    row = optimizer_named(section.name)
    has_momentum = section.args.get("momentum", 0) > 0 or (row is not None and row.momentum == "betas")
    has_momentum = has_momentum and all(group.args.get("momentum", 1) for group in section.param_groups)

    # torch's own scheduler, where there is one for these arguments.
    if ":" not in schedule.name and not any(map(_in_epochs, schedule.args.values())):
        settings = _settings(schedule)
        if schedule.name == "one_cycle":
            if settings["rise"] * steps > 1:  # With a shorter rise, torch divides by zero.
                return _one_cycle(settings, section, has_momentum or "momentum" in schedule.args)
        elif (scheduler := _of_torch(schedule.name, settings, steps, section)) is not None:
            return scheduler

    # Else a table of the multipliers of all steps.
    cycles = schedule.name == "one_cycle" or schedule.args.get("momentum") is not None
    return _of_table(schedule, moves_momentum=cycles and has_momentum and _can_move_momentum(schedule))


def _in_epochs(setting: Any) -> bool:
    """Return whether a setting, or a part of it, is a length in epochs."""
    return any(map(_in_epochs, setting)) if isinstance(setting, list | tuple) else is_epochs(setting)


def _settings(schedule: Component) -> dict[str, Any]:
    """Return all arguments of one of lrfind's schedules, with the defaults of those that are not set."""
    parameters = inspect.signature(resolve(import_path("schedule", schedule.name))).parameters.values()
    defaults = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return defaults | schedule.args


def _length_in_steps(length: float, steps: int, least: int = 0) -> int:
    """Return a length in steps; a share gives at least `least`. See `lrfind.schedules.functions`."""
    return length if isinstance(length, int) else max(least, round(length * steps))


def _of_torch(
    name: str, settings: Mapping[str, Any], steps: int, section: OptimizerSection
) -> Scheduler | None:
    """Return torch's scheduler for a schedule with a warmup; None where torch has none."""
    if "warmup" not in settings:
        return None
    warmup = _length_in_steps(settings["warmup"], steps)
    steps_after = steps - warmup

    # The scheduler after the warmup.
    if name == "linear_warmup":
        main = None
    elif name == "linear":
        main = (
            "LinearLR",
            ["start_factor=1.0", f"end_factor={settings['end']!r}", f"total_iters={steps_after}"],
        )
    elif name == "cosine" and (settings["end"] == 0 or not section.param_groups):
        lowest = [f"eta_min={settings['end']!r} * peak"] if settings["end"] else []
        main = ("CosineAnnealingLR", [f"T_max={steps_after}", *lowest])
    elif name == "step_decay":
        every = _length_in_steps(settings["every"], steps_after, 1)
        main = ("StepLR", [f"step_size={every}", f"gamma={settings['factor']!r}"])
    elif name == "multi_step":
        milestones = sorted(_length_in_steps(length, steps_after, 1) for length in settings["at"])
        main = ("MultiStepLR", [f"milestones={milestones}", f"gamma={settings['factor']!r}"])
    else:
        return None

    # The warmup before it, and the imports of both.
    rise = ("LinearLR", [f"start_factor=1 / {warmup + 1}", f"total_iters={warmup}"])
    parts = [part for part in (rise if warmup else None, main) if part is not None]
    names = sorted({name for name, _ in parts} | ({"SequentialLR"} if len(parts) > 1 else set()))
    imports = [f"from torch.optim.lr_scheduler import {', '.join(names)}"]

    # The lines for no part, for one part and for two parts.
    if not parts:
        return Scheduler()
    if len(parts) == 1:
        ((name, arguments),) = parts
        return Scheduler(imports, assigned("scheduler", name, ["optimizer", *arguments]))
    calls = [f"{name}({', '.join(['optimizer', *arguments])})" for name, arguments in parts]
    lines = [
        f"warmup = {calls[0]}",
        f"decay = {calls[1]}",
        f"scheduler = SequentialLR(optimizer, [warmup, decay], milestones=[{warmup}])",
    ]
    return Scheduler(imports, lines)


def _one_cycle(settings: Mapping[str, Any], section: OptimizerSection, moves_momentum: bool) -> Scheduler:
    """Return torch's `OneCycleLR`, which changes the momentum only if `moves_momentum`."""
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
    if settings["momentum"] is None or not moves_momentum:
        arguments.append("cycle_momentum=False")
    else:
        highest, lowest = settings["momentum"]
        arguments += [f"max_momentum={highest!r}", f"base_momentum={lowest!r}"]
    return Scheduler(
        ["from torch.optim.lr_scheduler import OneCycleLR"],
        assigned("scheduler", "OneCycleLR", arguments),
    )


def _can_move_momentum(schedule: Component) -> bool:
    """Return whether the schedule is one of lrfind's that can move the momentum."""
    row = SCHEDULES.get(schedule.name)
    return row is not None and row.momentum is not None


def _of_table(schedule: Component, *, moves_momentum: bool) -> Scheduler:
    """Return a `LambdaLR` over the multipliers of all steps, for any function of the step."""
    imports, multipliers = _multipliers(schedule)
    note = [
        "# The schedule also moves the momentum; this scheduler does not.",
        f"# lrfind.schedules.functions.{schedule.name}_momentum returns the momentum of every step.",
    ]
    return Scheduler(
        [*imports, "from torch.optim.lr_scheduler import LambdaLR"],
        [
            *multipliers,
            "scheduler = LambdaLR(optimizer, lambda step: multipliers[min(step, steps - 1)])",
            *(note if moves_momentum else []),
        ],
    )


def _multipliers(schedule: Component) -> tuple[list[str], list[str]]:
    """Return the import lines, and the lines that make `multipliers`, which has an entry for every step."""
    module, _, attribute = import_path("schedule", schedule.name).partition(":")
    imports, name = import_lines(module, attribute)
    if ":" in schedule.name:
        inputs = ", ".join(["step", "steps", *keywords(schedule.args)])
        return imports, [f"multipliers = [float({name}({inputs})) for step in range(steps)]"]
    part_imports, arguments = _arguments(schedule)
    lines = assigned("multipliers", name, ["np.arange(steps)", "steps", *arguments])
    return ["import numpy as np", *part_imports, *imports], lines


def _arguments(schedule: Component) -> tuple[list[str], list[str]]:
    """Return the imports that the arguments of a schedule need, and the arguments as Python.

    The parts of a `join` become functions.
    """
    if schedule.name != "join":
        return [], keywords(schedule.args)
    imports, parts = list[str](), list[Code]()
    for entry in schedule.args["parts"]:
        part = Component.model_validate(name_only(entry))
        function_imports, name = import_lines(*import_path("schedule", part.name).split(":"))
        part_imports, arguments = _arguments(part)
        imports += [*function_imports, *part_imports]
        call = f"{name}({', '.join(['step', 'steps', *arguments])})"
        if ":" in part.name:  # A user's function takes a single step, not an array of them.
            call = f"np.array([{name}({', '.join(['int(number)', 'steps', *arguments])}) for number in step])"
        parts.append(Code(f"lambda step, steps: {call}"))
    return imports, keywords(schedule.args | {"parts": parts})


def plateau_scheduler(experiment: Experiment) -> Scheduler:
    """Return torch's `ReduceLROnPlateau`, with the lowest lr of each param group."""
    settings = _settings(experiment.training.schedule)
    lowest = settings.pop("min_lr")
    multipliers = [group.lr_multiplier for group in experiment.optimizer.param_groups if not group.frozen]
    if multipliers:
        lowest = [lowest * multiplier for multiplier in (*multipliers, 1.0)]
    every = experiment.training.eval_every
    assert every is not None  # The config requires it for this schedule.
    return Scheduler(
        ["from torch.optim.lr_scheduler import ReduceLROnPlateau"],
        assigned("scheduler", "ReduceLROnPlateau", ["optimizer", *keywords(settings | {"min_lr": lowest})]),
        call="scheduler.step(validation_loss)",
        when=f"after every {counted(every, 'step')}",
    )


def grad_norm_scheduler(experiment: Experiment) -> Scheduler:
    """Return the lines of a function that lowers the lr with lrfind's `grad_norm`."""
    arguments = ", ".join(["norms", "peak", *keywords(experiment.training.schedule.args)])
    return Scheduler(
        ["from lrfind.schedules.reactive import grad_norm"],
        [
            'peaks = [group["lr"] for group in optimizer.param_groups]',
            "norms = []  # the norm of the whole gradient at every step so far",
            "",
            "def lower_lr(norm):",
            f"{INDENT}norms.append(float(norm))",
            f"{INDENT}for group, lr in zip(optimizer.param_groups, peaks):",
            f'{INDENT * 2}group["lr"] = lr * grad_norm({arguments})',
            "",
        ],
        call="lower_lr(norm)",
        when="before every optimizer.step(), with the norm of the whole gradient",
    )
