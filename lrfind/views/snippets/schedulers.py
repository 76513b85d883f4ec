"""A schedule as Python lines: torch's scheduler if there is one, else a function of lrfind or of the user."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrfind.catalog import SCHEDULES, optimizer_named
from lrfind.config.arguments import length_in_epochs
from lrfind.config.experiment import Experiment
from lrfind.config.registry import import_path, load, resolve
from lrfind.config.sections import Component, OptimizerSection
from lrfind.config.shapes import parts_of, reacting_part
from lrfind.schedules.functions import warmup_steps
from lrfind.views.snippets.lines import Code, assigned, import_lines, keywords, value


@dataclass(frozen=True)
class Scheduler:
    """The lines that make a scheduler, and how the training loop uses it.

    Attributes:
        imports: the import lines.
        lines: the lines that make `scheduler`; empty where the lr is constant.
        calls: the calls that the training loop makes, each with when it makes it.
    """

    imports: Sequence[str] = ()
    lines: Sequence[str] = ()
    calls: Sequence[str] = ("scheduler.step() after every optimizer.step()",)


@dataclass(frozen=True)
class Length:
    """The number of steps of the training.

    Attributes:
        steps: the number as lrfind trained it.
        fixed: whether the config gives this number. If not, the number follows from the user's loader, and
            the lines compute with the variable `steps`.
    """

    steps: int
    fixed: bool


def scheduler_of(experiment: Experiment, steps: int) -> Scheduler:
    """Return torch's scheduler for the schedule; else one that calls lrfind's function or the user's.

    Args:
        experiment: the experiment with the schedule.
        steps: the number of steps of the training, as lrfind trained it.
    """
    # Schedules that are not functions of the step.
    schedule, section = experiment.training.schedule, experiment.optimizer
    length = Length(steps, fixed=experiment.training.epochs is None)
    if schedule.name == "constant":
        return Scheduler()
    reacting = reacting_part(schedule)
    if reacting is not None:
        path = SCHEDULES[reacting.name].snippet
        assert path is not None  # every schedule that reacts has one
        reacting_scheduler: Scheduler = load(path)(experiment, reacting, length)
        return reacting_scheduler

    # A schedule can move the momentum only if all groups of the optimizer have one.
    row = optimizer_named(section.name)
    has_momentum = section.args.get("momentum", 0) > 0 or (row is not None and row.momentum == "betas")
    has_momentum = has_momentum and all(group.args.get("momentum", 1) for group in section.param_groups)

    # torch's own scheduler, where there is one for these arguments.
    if ":" not in schedule.name and length_in_epochs(schedule.args) is None:
        settings = settings_of(schedule)
        if schedule.name == "one_cycle":
            if settings["rise"] * steps > 1:  # With a shorter rise, torch divides by zero.
                return _one_cycle(settings, section, has_momentum or "momentum" in schedule.args)
        elif (scheduler := _of_torch(schedule.name, settings, length, section)) is not None:
            return scheduler

    # Else a table of the multipliers of all steps.
    cycles = schedule.name == "one_cycle" or schedule.args.get("momentum") is not None
    return _of_table(schedule, moves_momentum=cycles and has_momentum and _can_move_momentum(schedule))


def settings_of(schedule: Component) -> dict[str, Any]:
    """Return all arguments of one of lrfind's schedules, with the defaults of those that are not set."""
    parameters = inspect.signature(resolve(import_path("schedule", schedule.name))).parameters.values()
    defaults = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return defaults | schedule.args


def steps_of(setting: float, length: Length, before: str = "", least: int = 0) -> str:
    """Return a length of a schedule as Python; a share gives at least `least` steps.

    Args:
        setting: a number of steps, or a share of the steps after `before`.
        length: the length of the training.
        before: the number of steps before, as Python; "" for none.
        least: the smallest number of steps that a share gives.
    """
    if isinstance(setting, int):
        return str(setting)
    if length.fixed:
        return str(max(least, round(setting * (length.steps - int(before or 0)))))
    rounded = f"round({setting!r} * {f'(steps - {before})' if before else 'steps'})"
    return f"max({least}, {rounded})" if least else rounded


def _after(before: str, length: Length) -> str:
    """Return the number of steps after `before` steps, as Python; "" for none."""
    if length.fixed:
        return str(length.steps - int(before or 0))
    return f"steps - {before}" if before else "steps"


