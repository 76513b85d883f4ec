"""`lrfind schedules`: the values of schedules, shown, drawn and written without a training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest

from lrfind.cli.schedules import schedules
from lrfind.config.document import ConfigError
from lrfind.config.sections import Component
from lrfind.config.shapes import shape_of
from lrfind.errors import UsageError
from lrfind.views.plots.schedules import draw_lr, schedules_figure, view_schedules

pytestmark = pytest.mark.usefixtures("here")

WARM = Component(name="cosine", args={"warmup": 10})
CYCLE = Component(name="one_cycle")
TYPED = "{name: cosine, args: {warmup: 10}}"


def call(*arguments: object) -> None:
    assert schedules.main([str(argument) for argument in arguments], standalone_mode=False) == 0


def test_a_csv_has_every_value_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    call(TYPED, "one_cycle", "--steps", 77, "--peak", 0.3, "--out", "values.csv")
    assert capsys.readouterr().out == "wrote values.csv\n"
    table = pd.read_csv("values.csv", dtype=str).astype(float)  # pandas' own reading may be off by a bit
    assert [*table] == ["step", "cosine", "one_cycle", "one_cycle momentum"]
    assert table.step.tolist() == [*range(77)]
    assert table.cosine.tolist() == (0.3 * shape_of(WARM, 77).multiplier).tolist()
    cycle = shape_of(CYCLE, 77)
    assert cycle.momentum is not None
    assert table.one_cycle.tolist() == (0.3 * cycle.multiplier).tolist()
    assert table["one_cycle momentum"].tolist() == cycle.momentum.tolist()


def test_json_has_every_step_and_no_momentum_where_none_moves(capsys: pytest.CaptureFixture[str]) -> None:
    call(TYPED, "one_cycle", "--steps", 30, "--json", "-q")
    found = json.loads(capsys.readouterr().out)
    first, second = found.pop("schedules")
    assert found == {"steps": 30, "peak": 1.0}
    multiplier = shape_of(WARM, 30).multiplier.tolist()
    assert first == {"name": "cosine", "args": {"warmup": 10}, "lr": multiplier, "momentum": None}
    assert (second["name"], second["args"], len(second["momentum"])) == ("one_cycle", {}, 30)


def test_a_table_goes_from_the_first_step_to_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    call("linear", "one_cycle", "--steps", 1000, "--peak", 2)
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["step", "linear", "one_cycle", "one_cycle", "momentum"]
    assert len(rows) == 11
    assert rows[0] == ["0", "2", "0.08", "0.95"]
    assert rows[-1] == ["999", "0.002", "8e-06", "0.95"]
    call("linear", "--steps", 1)
    assert capsys.readouterr().out.split() == ["step", "linear", "0", "1"]


def test_a_table_too_wide_goes_on_below_with_no_number_cut(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["constant", "linear_warmup", "polynomial", "cosine_restarts", "step_decay", "multi_step", "exponential",
             "inverse_time", "inverse_sqrt", "one_cycle", "cosine", "wsd"]  # fmt: skip
    call(*names, "--peak", 1.2345e-7)
    out = capsys.readouterr().out
    assert all(name in out for name in names)
    assert max(map(len, out.splitlines())) <= 100
    values = [line.split() for line in out.splitlines() if line.startswith("99 ")]
    assert sum(map(len, values)) == len(values) + len(names) + 1  # the steps, and one_cycle's momentum


@pytest.mark.parametrize("names", [["one_cycle", "cosine"], ["cosine", "wsd"]])
def test_a_plot_is_written_as_png_or_svg_and_is_the_same_each_time(names: list[str]) -> None:
    for file in ("plot.png", "plot.SVG", "again.svg"):
        call(*names, "--out", file)
    assert Path("plot.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in Path("plot.SVG").read_text()
    assert Path("plot.SVG").read_bytes() == Path("again.svg").read_bytes()


def test_momentum_has_axes_of_its_own_only_where_one_moves_it() -> None:
    (ax,) = schedules_figure(view_schedules([WARM], 50, 1.0)).axes
    assert ax.get_ylabel() == "learning rate"
    above, below = schedules_figure(view_schedules([WARM, CYCLE], 50, 1.0)).axes
    assert (len(above.lines), len(below.lines)) == (2, 1)
    assert below.get_ylabel() == "momentum"
    assert below.lines[0].get_color() == above.lines[1].get_color() != above.lines[0].get_color()


def test_any_number_of_lines_differ_in_colour_or_style_and_the_legend_is_beside_them() -> None:
    view = view_schedules([Component(name="cosine", args={"warmup": i}) for i in range(1, 21)], 50, 1.0)
    figure = schedules_figure(view)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    assert len({(line.get_color(), line.get_linestyle(), str(line._dash_pattern)) for line in ax.lines}) == 20
    legend = ax.get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 20
    assert legend.get_window_extent().x0 >= ax.get_window_extent().x1


def test_draw_lr_draws_on_the_axes_it_is_given() -> None:
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    view = view_schedules([WARM], 50, 0.5)
    assert draw_lr(view, ax) is ax
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), view.lr["cosine"])


def test_ones_own_function_needs_the_import_root(capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("mine", "theirs"):
        Path(folder).mkdir()
        Path(f"{folder}/{folder}_to_draw.py").write_text(
            "def halves(step, steps, base=0.5):\n    return base ** step\n"
        )
    with pytest.raises(UsageError, match="no module 'mine_to_draw'.*--import-root"):
        call("mine_to_draw:halves", "--steps", 3)
    call("mine_to_draw:halves", "--steps", 3, "--import-root", "mine")
    assert capsys.readouterr().out.split() == ["step", "halves", "0", "1", "1", "0.5", "2", "0.25"]
    with pytest.raises(ConfigError, match="unknown argument 'bas'; did you mean base"):
        call("{name: 'mine_to_draw:halves', args: {bas: 3}}")
    call("mine_to_draw:halves", "theirs_to_draw:halves", "--import-root", "theirs", "--out", "both.csv")
    assert [*pd.read_csv("both.csv")] == ["step", "mine_to_draw:halves", "theirs_to_draw:halves"]


def test_lengths_in_epochs_need_the_length_of_an_epoch() -> None:
    typed = "{name: join, args: {at: [20], parts: [constant, {name: cosine, args: {warmup: 2 epochs}}]}}"
    with pytest.raises(UsageError, match="'2 epochs' needs the length of an epoch; give --epoch-steps N"):
        call(typed)
    call(typed, "--epoch-steps", 5, "--out", "epochs.csv")
    call(typed.replace("2 epochs", "10"), "--out", "steps.csv")
    assert Path("epochs.csv").read_text() == Path("steps.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cosin"], "SCHEDULE:1:1: error: unknown schedule 'cosin'; did you mean cosine"),
        (["{name: cosine, args: {wamup: 3}}"], "1:23: error: cosine: unknown argument 'wamup'; did you mean warmup?\n    {name: cosine, args: {wamup: 3}}\n                          ^"),
        (["{name: cosine, args: {warmup: long}}"], "SCHEDULE:1:31: error: args.warmup: must be"),
        (["{nam: cosine}"], "unknown key 'nam'; did you mean name?"),
        (["0.1"], "must be a mapping of keys to values; found 0.1"),
        (["{name: ["], "SCHEDULE:1:9: error: expected"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_schedule_is_pointed_at(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call(*arguments, "--out", "plot.png")
    assert message in str(caught.value)
    assert not Path("plot.png").exists()


def test_the_mistakes_of_all_schedules_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        call("cosin", "wsdd", "linear")
    assert [found.place.text for found in caught.value.mistakes] == ["cosin", "wsdd"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grad_norm"], "depends on how the training goes.*`lrfind train` or `lrfind compare`"),
        (["cosine", "reduce_on_plateau"], "reduce_on_plateau depends on how the training goes"),
        (["cosine", "cosine"], "'cosine' is listed twice"),
        (["{name: cosine, args: {warmup: 300}}"], "warmup must be shorter than the run, which has 100 steps"),
        (["cosine", "--peak", "0"], "--peak must be a positive number"),
        (["cosine", "--peak", "nan"], "--peak must be a positive number"),
        (["cosine", "--out", "plot.pdf"], "end in .png, .svg or .csv"),
        (["cosine", "--out", "plot"], "end in .png, .svg or .csv"),
        (["cosine", "--out", "none/plot.png"], "cannot write 'none/plot.png': No such file or directory"),
        (["cosine", "--out", "/proc/plot.csv"], "cannot write '/proc/plot.csv'"),
    ],
)
def test_what_cannot_be_drawn_or_written_is_refused_with_the_reason(
    arguments: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        call(*arguments)


@pytest.mark.parametrize("arguments", [[], ["cosine", "--steps", "0"], ["cosine", "--epoch-steps", "0"]])
def test_a_call_without_a_schedule_or_a_step_is_refused(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError):
        call(*arguments)


def test_drawing_does_without_torch() -> None:
    code = (
        "import sys; from lrfind.cli.schedules import schedules;"
        "schedules.main(['one_cycle', 'wsd', '--out', 'plot.png'], standalone_mode=False);"
        "assert 'torch' not in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("plot.png").is_file()
