from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import Evaluation, LaneResult
from lrfind.runs.tables import health_csv, health_frame, lanes_csv, lanes_frame, steps_csv, steps_frame

LR = np.array([1e-5, 0.1, 1e17 / 3])
PLAIN = LaneResult(0, 7, 3, 0.1, "finished", lr=LR, loss=np.array([2 / 3, 1e-300, -0.0]), seconds=1.5)
EVALUATED = replace(PLAIN, lane=1, evaluations=(Evaluation(1, 0.5, None), Evaluation(3, 0.25, 1.0)))
MEASURED = replace(
    PLAIN, lane=2, variant='a,"b"', outcome="diverged", loss=np.array([1.0, np.inf, np.nan]),
    grad_norm=LR, skipped=np.array([0.0, 1.0, 0.0]), rung=1,
)  # fmt: skip
EMPTY = replace(PLAIN, lane=3, variant="=1+1", outcome="failed", lr=LR[:0], loss=LR[:0])
LOOKED_AT = replace(
    PLAIN,
    lane=4,
    health=(
        LayerHealth(0, "layer.0", 4, True, True, 0.1, 0.2, None, 0.0, 0.0, None, None),
        LayerHealth(2, "=1+1", 10, False, True, None, None, 0.5, 1 / 3, 0.0, None, None),
    ),
)


@pytest.mark.parametrize(
    "lanes",
    [
        (),
        (PLAIN,),
        (EVALUATED,),
        (PLAIN, EVALUATED, MEASURED, EMPTY, LOOKED_AT),
        (EMPTY,),
    ],
    ids=["no lane", "one lane", "an evaluated lane", "all kinds", "a lane without a step"],
)
def test_a_csv_is_what_pandas_writes_of_the_frame(lanes: tuple[LaneResult, ...]) -> None:
    for text, frame in (
        (steps_csv(lanes), steps_frame(lanes)),
        (lanes_csv(lanes), lanes_frame(lanes)),
        (health_csv(lanes), health_frame(lanes)),
    ):
        assert text == frame.to_csv(index=False, na_rep="nan", lineterminator="\n")


def test_each_step_of_a_table_has_the_bits_that_were_measured() -> None:
    rows = [*csv.DictReader(io.StringIO(steps_csv([PLAIN, MEASURED])))]
    assert [row["lane"] for row in rows] == ["0"] * 3 + ["2"] * 3
    assert np.array([float(row["loss"]) for row in rows]).tobytes() == (
        np.concatenate([PLAIN.loss, MEASURED.loss]).tobytes()
    )
    assert [row["skipped"] for row in rows] == ["nan"] * 3 + ["0.0", "1.0", "0.0"]
    assert pd.read_csv(io.StringIO(steps_csv([PLAIN]))).columns[-1] == "smoothed_loss"
