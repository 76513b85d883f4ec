"""What range tests found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.suggestions import RAMP_EDGE
from lrfind.catalog import DEFAULT_METHOD
from lrfind.runs.summaries.methods import ask, brief, suggestion_table
from lrfind.runs.summaries.parts import SCHEMA, brief_lane


def range_test_summary(
    results: Sequence[LaneResult],
    run: str,
    method: str = DEFAULT_METHOD,
    measured_edge: dict[str, Any] | None = None,
    notes: Sequence[str] = (),
    group: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a range test found.

    Args:
        results: its lanes.
        run: the run directory.
        method: whose answer is the suggestion.
        measured_edge: lr, and what it is in words, where it was bisected for.
        notes: what should be known of it.
        group: name of the one param group whose lr was ramped, and the optimizer's lr; None for all.
    """
    curves = [result.curve for result in results if result.complete]
    methods = suggestion_table(curves, raw=True)
    chosen = methods[method]
    ramp_edge = {"lr": methods["edge"]["lr"], "is": RAMP_EDGE}
    edge = measured_edge if measured_edge and measured_edge["lr"] else ramp_edge
    return {
        "schema": SCHEMA,
        "command": "range-test",
        "run": run,
        "suggestion": chosen,
        "group": group,
        "methods": brief(methods),
        "edge": edge["lr"],
        "edge_is": edge["is"],
        "lanes": [brief_lane(result) for result in results],
        "warnings": [
            *_warnings(results, chosen, edge["lr"]),
            *([f"edge {measured_edge['is']}"] if measured_edge and measured_edge["lr"] is None else []),
        ],
        "notes": [*notes],
    }


def _warnings(results: Sequence[LaneResult], chosen: dict[str, Any], edge_lr: float | None) -> list[str]:
    warnings = []
    if len(results) == 1 and chosen["lr"] is not None:
        warnings.append("one seed only, so there is no interval; use --seeds 3.")
    if chosen["low"] and chosen["high"] > 10 * chosen["low"]:
        warnings.append(
            f"the lanes disagree by more than a decade ({chosen['low']:.2g} to {chosen['high']:.2g}); use"
            " more steps or more seeds."
        )
    if chosen["lr"] and edge_lr and chosen["lr"] > edge_lr / 3:
        warnings.append(f"the suggestion is more than a third of the edge ({edge_lr:.2g}); start lower.")
    cut = [r for r in results if not r.complete]
    if cut:
        warnings.append(f"{len(cut)} of {len(results)} lanes was cut off ({cut[0].outcome}) and is left out.")
    refusing = [r for r in results if r.complete and ask([r.curve], chosen["method"], raw=True)["lr"] is None]
    if chosen["lr"] and refusing:
        seeds = ", ".join(str(r.seed) for r in refusing)
        warnings.append(f"{len(refusing)} of {len(results)} lanes have no answer (seed {seeds}).")
    outcomes = [r.outcome for r in results]
    if "diverged" in outcomes and "finished" in outcomes:
        warnings.append(f"{outcomes.count('diverged')} of {len(outcomes)} lanes diverged before end_lr.")
    return warnings


def over_summary(
    results: Sequence[LaneResult],
    run: str,
    variants: Sequence[str],
    method: str,
    over: str,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """What range tests side by side over another setting found: each value's suggestion and lowest loss.

    The value whose ramp reaches the lowest loss is the best one (Smith 2018, arXiv:1803.09820, who compares
    weight decays so; ramping the setting itself tells little, since the lr that goes with it moves too).

    Args:
        results: lanes of all values.
        run: the run directory.
        variants: of `LaneResult.variant`, in order.
        method: whose answer is the suggestion.
        over: the setting.
        notes: what should be known of it.
    """
    rows = []
    for variant in variants:
        curves = [result.curve for result in results if result.variant == variant and result.complete]
        lows = [float(curve.smoothed[: curve.length].min()) for curve in curves if curve.length]
        edge = ask(curves, "edge", raw=True)["lr"] if curves else None
        nothing = {"lr": None, "low": None, "high": None, "method": method, "reason": "no lane ended."}
        found = ask(curves, method, raw=True) if curves else nothing
        lowest = float(np.median(lows)) if lows else None
        rows.append({"variant": variant, **found, "edge": edge, "lowest_loss": lowest})
    cut = sum(not result.complete for result in results)
    warnings = [f"{cut} of {len(results)} lanes were cut off and are left out."] if cut else []
    if len({result.seed for result in results}) == 1:
        warnings.append("one seed only, so nothing is known of the noise; use --seeds 3.")
    known = [row for row in rows if row["lr"] is not None and row["lowest_loss"] is not None]
    best = min(known, key=lambda row: row["lowest_loss"], default=rows[0])
    return {
        "schema": SCHEMA,
        "command": "range-test",
        "over": over,
        "run": run,
        "suggestion": best,
        "variants": rows,
        "lanes": [brief_lane(result) for result in results],
        "warnings": [
            *(f"{row['variant']}: {row['reason']}" for row in rows if row["lr"] is None and row is not best),
            *warnings,
        ],
        "notes": [*notes],
    }
