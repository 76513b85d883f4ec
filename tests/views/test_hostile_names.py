"""Plots and tables of runs whose names were chosen to break them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from lrfind.analysis.curves import Curve
from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import LaneResult
from lrfind.runs.tables import health_frame, lanes_frame
from lrfind.views.plots import courses, drawing, health, range_test
from lrfind.views.plots import runs as plots
from lrfind.views.plots.axes import LossAxis
from tests.helpers.command import Command

NAMES = [
    "$x^{$",
    r"\$a$b$",
    "$\\frac{",
    "<script>&--",
    "\x1b[2J\u202e",
    "=1+1",
    "中😀",
    "_under",
    "a\nb",
    "x" * 5000,
]


def course(name: str) -> courses.Course:
    lane = LaneResult(0, 0, 4, 0.1, "finished", lr=np.full(4, 0.1), loss=np.array([3.0, 2.0, 1.5, 1.0]))
    return courses.course_of(name, [lane])


def trainings(names: list[str]) -> Figure:
    return courses.training_figure(courses.view_courses([*map(course, names)]), "; ".join(names))


def ramps(names: list[str]) -> Figure:
    ramp = np.geomspace(0.1, 1, 9), np.linspace(3, 1, 9)
    view = range_test.RampsView(
        dict.fromkeys(names, ramp), {names[0]: 0.3}, names[0], LossAxis(0.9, 3.1, log=False)
    )
    return range_test.ramps_figure(view, "; ".join(names))


def refusal(names: list[str]) -> Figure:
    none = {"lr": None, "low": None, "high": None, "reason": "; ".join(names)}
    curve = Curve.of(np.geomspace(0.1, 1, 9), np.linspace(3, 1, 9))
    return range_test.range_test_figure(range_test.view_range_test([curve], none, None), "refusal")


def layers(names: list[str]) -> Figure:
    table = np.full((len(names), 3), 0.5)
    view = health.HealthView(names, np.arange(4.0), False, table, table, table, 0, "; ".join(names), "lane")
    return health.health_figure(view, "layers")


@pytest.mark.parametrize("make", [trainings, ramps, refusal, layers])
def test_no_name_breaks_a_plot_or_its_svg(make: Callable[[list[str]], Figure], tmp_path: Path) -> None:
    drawing.save(make(NAMES), tmp_path / "plot")
    svg = (tmp_path / "plot.svg").read_text()
    ElementTree.fromstring(svg)
    assert not {"\x1b", "\u202e"} & {*svg}
    assert "<script>" not in svg.replace("<!-- ", "")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_a_label_is_shown_as_it_is_written() -> None:
    label = trainings(["$x$"]).axes[1].get_legend().get_texts()[0]
    assert label._preprocess_math(label.get_text()) == ("$x$", False)  # what matplotlib draws


def hostile_lane(name: str) -> LaneResult:
    row = LayerHealth(0, name, 4, True, True, 0.1, 0.2, 0.3, 0.4, 0.0, None, None)
    lr = np.array([0.1, 0.2])
    return LaneResult(0, 0, 2, 0.1, "finished", lr=lr, loss=lr, variant=name, health=(row,))


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "\x1b[2J", "\ud800", 'a,"b"', "<b>"])
def test_no_cell_of_a_table_is_a_formula(name: str) -> None:
    for frame in (health_frame([hostile_lane(name)]), lanes_frame([hostile_lane(name)])):
        text = frame.to_csv(index=False)
        text.encode()
        header, row = csv.reader(io.StringIO(text))
        cells = [cell for column, cell in zip(header, row, strict=True) if column in ("layer", "variant")]
        assert cells
        assert all(cell.isprintable() and cell[0] not in "=+-@" for cell in cells)


def test_a_plot_that_fails_is_a_warning_after_the_answer(
    lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(figure: Figure, stem: Path) -> None:
        raise ValueError("Expected end of text, found '$'")

    with monkeypatch.context() as broken:
        broken.setattr(plots, "save", fail)
        assert lrfind("range-test", config, "--out", "run", "-q") == 0
    assert "Suggested learning rate: " in lrfind.out
    assert lrfind.err == (
        "warning: a plot could not be drawn: ValueError: Expected end of text, found '$'. `lrfind plot run`"
        " draws it again.\n"
    )
    assert lrfind("resume", "run") == 0
    assert (lrfind("plot", "run"), lrfind.out) == (0, "wrote run/range_test.png\nwrote run/health.png\n")


def test_a_full_disk_while_drawing_can_be_resumed(
    lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(figure: Figure, stem: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(plots, "save", fail)
        assert lrfind("range-test", config, "--out", "run", "-q") == 4
    assert lrfind("resume", "run", "-q") == 0
    assert Path("run/range_test.png").exists()
