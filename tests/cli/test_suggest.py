"""`lrfind suggest` on curves with gaps: what was skipped stands in the answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lrfind.analysis.lanes import LaneResult
from tests.helpers.command import Command
from tests.helpers.runs import summarized

LR = np.geomspace(1e-5, 1, 60)
LOSS = 2.3 - 1.5 / (1 + (0.01 / LR) ** 2) + (LR / 0.4) ** 2


@pytest.mark.parametrize("empty", ["", "nan"])
def test_a_missing_loss_is_skipped_and_its_line_is_named(lrfind: Command, empty: str) -> None:
    rows = [f"{lr},{empty if t == 30 else loss}" for t, (lr, loss) in enumerate(zip(LR, LOSS, strict=True))]
    Path("gap.csv").write_text("\n".join(["lr,loss", *rows]))
    Path("whole.csv").write_text("\n".join(["lr,loss", *map("{},{}".format, LR, LOSS)]))
    assert lrfind("suggest", "whole.csv", "--json") == 0
    whole = json.loads(lrfind.out)
    assert whole["warnings"] == []
    assert lrfind("suggest", "gap.csv", "--json") == 0
    answer = json.loads(lrfind.out)
    assert answer["answer"]["lr"] == pytest.approx(whole["answer"]["lr"], rel=0.25)
    (warning,) = answer["warnings"]
    assert warning.startswith("1 point without a finite loss was skipped (line 32)")
    assert lrfind("suggest", "gap.csv") == 0
    assert lrfind.out.count(f"warning: {warning}") == 1


def test_losses_missing_at_the_end_are_a_divergence(lrfind: Command) -> None:
    rows = [f"{lr},{'nan' if t > 50 else loss}" for t, (lr, loss) in enumerate(zip(LR, LOSS, strict=True))]
    Path("curve.csv").write_text("\n".join(["lr,loss", *rows]))
    assert lrfind("suggest", "curve.csv", "--json") == 0
    answer = json.loads(lrfind.out)
    assert answer["warnings"] == []
    assert answer["methods"]["edge"]["lr"] == pytest.approx(LR[51])


def test_losses_that_count_as_infinite_are_not_called_nan(lrfind: Command) -> None:
    Path("curve.csv").write_text(
        "\n".join(["lr,loss", *(f"{lr},{1e307 * loss}" for lr, loss in zip(LR, LOSS, strict=True))])
    )
    assert lrfind("suggest", "curve.csv", "--method", "steepest") == 3
    assert "every loss is beyond 1e+100, where it counts as infinite" in lrfind.text


def ramp(loss: np.ndarray, remark: str) -> LaneResult:
    lr = LR[: loss.size]
    return LaneResult(0, 0, LR.size, 1.0, "finished", lr=lr, loss=loss, error=remark)


def test_the_summary_of_a_range_test_says_what_the_data_did() -> None:
    summary = summarized("range-test", [ramp(LOSS, "the order of the data shows.")])
    assert summary["answer"]["lr"] is not None
    assert summary["warnings"].count("the order of the data shows.") == 1
    ended = np.append(LOSS[:40], np.nan)
    summary = summarized("range-test", [ramp(ended, "the data holds values that are not finite.")])
    assert summary["answer"]["reason"] == "the data holds values that are not finite."
    assert summary["edge"] is None
    assert "the data holds values that are not finite." not in summary["warnings"]
