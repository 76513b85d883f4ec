"""All lines for a training script: imports, lr, optimizer, scheduler, and what the training loop must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrfind.catalog import OPTIMIZERS
from lrfind.config.experiment import Experiment
from lrfind.config.registry import import_path
from lrfind.config.sections import REST, OptimizerSection, ParamGroup, TrainingSection
from lrfind.config.variants import with_multipliers
from lrfind.errors import counted, listed
from lrfind.runs.best import answered_experiment
from lrfind.runs.result import RunResult
from lrfind.runs.summaries.find import group_multipliers
from lrfind.views.snippets.lines import INDENT, assigned, import_lines, keywords, value
from lrfind.views.snippets.schedulers import Scheduler, scheduler_of

NO_LR = "no snippet, because there is no learning rate: {}"
PLAN = "# The rate is for this number of steps and this schedule; another plan needs another rate."


def snippet_of(experiment: Experiment, summary: Mapping[str, Any]) -> str:
    """Return Python lines that make `optimizer` and `scheduler` for a `model`, at the lr of the answer.

    The user's script must define `model`. If the training or its schedule has a length in epochs, it must
    also define `loader`, and the lines count the batches of this loader: it may have a last, smaller batch,
    which lrfind leaves out.

    Args:
        experiment: the experiment that the lr is for.
        summary: the summary of `lrfind find` (see `lrfind.runs.summaries.find.find_summary`), or its keys
            `answer`, `training` and `verification` for the rate of another command.

    Returns:
        The lines as one text; a sentence with the reason where there is no lr.
    """
    # Without an lr there is nothing to paste.
    suggestion, training = summary["answer"], summary["training"]
    if suggestion["lr"] is None or training is None:
        return NO_LR.format(suggestion["reason"])
    experiment = with_multipliers(experiment, group_multipliers(summary))
    return _lines(experiment, suggestion["lr"], training["steps"], _trust(summary))


def run_snippet(result: RunResult) -> str:
    """Return the lines of `snippet_of` for the answer of any run.

    Raises:
        UsageError: if the answer is for a part of the model, or for a script.
    """
    answer, command = result.answer, result.command
    if answer["lr"] is None:
        return NO_LR.format(answer["reason"])
    experiment = answered_experiment(result)
    if result.kind.lanes == "probes":
        return snippet_of(result.experiment, result.summary)
    if result.kind.lanes == "trainings":
        steps = max(lane.planned for lane in result.lanes)
        trust = [f"# This rate comes from whole trainings (lrfind {command}).", PLAN]
        if not result.kind.recommends:
            trust[0] = f"# This rate was given to lrfind {command}, which trained with it."
        return _lines(experiment, answer["lr"], steps, trust)
    if experiment.training.steps is None:
        return f"no snippet, because {command} does not count the steps of an epoch; `lrfind find` does."
    trust = ["# This rate comes from a range test, which knows neither the number of steps nor the schedule."]
    return _lines(experiment, answer["lr"], experiment.training.steps, trust)


def _lines(experiment: Experiment, lr: float, steps: int, trust: Sequence[str]) -> str:
    """Return the lines for a training at an lr, which begin with comments on how far to trust it."""
    section, accumulate = experiment.optimizer, experiment.training.accumulate
    optimizer_imports, optimizer = optimizer_lines(section)
    scheduler = scheduler_of(experiment, steps)
    uses_epochs = any("steps_per_epoch" in line for line in scheduler.lines)
    lines = [
        *trust,
        peak_line(lr),
        f"steps = {_steps(experiment.training, steps)}  # {meaning_of_steps(accumulate)}",
        *(["steps_per_epoch = len(loader)" + _per_step(accumulate)] if uses_epochs else []),
    ]
    comments = [*calls_of(scheduler), *other_settings(experiment.training)]
    return script_of(lines, optimizer_imports, optimizer, scheduler, comments)


def script_of(
    before: Sequence[str],
    optimizer_imports: Sequence[str],
    optimizer: Sequence[str],
    scheduler: Scheduler,
    comments: Sequence[str],
) -> str:
    """Put the lines of a snippet together, with the imports that they need in front."""
    body = [*before, *optimizer, *scheduler.lines]
    rounding = ["import math"] if any("math." in line for line in body) else []
    imports = sorted({"import torch", *rounding, *optimizer_imports, *scheduler.imports}, key=_import_order)
    return "\n".join([*imports, "", *body, *comments])


def calls_of(scheduler: Scheduler) -> list[str]:
    """Return comments on the calls that the training loop makes."""
    if not scheduler.lines:
        return ["# The lr stays at its peak, so there is no scheduler."]
    return [f"# In the training loop, call {call}." for call in scheduler.calls]


def peak_line(lr: float) -> str:
    """Return the line that assigns an lr, with three significant digits, to `peak`."""
    return f"peak = {float(f'{lr:.3g}')}"


def _trust(summary: Mapping[str, Any]) -> list[str]:
    """Return comments on how far to trust the lr: its interval, its confidence, whether it was verified."""
    suggestion, verification = summary["answer"], summary["verification"]
    if "confidence" not in suggestion:  # the rate of another command than find
        return []
    verified = ""
    if verification is not None and verification["verdict"] == "stands":
        verified = (
            f", verified on {verification['steps']:,} of {counted(summary['training']['steps'], 'step')}"
        )
    return trust_lines(suggestion["low"], suggestion["high"], f"{suggestion['confidence']}{verified}")


def trust_lines(low: float, high: float, confidence: str) -> list[str]:
    """Return comments on the interval of an lr, the confidence in it, and what it is for."""
    interval = f"{low:.3g} to {high:.3g}"
    return [
        f"# Learning rates from {interval} should train about as well as this one.",
        f"# Confidence: {confidence}.",
        PLAN,
    ]


def _import_order(line: str) -> tuple[bool, bool, bool, str]:
    """Return a key that sorts imports: the standard library, numpy and torch, then lrfind and the user's."""
    top = line.split()[1].partition(".")[0]
    standard = top in ("fnmatch", "math")
    return not standard, not standard and top not in ("numpy", "torch"), line.startswith("from"), line


