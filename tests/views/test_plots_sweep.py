from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lrfind.analysis.lanes import Evaluation, LaneResult, Outcome
from lrfind.analysis.sweeps import SweepResult, read_sweep
from lrfind.views.plots.drawing import save
from lrfind.views.plots.sweep import curves_figure, sweep_figure, view_curves, view_sweep


def lane(lr: float, end: float, outcome: Outcome = "finished", seed: int = 0, steps: int = 30) -> LaneResult:
    loss = np.linspace(2.0, end, steps)
    evaluations = (Evaluation(steps, end, None),) if outcome == "finished" else ()
    return LaneResult(0, seed, 30, lr, outcome, np.full(steps, lr), loss, evaluations=evaluations)


def reading(*lanes: LaneResult) -> SweepResult:
    return read_sweep(lanes, "val_loss", 0.1)


FULL = [
    *(
        lane(lr, end + seed / 10, seed=seed)
        for lr, end in ((1e-3, 1.5), (1e-2, 0.5), (0.1, 0.4))
        for seed in (0, 1)
    ),
    *(lane(1.0, 50.0, "diverged", seed, steps=12) for seed in (0, 1)),
    *(lane(3e-4, 1.9, "pruned", seed, steps=8) for seed in (0, 1)),
]


def test_a_sweep_shows_median_seeds_usable_range_edge_and_the_lrs_that_did_not_finish(
    tmp_path: Path,
) -> None:
    view = view_sweep(reading(*FULL))
    np.testing.assert_allclose(view.middle, [1.55, 0.55, 0.45])
    assert view.lost == {"pruned": [3e-4], "diverged": [1.0]}
    assert len(view.lanes) == 6
    figure = sweep_figure(view, "title")
    (ax,) = figure.axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        "usable: 0.01 to 0.1",
        "each seed",
        "median of 2 seeds",
        "loss at the start",
        "edge: 0.316",
        "best lr: 0.1",
        "pruned",
        "diverged",
    ]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_ylabel()) == ("log", "linear", "final validation loss")
    for name in ("a", "b"):
        save(sweep_figure(view, "title"), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_plot_that_is_interrupted_leaves_nothing_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(figure: Figure, file: object, **options: object) -> None:
        assert not [*tmp_path.iterdir()]
        if options["format"] == "svg":
            raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(curves_figure(view_curves(reading(*FULL)), "t"), tmp_path / "curves")
    assert not [*tmp_path.iterdir()]


def test_curves_have_a_line_per_lr_and_a_cross_at_a_divergence() -> None:
    view = view_curves(reading(*FULL))
    assert {lr: curve.size for lr, curve in view.curves.items()} == {
        3e-4: 8,
        1e-3: 30,
        1e-2: 30,
        0.1: 30,
        1.0: 12,
    }
    assert view.diverged == {1.0}
    assert view.axis.bottom < 0.4 < 2.0 < view.axis.top < 50
    ax, bar = curves_figure(view, "title").axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["best lr: 0.1", "diverged"]
    assert bar.get_ylabel() == "learning rate"


def test_the_best_rate_of_an_unfinished_sweep_is_the_best_so_far() -> None:
    for view in (view_sweep, view_curves):
        assert view(reading(*FULL), unfinished=True).best_label == "best lr so far: 0.1"


def test_a_line_does_not_cross_a_rate_that_did_not_finish() -> None:
    lanes = [lane(1e-3, 1.5), lane(1e-2, 9.0, "diverged"), lane(0.1, 0.5), lane(1.0, 0.6)]
    view = view_sweep(reading(*lanes))
    (ax,) = sweep_figure(view, "title").axes
    (line,) = [line for line in ax.lines if line.get_label() == view.label]
    assert line.get_xdata().tolist() == [1e-3, 1e-2, 0.1, 1.0]
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [False, True, False, False])
    (cross,) = [line for line in ax.lines if line.get_label() == "diverged"]
    assert (cross.get_xdata(), cross.get_ydata()) == ([1e-2], [1.0])


def test_the_loss_at_the_start_does_not_rule_the_axis() -> None:
    view = view_sweep(reading(lane(1e-3, 0.24), lane(1e-2, 0.2), lane(0.1, 0.22)))
    assert 0.24 < view.axis.top < 0.25
    (ax,) = sweep_figure(view, "title").axes
    assert "loss at the start: 2, above this axis" in [
        text.get_text() for text in ax.get_legend().get_texts()
    ]


def test_few_rates_have_ticks_of_their_own_unless_they_are_close() -> None:
    far, close = [lane(lr, 0.5) for lr in (1e-3, 0.0316, 1.0)], [lane(lr, 0.5) for lr in (1e-3, 0.9, 1.0)]
    bars = [curves_figure(view_curves(reading(*lanes)), "t").axes[1] for lanes in (far, close)]
    assert [label.get_text() for label in bars[0].get_yticklabels()] == ["0.001", "0.0316", "1"]
    assert "0.9" not in [label.get_text() for label in bars[1].get_yticklabels()]


def test_losses_that_span_decades_are_drawn_on_a_log_axis() -> None:
    assert view_sweep(reading(lane(0.1, 1e-4), lane(0.01, 1.0))).axis.log
    assert not view_sweep(reading(lane(0.1, -1e-4), lane(0.01, 1.0))).axis.log


@pytest.mark.parametrize(
    "lanes",
    [
        [],
        [lane(0.1, 0.5)],
        [lane(0.1, math.nan, "diverged")],
        [lane(0.1, 9.0, "diverged"), lane(0.2, 9.0, "diverged")],
        [lane(0.1, 0.0), lane(0.2, 0.0)],
        [lane(0.1, 1e-300), lane(0.2, 1e30)],
        [lane(0.1, 2.0, "failed", steps=0), lane(0.2, 2.0, "interrupted", steps=1)],
        [lane(0.1, 1e300), lane(0.1, -1e300, seed=1)],
    ],
)  # fmt: skip
def test_any_sweep_can_be_drawn(lanes: list[LaneResult], tmp_path: Path) -> None:
    save(sweep_figure(view_sweep(reading(*lanes)), "t"), tmp_path / "sweep")
    save(curves_figure(view_curves(reading(*lanes)), "t"), tmp_path / "curves")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_of_many_rates_the_curves_of_some_are_drawn_and_the_plot_says_of_how_many() -> None:
    lrs = np.geomspace(1e-4, 1, 200)
    sweep = reading(*(lane(lr, 0.2 + abs(np.log10(lr / 0.0123))) for lr in lrs))
    view = view_curves(sweep)
    assert sweep.best is not None
    assert sweep.best.lr in view.curves
    assert len(view.curves) in (64, 65)
    assert {lrs[0], lrs[-1]} <= view.curves.keys()
    label = curves_figure(view, "t").axes[1].get_ylabel()
    assert label == f"learning rate ({len(view.curves)} of 200 rates are drawn)"
