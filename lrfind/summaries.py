"""What a run found, as plain data: the content of summary.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrfind.catalog import DEFAULT_METHOD
from lrfind.curves import Curve
from lrfind.errors import NoSuggestion
from lrfind.plan import LaneResult
from lrfind.suggestions import METHODS, RAMP_EDGE, suggest_over

SCHEMA = 1


def suggestion_table(curves: Sequence[Curve], *, raw: bool) -> dict[str, dict[str, Any]]:
    """What every method says of these lanes: {name: {lr, low, high, reason}}, lr None where it refuses."""
    return {name: ask(curves, name, raw=raw) for name in METHODS}


def ask(curves: Sequence[Curve], method: str, *, raw: bool) -> dict[str, Any]:
    """One method's answer as plain data; a refusal has lr None and says why in `reason`."""
    try:
        found = suggest_over(curves, method, raw=raw)
    except NoSuggestion as refused:
        return {"lr": None, "low": None, "high": None, "method": method, "reason": refused.reason}
    return {
        "lr": found.lr,
        "low": found.low,
        "high": found.high,
        "method": method,
        "reason": found.reason,
    }


def range_test_summary(
    results: Sequence[LaneResult],
    run: str,
    method: str = DEFAULT_METHOD,
    measured_edge: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a range test found.

    Args:
        results: its lanes.
        run: the run directory.
        method: whose answer is the suggestion.
        measured_edge: lr, and what it is in words, where it was bisected for.
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
        "methods": brief(methods),
        "edge": edge["lr"],
        "edge_is": edge["is"],
        "lanes": [
            {"lane": r.lane, "seed": r.seed, "outcome": r.outcome, "steps": int(r.lr.size)} for r in results
        ],
        "warnings": [
            *_warnings(results, chosen, edge["lr"]),
            *([f"edge {measured_edge['is']}"] if measured_edge and measured_edge["lr"] is None else []),
        ],
    }


def brief(methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A `suggestion_table` with lr and reason alone: why there is no lr, or what must be known of it."""
    return {
        name: {
            "lr": answer["lr"],
            "reason": answer["reason"] if answer["lr"] is None or name == "edge" else None,
        }
        for name, answer in methods.items()
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
