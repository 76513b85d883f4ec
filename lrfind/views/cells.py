"""What a notebook shows of a result: small HTML that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from lrfind.errors import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110
LONGEST_TEXT = 2000  # characters of a sentence or a cell


def cell(
    headline: str,
    sentences: Iterable[str],
    table_name: str,
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    figure: Figure | None,
) -> str:
    """Return the HTML of a result: the answer, why, its plot, and a table to open.

    All texts are escaped. The plot is a PNG inside the HTML; the headline is its description.

    Args:
        headline: the answer.
        sentences: what to know of it.
        table_name: what the table shows.
        header: the names of its columns.
        rows: its rows; a missing value, None or NaN, is shown as a dash.
        figure: the plot; None for none.
    """
    paragraphs = "".join(f"<p style='margin:.3em 0'>{_text(sentence)}</p>" for sentence in sentences)
    picture = "" if figure is None else f"<img alt='{_text(headline)}' {_picture(figure)}>"
    return (
        f"<div style='max-width:60em'><p style='margin:.3em 0'><strong>{_text(headline)}</strong></p>"
        f"{paragraphs}{picture}<details><summary>{_text(table_name)}</summary>"
        f"{_table(header, rows)}</details></div>"
    )


def _text(value: Any) -> str:
    """Return a value as text of HTML, also for an attribute; a missing one, None or NaN, as a dash."""
    if value is None or value != value:
        return "-"
    text = printable(f"{value:.4g}" if isinstance(value, float) else str(value))
    return html.escape(text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}...", quote=True)


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    style = "style='text-align:left;padding-right:1em'"
    names = "".join(f"<th scope='col' {style}>{_text(name).replace('_', ' ')}</th>" for name in header)
    lines = ("<tr>" + "".join(f"<td {style}>{_text(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _picture(figure: Figure) -> str:
    """Return the source and the width of an image."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
    width = round(100 * figure.get_figwidth())
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f"style='max-width:100%;width:{width}px' src='data:image/png;base64,{data}'"
