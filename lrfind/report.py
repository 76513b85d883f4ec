"""What a person reads on the terminal, made from plain results."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table


def number(lr: float) -> str:
    """A learning rate as people write it.

    >>> number(0.033128), number(0.00009), number(12.0)
    ('0.0331', '9e-05', '12')
    """
    return f"{lr:.3g}"


def headline(suggestion: dict[str, Any]) -> str:
    """The answer in a line or two: the lr and its interval, or why there is none."""
    if suggestion["lr"] is None:
        return f"No suggestion ({suggestion['method']}): {suggestion['reason']}"
    text = f"Suggested learning rate: {number(suggestion['lr'])}"
    if suggestion["low"] is not None:
        text += f"   [{number(suggestion['low'])} to {number(suggestion['high'])} between seeds]"
    return f"{text}\n  {suggestion['method']}: {suggestion['reason']}"


def range_test_text(summary: dict[str, Any]) -> str:
    """A range test's summary."""
    lines = [headline(summary["suggestion"])]
    ramp_edge = summary["methods"]["edge"]
    if summary["edge"] is not None:
        lines.append(f"  edge: {number(summary['edge'])}, {summary['edge_is']}")
    if ramp_edge["lr"] not in (None, summary["edge"]):
        lines.append(f"  edge on the ramp: {number(ramp_edge['lr'])}, {ramp_edge['reason']}")
    outcomes = [lane["outcome"] for lane in summary["lanes"]]
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in dict.fromkeys(outcomes))
    taken = sum(lane["steps"] for lane in summary["lanes"])
    lines.append(f"  lanes: {counts}; {taken} training steps")
    lines += [f"warning: {warning}" for warning in summary["warnings"]]
    return "\n".join(lines)


def methods_text(methods: dict[str, dict[str, Any]]) -> str:
    """A table of every method's answer, or its reason for having none."""
    rows, before = [], None
    for name, answer in methods.items():
        words = "(the same)" if answer["reason"] == before else answer["reason"]
        rows.append((name, "-" if answer["lr"] is None else number(answer["lr"]), words))
        before = answer["reason"]
    return table_text(("method", "lr", "what it is, or why there is none"), rows)


def table_text(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A plain table, as wide as it needs to be, for a terminal or a pipe."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in header:
        table.add_column(title)
    for row in rows:
        table.add_row(*row)
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(table, highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
