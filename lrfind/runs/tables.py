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

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import LaneResult
from lrfind.errors import printable

if TYPE_CHECKING:
    import pandas as pd


def steps_frame(lanes: Sequence[LaneResult]) -> pd.DataFrame:
    """One row per lane and step; the columns of steps.csv."""
    import pandas as pd

    frames = []
    evaluated = any(result.evaluations for result in lanes)
    for result in lanes:
        columns: dict[str, Any] = {
            "lane": result.lane,
            "seed": result.seed,
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
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


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

    return pd.DataFrame(
        [
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
    )


def health_frame(lanes: Sequence[LaneResult]) -> pd.DataFrame:
    """One row per lane, look and layer; the columns of health.csv."""
    import pandas as pd

    rows = []
    for result in lanes:
        which: dict[str, Any] = {"lane": result.lane}
        which |= {"variant": as_cell(result.variant)} if result.variant else {}
        which |= {"seed": result.seed}
        for row in result.health:
            layer = {"layer": as_cell(row.layer)}
            rows.append(which | {"lr": float(result.lr[row.step])} | row._asdict() | layer)
    return pd.DataFrame(rows)


def as_cell(text: str) -> str:
    """Return a text for a cell of a CSV, which a spreadsheet would otherwise take for a formula.

    >>> as_cell("layer.0"), as_cell("=1+1"), as_cell("-x")
    ('layer.0', "'=1+1", "'-x")
    """
    return f"'{printable(text)}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else printable(text)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
