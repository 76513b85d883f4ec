from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import LaneResult
from lrfind.views.plots.drawing import save
from lrfind.views.plots.health import health_figure, view_health
from lrfind.views.text.parts import gradient_findings

HEALTH = {"calm": 2, "looks": 2, "layers": 1, "findings": [{"what": "vanishing", "evidence": "a is small", "advice": "he"}]}  # fmt: skip


def lane(health: list[LayerHealth], *, ramp: bool = True) -> LaneResult:
    lr = np.geomspace(1e-3, 1e-1, 11) if ramp else np.full(11, 0.1)
    return LaneResult(0, 0, 11, 0.1, "finished", lr, np.ones(11), health=tuple(health))


def test_a_map_has_a_row_per_layer_and_a_column_per_look(tmp_path: Path) -> None:
    looks = [
        LayerHealth(
            step, layer, 10, layer != "a", True, grad, 2.0, 0.5, None if layer == "a" else 0.25, 0.0, dead
        )
        for step in (0, 5, 9)
        for layer, grad, dead in (("a", None, None), ("b", 1.0, 0.75), ("c", 4.0, None))
    ]
    view = view_health(lane(looks), HEALTH, on_a_ramp=True)
    assert view.layers == ["a (frozen)", "b", "c"]
    np.testing.assert_allclose(view.at, [1e-3, 1e-2, 10**-1.2, 1e-1])
    np.testing.assert_array_equal(view.gradient[:, 0], [np.nan, 0.5, 2.0])
    np.testing.assert_array_equal(view.silent[:, 0], [np.nan, 0.75, 0.25])
    figure = health_figure(view, "title")
    assert figure.get_suptitle().startswith(
        "title, the ramp of seed 0; gradients: vanishing: a is small; right of"
    )
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.001", "0.01", "0.063"]
    save(figure, tmp_path / "health")
    assert (tmp_path / "health.png").stat().st_size > 10_000


def test_a_plot_of_health_says_whose_gradients_it_shows() -> None:
    ramp = lane([LayerHealth(0, "a", 1, True, True, 1.0, 1.0, None, 0.0, 0.0, None)])
    steady = dataclasses.replace(ramp, seed=2, lr=np.full(11, 0.1), variant="cosine")
    words = [view_health(one, HEALTH, on_a_ramp=one is ramp).lane for one in (ramp, steady)]
    assert words == ["the ramp of seed 0", "cosine, lr 0.1, seed 2"]
    scheduled = dataclasses.replace(ramp, seed=2)
    assert view_health(scheduled, HEALTH, on_a_ramp=False).lane == "peak lr 0.1, seed 2"


def test_few_looks_have_columns_of_equal_width_with_their_values() -> None:
    looks = [
        LayerHealth(step, "a", 1, True, True, grad, 1.0, None, 0.0, 0.0, None)
        for step, grad in ((0, 0.5), (10, 0.25))
    ]
    ax = health_figure(view_health(lane(looks), HEALTH, on_a_ramp=True), "t").axes[0]
    assert [text.get_text() for text in ax.texts] == ["0.5", "0.25"]
    assert ax.get_xticks().tolist() == [0, 1]


def test_one_look_and_nothing_but_zeros_can_be_drawn(tmp_path: Path) -> None:
    looks = [LayerHealth(0, "a", 1, True, True, 0.0, 0.0, None, 1.0, 0.0, 1.0)]
    figure = health_figure(
        view_health(
            lane(looks, ramp=False), {"calm": 1, "looks": 1, "layers": 1, "findings": []}, on_a_ramp=False
        ),
        "t",
    )
    save(figure, tmp_path / "health")
    assert figure.get_suptitle() == (
        "t, lr 0.1, seed 0; gradients: no problem was seen (1 layer, checked 1 time); a grey cell is 0 or has no value"
    )
    assert (tmp_path / "health.svg").stat().st_size > 1_000


def test_gradients_that_were_not_judged_are_said_in_the_same_words_everywhere() -> None:
    looks = [LayerHealth(0, "a", 1, True, True, 0.0, 0.0, None, 1.0, 0.0, 1.0)]
    health = {"calm": 0, "looks": 0, "layers": 1, "findings": []}
    ((words, _),) = gradient_findings(health)
    assert words.startswith("not judged, because ")
    assert view_health(lane(looks), health, on_a_ramp=True).title == words
