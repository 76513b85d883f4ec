from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lrfind.errors import UsageError
from lrfind.runs.curves import read_curves


def test_curves_are_read_from_any_csv(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("Step, LR, Loss\n0, 0.1, 2\n1, 0.001, 3.5\n2, 0.01, nan\n")
    (curve,), raw, method = read_curves(path)
    assert curve.lr.tolist() == [0.001, 0.01, 0.1]
    np.testing.assert_array_equal(curve.loss, [3.5, np.nan, 2])
    assert (curve.planned, raw, method) == (3, False, "consensus")
    path.write_text("lane,lr,loss\n0,1,2\n0,2,3\n1,1,5\n")
    assert [c.loss.tolist() for c in read_curves(path)[0]] == [[2, 3], [5]]


def test_a_row_without_a_loss_keeps_its_line(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("lr,loss\n0.3,1\n0.1,\n0.01,2\n")
    (curve,), _, _ = read_curves(path)
    assert curve.places == ("line 4", "line 3", "line 2")
    assert curve.gaps.tolist() == [1]
    assert "(line 3)" in curve.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate,loss\n1,2\n", "no column lr; its columns are: rate, loss"),
        ("lr,loss\n1,low\n", "line 2: loss is 'low', not a number"),
        ("lr,loss\n1,2\n1,3\n", "lr must increase"),
        ("lr,loss\n1,2\n-1,2\n", "line 3: lr is '-1', not a positive number"),
        ("lr;loss\n1;2\n", "with a comma between"),
        ("", "cannot be read as CSV"),
        ("lr,loss\n1,2,3\n2,3,4\n", "rows with more cells than its first line names"),
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
