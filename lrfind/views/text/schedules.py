"""The values of schedules, as tables and as CSV."""

from __future__ import annotations

import csv
import io

import numpy as np

from lrfind.views.plots.schedules import SchedulesView
from lrfind.views.text.parts import number, table_text

ROWS = 11
WIDTH = 90  # characters of a table without its steps; further schedules go into a further table


def schedules_text(view: SchedulesView) -> str:
    """Return the lr at evenly spaced steps, first and last included; several tables if one is too wide."""
    steps = np.unique(np.linspace(0, view.steps - 1, ROWS).round().astype(int))
    step, *columns = [
        (label, *(str(t) if label == "step" else number(values[t]) for t in steps))
        for label, values in view.columns.items()
    ]
    tables = [[step]]
    used = 0
    for column in columns:
        width = 2 + max(len(word) for cell in column for word in cell.split())
        if 0 < used > WIDTH - width:
            tables.append([step])
            used = 0
        tables[-1].append(column)
        used += width
    return "\n\n".join(
        table_text(header, rows) for header, *rows in (zip(*table, strict=True) for table in tables)
    )


def schedules_csv(view: SchedulesView) -> bytes:
    """Return a CSV of every step, with enough digits to read the same numbers back."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(view.columns)
    writer.writerows(zip(*(values.tolist() for values in view.columns.values()), strict=True))
    return text.getvalue().encode()
