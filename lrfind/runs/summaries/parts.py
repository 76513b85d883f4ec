"""What all summaries have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrfind.analysis.lanes import SETTLED, LaneResult

SCHEMA = 1


def answer(summary: dict[str, Any]) -> dict[str, Any]:
    """What a run found, whatever its command: a mapping with lr, which is None where there is none."""
    found: dict[str, Any] = summary["suggestion" if "suggestion" in summary else "best"]
    return found


def count_lanes(results: Sequence[LaneResult], planned: int) -> dict[str, int]:
    """How many lanes a run shall have, how many have settled, and the training steps that all took."""
    return {
        "planned": planned,
        "settled": sum(result.outcome in SETTLED for result in results),
        "steps": sum(int(result.lr.size) for result in results),
    }


def brief_lane(result: LaneResult) -> dict[str, Any]:
    """A lane's number, seed, outcome and steps."""
    return {
        "lane": result.lane,
        "seed": result.seed,
        "outcome": result.outcome,
        "steps": int(result.lr.size),
    } | ({"variant": result.variant} if result.variant else {})


def mean_and_deviation(values: Sequence[float | None]) -> dict[str, float] | None:
    """The mean over seeds, and the standard deviation between them (0 of one seed); None without a value."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": float(np.mean(known)), "deviation": float(np.std(known, ddof=min(1, len(known) - 1)))}
