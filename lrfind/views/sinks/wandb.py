"""Weights & Biases: a run for each lane and one for the answer, all in one group; offline unless asked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lrfind.errors import import_optional
from lrfind.views.sinks.protocol import SinkEnd, SinkLane, SinkRun


class WandB:
    """Runs of Weights & Biases: a group with one for each lane and one for the answer, kept offline.

    Args:
        folder: the folder in which the folder `wandb` lies, from which `wandb sync` sends the runs.
        project: the project.
        online: whether the runs are sent while they are written.
    """

    def __init__(self, folder: str = ".", project: str = "lrfind", online: bool = False) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        self._wandb = import_optional("wandb", "the sink wandb", "sinks")
        self._folder, self._project, self._online = folder, project, online

    def start(self, run: SinkRun) -> None:
        """Keep what all runs of the group have in common."""
        self._run = run
        Path(self._folder).mkdir(parents=True, exist_ok=True)

    def lane(self, lane: SinkLane) -> None:
        """Write a lane with its curves and its final numbers."""
        number = f"{lane.settings['lane']:03d}"
        with self._tracked(lane.name, number, {**lane.settings, "experiment": self._run.config}) as tracked:
            for step, values in lane.by_step():
                tracked.log(values, step=step)
            tracked.summary.update(lane.results)

    def finish(self, end: SinkEnd) -> None:
        """Write the answer and the plots."""
        with self._tracked("answer", "answer", {"experiment": self._run.config}) as tracked:
            if end.plots:
                tracked.log({plot.stem: self._wandb.Image(str(plot)) for plot in end.plots})
            tracked.summary.update({**end.numbers, **end.words})

    @contextmanager
    def _tracked(self, name: str, number: str, config: Mapping[str, Any]) -> Iterator[Any]:
        """Yield a run of the group; the same number gives the same run."""
        quiet = self._wandb.Settings(
            console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True
        )
        tracked = self._wandb.init(
            project=self._project,
            dir=self._folder,
            mode="online" if self._online else "offline",
            group=f"{self._run.name}-{self._run.id[:8]}",
            job_type="answer" if number == "answer" else "lane",
            name=name,
            id=f"{self._run.id[:16]}-{number}",
            resume="allow",
            config=dict(config),
            settings=quiet,
        )
        try:
            yield tracked
        finally:
            tracked.finish()
