"""The commands that are most useful next, complete, so that they work when they are pasted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lrfind.config.registry import command_line
from lrfind.views.terminal import show

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment
    from lrfind.runs.result import RunResult

FINER = 2  # rates of a finer grid to either side of the best one
RAISED_END = r"raise end_lr to (\S*\d)"
"""The advice of `analysis.suggestions` in the reason why there is no suggestion."""
OUTWARD, FARTHEST = 3, 10.0  # rates beyond the end of a sweep whose best rate is its last, and their ratio
PROBING_STEPS, TRAININGS, FEWEST_SECONDS = 100, 4, 60.0
"""Budgets that suffice: steps for one seed's probes, trainings that see more than probes, and seconds."""


def show_next(commands: Sequence[Sequence[str]], root: str | None = None) -> None:
    """Print at most two commands to run next, the most useful one first.

    Args:
        commands: the arguments of each.
        root: the folder of the user's own modules that they need; None if they need none.
    """
    for arguments in commands[:2]:
        show(f"  next: {command_line(arguments, root)}")


def typed_config(config: Path | None, overrides: Sequence[str]) -> list[str]:
    """Return the arguments of a command that name the same config as this command's did."""
    sets = [part for override in overrides for part in ("--set", override)]
    return [*([] if config is None else [typed_path(config)]), *sets]


def typed_path(path: Path) -> str:
    """Return a path as an argument, which must not look like an option.

    >>> typed_path(Path("-new.yaml"))
    './-new.yaml'
    """
    return f"./{path}" if str(path).startswith("-") else str(path)


def own_folder(experiment: Experiment, config: Path | None) -> str | None:
    """Return the folder of the user's own modules that a config needs, if it is here or beside the config.

    Args:
        experiment: the experiment.
        config: the config; None if none was given.

    Returns:
        The folder as --import-root takes it; None if none is needed, or none is found.
    """
    # `own_names` knows schedules within schedules too, but it imports numpy, which takes its time.
    parts = (experiment.model, experiment.data, experiment.optimizer, experiment.training.schedule)
    names = [part.name for part in parts] + ([] if experiment.loss is None else [experiment.loss.path])
    package = next((name.partition(":")[0].partition(".")[0] for name in names if ":" in name), None)
    if package is None or find_spec(package) is not None:
        return None
    folders = (Path(), *([] if config is None else [config.parent]))
    found = (f for f in folders if (f / f"{package}.py").is_file() or (f / package).is_dir())
    return next(map(str, found), None)


def next_commands(result: RunResult) -> list[list[str]]:
    """Return the arguments of commands to run after a run, the most useful first.

    Where the config of the run is needed again, it is the resolved one in the run directory, which has all
    overrides in it.
    """
    if not result.facts.concluded:
        return [["resume", str(result.path)]]
    resolved = str(result.path / "resolved.yaml")
    if result.answer["lr"] is None:
        return _after_no_answer(result, resolved) if result.kind.recommends else []
    train = ["train", "--from", str(result.path)]
    match result.command:
        case "find":
            return _after_find(result, resolved, train)
        case "range-test":
            find = _find_after_ramp(result, resolved)
            return [find] if result.summary.get("group") is not None else [find, train]
        case "grid" | "search":
            return _after_sweep(result, resolved, train)
        case "compare":
            return [train]
    return []


def after_suggestion(source: Path, method: str, lr: float | None) -> tuple[list[list[str]], str | None]:
    """Return the arguments of commands to run after `lrfind suggest`, and the --import-root that they need.

    Args:
        source: the run, or a CSV file, after which there is nothing to run.
        method: the method, "all" for that of the run.
        lr: the suggestion; None if there is none.
    """
    from lrfind.runs.directory import is_run
    from lrfind.runs.store import Run

    if not is_run(source):
        return [], None
    resolved, root = str(source / "resolved.yaml"), Run.open(source).facts().import_root
    if lr is None:
        return [["find", resolved]], root
    own = ["--from", str(source)] if method == "all" else [resolved, "--lr", f"{lr:.3g}"]
    return [["train", *own]], root


