"""The progress of runs, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lrfind.errors import listed
from lrfind.views.text.parts import number, resume_line, table_text


def status_text(status: dict[str, Any]) -> str:
    """Return how far one run is, and what to do next."""
    lanes, answer = status["lanes"], status["answer"]
    outcomes = listed(f"{count} {outcome}" for outcome, count in lanes["outcomes"].items())
    ended = f" ({outcomes})" if outcomes else ""
    lines = [f"{status['run']}: {status['command']} of {status['name']}, {status['state']}"]
    lines.append(f"  lanes: {lanes['settled']} of {lanes['planned']}{ended}")
    if status["holder"]:
        holder = status["holder"]
        lines.append(
            f"  process {holder['pid']} on {holder['host']} has been running it since {holder['since']}"
        )
    elif status["state"] == "unfinished":
        lines.append(f"  {resume_line(status)}")
    if answer["lr"] is not None:
        so_far = " so far" if status["state"] != "finished" else ""
        variant = f", {answer['variant']}" if answer["variant"] else ""
        lines.append(f"  learning rate{so_far}: {number(answer['lr'])}{variant}")
    return "\n".join(lines)


def runs_text(statuses: Iterable[dict[str, Any]]) -> str:
    """Return a table with one row per run."""
    rows = [
        (
            status["run"],
            status["command"],
            status["state"],
            f"{status['lanes']['settled']}/{status['lanes']['planned']}",
            _lr(status["answer"]),
        )
        for status in statuses
    ]
    return table_text(("run", "command", "state", "lanes", "lr"), rows)


def _lr(answer: dict[str, Any]) -> str:
    variant = f" ({answer['variant']})" if answer["variant"] else ""
    return "-" if answer["lr"] is None else f"{number(answer['lr'])}{variant}"
