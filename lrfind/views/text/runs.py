"""The progress of runs, in words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from lrfind.errors import counted
from lrfind.views.text.layout import wrapped
from lrfind.views.text.parts import count_text, number, resume_line


def status_text(status: dict[str, Any]) -> str:
    """Return how far one run is, and what to do next."""
    answer = status["answer"]
    lines = wrapped(f"{status['run']}: {status['command']} of {status['name']}, {_state(status)}", "")
    for what, count in status["kinds"].items():
        lines += wrapped(count_text(what, count))
    if status["holder"]:
        holder = status["holder"]
        lines += wrapped(
            f"process {holder['pid']} on {holder['host']} has been running it since {holder['since']}"
        )
    elif status["state"] == "unfinished":
        lines += wrapped(resume_line(status))
    if answer["lr"] is not None:
        so_far = " so far" if status["state"] != "finished" else ""
        variant = f", {answer['variant']}" if answer["variant"] else ""
        lines += wrapped(f"learning rate{so_far}: {number(answer['lr'])}{variant}")
    return "\n".join(lines)


def runs_text(statuses: Iterable[dict[str, Any]]) -> str:
    """Return two lines for each run: its directory, and below it what it is and gave, in columns.

    The directory has a line of its own, because its name is long, and people copy it.
    """
    statuses = [*statuses]
    columns = [_columns(status) for status in statuses]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    lines = []
    for status, cells in zip(statuses, columns, strict=True):
        row = "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
        lines += [status["run"], f"  {row}".rstrip()]
    return "\n".join(lines)


def _columns(status: dict[str, Any]) -> tuple[str, ...]:
    answer, lanes, loss = status["answer"], status["lanes"], status["loss"]
    variant = f" ({answer['variant']})" if answer["variant"] else ""
    known = status["state"] != "finished" and lanes["planned"] is not None
    return (
        status["command"],
        _state(status),
        "no lr" if answer["lr"] is None else f"lr {number(answer['lr'])}{variant}",
        "" if loss is None else f"loss {number(loss)}",
        f"{lanes['settled']} of {counted(lanes['planned'], 'lane')}" if known else "",
    )


def _state(status: dict[str, Any]) -> str:
    """Return the state of a run and the time of its end, its last change or, while it runs, its beginning."""
    state, began = status["state"], status["began"]
    if state == "running":
        return f"{state}, began {age(began)}" if began else str(state)
    if state == "unfinished":
        return f"{state}, last changed {age(status['changed'])}"
    return f"{state} {age(status['ended'] or status['changed'])}"


UNITS = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1)))
LONG_AGO = timedelta(days=30)


def age(moment: str, now: datetime | None = None) -> str:
    """Return how long ago a moment was; its date, if that is more than a month.

    Args:
        moment: a time in ISO 8601, with its offset from UTC.
        now: the time to compare with; the present when omitted.

    >>> noon = datetime.fromisoformat("2026-11-28T12:00:00+00:00")
    >>> [age(f"2026-11-{text}+00:00", noon) for text in ("28T11:59:40", "28T11:18:00", "28T09:30:00")]
    ['just now', '42 min ago', '2 h ago']
    >>> age("2026-08-01T12:00:00+00:00", noon)
    'on 2026-08-01'
    """
    then = datetime.fromisoformat(moment)
    passed = (now or datetime.now(then.tzinfo)) - then
    if passed > LONG_AGO:
        return f"on {then:%Y-%m-%d}"
    return next((f"{passed // unit} {name} ago" for name, unit in UNITS if passed >= unit), "just now")
