from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from lrfind.analysis.verification import VERDICTS
from lrfind.views.plots.find import FindView, find_figure, view_find
from tests.helpers.command import Command
from tests.helpers.find_summaries import MOVES, REFUTED, STANDS, UNENDED, probe, probes, refused, summary


def view(result: dict[str, Any]) -> FindView:
    steps = result["training"] and result["training"]["steps"]
    return view_find(result["probes"], result["answer"], result["verification"], steps)


def legend(figure: Figure, number: int = 0) -> list[str]:
    return [text.get_text() for text in figure.axes[number].get_legend().get_texts()]


def test_a_find_shows_its_probes_the_answer_and_why_it_is_not_where_learning_was_fastest() -> None:
    shown = view(summary())
    assert [*shown.longest[0].lr] == [0.01, 0.0316228, 0.1]
    assert shown.shorter == {8: [(0.001, 2.21)], 16: [(0.00316228, 1.93)]}
    assert (shown.stopped, shown.untouched) == ([0.316228], 2.3)
    middle = 0.21 * -2 + 0.62 * math.log10(0.0316228) + 0.17 * -1
    assert shown.fastest == pytest.approx(10**middle)
    assert shown.note == f"{0.0123 / 10**middle:.2g}x for 3,000 steps"
    figure = find_figure(shown, "title")
    assert legend(figure) == [
        "interval: 0.0078 to 0.0195",
        "answer: 0.0123",
        "estimated best of the probes: 0.0302",
        "untouched model",
        "probes of 8 steps",
        "probes of 16 steps",
        "probes of 32 steps\n(a larger dot has more weight)",
        "the loss blew up",
    ]


def test_seeds_are_lines_of_one_colour_and_of_one_name() -> None:
    figure = find_figure(view(summary(probes() + probes(1, 0.1))), "title")
    assert sum("2 seeds" in label for label in legend(figure)) == 1


@pytest.mark.parametrize(
    ("verification", "labels"),
    [
        (
            STANDS,
            [
                f"trainings that verify the answer (verification: {VERDICTS['stands']})",
                "no training finished",
            ],
        ),
        (
            MOVES,
            [f"trainings that verify the answer (verification: {VERDICTS['moves']})", "no training finished"],
        ),
        (REFUTED, ["no training finished"]),
        (UNENDED, ["trainings that verify the answer (verification has not ended)"]),
    ],
)
def test_trainings_that_verify_are_drawn_below_on_the_same_lrs(
    verification: dict[str, Any], labels: list[str]
) -> None:
    answer = summary()["answer"] | ({"lr": verification["lr"]} if verification["verdict"] else {})
    figure = find_figure(view(summary(answer=answer, verification=verification)), "title")
    above, below = figure.axes
    assert above.get_xlim() == below.get_xlim()
    low, high = above.get_xlim()
    assert all(low < row["lr"] < high for row in verification["trainings"])
    assert legend(figure, 1) == labels
    moved = verification["verdict"] in ("moves", "refuted")
    assert ("rate before verification: 0.0123" in legend(figure, 0)) is moved


def test_after_a_verification_that_moved_the_rate_the_arrow_starts_at_the_rate_before() -> None:
    moved = summary()["answer"] | {"lr": MOVES["lr"]}
    shown = view(summary(answer=moved, verification=MOVES))
    assert shown.note == "0.33x, by verification"
    above = find_figure(shown, "title").axes[0]
    (arrow,) = [text for text in above.texts if isinstance(text, Annotation) and text.arrow_patch is not None]
    assert (arrow.xyann[0], arrow.xy[0]) == (MOVES["of"], MOVES["lr"])


def test_the_loss_that_decided_is_drawn_though_there_is_another() -> None:
    (drawn,) = view(summary(verification=STANDS | {"judge": "train_loss"})).trainings
    assert drawn.loss == "final training loss"
    assert drawn.ends[0] == (0.0041, STANDS["trainings"][0]["train_loss"])


def test_a_title_gives_the_reason_of_a_refusal_with_the_probes_below() -> None:
    rows = [probe(10.0**p, 8, 2.3 + p / 100, 0.0) for p in range(3)]
    reason = "nothing learns: of 3 rates from 1 to 1e+02, none lowers the loss in 8 steps; " + "look. " * 15
    (ax,) = find_figure(view(refused(reason, rows)), "title").axes
    title = ax.get_title(loc="left").split("\n")
    assert title[0] == "title"
    assert title[1].startswith("no answer: nothing learns")
    assert max(map(len, title)) < 90


def test_a_long_reason_leaves_place_for_the_probes_and_says_where_all_of_it_is() -> None:
    rows = [probe(10.0**p, 8, 2.3 + p / 100, 0.0) for p in range(3)]
    (ax,) = find_figure(view(refused("nothing learns, " * 100, rows)), "title").axes
    title = ax.get_title(loc="left").replace("\n", " ")
    assert title.endswith("[...] (summary.json has all of it)")
    assert len(title) < 320


def test_a_huge_loss_does_not_flatten_the_others_and_decades_are_drawn_on_a_log_axis() -> None:
    high = view(summary([*probes(), probe(1.0, 8, 6e3, None)]))
    assert high.axis.top < 4
    assert view(summary([probe(0.1, 32, 1e-4, 1.0), probe(1.0, 8, 2.0, None)])).axis.log
    assert not view(summary([probe(0.1, 32, -1e-4, 1.0), probe(1.0, 8, 2.0, None)])).axis.log


def test_a_table_with_nan_instead_of_none_looks_the_same() -> None:
    pd = pytest.importorskip("pandas")
    rows = pd.DataFrame(probes()).to_dict("records")
    assert view(summary(rows)) == view(summary())


def test_a_find_cannot_be_laid_over_other_runs(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--out", "a", "-q") == 0
    assert Path("a/find.png").exists()
    assert lrfind("plot", "a", "a", "--out", "x.png") == 2
    assert "probes have different lengths" in lrfind.err


@pytest.mark.parametrize(
    "result",
    [
        summary(),
        summary([probe(0.1, 8, 1e300, 0.5), probe(0.2, 8, -1e300, 0.5)]),
        summary([probe(0.1, 8, 2.3, 1.0)]),
        summary([probe(0.1, 8, 1e-300, 1.0)]),
        refused("nothing.", [], training=None),
        refused("the loss blew up at every rate.", [probe(0.1, 3, None, 0.0)]),
        refused("all the same", [probe(0.1, 8, 0.0, 0.0) | {"untouched": 0.0}]),
    ],
)
def test_any_find_can_be_drawn(result: dict[str, Any]) -> None:
    figure = find_figure(view(result), "t")
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_ylim()
    assert -math.inf < low < high < math.inf