def _of_torch(
    name: str, settings: Mapping[str, Any], length: Length, section: OptimizerSection
) -> Scheduler | None:
    """Return torch's scheduler for a schedule with a warmup; None where torch has none."""
    if "warmup" not in settings:
        return None
    # The length of the warmup: a number, or a variable where the number follows from the user's loader.
    rise, warmup_lines = _warmup_of(settings["warmup"], length)
    steps_after = _after(rise, length)

    # The scheduler after the warmup.
    lowest = [f"eta_min={settings['end']!r} * peak"] if settings.get("end") else []
    can_end = not lowest or not section.param_groups  # torch has one lowest lr for all groups
    if name == "linear_warmup":
        main = None
    elif name == "linear":
        main = (
            "LinearLR",
            ["start_factor=1.0", f"end_factor={settings['end']!r}", f"total_iters={steps_after}"],
        )
    elif name == "cosine" and can_end:
        main = ("CosineAnnealingLR", [f"T_max={steps_after}", *lowest])
    elif name == "cosine_restarts" and can_end and _restarts_as_torchs(settings, length, rise):
        period = steps_of(settings["period"], length, rise, 1)
        growth = [f"T_mult={int(settings['growth'])}"] if settings["growth"] > 1 else []
        main = ("CosineAnnealingWarmRestarts", [f"T_0={period}", *growth, *lowest])
    elif name == "step_decay":
        every = steps_of(settings["every"], length, rise, 1)
        main = ("StepLR", [f"step_size={every}", f"gamma={settings['factor']!r}"])
    elif name == "multi_step":
        milestones = [Code(steps_of(border, length, rise, 1)) for border in settings["at"]]
        if length.fixed:
            milestones.sort(key=int)
        main = ("MultiStepLR", [f"milestones={milestones}", f"gamma={settings['factor']!r}"])
    else:
        return None

    # The warmup before it, and the imports of both.
    parts = [part for part in (rise_of(rise) if rise else None, main) if part is not None]
    names = sorted({name for name, _ in parts} | ({"SequentialLR"} if len(parts) > 1 else set()))
    imports = [f"from torch.optim.lr_scheduler import {', '.join(names)}"]

    # The lines for no part, for one part and for two parts.
    if not parts:
        return Scheduler()
    if len(parts) == 1:
        ((name, arguments),) = parts
        return Scheduler(imports, [*warmup_lines, *assigned("scheduler", name, ["optimizer", *arguments])])
    calls = [f"{name}({', '.join(['optimizer', *arguments])})" for name, arguments in parts]
    lines = [
        *warmup_lines,
        f"warmup = {calls[0]}",
        f"decay = {calls[1]}",
        f"scheduler = SequentialLR(optimizer, [warmup, decay], milestones=[{rise}])",
    ]
    return Scheduler(imports, lines)


def _restarts_as_torchs(settings: Mapping[str, Any], length: Length, rise: str) -> bool:
    """Return whether the periods of `cosine_restarts` are whole numbers of steps that grow by a whole one."""
    period, growth = settings["period"], settings["growth"]
    if growth != 1 or isinstance(period, int):
        return bool(growth >= 1 and growth % 1 == 0)
    return length.fixed and bool(period * (length.steps - int(rise or 0)) % 1 == 0)


def _warmup_of(setting: float, length: Length) -> tuple[str, list[str]]:
    """Return the number of steps of a warmup as Python, "" for none, and the lines that it needs."""
    if not warmup_steps(setting, length.steps):
        return "", []
    rise = steps_of(setting, length)
    return ("warmup_steps", [f"warmup_steps = {rise}"]) if "steps" in rise else (rise, [])


def rise_of(steps: str) -> tuple[str, list[str]]:
    """Return torch's scheduler of a warmup, and its arguments.

    >>> rise_of("4"), rise_of("warmup_steps")[1][0]
    (('LinearLR', ['start_factor=1 / 5', 'total_iters=4']), 'start_factor=1 / (warmup_steps + 1)')
    """
    count = str(int(steps) + 1) if steps.isdecimal() else f"({steps} + 1)"
    return "LinearLR", [f"start_factor=1 / {count}", f"total_iters={steps}"]


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
        [
            *assigned("scheduler", "OneCycleLR", arguments),
            "# OneCycleLR raises an error if it is called more than `steps` times.",
        ],
    )


def _can_move_momentum(schedule: Component) -> bool:
    """Return whether the schedule is one of lrfind's that can move the momentum."""
    row = SCHEDULES.get(schedule.name)
    return row is not None and row.momentum is not None


def _of_table(schedule: Component, *, moves_momentum: bool) -> Scheduler:
    """Return a `LambdaLR` over the multipliers of all steps, for any function of the step."""
    imports, multipliers = multipliers_of(schedule)
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


def multipliers_of(schedule: Component) -> tuple[list[str], list[str]]:
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
    for part in parts_of(schedule):
        function_imports, name = import_lines(*import_path("schedule", part.name).split(":"))
        part_imports, arguments = _arguments(part)
        imports += [*function_imports, *part_imports]
        call = f"{name}({', '.join(['step', 'steps', *arguments])})"
        if ":" in part.name:  # A user's function takes a single step, not an array of them.
            call = f"np.array([{name}({', '.join(['int(number)', 'steps', *arguments])}) for number in step])"
        parts.append(Code(f"lambda step, steps: {call}"))
    return imports, keywords(schedule.args | {"parts": parts})
