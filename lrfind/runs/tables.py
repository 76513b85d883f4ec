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
the end), rung (of a pruned lane), train_seconds (nan for probes).

health.csv has one row for each layer in each look: lane, variant, seed, lr (of the step), then the fields of
`analysis.health.LayerHealth`.

In all tables, nan stands for a missing value.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import LaneResult
from lrfind.errors import printable

if TYPE_CHECKING:
    import pandas as pd

MEASURED = ("held_out_loss", "grad_norm", "momentum", "skipped")
BLOCK = 65_536
"""The rows that become text at once, so that the memory is bounded."""


def steps_csv(lanes: Sequence[LaneResult]) -> Iterator[str]:
    """Yield steps.csv in parts. `steps_frame(lanes).to_csv(index=False, na_rep="nan")` is the same text."""
    evaluated = any(result.evaluations for result in lanes)
    names = dict.fromkeys(name for result in lanes for name in _step_columns(result, evaluated))
    yield ",".join(names) + "\n"
    for result in lanes:
        columns = _step_columns(result, evaluated)
        for begin in range(0, result.lr.size, BLOCK):
            part = slice(begin, begin + BLOCK)
            cells = [_texts(columns[name][part]) if name in columns else repeat("nan") for name in names]
            yield "\n".join(map(",".join, zip(*cells, strict=False))) + "\n"


def _texts(column: NDArray[Any]) -> Iterable[str]:
    """Return the cells of a column; one text serves all its numbers where they are the same."""
    if column.tobytes() == column[:1].tobytes() * column.size:
        return repeat(repr(column[0].item()), column.size)
    return map(repr, column.tolist())


def steps_frame(lanes: Sequence[LaneResult]) -> pd.DataFrame:
    """One row per lane and step; the columns of steps.csv."""
    import pandas as pd

    evaluated = any(result.evaluations for result in lanes)
    frames = [pd.DataFrame(_step_columns(result, evaluated)) for result in lanes]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _step_columns(result: LaneResult, evaluated: bool) -> dict[str, NDArray[Any]]:
    """Return the columns of a lane in steps.csv, (T,) each."""
    size = result.lr.size
    columns: dict[str, NDArray[Any]] = {
        "lane": np.full(size, result.lane),
        "seed": np.full(size, result.seed),
        "step": np.arange(size),
        "lr": result.lr,
        "loss": result.loss,
        "smoothed_loss": result.curve.smoothed,
    }
    columns |= {name: column for name in MEASURED if (column := getattr(result, name)) is not None}
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


def lanes_frame(lanes: Sequence[LaneResult]) -> pd.DataFrame:
    """One row per lane; the columns of lanes.csv."""
    import pandas as pd

    return pd.DataFrame(lane_rows(lanes))


def lane_rows(lanes: Sequence[LaneResult]) -> list[dict[str, Any]]:
    """Return the rows of lanes.csv."""
    return [
        {
            "lane": result.lane,
            **({"variant": as_cell(result.variant)} if result.variant else {}),
            "seed": result.seed,
            "lr": result.peak,
            "outcome": result.outcome,
            "steps": result.lr.size,
            "first_loss": result.loss[0] if result.loss.size else math.nan,
            "best_loss": np.nanmin(result.loss) if result.curve.length else math.nan,
            "last_loss": result.loss[-1] if result.loss.size else math.nan,
            "train_loss": _or_nan(result.train_loss),
            "val_loss": _or_nan(result.val_loss),
            "best_val_loss": math.nan if lowest is None else lowest.val_loss,
            "best_val_step": math.nan if lowest is None else lowest.step,
            "metric": _or_nan(result.metric),
            "rung": _or_nan(result.rung),
            "train_seconds": result.seconds or math.nan,
        }
        for result in lanes
        for lowest in [result.lowest_evaluation]
    ]


def health_frame(lanes: Sequence[LaneResult]) -> pd.DataFrame:
    """One row per lane, look and layer; the columns of health.csv."""
    import pandas as pd

    return pd.DataFrame(health_rows(lanes))


def health_rows(lanes: Sequence[LaneResult]) -> list[dict[str, Any]]:
    """Return the rows of health.csv."""
    rows = []
    for result in lanes:
        which: dict[str, Any] = {"lane": result.lane}
        which |= {"variant": as_cell(result.variant)} if result.variant else {}
        which |= {"seed": result.seed}
        for row in result.health:
            layer = {"layer": as_cell(row.layer)}
            rows.append(which | {"lr": float(result.lr[row.step])} | row._asdict() | layer)
    return rows


def rows_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV: the text of `pandas.DataFrame(rows).to_csv(index=False, na_rep="nan")`."""
    names = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    columns = [_cells([row.get(name) for row in rows]) for name in names]
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def _cells(values: Sequence[Any]) -> list[str]:
    """Return the cells of a column: floats only, where one of its numbers is a float or is missing."""
    floats = any(isinstance(value, float) or value is None for value in values)

    def cell(value: Any) -> str:
        if value is None:
            return "nan"
        return repr(float(value)) if floats and not isinstance(value, str) else str(value)

    return [cell(value) for value in values]


def as_cell(text: str) -> str:
    """Return a text for a cell of a CSV, which a spreadsheet would otherwise take for a formula.

    >>> as_cell("layer.0"), as_cell("=1+1"), as_cell("-x")
    ('layer.0', "'=1+1", "'-x")
    """
    return f"'{printable(text)}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else printable(text)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
