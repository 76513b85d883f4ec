"""MLflow: a run with the answer, and below it a run for each lane."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrfind.errors import import_optional
from lrfind.views.sinks.protocol import SinkEnd, SinkLane, SinkRun

MOST_PARAMS, MOST_METRICS = 100, 1000
"""The most params and metrics that MLflow takes at a time."""
LONGEST_TEXT = 5000
"""The longest text of a param or a tag that MLflow takes, in characters."""


class MLflow:
    """Runs of MLflow: one with the answer and the plots, and below it one for each lane.

    Args:
        uri: the tracking store, such as sqlite:///mlflow.db or the address of a server. If omitted, it is the
            one of MLFLOW_TRACKING_URI; without that, it is mlflow.db in the working directory.
        experiment: the experiment of MLflow; that of the config if omitted.
    """

    def __init__(self, uri: str | None = None, experiment: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self._mlflow = import_optional("mlflow", "the sink mlflow", "sinks")
        self._client = self._mlflow.MlflowClient(uri)
        self._experiment = experiment

    def start(self, run: SinkRun) -> None:
        """Begin the run that has the answer, or find it again."""
        name = self._experiment or run.experiment
        known = self._client.get_experiment_by_name(name)
        self._place = known.experiment_id if known else self._client.create_experiment(name)
        self._run = run
        self._tags = {"lrfind.run": run.id, "lrfind.command": run.command, "lrfind.folder": str(run.folder)}
        begun = self._runs_with({"lrfind.run": run.id, "lrfind.lane": "none"})
        if begun:
            self._answer = begun[0]
        else:
            self._answer = self._begin(run.name, {"lrfind.lane": "none"}, dict(_flat(run.config)))

    def lane(self, lane: SinkLane) -> None:
        """Write a lane with its curves and its final numbers."""
        tags = {"lrfind.lane": lane.name}
        for cut_off in self._runs_with({"lrfind.run": self._run.id, **tags}):
            self._client.delete_run(cut_off)
        words = {name: value for name, value in lane.results.items() if isinstance(value, str)}
        run = self._begin(lane.name, {**tags, "mlflow.parentRunId": self._answer}, {**lane.settings, **words})
        points = [(name, step, value) for name, curve in lane.curves.items() for step, value in curve]
        last = max((step for _, step, _ in points), default=0)
        points += [
            (f"final/{name}", last, float(value)) for name, value in lane.results.items() if name not in words
        ]
        self._log(run, points)
        failed = words.get("outcome") == "failed"
        self._client.set_terminated(run, "FAILED" if failed else "FINISHED")

    def finish(self, end: SinkEnd) -> None:
        """Write the answer, and keep plots, config and summary as artifacts."""
        self._log(self._answer, [(f"answer/{name}", 0, value) for name, value in end.numbers.items()])
        for name, text in end.words.items():
            self._client.set_tag(self._answer, f"lrfind.{name}", text[:LONGEST_TEXT])
        kept = [self._run.folder / name for name in ("config.yaml", "resolved.yaml", "summary.json")]
        for file in (*end.plots, *kept):
            self._client.log_artifact(self._answer, str(file))
        self._client.set_terminated(self._answer)

    def _runs_with(self, tags: Mapping[str, str]) -> list[str]:
        query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        return [run.info.run_id for run in self._client.search_runs([self._place], filter_string=query)]

    def _begin(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        tags = {**self._tags, **tags}
        run: str = self._client.create_run(self._place, run_name=name, tags=tags).info.run_id
        param = self._mlflow.entities.Param
        texts = [param(key, str(value)[:LONGEST_TEXT]) for key, value in params.items()]
        for part in _batches(texts, MOST_PARAMS):
            self._client.log_batch(run, params=part)
        return run

    def _log(self, run: str, points: list[tuple[str, int, float]]) -> None:
        now, metric = int(1000 * time.time()), self._mlflow.entities.Metric
        metrics = [metric(name, value, now, step) for name, step, value in points]
        for part in _batches(metrics, MOST_METRICS):
            self._client.log_batch(run, metrics=part)


def _batches(items: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of everything in a config.

    >>> dict(_flat({"model": {"name": "mlp", "args": {"hidden": [8]}}}))
    {'model.name': 'mlp', 'model.args.hidden': [8]}
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
