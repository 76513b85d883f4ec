"""A run of the command line in a notebook: its summary, its tables and its figures."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfind.config.registry import load
from lrfind.runs import store
from lrfind.runs.result import RunResult
from lrfind.runs.summary import content_of, read_result
from lrfind.runs.tables import health_frame, lanes_frame, steps_frame

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

COLUMNS = ("lane", "variant", "seed", "lr", "outcome", "steps", "train_loss", "val_loss")
"""The columns of lanes.csv that a notebook shows."""


class Run:
    """A run directory, finished or not, as it was when it was first read here.

    Nothing that the run names is imported or run, so a run of somebody else can be read. Of a run that goes
    on, another `Run` of the same path sees more.

    Args:
        path: the run directory.

    Raises:
        UsageError: if the path is no run directory, or its database cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._run = store.Run.open(self.path)

    @cached_property
    def result(self) -> RunResult:
        """Everything that the run holds, with its summary."""
        return read_result(self._run)

    @property
    def command(self) -> str:
        """The command that made the run, such as "find"."""
        return self.result.command

    @property
    def finished(self) -> bool:
        """Whether everything was done."""
        return self.result.facts.concluded

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return self.result.summary

    @property
    def answer(self) -> dict[str, Any]:
        """The answer, with `lr`, which is None if there is no answer, and `reason`."""
        return self.result.answer

    @property
    def config(self) -> dict[str, Any]:
        """The config with every default and override, as plain data."""
        return self.result.experiment.model_dump(mode="json")

    @cached_property
    def steps(self) -> pd.DataFrame:
        """One row for each lane and step: the table steps.csv."""
        return steps_frame(self.result.lanes)

    @cached_property
    def lanes(self) -> pd.DataFrame:
        """One row for each lane: the table lanes.csv."""
        return lanes_frame(self.result.lanes)

    @cached_property
    def health(self) -> pd.DataFrame:
        """One row for each layer and look at the gradients: the table health.csv; empty without looks."""
        return health_frame(self.result.lanes)

    def figures(self) -> dict[str, Figure]:
        """Return new figures, by the names of their files in the run directory."""
        from lrfind.views.plots.health import health_figures

        with content_of(self._run):
            figures: dict[str, Figure] = load(self.result.kind.figures)(self.result)
            return figures | health_figures(self.result)

    def plot(self) -> Figure:
        """Return the main figure, which a notebook shows."""
        import matplotlib.pyplot  # noqa: F401 - so that the notebook shows figures

        return next(iter(self.figures().values()))

    @property
    def text(self) -> str:
        """What the command printed at its end: the answer in words."""
        with content_of(self._run):
            text: str = load(self.result.kind.text)(self.summary)
        return text

    def __repr__(self) -> str:
        return f"Run('{self.path}'): {self._headline}"

    @property
    def _headline(self) -> str:
        """The command, its state and its lr in one line."""
        state, lr = "finished" if self.finished else "unfinished", self.answer["lr"]
        return f"{self.command}, {state}: {'no lr' if lr is None else f'lr {lr:.3g}'}"

    def _repr_html_(self) -> str:
        from lrfind.views.cells import cell

        reason = self.answer.get("reason")
        warnings = [f"Warning: {text}" for text in self.summary["warnings"]]
        lanes = self.lanes[[name for name in COLUMNS if name in self.lanes]]
        return cell(
            self._headline,
            [f"Run {self.path}.", *([reason] if reason else []), *self.summary["notes"], *warnings],
            f"{len(lanes)} of {self.summary['lanes']['planned']} lanes",
            [*lanes.columns],
            lanes.itertuples(index=False),
            next(iter(self.figures().values())) if self.result.lanes else None,
        )
