"""The values of schedules, as tables and as CSV."""

from __future__ import annotations

import csv
import io

from lrfind.analysis.trends import spread_places
from lrfind.views.plots.schedules import SchedulesView
from lrfind.views.text.layout import table_text
from lrfind.views.text.parts import number

ROWS = 11


def schedules_text(view: SchedulesView) -> str:
    """Return the lr at evenly spaced steps, first and last included."""
    columns = [
        [str(t) if label == "step" else number(values[t]) for t in spread_places(view.steps, ROWS)]
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
