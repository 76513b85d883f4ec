"""What a final training came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lrfind.analysis.lanes import LaneResult
from lrfind.runs.summaries.parts import SCHEMA, brief_lane, count_lanes, mean_and_deviation


def training_summary(
    results: Sequence[LaneResult],
    run: str,
    *,
    lr: float,
    schedule: str,
    planned: int,
    metric: str | None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """What a final training came to.

    Args:
        results: its lanes so far, one a seed.
        run: the run directory.
        lr: the peak.
        schedule: its name.
        planned: how many lanes it shall have.
        metric: what the task's metric is called.
        notes: what happened on the way and should be known.
    """
    finished = [result for result in results if result.outcome == "finished"]
    lanes = count_lanes(results, planned)
    early = [result for result in finished if result.lr.size < result.planned]
    skipped = sum(int(result.skipped.sum()) for result in results if result.skipped is not None)
    warnings = [
        f"seed {result.seed} {result.outcome} at step {result.lr.size - 1}{_what_to_do(result)}"
        for result in results
        if result.outcome in ("diverged", "failed")
    ]
    if left := planned - lanes["settled"]:
        warnings.append(f"{left} trainings are not done; `lrfind resume {run}` goes on with them.")
    if early:
        warnings.append(
            f"stopped early, at step {', '.join(str(result.lr.size) for result in early)} of"
            f" {early[0].planned}: the validation loss no longer fell."
        )
    if skipped:
        warnings.append(f"{skipped} steps were skipped, because float16 overflowed (see steps.csv).")
    return {
        "schema": SCHEMA,
        "command": "train",
        "run": run,
        "best": {
            "lr": lr if finished else None,
            "reason": None if finished else "no training finished.",
        },
        "schedule": schedule,
        "metric": metric,
        "train_loss": mean_and_deviation([result.train_loss for result in finished]),
        "val_loss": mean_and_deviation([result.val_loss for result in finished]),
        "score": mean_and_deviation([result.metric for result in finished]),
        "trainings": [
            {
                **brief_lane(result),
                "train_loss": result.train_loss,
                "val_loss": result.val_loss,
                "metric": result.metric,
                "best_evaluation": _best_evaluation(result),
                "seconds": result.seconds,
            }
            for result in results
        ],
        "lanes": lanes,
        "warnings": warnings,
        "notes": [*notes],
    }


def _what_to_do(result: LaneResult) -> str:
    """What would do about a training that failed or diverged."""
    if result.error:
        return f": {result.error}"
    if result.lr.size == 1:
        return ": its first loss is not finite; `lrfind check CONFIG --batch` says where that begins."
    return "; try a lower lr."


def _best_evaluation(result: LaneResult) -> dict[str, Any] | None:
    known = [each for each in result.evaluations if math.isfinite(each.val_loss)]
    return min(known, key=lambda each: each.val_loss)._asdict() if known else None
