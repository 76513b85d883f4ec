"""`lrfind show`, and what `runs` and `status` say of the time and the loss of a run."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from pathlib import Path

import pytest

from lrfind.runs.store import Run
from tests.helpers.command import Command
from tests.helpers.runs import start

TINY = ("--seeds", 1, "--lanes", "single")
CALLS = {
    "find": ("find",),
    "range-test": ("range-test",),
    "grid": ("grid", "--lrs", "0.01,0.1", *TINY),
    "search": ("search", "--sampler", "random", "--trials", 2, "--high", 0.1, *TINY),
    "compare": ("compare", "--schedules", "constant,cosine", "--peaks", "0.1", *TINY),
    "train": ("train",),
}


@pytest.mark.parametrize("kind", CALLS)
def test_show_prints_what_the_command_printed_at_its_end(lrfind: Command, config: Path, kind: str) -> None:
    command, *options = CALLS[kind]
    assert lrfind(command, config, *options, "--out", "run") == 0
    at_its_end, before = lrfind.out, {file: file.stat().st_mtime_ns for file in Path("run").iterdir()}
    assert "This run is not finished" not in Path("run/report.html").read_text()
    assert lrfind("show", "run") == 0
    assert (lrfind.out, lrfind.err) == (at_its_end, "")
    assert lrfind("show", "run", "--json") == 0
    assert json.loads(lrfind.out) == json.loads(Path("run/summary.json").read_text())
    assert {file: file.stat().st_mtime_ns for file in Path("run").iterdir()} == before


@pytest.mark.parametrize(
    ("kind", "line"),
    [("find", "Confidence"), ("range-test", "range test"), ("grid", "grid"), ("train", "train")],
)
def test_the_snippet_of_any_run_is_python_with_its_rate(
    lrfind: Command, config: Path, kind: str, line: str
) -> None:
    command, *options = CALLS[kind]
    assert lrfind(command, config, *options, "--out", "run", "--json") == 0
    lr = json.loads(lrfind.out)["answer"]["lr"]
    assert lrfind("show", "run", "--snippet", "--json") == 0
    snippet = json.loads(lrfind.out)["snippet"]
    compile(snippet, "snippet", "exec")
    assert f"peak = {float(f'{lr:.3g}')}\nsteps = 20 " in snippet
    assert re.search(rf"^# .*{line}", snippet, flags=re.MULTILINE)


def test_show_of_a_run_without_an_answer_has_its_exit_code(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--set", "range_test.end_lr=1e-3", "--out", "run", "-q") == 3
    assert lrfind("show", "run", "--snippet") == 3
    assert "no snippet, because there is no learning rate: " in lrfind.out


def test_show_of_an_unfinished_run_says_how_far_it_is_and_what_is_known(
    lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("lrfind.views.plots.runs.plot_run", fail)
        assert lrfind("grid", config, *CALLS["grid"][1:], "--out", "run") == 130
    assert lrfind("show", "run") == 0
    first, *rest = lrfind.out.splitlines()
    assert first == "run: grid of tiny, unfinished, last changed just now"
    assert "  Run `lrfind resume run` to continue." in rest
    assert any(line.startswith("Best learning rate: 0.1") for line in rest)
    assert lrfind("runs", ".") == 0
    assert "unfinished, last changed just now  lr 0.1  loss " in lrfind.out
    assert "  2 of 2 lanes" in lrfind.out


def test_show_of_a_run_that_measured_nothing_is_its_status(lrfind: Command) -> None:
    start(Path("run"), "find").release()
    assert lrfind("status", "run") == 0
    status = lrfind.out
    assert lrfind("show", "run") == 0
    assert lrfind.out == status


def test_the_loss_of_a_comparison_and_of_a_training_is_that_of_the_answer(
    lrfind: Command, config: Path
) -> None:
    for kind in ("compare", "train"):
        command, *options = CALLS[kind]
        assert lrfind(command, config, *options, "--out", f"all/{kind}", "--json") == 0
    assert lrfind("runs", "all", "--json") == 0
    losses = {row["command"]: row["loss"] for row in json.loads(lrfind.out)}
    compared, trained = (
        json.loads(Path(f"all/{kind}/summary.json").read_text()) for kind in ("compare", "train")
    )
    best = {row["variant"]: row["val_loss"] for row in compared["standings"]}[compared["answer"]["variant"]]
    assert losses == {"compare": best, "train": trained["trainings"][0]["val_loss"]}


def test_a_run_of_an_older_lrfind_ended_when_its_file_was_written(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--out", "all/run", "-q") == 0
    run = Run.open(Path("all/run"))
    with run.held():
        run.keep_facts(began=None, ended=None)
    os.utime("all/run/run.sqlite", (1.7e9, 1.7e9))
    assert lrfind("runs", "all", "--json") == 0
    (row,) = json.loads(lrfind.out)
    assert (row["began"], datetime.fromisoformat(row["ended"]).timestamp()) == (None, 1.7e9)
    assert lrfind("runs", "all") == 0
    assert "finished on 2023-11-14" in lrfind.out or "finished on 2023-11-15" in lrfind.out


def test_the_list_of_runs_fits_80_columns(lrfind: Command) -> None:
    path = Path("runs/a-quite-long-name-of-an-experiment-range-test-20261128-131046")
    start(path, "range-test").release()
    assert lrfind("runs") == 0
    assert max(map(len, lrfind.out.splitlines())) <= 80


def test_a_running_run_says_when_it_began(lrfind: Command) -> None:
    run = start(Path("runs/mine"), "find")
    assert lrfind("status", "runs/mine") == 0
    first, *rest = lrfind.out.splitlines()
    assert first == "runs/mine: find of tiny, running, began just now"
    assert any(line.startswith(f"  process {os.getpid()} on ") for line in rest)
    assert lrfind("runs") == 0
    assert lrfind.out == "runs/mine\n  find  running, began just now  no lr\n"
    run.release()
