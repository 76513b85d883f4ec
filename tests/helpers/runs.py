"""Small runs: started, conducted as the command line would, interrupted, and summarized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lrfind.analysis.lanes import LaneResult, Watch
from lrfind.catalog import KINDS
from lrfind.config.experiment import check
from lrfind.config.registry import load
from lrfind.runs.database import VERSION
from lrfind.runs.facts import Facts
from lrfind.runs.result import RunRecord
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result, summarize
from lrfind.training.cost import SweepCost
from lrfind.training.mode import Mode
from lrfind.training.watch import Observer, unwatched

LINEAR = """
name: tiny
model: linear
data: {name: regression, batch_size: full, args: {samples: 64, features: 4, condition: 10}}
loss: mse
optimizer: {name: sgd, lr: 0.1}
training: {steps: 20}
range_test: {start_lr: 1e-4, end_lr: 100, steps: 60, seeds: 2}
"""
"""A config that runs in a few hundredths of a second."""

CLASSIFIER = """\
name: good
model: {name: mlp, args: {hidden: [8]}}
data: mnist_mini
loss: cross_entropy
optimizer: {name: sgd, lr: 0.01, args: {momentum: 0.9}}
training: {epochs: 2}
"""
"""A classifier; its numbers are for tests of the config and are not run."""


def start(path: Path, command: str, *overrides: str, config: str = LINEAR) -> Run:
    """Start a run of a config with overrides."""
    return Run.start(path, command, check(config, overrides), config, overrides)


class Watching(Observer):
    """An observer whose watches are made by a function, and which keeps what it hears beforehand."""

    def __init__(self, watch_for: Callable[[int | None, int | None], Watch]) -> None:
        self._watch_for = watch_for
        self.heard: list[tuple[SweepCost, Sequence[Mode]]] = []

    def prepared(self, cost: SweepCost, modes: Sequence[Mode]) -> None:
        self.heard.append((cost, modes))

    def watch(self, lanes: int | None, steps: int | None) -> Watch:
        return self._watch_for(lanes, steps)


def conduct(
    run: Run, watch: Callable[[int | None, int | None], Watch] = lambda lanes, steps: unwatched
) -> dict[str, Any]:
    """Run what a run lacks, as its command does; return the summary."""
    summary: dict[str, Any] = load(KINDS[run.facts().command].run)(run, Watching(watch)).summary
    return summary


def summary_of(run: Run) -> dict[str, Any]:
    """Summarize what a run holds."""
    return read_result(run).summary


def summarized(command: str, lanes: Sequence[LaneResult], *overrides: str, **facts: Any) -> dict[str, Any]:
    """Summarize lanes as if they were those of a run of LINEAR with these overrides and facts."""
    known = Facts(VERSION, command, **{"planned": len(lanes), **facts})
    return summarize(RunRecord(Path("run"), check(LINEAR, overrides), known, (), lanes))
