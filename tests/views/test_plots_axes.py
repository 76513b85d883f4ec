"""The rules that all plots follow, on axes of every size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from lrfind.analysis.curves import Curve
from lrfind.views.plots.axes import even_numbers, loss_axis, rate_ticks
from lrfind.views.plots.drawing import axes_for, finish, image, mark_exits
from lrfind.views.plots.find import draw_find, find_figure, view_find
from lrfind.views.plots.range_test import draw_range_test, view_range_test
from tests.helpers.find_summaries import probe, summary

ANSWER = {"lr": 3e-3, "low": 2e-3, "high": 5e-3, "method": "consensus", "reason": ""}


def overlapping(ax: Axes) -> list[tuple[str, str]]:
    """Pairs of tick labels of one axis whose boxes overlap, once the figure is drawn."""
    ax.figure.draw_without_rendering()
    pairs = []
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        labels = [
            tick.label1
            for tick in axis.get_major_ticks()
            if low <= tick.get_loc() <= high and tick.label1.get_text()
        ]
        boxes = [(label.get_text(), label.get_window_extent()) for label in labels]
        pairs += [(a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other)]
    return pairs


def find(ax: Axes) -> None:
    draw_find(view_find(summary()["probes"], summary()["answer"], steps=3000), ax)


def ramp(ax: Axes) -> None:
    lr = np.geomspace(1e-6, 10, 60)
    curves = [Curve.of(lr, 2 - np.tanh(np.log10(lr) + 3) + (lr > 1) * lr + shift) for shift in (0.0, 0.1)]
    draw_range_test(view_range_test(curves, ANSWER, 0.5, 0.2), ax)


def steps(ax: Axes) -> None:
    ax.plot([0, 98765], [2.300001, 2.300003])
    finish(ax, "step", "loss")


def few_rates(ax: Axes) -> None:
    ax.set(xscale="log", yscale="log", xlim=(0.11, 0.19), ylim=(3e-9, 4e-1))
    finish(ax, "learning rate", "loss")


@pytest.mark.parametrize("size", [(6.4, 4.8), (4, 3), (3.2, 3.2)])
@pytest.mark.parametrize("draw", [find, ramp, steps, few_rates])
def test_tick_labels_never_overlap(draw: Callable[[Axes], None], size: tuple[float, float]) -> None:
    ax = Figure(size, layout="constrained").add_subplot()
    draw(ax)
    assert overlapping(ax) == []
    assert len(ax.get_xticks()) >= 1


def test_tick_labels_do_not_overlap_in_a_grid_of_plots() -> None:
    figure = Figure((12, 9), layout="constrained")
    for ax in figure.subplots(3, 4).flat:
        find(ax)
    assert overlapping(figure.axes[5]) == []


@pytest.mark.parametrize("size", [(6.4, 4.8), (4, 3)])
@pytest.mark.parametrize("draw", [find, ramp])
def test_no_text_and_no_legend_lies_within_the_range_of_the_data(
    draw: Callable[[Axes], None], size: tuple[float, float]
) -> None:
    figure = Figure(size, layout="constrained")
    ax = figure.add_subplot()
    draw(ax)
    figure.draw_without_rendering()
    window, legend = ax.get_window_extent(), ax.get_legend()
    assert not legend.get_window_extent().overlaps(ax.xaxis.label.get_window_extent())
    assert legend.get_window_extent().y1 < window.y0
    assert legend.get_window_extent().y0 >= 0
    points = [
        line.get_transform().transform(line.get_xydata()) for line in ax.lines if line.get_marker() != "None"
    ]
    for text in (text for text in ax.texts if text.get_text()):
        box = text.get_window_extent()
        assert window.x0 <= box.x0
        assert box.x1 <= window.x1
        assert not any(box.contains(*point) for place in points for point in place)
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 7


def test_the_axis_of_losses_follows_those_that_matter_and_not_the_start_or_a_blow_up() -> None:
    near = loss_axis([0.15, 0.2, 0.36, 50.0, math.inf, math.nan], 2.3)
    assert 0.1 < near.bottom < 0.15
    assert 0.36 < near.top < 0.4
    assert not near.log
    assert loss_axis([0.15, 1.8, 2.1], 2.3).top > 2.3  # the start takes little place
    assert loss_axis([2.3], 1.0).bottom < 2.3 < loss_axis([2.3], 1.0).top
    assert loss_axis([1e-4, 1.0]).log
    assert not loss_axis([-1e-4, 1.0]).log
    assert loss_axis([]).top == loss_axis([], math.nan).top == 1.0
    assert loss_axis([], 2.0).bottom < 2.0 < loss_axis([], 2.0).top


def test_a_line_that_goes_above_its_axis_is_marked_where_it_does() -> None:
    ax = Figure().add_subplot()
    ax.set(xlim=(0, 10), ylim=(0, 1))
    mark_exits(ax, [0, 2, 4, 6, 8], [0.0, 0.5, 1.5, 0.5, 0.9], "k")
    (line,) = ax.lines
    assert line.get_xdata() == pytest.approx([3.0])
    assert line.get_label() == "goes on above this axis"


def test_a_probe_above_the_axis_is_marked_and_ends_the_line() -> None:
    rows = [probe(0.01, 32, 1.2, 0.4), probe(0.1, 32, 0.9, 0.6), probe(1.0, 32, 70.0, 0.0)]
    (ax,) = find_figure(view_find(rows, summary()["answer"], steps=3000), "t").axes
    (marked,) = [line for line in ax.lines if line.get_label() == "a probe above this axis"]
    assert marked.get_xdata() == [1.0]
    assert ax.get_ylim()[1] < 4


def test_the_arrow_to_the_answer_is_above_all_scores() -> None:
    view = view_find(summary()["probes"], summary()["answer"], steps=3000)
    (ax,) = find_figure(view, "t").axes
    arrow = next(text for text in ax.texts if not text.get_text())
    low, high = ax.get_ylim()
    assert low + arrow.xy[1] * (high - low) == pytest.approx(view.axis.top)


def test_ticks_are_round_rates_and_as_many_as_have_room() -> None:
    assert rate_ticks(1e-3, 1.0, 4) == [1e-3, 1e-2, 1e-1, 1.0]
    assert len(rate_ticks(1e-300, 1e30, 5)) <= 6
    assert rate_ticks(0.066, 0.15, 5) == pytest.approx([0.08, 0.1, 0.12, 0.14])
    assert even_numbers([2.3, 2.35]) == ["2.30", "2.35"]


def test_a_figure_of_the_user_gets_a_layout_only_if_it_has_none() -> None:
    plain, tight = plt.figure(), plt.figure(layout="tight")
    for figure in (plain, tight):
        ax = figure.add_subplot()
        assert axes_for(ax) is ax
    assert type(plain.get_layout_engine()).__name__ == "ConstrainedLayoutEngine"
    assert type(tight.get_layout_engine()).__name__ == "TightLayoutEngine"
    plt.close("all")


def test_an_svg_keeps_its_text_as_text() -> None:
    figure = Figure((3, 2))
    finish(figure.add_subplot(), "learning rate", "loss")
    assert ">learning rate</text>" in image(figure, "svg").decode()
