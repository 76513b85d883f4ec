"""The parts that all texts share: numbers, tables, wrapped paragraphs, and the end of a run's text."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from lrfind.config.registry import command_line
from lrfind.errors import counted, listed, printable

WIDTH = 100  # characters of a line of prose


def number(value: float) -> str:
    """Return a number as people write a learning rate.

    >>> number(0.033128), number(0.00009), number(12.0)
    ('0.0331', '9e-05', '12')
    """
    return f"{value:.3g}"


def number_or_dash(value: float | None) -> str:
    """Return a number, or a dash if there is none."""
    return "-" if value is None else number(value)


def numbers_apart(values: Sequence[float | None]) -> list[str]:
    """Return numbers with three digits, or with more if different numbers would otherwise look the same.

    >>> numbers_apart([0.0085791, 0.0085799, None]), numbers_apart([0.5, 0.5])
    (['0.008579', '0.00858', '-'], ['0.5', '0.5'])
    """
    known = {value for value in values if value is not None}
    digits = next((n for n in range(3, 8) if len({f"{value:.{n}g}" for value in known}) == len(known)), 8)
    return ["-" if value is None else f"{value:.{digits}g}" for value in values]


def interval(low: float, high: float) -> str:
    """Return an interval.

    >>> interval(0.01, 0.1)
    '0.01 to 0.1'
    """
    return f"{number(low)} to {number(high)}"


def wrapped(text: str, indent: str = "  ", width: int = WIDTH) -> list[str]:
    """Return the lines of a paragraph; those after the first are indented by two spaces."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def table_text(header: Iterable[str], rows: Iterable[Iterable[str]], width: int = WIDTH) -> str:
    """Return a plain table, as wide as it needs to be, for a terminal or a pipe."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in header:
        table.add_column(printable(title))
    for row in rows:
        table.add_row(*map(printable, row))
    console = Console(file=io.StringIO(), width=width, emoji=False, markup=False)
    with console.capture() as capture:
        console.print(table, highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def table_block(header: Iterable[str], rows: Iterable[Iterable[str]], width: int = WIDTH) -> list[str]:
    """Return the lines of an indented table, with an empty line above and below."""
    return ["", *(f"  {line}" for line in table_text(header, rows, width).splitlines()), ""]


def loss_name(judge: str) -> str:
    """Return the name of the loss that decides."""
    names = {"val_loss": "final validation loss", "best_val_loss": "lowest validation loss"}
    return names.get(judge, "final training loss")


def resume_line(summary: Mapping[str, Any]) -> str:
    """Return how to continue the run of a summary or a status.

    >>> resume_line({"run": "runs/mnist", "import_root": "nets"})
    'Run `lrfind resume runs/mnist --import-root nets` to continue.'
    """
    return f"Run `{command_line(['resume', summary['run']], summary.get('import_root'))}` to continue."


def lanes_line(lanes: Mapping[str, Any]) -> str:
    """Return the number of lanes that have settled, their outcomes, and their training steps.

    >>> lanes_line({"planned": 3, "settled": 3, "steps": 240, "outcomes": {"diverged": 3}})
    '  lanes: 3 of 3 (3 diverged), 240 training steps'
    """
    outcomes = listed(f"{count} {outcome}" for outcome, count in lanes["outcomes"].items())
    ended = f" ({outcomes})" if outcomes else ""
    steps = counted(lanes["steps"], "training step")
    return f"  lanes: {lanes['settled']} of {lanes['planned']}{ended}, {steps}"


def closing_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the last lines about a run: its data, its gradients, notes and warnings."""
    notes = [f"note: {note}" for note in summary["notes"]]
    warnings = [f"warning: {warning}" for warning in summary["warnings"]]
    return [*_data(summary["data"]), *_health(summary["health"]), *notes, *warnings]


def _data(facts: Mapping[str, Any] | None) -> list[str]:
    """Return how many rows there are, and what was done to them."""
    if not facts:
        return []
    rows = facts["rows"]
    counts = [
        f"{counted(count, 'row')} to {purpose}"
        if count is not None
        else f"an unknown number of rows to {purpose}"
        for purpose, count in (("train", rows["train"]), ("validate", rows["validation"]))
    ]
    remarks = [*(facts["transforms"] or ()), *([facts["streamed"]] if facts["streamed"] else [])]
    return [f"  data: {' and '.join(counts)}", *(f"    {remark}" for remark in remarks)]


def _health(health: Mapping[str, Any] | None) -> list[str]:
    """Return what is wrong with the gradients and what to try, or that nothing is."""
    if health is None:
        return []
    if not health["looks"]:
        return ["  gradients: not judged, because there was no look at them while the loss was finite"]
    if not health["findings"]:
        layers, looks = counted(health["layers"], "layer"), counted(health["looks"], "time")
        return [f"  gradients: no problem was seen ({layers}, checked {looks})"]
    return [
        f"gradients: {finding['what']}: {finding['evidence']}.\n  try: {finding['advice']}."
        for finding in health["findings"]
    ]
