"""The lines of a training script, whole: imports, lr, optimizer, scheduler, and what the loop needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrfind.catalog import OPTIMIZERS
from lrfind.config.experiment import Experiment
from lrfind.config.registry import import_path
from lrfind.config.sections import REST, OptimizerSection, ParamGroup, TrainingSection
from lrfind.views.snippets.lines import INDENT, assigned, imported, keywords, value
from lrfind.views.snippets.schedulers import scheduler_of


def snippet_of(experiment: Experiment, summary: Mapping[str, Any]) -> str:
    """Python lines that make `optimizer` and `scheduler` for a `model`, at the lr that was found.

    A schedule whose lengths are in epochs also needs `loader`.

    Args:
        experiment: that the lr was found for.
        summary: of `lrfind find`; see `lrfind.runs.summaries.find.find_summary`.

    Returns:
        A sentence where there is no lr.
    """
    found, training = summary["suggestion"], summary["training"]
    if found["lr"] is None or training is None:
        return f"no snippet: {found['reason']}"
    steps, section = training["steps"], experiment.optimizer
    imports, optimizer = _optimizer(section)
    scheduler = scheduler_of(experiment, steps)
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
    verified = ""
    if proof is not None and proof["verdict"] == "stands":
        verified = f", verified on {proof['steps']:,} of {summary['training']['steps']:,} steps"
    within = f"{found['low']:.3g} to {found['high']:.3g} should do as well"
    return f"{within}; confidence: {found['confidence']}{verified}"


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
    told = [f"{key} {given}" for key, given in used.items() if given is not None]
    return [f"# the lr was found with {', '.join(told)}: keep that"] if told else []


def _optimizer(section: OptimizerSection) -> tuple[list[str], list[str]]:
    """Import lines, and those that make `optimizer`."""
    module, _, attribute = import_path("optimizer", section.name).partition(":")
    imports, name = imported(module, attribute)
    if section.name in OPTIMIZERS:
        imports, name = [], f"torch.optim.{attribute}"
    others = keywords(section.args)
    if not section.param_groups:
        return imports, assigned("optimizer", name, ["model.parameters()", "lr=peak", *others])
    groups = section.param_groups
    rows = [_group(group) for group in groups if not group.frozen]
    rows.append(f'{{"name": "{REST}", "params": named["{REST}"], "lr": peak}}')
    table = "\n".join(["[", *(f"{INDENT}{row}," for row in rows), "]"])
    matches = "\n".join(["{", *(f"{INDENT}{value(g.name)}: {value(g.match)}," for g in groups), "}"])
    frozen = [
        f"for parameter in named[{value(group.name)}]:\n{INDENT}parameter.requires_grad_(False)"
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
        *assigned("optimizer", name, [table, "lr=peak", *others]),
    ]


def _group(group: ParamGroup) -> str:
    lr = "peak" if group.lr_multiplier == 1 else f"{group.lr_multiplier!r} * peak"
    others = "".join(f", {value(key)}: {value(given)}" for key, given in group.args.items())
    return f'{{"name": {value(group.name)}, "params": named[{value(group.name)}], "lr": {lr}{others}}}'
