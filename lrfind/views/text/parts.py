"""What all reports have in common."""

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


def number_or_dash(value: float | None) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else number(value)


def table_text(header: Iterable[str], rows: Iterable[Iterable[str]], width: int = 100) -> str:
    """A plain table, as wide as it needs to be, for a terminal or a pipe."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in header:
        table.add_column(title)
    for row in rows:
        table.add_row(*row)
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(table, highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def closing_lines(summary: dict[str, Any]) -> list[str]:
    """What else must be known of a run: its data, notes, warnings, and how its gradients are."""
    notes = [f"note: {note}" for note in summary["notes"]]
    warnings = [f"warning: {warning}" for warning in summary["warnings"]]
    return [*_data(summary["data"]), *_health(summary["health"]), *notes, *warnings]


def _data(facts: dict[str, Any] | None) -> list[str]:
    """How many rows there were, and what was done to them."""
    if not facts:
        return []
    counts = [
        f"{count:,} rows to {what}" if count is not None else f"an unknown number of rows to {what}"
        for what, count in (("train", facts["rows"]["train"]), ("validate", facts["rows"]["validation"]))
    ]
    told = [*(facts["transforms"] or ()), *([facts["streamed"]] if facts["streamed"] else [])]
    return [f"  with {' and '.join(counts)}", *(f"    {each}" for each in told)]


def _health(found: dict[str, Any] | None) -> list[str]:
    """How the gradients are: what is wrong with them and what to try, or that nothing is."""
    if found is None:
        return []
    layers = "1 layer" if found["layers"] == 1 else f"{found['layers']} layers"
    if not found["looks"]:
        return ["  gradients: not judged, as there was no look while the loss was finite"]
    if not found["findings"]:
        looks = "1 look" if found["looks"] == 1 else f"{found['looks']} looks"
        return [f"  gradients: healthy in {layers}, at {looks}"]
    return [
        f"gradients: {finding['what']}: {finding['evidence']}.\n  try: {finding['advice']}."
        for finding in found["findings"]
    ]
