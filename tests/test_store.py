from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfind.errors import UsageError
from lrfind.plan import LaneResult
from lrfind.store import Run, default_path, lanes_frame, read_curves, steps_frame


def lane(number: int = 0, **changes: object) -> LaneResult:
    values: dict[str, object] = {
        "lane": number,
        "seed": 7 + number,
        "planned": 9,
        "peak": 10.0,
        "outcome": "diverged",
        "lr": np.array([1e-7 / 3, 0.1, 10 / 3]),
        "loss": np.array([2 / 3, 1e-300, np.nan]),
        "seconds": 1.5,
    }
    return LaneResult(**(values | changes))


def same(a: LaneResult, b: LaneResult) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) if isinstance(x, np.ndarray) else x == y
               for x, y in zip(vars(a).values(), vars(b).values(), strict=True))  # fmt: skip


def test_lanes_come_back_bit_for_bit(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"name": "x"})
    lanes = [
        lane(),
        lane(1, grad_norm=np.array([1.0, np.inf, 3.0]), probe_loss=np.array([0.1, 0.2, np.nan])),
        lane(2, lr=np.array([]), loss=np.array([]), outcome="failed", error="why"),
    ]
    for result in lanes:
        run.add_lane(result)
    again = Run.open(run.path)
    assert all(same(a, b) for a, b in zip(again.lanes(), lanes, strict=True))
    assert again.facts()["name"] == "x"


@given(st.lists(st.floats(width=64), min_size=1, max_size=8))
def test_floats_survive_the_csv(losses: list[float]) -> None:
    result = lane(lr=np.geomspace(1e-9, 1 / 3, len(losses)), loss=np.array(losses))
    frame = pd.read_csv(io.StringIO(steps_frame([result]).to_csv(index=False)), dtype=str)
    np.testing.assert_array_equal(frame.loss.astype(float), result.loss)
    np.testing.assert_array_equal(frame.lr.astype(float), result.lr)


def test_a_row_a_lane_says_how_it_ended() -> None:
    (row,) = lanes_frame([lane()]).to_dict("records")
    assert list(row) == [
        "lane", "seed", "lr", "outcome", "steps", "first_loss", "best_loss", "last_loss", "metric", "train_seconds"
    ]  # fmt: skip
    assert (row["lr"], row["outcome"], row["steps"], row["first_loss"], row["best_loss"]) == (
        10,
        "diverged",
        3,
        2 / 3,
        1e-300,
    )
    assert np.isnan(row["last_loss"])


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", {})
    with pytest.raises(UsageError, match="is not empty, and a run never overwrites; give another --out"):
        Run.create(tmp_path / "run", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="a file is in the way"):
        Run.create(tmp_path / "file", {})
    with pytest.raises(UsageError, match="a file is in the way"):
        Run.create(tmp_path / "file" / "run", {})


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no run\.sqlite"):
        Run.open(tmp_path)
    (tmp_path / "run.sqlite").write_text("something else, and longer than a header of sqlite is" * 30)
    with pytest.raises(UsageError, match="cannot be read"):
        Run.open(tmp_path)


def test_a_default_path_that_is_taken_gets_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "now")
    first = default_path("exp", "grid")
    assert first == Path("runs/exp-grid-now")
    first.mkdir(parents=True)
    assert default_path("exp", "grid") == Path("runs/exp-grid-now-2")


def test_curves_are_read_from_any_csv(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("step, lr, loss\n0, 0.1, 2\n1, 0.001, 3.5\n2, 0.01, nan\n")
    ((curve,), recorded) = read_curves(path)
    assert curve.lr.tolist() == [0.001, 0.01, 0.1]
    np.testing.assert_array_equal(curve.loss, [3.5, np.nan, 2])
    assert (curve.planned, recorded) == (3, False)
    path.write_text("lane,lr,loss\n0,1,2\n0,2,3\n1,1,5\n")
    assert [c.loss.tolist() for c in read_curves(path)[0]] == [[2, 3], [5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate,loss\n1,2\n", "no column lr; its columns are: rate, loss"),
        ("lr,loss\n1,low\n", "line 2: loss is 'low', not a number"),
        ("lr,loss\n1,2\n1,3\n", "lr must increase"),
        ("lr,loss\n-1,2\n", "lr 0 is -1"),
        ("", "cannot be read as CSV"),
        ('lr,loss\n"1,2\n', "cannot be read as CSV"),
    ],
)
def test_a_csv_without_a_curve_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_curves(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file or run directory"):
        read_curves(tmp_path / "none.csv")
