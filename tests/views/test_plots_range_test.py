from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lrfind.analysis.curves import Curve
from lrfind.views.plots.drawing import save
from lrfind.views.plots.range_test import range_test_figure, view_range_test

ANSWER = {"lr": 3e-3, "low": 2e-3, "high": 5e-3, "method": "consensus", "reason": ""}
NONE = {"lr": None, "low": None, "high": None, "method": "consensus", "reason": "flat"}


def test_a_view_has_the_median_and_the_range_over_lanes(golden: Callable[..., Curve]) -> None:
    plain = golden()
    lanes = [
        Curve.of(plain.lr[:n], plain.loss[:n] + shift) for n, shift in ((90, 0.0), (80, 0.1), (100, 0.4))
    ]
    view = view_range_test(lanes, ANSWER, 0.5)
    assert view.lr.size == view.middle.size == 90  # two of three have not diverged before
    np.testing.assert_allclose(view.middle[:60], plain.loss[:60] + 0.1, atol=0.01)
    np.testing.assert_allclose((view.high - view.low)[:60], 0.4, atol=0.01)
    assert view.axis.bottom < plain.loss.min() < plain.loss[0] < view.axis.top < 5  # the blow-up is cut off


def test_a_figure_shows_suggestion_interval_and_edge(golden: Callable[..., Curve], tmp_path: Path) -> None:
    figure = range_test_figure(view_range_test([golden(0.05)] * 3, ANSWER, 0.5, 0.2), "title")
    (ax,) = figure.axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        "each seed, not smoothed",
        "range of 3 seeds",
        "smoothed loss, median of the seeds",
        "0.002 to 0.005 between seeds",
        "suggestion: 0.003",
        "measured edge: 0.2",
        "diverged: 0.5\n(the edge is usually lower)",
        "goes on above this axis",
        "a seed diverged",
    ]
    assert (ax.get_xscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "learning rate", "training loss")
    save(figure, tmp_path / "plot")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "plot.svg").read_text()


@pytest.mark.parametrize(
    "losses",
    [[2.0] * 30, [np.nan] * 3, [2.0], [2.0, np.nan], [1e300] * 4, [-1.0, -5.0, np.inf], [1e-300] * 20, []],
)
def test_any_lane_can_be_drawn(losses: list[float], tmp_path: Path) -> None:
    curve = Curve.of(np.geomspace(1e-3, 1, len(losses)), losses)
    for answer in (NONE, ANSWER):
        save(range_test_figure(view_range_test([curve], answer, None), "t"), tmp_path / "plot")
    assert (tmp_path / "plot.png").stat().st_size > 1000
