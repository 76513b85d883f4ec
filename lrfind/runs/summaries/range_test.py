"""The summary of a range test, over the lr only, or also over another setting of the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrfind.analysis.lanes import LaneResult
from lrfind.catalog import METHODS
from lrfind.errors import counted, listed
from lrfind.runs.result import RunRecord
from lrfind.runs.summaries.methods import ask, brief, curve_warnings, suggestion_table
from lrfind.runs.summaries.parts import brief_lane


def range_test_summary(record: RunRecord) -> dict[str, Any]:
    """Summarize a range test.

    Returns:
        A mapping with these keys, and `warnings`.

        - `answer`: the chosen method's suggestion (`lr`, `low`, `high`, `method`, `reason`).
        - `ramps`: one row for each lane.

        If only the lr is varied, the mapping also has:

        - `group`: None if the lr of all param groups was ramped; else the name of the one group whose lr was
          ramped, and the lr of the optimizer.
        - `methods`: every method's answer.
        - `edge` and `edge_reason`: the lr at which training breaks down, and how this lr was measured.

        If another setting is varied too, the mapping also has:

        - `over`: the name of the setting.
        - `variants`: one row for each value.
    """
    ramps = [brief_lane(lane) for lane in record.lanes]
    part = _over_lr(record) if record.section.over == "lr" else _over_setting(record)
    return part | {"ramps": ramps}


def _over_lr(record: RunRecord) -> dict[str, Any]:
    section, measured = record.section, record.facts.stability_edge
    methods = suggestion_table([lane.curve for lane in record.lanes if lane.complete], raw=True)
    edge = {"lr": methods["edge"]["lr"], "reason": METHODS["edge"]}
    warnings = []
    if measured is not None and measured["lr"] is None:
        warnings.append(f"the edge was {measured['reason']}")
    elif measured is not None:
        edge = dict(measured)
    group = section.group and {"name": section.group, "optimizer_lr": record.experiment.optimizer.lr}
    answer = methods[section.method]
    if section.method == "edge" and measured is not None and measured["lr"] is not None:
        answer = answer | {"lr": measured["lr"], "low": None, "high": None, "reason": measured["reason"]}
    return {
        "answer": answer,
        "group": group or None,
        "methods": brief(methods),
        "edge": edge["lr"],
        "edge_reason": edge["reason"],
        "warnings": [*_warnings(record.lanes, answer, edge["lr"]), *warnings],
    }


def _warnings(lanes: Sequence[LaneResult], answer: dict[str, Any], edge: float | None) -> list[str]:
    """Return what the reader of a range test should know before believing it, in sentences."""
    warnings = []
    if len(lanes) == 1 and answer["lr"] is not None:
        warnings.append("there is one seed only, so there is no interval; use --seeds 3.")
    if answer["low"] and answer["high"] > 10 * answer["low"]:
        warnings.append(
            f"the lanes disagree by more than a decade ({answer['low']:.2g} to {answer['high']:.2g}); use"
            " more steps or more seeds."
        )
    if answer["lr"] and edge and answer["lr"] > edge / 3:
        where = "above" if answer["lr"] > edge else "more than a third of"
        warnings.append(f"the suggestion is {where} the edge ({edge:.3g}); start lower.")
    warnings += _cut_off(lanes)
    warnings += curve_warnings([lane.curve for lane in lanes if lane.complete], answer)
    refusing = [
        lane
        for lane in lanes
        if lane.complete and ask([lane.curve], answer["method"], raw=True)["lr"] is None
    ]
    if answer["lr"] and refusing:
        has, noun = ("has", "seed") if len(refusing) == 1 else ("have", "seeds")
        seeds = listed(lane.seed for lane in refusing)
        warnings.append(
            f"{len(refusing)} of {counted(len(lanes), 'lane')} {has} no suggestion ({noun} {seeds})."
        )
    outcomes = [lane.outcome for lane in lanes]
    if "diverged" in outcomes and "finished" in outcomes:
        diverged = outcomes.count("diverged")
        warnings.append(f"{diverged} of {counted(len(outcomes), 'lane')} diverged before end_lr.")
    return warnings


def _cut_off(lanes: Sequence[LaneResult]) -> list[str]:
    cut = [lane for lane in lanes if not lane.complete]
    if not cut:
        return []
    were = "was cut off and is" if len(cut) == 1 else "were cut off and are"
    how = listed(dict.fromkeys(lane.outcome for lane in cut))
    return [f"{len(cut)} of {counted(len(lanes), 'lane')} {were} left out ({how})."]


def _over_setting(record: RunRecord) -> dict[str, Any]:
    """Summarize range tests side by side over another setting: each value's suggestion and lowest loss.

    The value whose ramp reaches the lowest loss is the best one (Smith 2018, arXiv:1803.09820, compares
    weight decays in this way; ramping the setting itself tells little, since the lr that goes with it moves
    too).
    """
    section, lanes = record.section, record.lanes
    rows = []
    for variant in record.variants:
        curves = [lane.curve for lane in lanes if lane.variant == variant.name and lane.complete]
        lows = [float(curve.smoothed[: curve.length].min()) for curve in curves if curve.length]
        nothing = {"lr": None, "low": None, "high": None, "method": section.method}
        suggestion = nothing | {"reason": "no lane has ended."}
        rows.append(
            {
                "variant": variant.name,
                **(ask(curves, section.method, raw=True) if curves else suggestion),
                "edge": ask(curves, "edge", raw=True)["lr"] if curves else None,
                "lowest_loss": float(np.median(lows)) if lows else None,
            }
        )
    answered = [row for row in rows if row["lr"] is not None and row["lowest_loss"] is not None]
    best = min(answered, key=lambda row: row["lowest_loss"], default=rows[0])
    warnings = [f"{row['variant']}: {row['reason']}" for row in rows if row["lr"] is None and row is not best]
    warnings += _cut_off(lanes)
    warnings += curve_warnings([lane.curve for lane in lanes if lane.complete], best)
    if len({lane.seed for lane in lanes}) == 1:
        warnings.append("there is one seed only, so nothing is known of the noise; use --seeds 3.")
    return {"over": section.over, "answer": best, "variants": rows, "warnings": warnings}
