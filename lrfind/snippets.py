"""Lines for a training script: the optimizer and the scheduler of an experiment, at the lr that was found.

They are text: nothing of torch is imported here. Where torch has the schedule, they need no lrfind.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrfind.arguments import is_epochs
from lrfind.catalog import OPTIMIZERS
from lrfind.config import Experiment
from lrfind.registry import import_path, resolve
from lrfind.schedules import MOMENTUM
from lrfind.sections import REST, Component, OptimizerSection, ParamGroup, TrainingSection, name_only

WITH_BETAS = ("adam", "adamw", "nadam", "radam", "adamax")
"""Optimizers whose momentum is the first of their `betas`."""
EVERY_STEP = "after every optimizer.step()"
INDENT = "    "


class Code(str):
    """An expression: its `repr` is itself, so that it stays one among values."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


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


def snippet_of(experiment: Experiment, summary: Mapping[str, Any]) -> str:
    """Python lines that make `optimizer` and `scheduler` for a `model`, at the lr that was found.

    A schedule whose lengths are in epochs also needs `loader`.

    Args:
        experiment: that the lr was found for.
        summary: of `lrfind find`; see `lrfind.summaries.finds.find_summary`.

    Returns:
        A sentence where there is no lr.
    """
    found, training = summary["suggestion"], summary["training"]
    if found["lr"] is None or training is None:
        return f"no snippet: {found['reason']}"
    steps, section = training["steps"], experiment.optimizer
    imports, optimizer = _optimizer(section)
    scheduler = _scheduler(experiment, steps, training["momentum"] > 0)
    epochs = ["steps_per_epoch = len(loader)" + _shared(experiment.training.accumulate)]
    epochs = epochs if any("steps_per_epoch" in line for line in scheduler.lines) else []
    body = [
        f"peak = {_lr(found['lr'])}  # {_trust(summary)}",
        f"steps = {steps}  # that the training has" + _batches(experiment.training.accumulate),
        *epochs,
        *optimizer,
        *scheduler.lines,
    ]
    told = [f"# then, in the loop: {scheduler.when}"] if scheduler.lines else ["# the lr stays at its peak"]
    told += _also(experiment.training)
    return "\n".join([*sorted({"import torch", *imports, *scheduler.imports}, key=_order), "", *body, *told])


def _trust(summary: Mapping[str, Any]) -> str:
    found, proof = summary["suggestion"], summary["verification"]
    said = f"{found['low']:.3g} to {found['high']:.3g} should do as well; "
    if proof is None or proof["verdict"] is None:
        return f"{said}confidence: {found['confidence']}"
    return f"{said}verified"


def _order(line: str) -> tuple[bool, bool, bool, str]:
    """Imports of the standard library, of torch and numpy, and those of lrfind and the user's last."""
    top = line.split()[1].partition(".")[0]
    return top != "fnmatch", top not in ("fnmatch", "numpy", "torch"), line.startswith("from"), line


def _lr(lr: float) -> float:
    return float(f"{lr:.3g}")


def _shared(accumulate: int) -> str:
    return "" if accumulate == 1 else f" / {accumulate}"


def _batches(accumulate: int) -> str:
    return "" if accumulate == 1 else f": one for every {accumulate} batches"


def _also(training: TrainingSection) -> list[str]:
    """What else the rate was found with, and belongs into the loop."""
    used = {
        "clip_value": training.clip_value,
        "clip_norm": training.clip_norm,
        "l1": training.l1 or None,
        "precision": None if training.precision == "float32" else training.precision,
    }
    told = [f"{key} {value}" for key, value in used.items() if value is not None]
    return [f"# the lr was found with {', '.join(told)}: keep that"] if told else []


def call(function: str, arguments: Sequence[str], *, wide: int = 100) -> list[str]:
    """The lines of a call: one where that is short enough, else one an argument.

    >>> call("f", ["a", "b=1"])
    ['f(a, b=1)']
    """
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= wide and "\n" not in line:
        return [line]
    inner = [f"{INDENT}{line}" for each in arguments for line in f"{each},".split("\n")]
    return [f"{function}(", *inner, ")"]


def _keywords(args: Mapping[str, Any]) -> list[str]:
    return [f"{key}={_value(value)}" for key, value in args.items()]


def _value(value: Any) -> str:
    """A value of a config as Python; lengths in epochs in terms of `steps_per_epoch`."""
    if is_epochs(value):
        return f"max(1, round({value.split()[0]} * steps_per_epoch))"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    plain = isinstance(value, str) and not isinstance(value, Code)
    return json.dumps(value, ensure_ascii=False) if plain else repr(value)


def _optimizer(section: OptimizerSection) -> tuple[list[str], list[str]]:
    """Import lines, and those that make `optimizer`."""
    module, _, attribute = import_path("optimizer", section.name).partition(":")
    imports, name = _import(module, attribute)
    if section.name in OPTIMIZERS:
        imports, name = [], f"torch.optim.{attribute}"
    others = _keywords(section.args)
    if not section.param_groups:
        return imports, _assigned("optimizer", name, ["model.parameters()", "lr=peak", *others])
    groups = section.param_groups
    rows = [_group(group) for group in groups if not group.frozen]
    rows.append(f'{{"name": "{REST}", "params": named["{REST}"], "lr": peak}}')
    table = "\n".join(["[", *(f"{INDENT}{row}," for row in rows), "]"])
    matches = "\n".join(["{", *(f"{INDENT}{_value(g.name)}: {_value(g.match)}," for g in groups), "}"])
    frozen = [
        f"for parameter in named[{_value(group.name)}]:\n{INDENT}parameter.requires_grad_(False)"
        for group in groups
        if group.frozen
    ]
    return ["from fnmatch import fnmatchcase", *imports], [
        f"matches = {matches}",
        f'named = {{name: [] for name in [*matches, "{REST}"]}}',
        "for name, parameter in model.named_parameters():",
        f"{INDENT}fitting = (g for g in matches if any(fnmatchcase(name, each) for each in matches[g]))",
        f'{INDENT}named[next(fitting, "{REST}")].append(parameter)',
        *frozen,
        *_assigned("optimizer", name, [table, "lr=peak", *others]),
    ]


