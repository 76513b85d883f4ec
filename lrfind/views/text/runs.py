"""What any run found, in words, and how far runs are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lrfind.views.text.compare import comparison_text
from lrfind.views.text.find import find_text
from lrfind.views.text.parts import number, table_text
from lrfind.views.text.range_test import over_text, range_test_text
from lrfind.views.text.sweep import sweep_text
from lrfind.views.text.train import training_text


def summary_text(summary: dict[str, Any]) -> str:
    """A run's summary, whatever its command was."""
    return TEXTS[summary["command"]](summary)


def _range_tests_text(summary: dict[str, Any]) -> str:
    return over_text(summary) if "over" in summary else range_test_text(summary)


TEXTS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "find": find_text,
    "range-test": _range_tests_text,
    "grid": sweep_text,
    "search": sweep_text,
    "compare": comparison_text,
    "train": training_text,
}


def status_text(state: dict[str, Any]) -> str:
    """How far one run is, and what to do next."""
    lanes = state["lanes"]
    kinds = ", ".join(
        f"{count} {kind}" for kind, count in lanes.items() if kind not in ("planned", "settled")
    )
    lines = [f"{state['run']}: {state['command']} of {state['name']}, {state['state']}"]
    lines.append(f"  lanes: {lanes['settled']} of {lanes['planned']}" + (f" ({kinds})" if kinds else ""))
    if state["holder"]:
        holder = state["holder"]
        lines.append(f"  process {holder['pid']} on {holder['host']} runs it since {holder['since']}")
    elif state["state"] == "unfinished":
        lines.append(f"  `lrfind resume {state['run']}` goes on")
    if state["lr"] is not None:
        so_far = " so far" if state["state"] != "finished" else ""
        of = f", {state['variant']}" if state["variant"] else ""
        lines.append(f"  learning rate{so_far}: {number(state['lr'])}{of}")
    return "\n".join(lines)


def runs_text(states: Iterable[dict[str, Any]]) -> str:
    """A row a run."""
    rows = [
        (
            state["run"],
            state["command"],
            state["state"],
            f"{state['lanes']['settled']}/{state['lanes']['planned']}",
            "-" if state["lr"] is None else number(state["lr"]) + _of(state["variant"]),
        )
        for state in states
    ]
    return table_text(("run", "command", "state", "lanes", "lr"), rows)


def _of(variant: str | None) -> str:
    return f" ({variant})" if variant else ""
