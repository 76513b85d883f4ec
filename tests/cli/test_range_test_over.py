"""`lrfind range-test --over`: ramps side by side over another setting of the optimizer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from lrfind.analysis.lanes import Lane
from lrfind.config.experiment import check
from lrfind.runs.store import Run
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, conduct

OVER = ("--over", "momentum", "--values", "0,0.9")


@pytest.mark.rendered
def test_ramps_over_momentum_leave_a_row_for_each_value(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, *OVER, "--json", "-q", "--out", "run") == 0
    summary = json.loads(lrfind.out)
    assert summary == json.loads(Path("run/summary.json").read_text())
    assert set(summary) == {
        "schema_version",
        "command",
        "over",
        "run",
        "import_root",
        "answer",
        "variants",
        "lanes",
        "ramps",
        "warnings",
        "notes",
        "data",
        "health",
    }
    assert (summary["command"], summary["over"]) == ("range-test", "momentum")
    rows = summary["variants"]
    assert [row["variant"] for row in rows] == ["momentum 0", "momentum 0.9"]
    assert all(row["low"] <= row["lr"] <= row["high"] < row["edge"] for row in rows)
    assert summary["answer"] == min(rows, key=lambda row: row["lowest_loss"])
    lanes = pd.read_csv("run/lanes.csv")
    assert lanes.variant.tolist() == ["momentum 0"] * 2 + ["momentum 0.9"] * 2
    assert lanes.seed.tolist() == [0, 1, 0, 1]
    assert Path("run/range_test.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in Path("run/range_test.svg").read_text()


def test_each_value_is_the_range_test_of_a_config_with_that_value(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, *OVER, "-q", "--out", "run") == 0
    assert lrfind.out.startswith("Suggested: momentum ")
    assert lrfind("range-test", config, "--set", "optimizer.args.momentum=0.9", "-q", "--out", "alone") == 0
    both, alone = pd.read_csv("run/steps.csv"), pd.read_csv("alone/steps.csv")
    mine = both[both.lane >= 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine.assign(lane=mine.lane - 2), alone)


def test_a_training_takes_the_best_value_with_its_lr(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, *OVER, "--json", "-q", "--out", "run") == 0
    best = json.loads(lrfind.out)["answer"]
    assert lrfind("train", "--from", "run", "-q", "--out", "trained") == 0
    optimizer = check(Path("trained/resolved.yaml").read_text()).optimizer
    assert f"momentum {optimizer.args['momentum']:g}" == best["variant"]
    assert optimizer.lr == best["lr"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--over", "momentum", "--values", "0,1"], "--values:1:10: error: range_test.values: each momentum must be at least 0 and below 1; found 1"),
        (["--over", "momentum", "--values", "-0.1"], "each momentum must be at least 0 and below 1; found -0.1"),
        (["--over", "weight_decay", "--values", "1,-1"], "each weight_decay must be at least 0; found -1"),
        (["--over", "momentum", "--values", "0.9,0.9"], "0.9 is listed twice"),
        (["--over", "momentum", "--values", "high"], "range_test.values.0: must be a number"),
        (["--values", "0,0.9"], "need `over: momentum` or `over: weight_decay`; give one of these"),
        (["--over", "momentum", "--edge"], "edge works only in a range test over the lr; leave out edge or `over: momentum`"),
        (["--over", "momentum", "--group", "rest"], "group works only in a range test over the lr; leave out group or `over: momentum`"),
        (["--over", "momentun"], "range_test.over: must be 'lr', 'momentum' or 'weight_decay'"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_exit_2_with_a_message_and_no_run(
    lrfind: Command, config: Path, arguments: list[str], message: str
) -> None:
    assert lrfind("range-test", config, *arguments) == 2
    assert message in lrfind.err
    assert "Traceback" not in lrfind.err
    assert not Path("runs").exists()


def test_an_optimizer_without_the_setting_leaves_no_run_behind(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, *OVER, "--set", "optimizer.name=adagrad") == 2
    assert "error: range_test.over: adagrad has no momentum" in lrfind.err
    assert list(Path("runs").iterdir()) == []


class Crash(BaseException):
    """What no handler of ours sees: as if the process had died."""


@pytest.mark.parametrize(
    ("raised", "cut"),
    [(KeyboardInterrupt, (0, 5)), (KeyboardInterrupt, (3, 7)), (Crash, (2, 0)), (Crash, (3, 7))],
)
def test_a_run_that_was_cut_off_and_resumed_has_the_same_steps(
    tmp_path: Path, raised: type[BaseException], cut: tuple[int, int]
) -> None:
    overrides = ["range_test.over=momentum", "range_test.values=[0, 0.9]"]

    def start(name: str) -> Run:
        return Run.start(tmp_path / name, "range-test", check(LINEAR, overrides), LINEAR, overrides)

    def watch(lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
        if (lanes[0].lane, step) == cut:
            raise raised

    calm, died = start("calm"), start("died")
    expected = conduct(calm)
    with pytest.raises(raised):
        conduct(died, watch=lambda lanes, steps: watch)
    assert [*died.outcomes().values()].count("diverged") == cut[0]
    assert conduct(Run.open(died.path)) == expected | {"run": str(died.path)}
    assert (died.path / "steps.csv").read_text() == (calm.path / "steps.csv").read_text()


def test_resume_goes_on_with_what_is_lacking(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, *OVER, "-q", "--out", "run") == 0
    before = Path("run/steps.csv").read_text()
    run = Run.open(Path("run"))
    interrupted = replace(run.lanes()[2], outcome="interrupted")
    with sqlite3.connect("run/run.sqlite") as database:
        database.execute("DELETE FROM lanes WHERE lane = 2")
    database.close()
    run.add_lanes([interrupted], concluded=False)
    assert lrfind("resume", "run", "-q") == 0
    assert Path("run/steps.csv").read_text() == before


def test_what_was_found_over_momentum_is_the_momentum_too(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, *OVER, "-q", "--out", "run") == 0
    found = json.loads(Path("run/summary.json").read_text())["answer"]
    for number, given in enumerate([(), (config,)]):
        assert (
            lrfind("train", *given, "--from", "run", "--steps", "3", "-q", "--out", f"trained{number}") == 0
        )
        optimizer = check(Path(f"trained{number}/resolved.yaml").read_text()).optimizer
        assert optimizer.lr == found["lr"]
        assert f"momentum {optimizer.args['momentum']:g}" == found["variant"]
    assert lrfind("search", config, "--from", "run") == 2
    assert "is not one learning rate; give a run of find, range-test (without --over)" in lrfind.err
