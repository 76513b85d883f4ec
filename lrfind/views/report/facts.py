"""What a report says of any run: its lanes, its data, its config, its environment, and how to repeat it."""

from __future__ import annotations

import shlex
from typing import Any

from lrfind.analysis.sweep_verdicts import FLAWS
from lrfind.config.registry import command_line
from lrfind.errors import counted, sentence, shortened
from lrfind.runs.result import RunResult
from lrfind.runs.summaries.parts import count_kinds
from lrfind.views.report.content import LONGEST_TEXT, Table, name
from lrfind.views.snippets.scripts import run_snippet
from lrfind.views.text.parts import count_text, number, number_or_dash

LONGEST_CONFIG = 12_000  # characters


def lanes_table(result: RunResult) -> Table:
    """Return a table with one row for each lane."""
    lanes, metric = result.lanes, result.facts.metric
    columns: dict[str, list[str]] = {
        "lane": [str(lane.lane) for lane in lanes],
        "variant": [name(lane.variant) or "-" for lane in lanes],
        "seed": [str(lane.seed) for lane in lanes],
        ("end lr" if result.kind.lanes == "ramps" else "lr"): [
            number(lane.peak) if lane.peak else "0, untouched" for lane in lanes
        ],
        "outcome": [lane.outcome for lane in lanes],
        "steps": [f"{lane.lr.size} of {lane.planned}" for lane in lanes],
        "train loss": [number_or_dash(lane.train_loss) for lane in lanes],
        "val loss": [number_or_dash(lane.val_loss) for lane in lanes],
        metric or "metric": [number_or_dash(lane.metric) for lane in lanes],
        "seconds": [f"{lane.seconds:.2g}" if lane.seconds else "-" for lane in lanes],
        "error": [shortened(lane.error or "-", 200) for lane in lanes],
    }
    shown = {title: cells for title, cells in columns.items() if set(cells) != {"-"}}
    return Table("The lanes", list(shown), list(zip(*shown.values(), strict=True)))


def outcomes_text(result: RunResult) -> str:
    """Return how many probes, ramps and trainings have ended, and how."""
    counts = "; ".join(count_text(what, count) for what, count in count_kinds(result).items())
    steps = counted(result.summary["lanes"]["steps"], "training step")
    return f"{sentence(counts)}. {steps} in all."


def environment_table(result: RunResult) -> Table | None:
    """Return a table of versions, device and threads; None until they are known."""
    environment = result.facts.environment
    if environment is None:
        return None
    rows = [[key, shortened(_plain(value), 300)] for key, value in environment.items()]
    return Table("Environment", ["what", "value"], rows)


def _plain(value: Any) -> str:
    return shlex.join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def config_text(result: RunResult) -> str:
    """Return the config with every default and override, shortened if it is very long."""
    return shortened(result.facts.resolved, LONGEST_CONFIG)


def overrides_text(result: RunResult) -> str:
    """Return what the command line changed in the config; empty if nothing."""
    return shortened(", ".join(result.facts.overrides), LONGEST_TEXT)


def use_command(result: RunResult) -> str | None:
    """Return the command that trains with the answer of a run; None if there is no such training."""
    sound = result.answer["lr"] is not None and result.answer.get("doubt") not in FLAWS
    if not result.kind.recommends or not sound or result.summary.get("group"):
        return None
    return command_line(["train", "--from", str(result.path)], result.facts.import_root)


def repeat_command(result: RunResult) -> str:
    """Return the command that does the same again: from the stored config, or as a script was given."""
    origin, script = result.facts.origin, result.experiment.script
    if script is not None and origin is not None:
        return f"cd {shlex.quote(script.folder)} && {shlex.join(origin['command'])}"
    resolved = str(result.path / "resolved.yaml")
    return command_line([result.command, resolved], result.facts.import_root)


def snippet_text(result: RunResult) -> str | None:
    """Return lines of Python that make the optimizer and the scheduler at the answer; None without one."""
    of_a_part = result.experiment.script is not None or result.summary.get("group")
    if result.answer["lr"] is None or of_a_part or _steps(result) is None:
        return None
    return run_snippet(result)


def _steps(result: RunResult) -> int | None:
    """Return the number of steps of the trainings that the rate is for; None if it is not known."""
    if result.kind.lanes == "ramps":
        return result.experiment.training.steps
    return max((lane.planned for lane in result.lanes), default=None)
