"""The values of schedules, as tables and as CSV."""

from __future__ import annotations

import csv
import io

import numpy as np

from lrfind.views.plots.schedules import SchedulesView
from lrfind.views.text.layout import table_text
from lrfind.views.text.parts import number

ROWS = 11


def schedules_text(view: SchedulesView) -> str:
    """Return the lr at evenly spaced steps, first and last included."""
    steps = np.unique(np.linspace(0, view.steps - 1, ROWS).round().astype(int))
    columns = [
        [str(t) if label == "step" else number(values[t]) for t in steps]
        for label, values in view.columns.items()
    ]
    return table_text(view.columns, zip(*columns, strict=True))


def schedules_csv(view: SchedulesView) -> bytes:
    """Return a CSV of every step, with enough digits to read the same numbers back."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(view.columns)
    writer.writerows(zip(*(values.tolist() for values in view.columns.values()), strict=True))
    return text.getvalue().encode()
