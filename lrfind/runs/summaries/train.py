"""The summary of a final training."""

from __future__ import annotations

import math
from typing import Any

from lrfind.analysis.lanes import LaneResult
from lrfind.errors import listed
from lrfind.runs.result import RunRecord
from lrfind.runs.summaries.parts import (
    LOOK_FOR_NAN,
    brief_lane,
    mean_and_deviation,
    skipped_warning,
    unsettled_warning,
)


def training_summary(record: RunRecord) -> dict[str, Any]:
    """Summarize a final training.

    Returns:
        A mapping with these keys, and `warnings`.

        - `answer`: the lr of the training; if no training finished, None and the reason.
        - `schedule`: the name of the schedule.
        - `metric`: the name of the task's metric.
        - `train_loss`, `val_loss` and `score` (the metric): mean and deviation over seeds.
        - `trainings`: one row for each seed.
    """
    finished = [lane for lane in record.lanes if lane.outcome == "finished"]
    return {
        "answer": {
            "lr": record.experiment.optimizer.lr if finished else None,
            "low": None,
            "high": None,
            "reason": None if finished else "no training has finished.",
        },
        "schedule": record.experiment.training.schedule.name,
        "metric": record.facts.metric,
        "train_loss": mean_and_deviation([lane.train_loss for lane in finished]),
        "val_loss": mean_and_deviation([lane.val_loss for lane in finished]),
        "score": mean_and_deviation([lane.metric for lane in finished]),
        "trainings": [_row(lane) for lane in record.lanes],
        "warnings": _warnings(record, finished),
    }


def _row(lane: LaneResult) -> dict[str, Any]:
    return {
        **brief_lane(lane),
        "train_loss": lane.train_loss,
        "val_loss": lane.val_loss,
        "metric": lane.metric,
        "best_evaluation": _best_evaluation(lane),
        "seconds": lane.seconds,
    }


def _warnings(record: RunRecord, finished: list[LaneResult]) -> list[str]:
    """Return what the reader of a training should know of it, in sentences."""
    warnings = [
        f"seed {lane.seed} {lane.outcome} at step {_last_step(lane)}{_what_to_do(lane)}"
        for lane in record.lanes
        if lane.outcome in ("diverged", "failed")
    ]
    warnings += unsettled_warning(record, "training")
    warnings += _validation_warnings(finished)
    rose = [lane for lane in finished if (lane.train_loss or 0.0) > float(lane.loss[0])]
    if rose and len(rose) == len(finished):
        ended = listed(f"{lane.train_loss:.4g}" for lane in rose)
        began = listed(f"{float(lane.loss[0]):.4g}" for lane in rose)
        warnings.append(
            f"the training loss did not fall: it began at {began} and ended at {ended}; try a lower lr, or"
            " ask `lrfind find`."
        )
    warnings += skipped_warning(record.lanes)
    return warnings


def _validation_warnings(finished: list[LaneResult]) -> list[str]:
    """Say which trainings their validation loss stopped, and of which it is not finite."""
    warnings = []
    early = [lane for lane in finished if lane.lr.size < lane.planned]
    for why, lanes in {
        "no longer fell": [lane for lane in early if lane.lowest_evaluation is not None],
        "was never finite": [lane for lane in early if lane.lowest_evaluation is None],
    }.items():
        if lanes:
            warnings.append(
                f"training stopped early, at step {listed(lane.lr.size for lane in lanes)} of"
                f" {lanes[0].planned}, because the validation loss {why}."
            )
    lost = [lane.seed for lane in finished if lane.evaluations and lane.val_loss is None]
    if lost:
        whose = f" of {'seed' if len(lost) == 1 else 'seeds'} {listed(lost)}" if len(finished) > 1 else ""
        warnings.append(f"the validation loss{whose} is not finite at the end; {LOOK_FOR_NAN}.")
    return warnings


def _last_step(lane: LaneResult) -> int:
    """Return the step at which a training diverged, or that it could not take."""
    return lane.lr.size - (lane.outcome == "diverged")


def _what_to_do(lane: LaneResult) -> str:
    """Return what to do about a training that failed or diverged."""
    if lane.error:
        return f": {lane.error}"
    if lane.lr.size == 1:
        return (
            ": its first loss is not finite; run `lrfind check CONFIG --batch`, which says where that begins."
        )
    return "; try a lower lr."


def _best_evaluation(lane: LaneResult) -> dict[str, Any] | None:
    finite = [evaluation for evaluation in lane.evaluations if math.isfinite(evaluation.val_loss)]
    return min(finite, key=lambda evaluation: evaluation.val_loss)._asdict() if finite else None
