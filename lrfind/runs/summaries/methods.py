"""What the suggestion methods say of curves, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrfind.analysis.curves import Curve
from lrfind.analysis.suggestions import METHODS, suggest_over
from lrfind.errors import NoSuggestion


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


def brief(methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A `suggestion_table` with lr and reason alone: why there is no lr, or what must be known of it."""
    return {
        name: {
            "lr": answer["lr"],
            "reason": answer["reason"] if answer["lr"] is None or name == "edge" else None,
        }
        for name, answer in methods.items()
    }
