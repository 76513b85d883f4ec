"""`lrfind.Run`: what a run directory holds, read without importing what it names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import lrfind
from lrfind.runs.summary import summarize
from tests.helpers.runs import LINEAR, conduct, start


@pytest.mark.parametrize(
    ("command", "overrides", "figures"),
    [
        ("find", [], ["find"]),
        ("grid", ["grid.points=3", "grid.seeds=1"], ["sweep", "curves"]),
        ("range-test", ["range_test.seeds=1"], ["range_test"]),
    ],
)
def test_a_run_is_read_as_its_command_wrote_it(
    command: str, overrides: list[str], figures: list[str], tmp_path: Path
) -> None:
    stored = start(tmp_path / "run", command, *overrides)
    with stored.held():
        summary = conduct(stored)
        stored.keep_facts(concluded=True)
    run = lrfind.Run(tmp_path / "run")
    assert run.summary == summary == summarize(stored.record())
    assert run.answer["lr"] == summary["answer"]["lr"]
    assert (run.command, run.finished) == (command, True)
    assert run.config["optimizer"]["name"] == "sgd"
    pd.testing.assert_frame_equal(run.lanes, pd.read_csv(tmp_path / "run/lanes.csv"), check_dtype=False)
    pd.testing.assert_frame_equal(run.steps, pd.read_csv(tmp_path / "run/steps.csv"), check_dtype=False)
    assert run.health.empty == (command == "find")
    assert [name for name in run.figures() if name != "health"] == figures
    assert run.plot().axes
    assert repr(run).startswith(f"Run('{tmp_path / 'run'}'): {command}, finished: ")
    assert "data:image/png;base64," in run._repr_html_()


def test_an_unfinished_run_is_read_too(tmp_path: Path) -> None:
    start(tmp_path / "run", "grid").release()
    run = lrfind.Run(str(tmp_path / "run"))
    assert (run.finished, run.answer["lr"]) == (False, None)
    assert "unfinished: no lr" in repr(run)
    assert run.steps.empty
    assert "no lane has run yet" in run._repr_html_()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(lrfind.UsageError, match="is not a run directory"):
        lrfind.Run(tmp_path)


def test_reading_imports_neither_what_the_run_names_nor_torch(tmp_path: Path) -> None:
    config = LINEAR.replace("model: linear", "model: evil:Model").replace("loss: mse", "loss: evil:loss")
    start(tmp_path / "run", "find", config=config).release()
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    code = (
        "import sys, lrfind; run = lrfind.Run('run'); run.summary, run.config, run.lanes, run.health;"
        " run.figures(), run._repr_html_(), repr(run);"
        " assert not {'evil', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{Path(lrfind.__file__).parents[1]}:{tmp_path}", "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
