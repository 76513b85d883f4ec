"""Lane results as tables, for people and for CSV. A float that is read back from a table has the same bits.

steps.csv has one row for each step of a lane, with these columns:

- lane, seed, step;
- lr: used by the optimizer at that step;
- loss: measured before the update that uses lr;
- smoothed_loss: see `analysis.curves.smooth`; nan from the first non-finite loss on;
- only where they were measured: held_out_loss, grad_norm (before clipping), momentum (where the schedule
  moves it) and skipped (1 where float16 overflowed, so that no step was taken);
- in a sweep: val_loss and metric. An evaluation stands in the row of the step whose update follows it; the
  evaluation at the end stands in lanes.csv.

lanes.csv has one row for each lane: lane, variant (where a run compares several), seed, lr (the peak; for a
ramp its end), outcome, steps, first_loss, best_loss, last_loss, train_loss (the mean over the last twentieth
of the steps), val_loss, best_val_loss (the lowest of all evaluations), best_val_step (its step), metric (at
the end), rung (of a pruned lane), train_seconds.

health.csv has one row for each layer in each look: lane, variant, seed, lr (of the step), then the fields of
`analysis.health.LayerHealth`.

In all tables, nan stands for a missing value.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import LaneResult
from lrfind.errors import printable

if TYPE_CHECKING:
    import pandas as pd


Column = np.ndarray[Any, Any]
"""The cells of a column (N,): numbers, or words."""


def steps_frame(lanes: Sequence[LaneResult]) -> pd.DataFrame:
    """One row per lane and step; the columns of steps.csv."""
    import pandas as pd

    return pd.DataFrame(_steps(lanes))


def lanes_frame(lanes: Sequence[LaneResult]) -> pd.DataFrame:
    """One row per lane; the columns of lanes.csv."""
    import pandas as pd

    return pd.DataFrame(_lanes(lanes))


def health_frame(lanes: Sequence[LaneResult]) -> pd.DataFrame:
    """One row per lane, look and layer; the columns of health.csv."""
    import pandas as pd

    return pd.DataFrame(_health(lanes))


def steps_csv(lanes: Sequence[LaneResult]) -> str:
    """Return the content of steps.csv. pandas would write the same, but takes long to import."""
    return _csv(_steps(lanes))


def lanes_csv(lanes: Sequence[LaneResult]) -> str:
    """Return the content of lanes.csv."""
    return _csv(_columns(_lanes(lanes)))


def health_csv(lanes: Sequence[LaneResult]) -> str:
    """Return the content of health.csv."""
    return _csv(_columns(_health(lanes)))


def _steps(lanes: Sequence[LaneResult]) -> dict[str, Column]:
    evaluated = any(result.evaluations for result in lanes)
    parts = [_steps_of(result, evaluated) for result in lanes]
    names = dict.fromkeys(name for part in parts for name in part)
    missing = [np.full(result.lr.size, np.nan) for result in lanes]
    return {
        name: np.concatenate([part.get(name, gap) for part, gap in zip(parts, missing, strict=True)])
        for name in names
    }


def _steps_of(result: LaneResult, evaluated: bool) -> dict[str, Column]:
    """Return the columns of one lane, each (T,); those of its evaluations only if a lane was evaluated."""
    columns: dict[str, Column] = {
        "lane": np.full(result.lr.size, result.lane),
        "seed": np.full(result.lr.size, result.seed),
        "step": np.arange(result.lr.size),
        "lr": result.lr,
        "loss": result.loss,
        "smoothed_loss": result.curve.smoothed,
    }
    for name in ("held_out_loss", "grad_norm", "momentum", "skipped"):
        if getattr(result, name) is not None:
            columns[name] = getattr(result, name)
    if evaluated:
        columns["val_loss"], columns["metric"] = _by_step(result)
    return columns


def _by_step(result: LaneResult) -> tuple[Array, Array]:
    """Validation loss and metric (T,), at the step whose update follows the evaluation; NaN elsewhere."""
    val_loss, metric = np.full((2, result.lr.size), np.nan)
    for evaluation in result.evaluations:
        if evaluation.step < result.lr.size:
            val_loss[evaluation.step] = evaluation.val_loss
            metric[evaluation.step] = np.nan if evaluation.metric is None else evaluation.metric
    return val_loss, metric


def _lanes(lanes: Sequence[LaneResult]) -> list[dict[str, Any]]:
    return [
        {
            "lane": result.lane,
            **({"variant": as_cell(result.variant)} if result.variant else {}),
            "seed": result.seed,
            "lr": result.peak,
            "outcome": result.outcome,
            "steps": result.lr.size,
            "first_loss": result.loss[0] if result.loss.size else np.nan,
            "best_loss": np.nanmin(result.loss) if result.curve.length else np.nan,
            "last_loss": result.loss[-1] if result.loss.size else np.nan,
            "train_loss": _or_nan(result.train_loss),
            "val_loss": _or_nan(result.val_loss),
            "best_val_loss": math.nan if lowest is None else lowest.val_loss,
            "best_val_step": math.nan if lowest is None else lowest.step,
            "metric": _or_nan(result.metric),
            "rung": _or_nan(result.rung),
            "train_seconds": result.seconds,
        }
        for result in lanes
        for lowest in [result.lowest_evaluation]
    ]


def _health(lanes: Sequence[LaneResult]) -> list[dict[str, Any]]:
    rows = []
    for result in lanes:
        which: dict[str, Any] = {"lane": result.lane}
        which |= {"variant": as_cell(result.variant)} if result.variant else {}
        which |= {"seed": result.seed}
        for row in result.health:
            layer = {"layer": as_cell(row.layer)}
            rows.append(which | {"lr": float(result.lr[row.step])} | row._asdict() | layer)
    return rows


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Return the columns of a table of rows, with NaN where a row has no value."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([_or_nan(row.get(name)) for row in rows]) for name in names}


def _csv(columns: Mapping[str, Column]) -> str:
    """Return columns (N,) as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return text.getvalue()


def as_cell(text: str) -> str:
    """Return a text for a cell of a CSV, which a spreadsheet would otherwise take for a formula.

    >>> as_cell("layer.0"), as_cell("=1+1"), as_cell("-x")
    ('layer.0', "'=1+1", "'-x")
    """
    return f"'{printable(text)}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else printable(text)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