def _per_step(accumulate: int) -> str:
    """Return the end of an expression that turns a number of batches into a number of steps."""
    return "" if accumulate == 1 else f" / {accumulate}"


def _steps(training: TrainingSection, steps: int) -> str:
    """Return the number of optimizer steps of a training as Python.

    For a training in epochs, this is the largest number that a usual loop takes over the user's loader.
    """
    if training.epochs is None:
        return str(steps)
    batches = "len(loader)"
    if training.accumulate > 1:
        batches = f"math.ceil(len(loader) / {training.accumulate})"
    return batches if training.epochs == 1 else f"{training.epochs} * {batches}"


def meaning_of_steps(accumulate: int) -> str:
    """Return a comment that says what `steps` counts."""
    meaning = "the number of optimizer steps of the training"
    return meaning if accumulate == 1 else f"{meaning}, one for every {accumulate} batches"


def other_settings(training: TrainingSection) -> list[str]:
    """Return a comment on the other settings that the lr was measured with and that the loop must share."""
    settings = {
        "clip_value": training.clip_value,
        "clip_norm": training.clip_norm,
        "l1": training.l1 or None,
        "precision": None if training.precision == "float32" else training.precision,
    }
    words = [f"{name} {setting}" for name, setting in settings.items() if setting is not None]
    if not words:
        return []
    return [f"# The lr was measured with {listed(words)}. Use the same in your training loop."]


def optimizer_lines(section: OptimizerSection) -> tuple[list[str], list[str]]:
    """Return the import lines, and the lines that make `optimizer`."""
    # Without param groups, a single call makes the optimizer.
    module, _, attribute = import_path("optimizer", section.name).partition(":")
    imports, name = import_lines(module, attribute)
    if section.name in OPTIMIZERS:
        imports, name = [], f"torch.optim.{attribute}"
    others = keywords(section.args)
    if not section.param_groups:
        return imports, assigned("optimizer", name, ["model.parameters()", "lr=peak", *others])

    # With param groups, the lines sort the parameters first. All frozen groups stay out of the optimizer.
    groups = section.param_groups
    rows = [_group(group) for group in groups if not group.frozen]
    rows.append(f'{{"name": "{REST}", "params": grouped["{REST}"], "lr": peak}}')
    table = "\n".join(["[", *(f"{INDENT}{row}," for row in rows), "]"])
    entries = (f"{INDENT}{value(group.name)}: {value(group.match)}," for group in groups)
    patterns = "\n".join(["{", *entries, "}"])
    frozen = [
        f"for parameter in grouped[{value(group.name)}]:\n{INDENT}parameter.requires_grad_(False)"
        for group in groups
        if group.frozen
    ]
    return ["from fnmatch import fnmatchcase", *imports], [
        "# Each parameter joins the first group with a pattern that matches its name.",
        f"patterns = {patterns}",
        f'grouped = {{group: [] for group in [*patterns, "{REST}"]}}',
        "for name, parameter in model.named_parameters():",
        f"{INDENT}matching = (",
        f"{INDENT * 2}group for group in patterns"
        " if any(fnmatchcase(name, pattern) for pattern in patterns[group])",
        f"{INDENT})",
        f'{INDENT}grouped[next(matching, "{REST}")].append(parameter)',
        *frozen,
        *assigned("optimizer", name, [table, "lr=peak", *others]),
    ]


def _group(group: ParamGroup) -> str:
    """Return a param group as Python."""
    lr = "peak" if group.lr_multiplier == 1 else f"{group.lr_multiplier!r} * peak"
    others = "".join(f", {value(name)}: {value(setting)}" for name, setting in group.args.items())
    return f'{{"name": {value(group.name)}, "params": grouped[{value(group.name)}], "lr": {lr}{others}}}'
