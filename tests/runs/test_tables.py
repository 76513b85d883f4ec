"""The tables of a run are the text that pandas would write, byte for byte."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import Evaluation, LaneResult
from lrfind.runs import tables
from lrfind.runs.tables import (
    health_frame,
    health_rows,
    lane_rows,
    lanes_frame,
    rows_csv,
    steps_csv,
    steps_frame,
)

LANE = LaneResult(
    lane=0, seed=7, planned=9, peak=1 / 3, outcome="finished", lr=np.geomspace(1e-7 / 3, 1e17, 9),
    loss=np.array([2 / 3, 1e-300, 5e-324, -0.0, 1e16, 1e-5, 123456789.125, 1e22, 3.0]), seconds=1.5,
)  # fmt: skip
EVALUATED = replace(
    LANE, lane=1, evaluations=(Evaluation(3, 0.25, None), Evaluation(9, math.nan, 0.5)), rung=2, seed=8
)
DIVERGED = replace(
    LANE, lane=2, outcome="diverged", loss=np.array([*LANE.loss[:-2], np.inf, np.nan]),
    grad_norm=np.arange(9.0), skipped=np.zeros(9),
)  # fmt: skip
EMPTY = replace(LANE, lane=3, outcome="failed", lr=np.array([]), loss=np.array([]), error="why")
LOOK = LayerHealth(2, "=sum", 5, True, False, 0.5, None, 1e-7, 0.0, 0.0, None, None)
LOOKED = replace(
    LANE, lane=4, variant='a, "b"\nc', health=(LOOK, LOOK._replace(step=3, layer="x", dead_share=1.0))
)


@pytest.mark.parametrize(
    "lanes",
    [
        [], [LANE], [EMPTY], [EVALUATED], [LANE, EVALUATED, DIVERGED, EMPTY, LOOKED], [EMPTY, DIVERGED, LANE],
        [LOOKED, replace(LOOKED, lane=5, seed=-1)],
    ],
)  # fmt: skip
def test_a_table_is_what_pandas_writes_of_its_frame(
    lanes: list[LaneResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_pandas(frame: pd.DataFrame) -> str:
        return frame.to_csv(index=False, na_rep="nan", lineterminator="\n")

    monkeypatch.setattr(tables, "BLOCK", 4)
    assert "".join(steps_csv(lanes)) == by_pandas(steps_frame(lanes))
    assert rows_csv(lane_rows(lanes)) == by_pandas(lanes_frame(lanes))
    assert rows_csv(health_rows(lanes)) == by_pandas(health_frame(lanes))
