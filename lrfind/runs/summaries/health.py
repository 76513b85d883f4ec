"""The summary of a run's looks at the layers' gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrfind.analysis.diagnosis import calm_looks, diagnose
from lrfind.analysis.lanes import LaneResult
from lrfind.catalog import is_adaptive
from lrfind.runs.result import RunRecord


def health_summary(record: RunRecord, answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Summarize the looks at the layers of a run.

    Returns:
        None if there were no looks. Otherwise a mapping with these keys:

        - `findings`: see `analysis.diagnosis.Finding`.
        - `layers`: the number of layers.
        - `looks`: the number of judged looks, over all judged lanes.
        - `lane`: the first judged lane, which the plot shows.
        - `calm`: the number of judged looks of that lane.
    """
    lanes = _judged_lanes(record, answer)
    if not lanes:
        return None
    # Lanes that verify the answer of `find` belong to no variant; they have the experiment's own optimizer.
    names = [v.experiment.optimizer.name for v in record.variants if v.name == lanes[0].variant]
    adaptive = all(map(is_adaptive, names or [record.experiment.optimizer.name]))
    calm = [calm_looks(lane, on_a_ramp=record.kind.lanes == "ramps") for lane in lanes]
    counts = [len({row.step for row in rows}) for rows in calm]
    return {
        "findings": [finding._asdict() for finding in diagnose(calm, adaptive=adaptive)],
        "layers": len({row.layer for row in lanes[0].health}),
        "looks": sum(counts),
        "lane": lanes[0].lane,
        "calm": counts[0],
    }


def _judged_lanes(record: RunRecord, answer: Mapping[str, Any]) -> list[LaneResult]:
    """Return the lanes whose looks are judged: those at the rate of the answer.

    A ramp passes every rate, so all ramps count. Without an answer the lanes at the lowest rate count.
    """
    lanes = [lane for lane in record.lanes if lane.health]
    if answer.get("variant") is not None and answer["lr"] is not None:
        lanes = [lane for lane in lanes if lane.variant == answer["variant"]]
    if record.kind.lanes == "ramps" or not lanes:
        return lanes
    lowest = min(lane.peak for lane in lanes)
    return [lane for lane in lanes if lane.peak == (lowest if answer["lr"] is None else answer["lr"])]
