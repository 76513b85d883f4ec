"""Text fits the terminal, however narrow: no line is broken again, and each row of a table is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrfind.config.registry import load
from lrfind.experiments.doctor import examine
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result
from lrfind.views import terminal
from lrfind.views.text import layout
from lrfind.views.text.doctor import doctor_text
from lrfind.views.text.find import find_text
from lrfind.views.text.layout import beside, table_text, wrapped
from lrfind.views.text.parts import numbers_apart
from tests.helpers.find_summaries import MOVES, STANDS, probes, summary
from tests.helpers.runs import conduct, start

WIDTHS = (40, 60, 80, 120)
RUNS = {
    "find": ("find={verify: true, verify_seeds: 2, threads: 1, lanes: single}",),
    "range-test": (),
    "grid": ("grid={lrs: [1e-3, 0.1, 1e4], seeds: 2, lanes: single, threads: 1, judge: best_val_loss}", "training.eval_every=5"),
    "compare": ("compare={schedules: [constant, {name: cosine, args: {warmup: 2}}], seeds: 2, tuning_seeds: 1, threads: 1, lanes: single}",),
    "train": ("training={steps: 20, seeds: 2, eval_every: 5}",),
}  # fmt: skip


def at_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(layout, "columns", lambda stream: width)


@pytest.mark.parametrize("command", RUNS)
def test_no_line_of_a_result_is_wider_than_the_terminal(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    conduct(start(Path("run"), command, *RUNS[command]))
    result = read_result(Run.open(Path("run")))
    texts = {}
    for width in WIDTHS:
        at_width(monkeypatch, width)
        texts[width] = load(result.kind.text)(result.summary)
        assert max(map(len, texts[width].splitlines())) <= width, texts[width]
    assert len({*texts.values()}) > 1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verification", [STANDS, MOVES])
def test_the_table_of_trainings_fits_too(
    verification: dict[str, object], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_width(monkeypatch, width)
    text = find_text(summary(probes() + probes(1, 0.1), verification=verification))
    assert max(map(len, text.splitlines())) <= width


def test_prose_is_at_most_100_wide_and_80_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "a word " * 100
    assert 70 < max(map(len, wrapped(words))) <= 80
    at_width(monkeypatch, 300)
    assert 90 < max(map(len, wrapped(words))) <= 100


def test_a_command_is_never_broken() -> None:
    lines = wrapped("To continue, run `lrfind resume runs/a-long-name --import-root .` now.", width=30)
    assert "  `lrfind resume runs/a-long-name --import-root .`" in lines
    assert "".join(lines).replace(" ", "") == "Tocontinue,run`lrfindresumeruns/a-long-name--import-root.`now."


def test_parts_stand_beside_each_other_only_if_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert beside("one", "two") == ["one   two"]
    at_width(monkeypatch, 8)
    assert beside("one", "two") == ["one", "  two"]


def test_a_table_that_is_too_wide_goes_on_below_with_its_first_column() -> None:
    rows = [["0.1", "first value", "second value"], ["1", "third value", "fourth value"]]
    assert table_text(["lr", "a", "b"], rows, width=20).splitlines() == [
        "lr   a",
        "0.1  first value",
        "1    third value",
        "",
        "lr   b",
        "0.1  second value",
        "1    fourth value",
    ]


def test_a_remark_without_room_stands_below_its_row() -> None:
    rows = [["0.1", "16", "counts 4%"], ["3.16", "3", "loss blew up at step 2"], ["9", "3", ""]]
    assert table_text(["lr", "steps", ""], rows, width=30).splitlines() == [
        "lr    steps",
        "0.1   16",
        "      counts 4%",
        "3.16  3",
        "      loss blew up at step 2",
        "9     3",
    ]


def test_what_the_doctor_found_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    at_width(monkeypatch, 40)
    report = examine() | {"terminal": {"width": 40, "encoding": "utf-8", "colours": "standard"}}
    report["config"] |= {"path": "lrfind.yaml", "why": "it is in this directory, and no other was given"}
    wide = [line for line in doctor_text(report).splitlines() if len(line) > 40]
    assert all(len(line.split()) <= 2 for line in wide)  # only a path is whole


def test_a_long_path_has_a_line_of_its_own() -> None:
    rows = [["runs/a-very-long-name-of-a-run", "find", "0.1"], ["runs/b", "grid", "0.2"]]
    assert table_text(["run", "command", "lr"], rows, width=32).splitlines() == [
        "run",
        "  command  lr",
        "runs/a-very-long-name-of-a-run",
        "  find     0.1",
        "runs/b",
        "  grid     0.2",
    ]


def test_titles_are_folded_before_cells() -> None:
    assert table_text(["lr", "lowest val loss"], [["0.1", "0.25"]], width=13).splitlines() == [
        "lr   lowest",
        "     val loss",
        "0.1  0.25",
    ]


def test_digits_are_added_only_where_numbers_would_look_the_same_and_not_without_end() -> None:
    assert numbers_apart([0.78746, 0.0085771, 0.0085779]) == ["0.787", "0.008577", "0.008578"]
    assert numbers_apart([0.00857702, 0.00857703]) == ["0.008577", "0.008577"]


def test_a_note_is_folded_on_a_terminal_but_not_where_it_quotes() -> None:
    text = "config.yaml:3:8: error: there is no model 'linaer'\n    model: linaer, a line of the file\n           ^"
    first, second, *quoted = terminal.folded(text, 30).split("\n")
    assert max(len(first), len(second)) <= 30
    assert quoted[-2:] == text.split("\n")[1:]