def _group(group: ParamGroup) -> str:
    lr = "peak" if group.lr_multiplier == 1 else f"{group.lr_multiplier!r} * peak"
    others = "".join(f", {_value(key)}: {_value(value)}" for key, value in group.args.items())
    return f'{{"name": {_value(group.name)}, "params": named[{_value(group.name)}], "lr": {lr}{others}}}'


def _import(module: str, attribute: str) -> tuple[list[str], str]:
    """The line that imports a thing, and what it is called then."""
    return [f"from {module} import {attribute.partition('.')[0]}"], attribute


def _assigned(name: str, function: str, arguments: Sequence[str]) -> list[str]:
    first, *rest = call(function, arguments, wide=100 - len(name))
    return [f"{name} = {first}", *rest]


def _scheduler(experiment: Experiment, steps: int, momentum: bool) -> Scheduler:
    """The schedule as torch has it; else from lrfind's own function, or a user's."""
    schedule, section = experiment.training.schedule, experiment.optimizer
    if schedule.name == "constant":
        return Scheduler()
    if schedule.name in REACTIONS:
        return REACTIONS[schedule.name](experiment)
    moved = momentum or section.name in WITH_BETAS
    moved = moved and all(group.args.get("momentum", 1) for group in section.param_groups)
    if ":" not in schedule.name and not any(map(_in_epochs, schedule.args.values())):
        settings = _settings(schedule)
        if schedule.name == "one_cycle":
            if settings["rise"] * steps > 1:  # torch divides by zero else
                return _one_cycle(settings, section, moved or "momentum" in schedule.args)
        elif (made := _of_torch(schedule.name, settings, steps, section)) is not None:
            return made
    cycles = schedule.name == "one_cycle" or schedule.args.get("momentum") is not None
    return _of_table(schedule, moves=cycles and moved and schedule.name in MOMENTUM)


def _in_epochs(value: Any) -> bool:
    return any(map(_in_epochs, value)) if isinstance(value, list | tuple) else is_epochs(value)


def _settings(schedule: Component) -> dict[str, Any]:
    """All arguments of one of lrfind's schedules, with its defaults."""
    known = inspect.signature(resolve(import_path("schedule", schedule.name))).parameters.values()
    defaults = {each.name: each.default for each in known if each.kind is each.KEYWORD_ONLY}
    return defaults | schedule.args


def _count(length: float, steps: int, least: int = 0) -> int:
    """A length in steps; see `lrfind.schedules`."""
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
        return Scheduler(imports, _assigned("scheduler", part, ["optimizer", *arguments]))
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
        f"anneal_strategy={_value(anneal)}",
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
        _assigned("scheduler", "OneCycleLR", arguments),
    )


def _of_table(schedule: Component, *, moves: bool) -> Scheduler:
    """A `LambdaLR` over the multipliers of all steps: any schedule that is a function of the step."""
    imports, made = _multipliers(schedule)
    note = [f"# it moves the momentum too: lrfind.schedules.{schedule.name}_momentum has it for every step"]
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
    imports, name = _import(module, attribute)
    if ":" in schedule.name:
        each = ", ".join(["step", "steps", *_keywords(schedule.args)])
        return imports, [f"multipliers = [float({name}({each})) for step in range(steps)]"]
    inner, arguments = _arguments(schedule)
    made = _assigned("multipliers", name, ["np.arange(steps)", "steps", *arguments])
    return ["import numpy as np", *inner, *imports], made


def _arguments(schedule: Component) -> tuple[list[str], list[str]]:
    """Imports that the arguments of a schedule need, and these; the parts of a join as functions."""
    if schedule.name != "join":
        return [], _keywords(schedule.args)
    imports, parts = list[str](), list[Code]()
    for each in schedule.args["parts"]:
        part = Component.model_validate(name_only(each))
        lines, name = _import(*import_path("schedule", part.name).split(":"))
        inner, arguments = _arguments(part)
        imports += [*lines, *inner]
        shown = f"{name}({', '.join(['step', 'steps', *arguments])})"
        if ":" in part.name:  # a user's takes one step at a time
            shown = f"np.array([{name}({', '.join(['int(each)', 'steps', *arguments])}) for each in step])"
        parts.append(Code(f"lambda step, steps: {shown}"))
    return imports, _keywords(schedule.args | {"parts": parts})


def _reduce_on_plateau(experiment: Experiment) -> Scheduler:
    settings = _settings(experiment.training.schedule)
    lowest = settings.pop("min_lr")
    multipliers = [g.lr_multiplier for g in experiment.optimizer.param_groups if not g.frozen]
    if multipliers:
        lowest = [lowest * each for each in (*multipliers, 1.0)]
    every = experiment.training.eval_every
    return Scheduler(
        ["from torch.optim.lr_scheduler import ReduceLROnPlateau"],
        _assigned("scheduler", "ReduceLROnPlateau", ["optimizer", *_keywords(settings | {"min_lr": lowest})]),
        f"scheduler.step(validation_loss)  # every {every} steps",
    )


def _grad_norm(experiment: Experiment) -> Scheduler:
    arguments = ", ".join(["norms", "peak", *_keywords(experiment.training.schedule.args)])
    return Scheduler(
        ["from lrfind.reactions import grad_norm"],
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
