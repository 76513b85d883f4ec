"""The answers of the suggestion methods for curves, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrfind.analysis.curves import Curve
from lrfind.analysis.suggestions import suggest_over
from lrfind.catalog import METHODS
from lrfind.errors import NoSuggestion


def suggestion_table(curves: Sequence[Curve], *, raw: bool) -> dict[str, dict[str, Any]]:
    """Return every method's answer for these lanes, by the method's name; see `ask`."""
    return {name: ask(curves, name, raw=raw) for name in METHODS}


def ask(curves: Sequence[Curve], method: str, *, raw: bool) -> dict[str, Any]:
    """Return one method's answer: `lr`, `low`, `high`, `method`, `reason`; `lr` is None if it refuses."""
    try:
        suggestion = suggest_over(curves, method, raw=raw)
    except NoSuggestion as refusal:
        return {"lr": None, "low": None, "high": None, "method": method, "reason": refusal.reason}
    return {
        "lr": suggestion.lr,
        "low": suggestion.low,
        "high": suggestion.high,
        "method": method,
        "reason": suggestion.reason,
    }


def curve_warnings(curves: Sequence[Curve], answer: dict[str, Any]) -> list[str]:
    """Return what the reader of an answer should know of these curves; the reason of a refusal says it."""
    if answer["lr"] is None:
        return []
    return list(dict.fromkeys(note for curve in curves for note in curve.notes))


def brief(methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a `suggestion_table` with only `lr` and `reason`.

    The reason says why there is no lr, or what the edge means; for any other lr it is None.
    """
    return {
        name: {
            "lr": answer["lr"],
            "reason": answer["reason"] if answer["lr"] is None or name == "edge" else None,
        }
        for name, answer in methods.items()
    }
