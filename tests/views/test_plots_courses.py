from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lrfind.analysis.lanes import Evaluation, LaneResult, Outcome
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result
from lrfind.views.plots.courses import (
    GapsView,
    course_of,
    draw_gaps,
    draw_loss,
    training_figure,
    training_figures,
    view_courses,
)
from lrfind.views.plots.overlay import overlay_figure, view_overlay
from lrfind.views.plots.runs import free_path
from tests.helpers.command import Command


def lane(seed: int = 0, steps: int = 60, outcome: Outcome = "finished", noise: float = 0.1) -> LaneResult:
    t = np.arange(steps)
    loss = 0.5 + 2 * np.exp(-t / 9) + noise * np.random.default_rng(seed).standard_normal(steps)
    evaluations = tuple(Evaluation(step, 0.7 + 1 / step, None) for step in (20, 40, 60) if step <= steps)
    return LaneResult(0, seed, 60, 0.1, outcome, np.full(steps, 0.1), loss, evaluations=evaluations)


def legend(figure_axes: object) -> list[str]:
    return [text.get_text() for text in figure_axes.get_legend().get_texts()]  # type: ignore[attr-defined]


def test_a_training_shows_its_noise_its_trend_and_each_validation_loss_where_it_was_measured() -> None:
    view = view_courses([course_of("seed 0", [lane()])])
    below = training_figure(view, "title").axes[1]
    assert legend(below) == ["seed 0", "training loss of each step, not smoothed", "validation loss"]
    (dots,) = [line for line in below.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert list(dots.get_xdata()) == [20, 40, 60]
    (raw,) = [line for line in below.lines if line.get_alpha() == 0.25]
    np.testing.assert_array_equal(raw.get_ydata(), lane().loss)


def test_a_clean_training_has_no_second_line_for_its_noise() -> None:
    below = training_figure(view_courses([course_of("seed 0", [lane(noise=0.0)])]), "title").axes[1]
    assert legend(below) == ["seed 0", "validation loss"]


def test_a_seed_that_diverged_early_does_not_end_the_course_of_the_others() -> None:
    course = course_of("cosine", [lane(0), lane(1), lane(2, 30, "diverged")])
    assert course.loss.size == 60
    assert course_of("cosine", [lane(0), lane(1, 30, "diverged"), lane(2, 40, "diverged")]).loss.size == 40


def test_a_validation_loss_above_the_axis_is_marked_at_its_border() -> None:
    from dataclasses import replace

    from matplotlib.figure import Figure

    wild = replace(lane(), evaluations=(Evaluation(20, 0.9, None), Evaluation(60, 90.0, None)))
    view = view_courses([course_of("seed 0", [wild])])
    assert view.axis.top < 5
    labels = legend(draw_loss(view, Figure().add_subplot()))
    assert "a validation loss above this axis" in labels


def test_the_figure_says_which_statistic_of_the_seeds_it_shows_and_which_variant_is_the_reference() -> None:
    below = training_figure(view_courses([course_of("cosine", [lane(0), lane(1)])]), "title").axes[1]
    assert legend(below)[1:] == [
        "range of seeds (line: median)", "validation loss (median)"
    ]  # fmt: skip
    from matplotlib.figure import Figure

    view = GapsView(["a", "b"], [np.empty(0), np.array([1.0])], [None, None], ["lowest", "worse"], "gap", "")
    texts = {text.get_text(): text.xy for text in draw_gaps(view, Figure().add_subplot()).texts}  # type: ignore[attr-defined]
    assert texts == {"the reference": (0, 0)}


def test_the_legend_of_the_gaps_lies_below_a_label_of_two_lines() -> None:
    from matplotlib.figure import Figure

    interval = (0.1, 0.3)
    view = GapsView(
        ["a", "b"], [np.empty(0), np.array([0.1, 0.3])], [None, interval], ["", "worse"], "x\ny", ""
    )
    figure = Figure(layout="constrained")
    ax = draw_gaps(view, figure.add_subplot())
    figure.draw_without_rendering()
    assert legend(ax) == ["mean", "95 % interval of the mean"]
    assert ax.get_legend().get_window_extent().y1 < ax.xaxis.label.get_window_extent().y0


def test_many_seeds_are_one_line_with_a_band(lrfind: Command, config: Path) -> None:
    assert lrfind("train", config, "--steps", "4", "--seeds", "7", "--out", "seven", "-q") == 0
    below = training_figures(read_result(Run.open(Path("seven"))))["training"].axes[1]
    assert "median of 7 seeds" in legend(below)
    assert "range of seeds (line: median)" in legend(below)


def test_runs_of_several_losses_have_a_panel_for_each(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--out", "ramp", "-q") in (0, 3)
    assert lrfind("grid", config, "--lrs", "0.01,0.1,30", "--steps", "15", "--out", "sweep", "-q") == 0
    results = [read_result(Run.open(Path(name))) for name in ("ramp", "sweep")]
    panels = view_overlay([*results, results[1]])
    assert [len(runs) for runs in panels.values()] == [1, 2]
    above, below = overlay_figure(results).axes
    assert above.get_ylabel().replace("\n", " ") == "training loss on a ramp (smoothed)"
    assert below.get_ylabel().replace("\n", " ") == "final validation loss"
    (line,) = [line for line in below.lines if line.get_label() == "sweep (grid)"]
    assert np.isnan(line.get_ydata()[-1])  # it does not cross the rate that diverged
    assert "diverged" in legend(below)


def test_an_overlay_without_a_name_overwrites_nothing(lrfind: Command, config: Path) -> None:
    assert lrfind("train", config, "--steps", "3", "--out", "a", "-q") == 0
    for name in ("overlay", "overlay-2", "overlay-3"):
        assert lrfind("plot", "a", "a") == 0
        assert lrfind.out == f"wrote {name}.png\nwrote {name}.svg\n"


@pytest.mark.parametrize("taken", ["overlay.png", "overlay.svg"])
def test_a_free_path_is_free_for_both_files(taken: str, tmp_path: Path) -> None:
    (tmp_path / taken).touch()
    assert free_path(tmp_path / "overlay.png") == tmp_path / "overlay-2.png"
    assert free_path(tmp_path / "other.png") == tmp_path / "other.png"