def _after_no_answer(result: RunResult, resolved: str) -> list[list[str]]:
    """Give more steps or lower rates where these were too few, and otherwise look for a mistake."""
    import numpy as np  # `lrfind init` and `check` do without it

    check, find = ["check", resolved, "--batch"], ["find", resolved]
    health = result.summary["health"]
    if health is not None and health["findings"]:
        return [check]
    if result.lanes and not any(np.isfinite(lane.loss[:1]).any() for lane in result.lanes):
        return [check]  # the loss of the untouched model is not finite
    if result.command == "find":
        larger = _larger_budget(result)
        more = [[*find, *larger]] if larger else []
        limited = result.experiment.find.budget is not None or not result.lanes
        return [*more, check] if limited else [check, *more]
    if all(lane.outcome == "diverged" for lane in result.lanes) and result.command != "range-test":
        lowest = min(lane.peak for lane in result.lanes)
        return [["grid", resolved, "--lrs", _listed([lowest / 1000, lowest / 100, lowest / 10])], find]
    if result.command == "range-test":
        end = re.search(RAISED_END, result.answer["reason"])
        further = ["range-test", resolved, "--set", f"range_test.end_lr={end[1]}"] if end else None
        return [*([further] if further else []), _find_after_ramp(result, resolved), check]
    return [find, check]


def _find_after_ramp(result: RunResult, resolved: str) -> list[str]:
    """Return the find that goes on from a range test: with rates for groups, if it ramped one of them."""
    return ["find", resolved, *(["--groups"] if result.summary.get("group") is not None else [])]


def _larger_budget(result: RunResult) -> list[str]:
    """Return options that allow more steps than a `find` without an answer had, where these may help."""
    section, training = result.experiment.find, result.facts.planned_training
    if training is None:
        return []
    options = []
    if section.max_seconds is not None:
        options += ["--max-seconds", f"{max(10 * section.max_seconds, FEWEST_SECONDS):g}"]
    budget = section.budget_steps(training["steps"])
    if (result.facts.probing or {}).get("start") is not None:  # trainings may see what the probes did not
        if budget is None or budget < TRAININGS * training["steps"]:
            options += ["--budget", f"{TRAININGS}x"]
    elif budget is not None and budget < PROBING_STEPS * section.seeds:
        options += ["--budget", str(PROBING_STEPS * section.seeds)]
    return options


def _after_find(result: RunResult, resolved: str, train: list[str]) -> list[list[str]]:
    """Train with the answer, or verify it first if it is not trusted."""
    verification = result.summary["verification"]
    if verification is not None:
        return [train]
    verify = ["find", resolved, "--verify"]
    return [verify, train] if result.answer["confidence"] == "low" else [train, verify]


def _after_sweep(result: RunResult, resolved: str, train: list[str]) -> list[list[str]]:
    """Look beyond the end of the grid if the best rate is there; otherwise train with it, or look closer."""
    from lrfind.analysis.sweep_verdicts import FLAWS

    rates = [rate["lr"] for rate in result.summary["rates"]]
    best = result.answer["lr"]
    if result.answer["doubt"] in FLAWS:
        steps = max(int(lane.lr.size) for lane in result.lanes)
        followed = ["--eval-every", str(max(steps // 10, 1)), "--judge", "best_val_loss"]
        return [["grid", resolved, "--lrs", _listed(rates), *followed]]
    place = min(range(len(rates)), key=lambda i: abs(rates[i] - best))
    if len(rates) > 1 and place in (0, len(rates) - 1):
        inner = rates[1] if place == 0 else rates[-2]
        ratio = min(max(best / inner, 1 / FARTHEST), FARTHEST)
        further = [best * ratio**n for n in range(OUTWARD + 1)]
        return [["grid", resolved, "--lrs", _listed(sorted(further))], train]
    low, high = (rates[place - 1], rates[place + 1]) if len(rates) > 1 else (best / 3, best * 3)
    below = [low * (best / low) ** (n / (FINER + 1)) for n in range(1, FINER + 1)]
    above = [best * (high / best) ** (n / (FINER + 1)) for n in range(1, FINER + 1)]
    return [train, ["grid", resolved, "--lrs", _listed([*below, best, *above])]]


def _listed(lrs: Sequence[float]) -> str:
    return ",".join(f"{lr:.3g}" for lr in lrs)
