"""The command line as a person uses it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lrfind.analysis.suggestions import METHODS
from lrfind.catalog import KINDS
from lrfind.cli.listing import LISTS
from lrfind.config.registry import load
from tests.helpers.command import Command
from tests.helpers.runs import start

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.rendered
def test_a_range_test_leaves_a_whole_run_and_tells_the_answer(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--out", "run") == 0
    assert lrfind.out.startswith("Suggested learning rate: ")
    assert "from single seeds: " in lrfind.out or "the same from each seed" in lrfind.out
    assert "where the loss diverged; the largest stable lr is usually lower" in " ".join(lrfind.out.split())
    files = {path.name for path in Path("run").iterdir()}
    assert files == {
        "config.yaml", "resolved.yaml", "environment.json", "run.sqlite", "steps.csv", "lanes.csv",
        "summary.json", "report.html", "range_test.png", "range_test.svg", "health.csv", "health.png", "health.svg", ".lock",
    }  # fmt: skip
    for stem in ("range_test", "health"):
        assert Path(f"run/{stem}.png").read_bytes().startswith(b"\x89PNG")
    assert Path("run/config.yaml").read_text() == config.read_text()
    assert lrfind("range-test", "run/resolved.yaml", "--out", "again", "-q") == 0
    assert Path("again/steps.csv").read_text() == Path("run/steps.csv").read_text()


def test_json_is_the_summary_and_quiet_is_silent(lrfind: Command, config: Path) -> None:
    assert lrfind("-q", "range-test", config, "--out", "run", "--json") == 0
    assert lrfind.err == ""
    assert json.loads(lrfind.out) == json.loads(Path("run/summary.json").read_text())
    assert lrfind("range-test", config, "--out", "other", "--json", "-q") == 0
    assert lrfind.err == ""


def test_the_plan_of_every_command_has_the_same_keys_in_json(lrfind: Command, config: Path) -> None:
    Path("train.py").touch()
    kinds = {name: load(kind.command).params for name, kind in KINDS.items()}
    dry = [name for name, options in kinds.items() if any(option.name == "dry_run" for option in options)]
    assert {"find", "script", "grid", "search", "compare"} <= {*dry}
    for name in dry:
        what = ("train.py",) if name == "script" else (config,)
        assert lrfind(name, "--steps", 20, "--dry-run", "--json", *what) == 0
        plan = json.loads(lrfind.out)
        assert [*plan][:4] == ["command", "plan", "cost", "modes"]
        assert plan["command"] == name
        assert isinstance(plan["plan"], list)
        assert isinstance(plan["modes"], list)
    assert not Path("runs").exists()


def test_options_and_set_change_the_experiment(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--out", "run", "--steps", 30, "--seeds", 1, "--set", "range_test.end_lr=20",
                  "--grad-norm", "--held-out", "--seed", 5) == 0  # fmt: skip
    steps = pd.read_csv("run/steps.csv")
    assert {"held_out_loss", "grad_norm"} <= {*steps}
    assert steps.seed.unique().tolist() == [5]
    assert len(steps) <= 30
    assert "one seed only" in lrfind.out


def test_suggest_recomputes_a_run_and_reads_any_csv(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--out", "run", "--json", "-q") == 0
    summary = json.loads(lrfind.out)
    assert lrfind("suggest", "run", "--json") == 0
    answer = json.loads(lrfind.out)
    assert answer["answer"] == summary["answer"]
    assert answer["methods"] == summary["methods"]
    assert set(answer["methods"]) == set(METHODS)
    pd.read_csv("run/steps.csv").query("lane == 1")[["lr", "loss"]].to_csv("curve.csv", index=False)
    assert lrfind("suggest", "curve.csv") == 0
    assert all(name in lrfind.out for name in METHODS)
    assert lrfind("suggest", "curve.csv", "--method", "steepest") == 0
    assert "minimum" not in lrfind.out


def test_no_usable_lr_is_exit_3_with_the_reason_and_still_json(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--set", "range_test.end_lr=1e-3", "--json") == 3
    summary = json.loads(lrfind.out)
    assert summary["answer"]["lr"] is None
    assert "end_lr" in summary["answer"]["reason"]
    Path("flat.csv").write_text("lr,loss\n" + "".join(f"{i + 1},2.0\n" for i in range(30)))
    assert lrfind("suggest", "flat.csv") == 3
    assert "flat" in lrfind.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["range-test", "none.yaml"], "error: there is no file 'none.yaml'"),
        (["range-tst"], "Did you mean 'range-test'?"),
        (["nonsense"], "The commands are: "),
        (["range-test", "--stepps", "3"], "No such option"),
        (["check", "--set", "optimizer.lr=-1"], "--set:1:14: error: optimizer.lr: must be greater than 0"),
        (["range-test", "--steps", "many"], "--steps:1:9: error: range_test.steps: must be a whole number"),
        (["find", "--nosuch"], "\n\nerror: No such option '--nosuch'"),
        (["range-test", "--method", "steapest"], "unknown method 'steapest'; did you mean steepest?"),
        (["suggest", "none"], "there is no file or run directory 'none'"),
        (["suggest", "."], "has no run.sqlite"),
        (["init", "--template", "mnist"], "unknown template 'mnist'; did you mean mnist_cnn or mnist_mlp?"),
        (["ls", "model"], "'model' is not one of"),
        (["range-test", "--import-root", "none"], "does not exist"),
    ],
)
def test_a_wrong_call_is_exit_2_with_a_message_and_no_traceback(
    lrfind: Command, arguments: list[str], message: str, here: Path
) -> None:
    assert lrfind(*arguments) == 2
    assert message in lrfind.err
    assert "Traceback" not in lrfind.err
    assert lrfind.out == ""
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "what", "way"),
    [
        ("nets/mine.py", "a Python file", "`model: nets.mine:NAME`; then add `--import-root .`"),
        ("/far/mine.py", "a Python file", "`model: mine:NAME`; then add `--import-root /far`"),
        ("train.py", "a Python file", "`lrfind script --steps N -- train.py`"),
        ("table.csv", "a table", "`lrfind init --csv table.csv --target COLUMN`"),
        ("look.ipynb", "a notebook", "call `lrfind.find(...)`"),
        ("mine.nets:Net", "an object in Python", "`model: mine.nets:Net`"),
        ("run", "a run", "Its config is run/resolved.yaml."),
    ],
)
def test_what_is_no_config_is_called_by_its_name(lrfind: Command, given: str, what: str, way: str) -> None:
    Path("train.py").write_text("x = [\n")
    Path("table.csv").write_text("a,b\n1,2\n")
    start(Path("run"), "find").release()
    assert lrfind("find", given) == 2
    assert lrfind.err.startswith(f"error: '{given}' is {what}. CONFIG is a YAML file")
    assert way in lrfind.err


def test_a_template_is_taken_by_its_name_unless_a_file_is_called_so(lrfind: Command) -> None:
    assert lrfind("check", "csv_regression") == 0
    assert lrfind.out.startswith("ok: csv-regression: mlp on csv")
    assert "csv_regression.yaml, the template csv_regression, which comes with lrfind" in lrfind.err
    assert lrfind("check", "csv_regression", "--batch", "-q") == 0
    assert lrfind.err == ""
    Path("csv_regression").write_text("name: mine")
    assert lrfind("check", "csv_regression") == 2
    assert "csv_regression:1:1" in lrfind.err


def test_a_misspelled_template_or_file_has_its_neighbour(lrfind: Command) -> None:
    assert lrfind("find", "csv_regresion") == 2
    assert "no template 'csv_regresion'; did you mean the template csv_regression?" in lrfind.err
    Path("mnist_mlp.yaml").touch()
    assert lrfind("find", "mnist_mlp") == 2
    assert "did you mean mnist_mlp.yaml?" in lrfind.err
    assert lrfind("find", "a" * 300) == 2
    assert "File name too long" in lrfind.err


def test_a_run_directory_that_is_taken_or_closed_is_refused_before_training(
    lrfind: Command, config: Path
) -> None:
    Path("taken").mkdir()
    Path("taken/mine.txt").write_text("precious")
    assert lrfind("range-test", config, "--out", "taken") == 2
    assert "is not empty" in lrfind.err
    assert [path.name for path in Path("taken").iterdir()] == ["mine.txt"]
    assert lrfind("range-test", config, "--out", "/proc/run") == 2
    assert "cannot write to '/proc/run'" in lrfind.err


def test_a_config_that_cannot_train_leaves_no_run_behind(lrfind: Command, config: Path) -> None:
    assert (
        lrfind("range-test", config, "--set", "model.args.out_features=3", "--set", "loss=cross_entropy") == 2
    )
    assert "the first training step failed: loss: y is (64, 1) float32" in lrfind.err
    assert lrfind("range-test", config, "--set", "data.batch_size=65") == 2
    assert "65 is more than the 64 training rows" in lrfind.err
    assert list(Path("runs").iterdir()) == []


def test_check_says_ok_and_init_never_overwrites(lrfind: Command) -> None:
    assert lrfind("init") == 0
    assert lrfind("check") == 0
    assert "ok: mnist-cnn: small_cnn on mnist_mini, sgd" in lrfind.out
    Path("lrfind.yaml").write_text("name: mine")
    assert lrfind("init") == 2
    assert "is left as it is" in lrfind.err
    assert Path("lrfind.yaml").read_text() == "name: mine"
    assert lrfind("init", "--template", "linear_regression", "other.yaml") == 0
    assert lrfind("check", "other.yaml") == 0


def test_ls_alone_lists_what_can_be_listed(lrfind: Command) -> None:
    assert lrfind("ls") == 0
    assert [line.split()[0] for line in lrfind.out.splitlines()] == [*LISTS]
    assert lrfind("ls", "--json") == 0
    assert json.loads(lrfind.out) == LISTS


@pytest.mark.parametrize("what", LISTS)
def test_ls_lists_names(lrfind: Command, what: str) -> None:
    assert lrfind("ls", what) == 0
    lines = lrfind.out.splitlines()
    assert lrfind("ls", what, "--json") == 0
    assert [line.split()[0] for line in lines] == list(json.loads(lrfind.out))


def test_ls_fits_a_terminal_and_keeps_a_line_each_elsewhere(
    lrfind: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lrfind("ls", "datasets") == 0
    whole = lrfind.out
    monkeypatch.setattr("lrfind.views.terminal.on_terminal", lambda stream: True)
    monkeypatch.setattr("lrfind.views.terminal.columns", lambda stream: 60)
    assert lrfind("ls", "datasets") == 0
    assert max(map(len, lrfind.out.splitlines())) <= 60 < max(map(len, whole.splitlines()))
    assert lrfind.text == " ".join(whole.split())


def test_ones_own_model_needs_the_import_root(lrfind: Command, config: Path) -> None:
    Path("mine").mkdir()
    Path("mine/own_for_cli.py").write_text(
        "from torch import nn\ndef net(in_features, out_features): return nn.Linear(in_features, out_features)\n"
    )
    call = ("check", config, "--set", "model='own_for_cli:net'", "--imports")
    assert lrfind(*call) == 2
    assert "no module 'own_for_cli' on the import path" in lrfind.err
    assert lrfind(*call, "--import-root", "mine") == 0
    assert lrfind("range-test", config, "--set", "model='own_for_cli:net'", "--import-root", "mine") == 0


def test_python_m_lrfind_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "lrfind", "--version"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("lrfind, version ")


def test_python_m_lrfind_does_not_open_the_working_directory_to_a_config(config: Path) -> None:
    Path("here_for_cli.py").write_text("def net(in_features): ...")
    call = [sys.executable, "-m", "lrfind", "check", config, "--set", "model='here_for_cli:net'", "--imports"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert (done.returncode, "no module 'here_for_cli'" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 4, "stopped: SIGTERM")],
)
def test_what_was_measured_is_kept_when_a_signal_ends_the_run(
    lrfind: Command, config: Path, number: int, code: int, message: str
) -> None:
    # The loss sends the signal to its own process, in the middle of the second lane.
    Path("signal_for_cli.py").write_text(
        "import os, signal\nfrom torch import nn\ncalls = 0\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in a background process
        "def loss(output, y):\n"
        "    global calls\n"
        "    calls += 1\n"
        f"    if calls == 70: os.kill(os.getpid(), {int(number)})\n"
        "    return nn.functional.mse_loss(output, y)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "lrfind", "range-test", config, "--out", "run", "--import-root", ".",
         "--set", "loss='signal_for_cli:loss'", "--set", "range_test.end_lr=0.5"],
        capture_output=True, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == message
    assert "what was measured is kept in run" in done.stderr
    assert "Traceback" not in done.stderr
    lanes = pd.read_csv("run/lanes.csv")
    assert lanes.outcome.tolist() == ["finished", "interrupted"]
    assert 9 <= lanes.steps[1] <= 11
    assert len(pd.read_csv("run/steps.csv")) == lanes.steps.sum()
    assert lrfind("suggest", "run") in (0, 3), lrfind.err


def test_a_reader_that_leaves_is_exit_141_without_a_word() -> None:
    call = [sys.executable, "-m", "lrfind", "schema"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert (process.wait(), process.stderr.read() if process.stderr else None) == (141, "")


def test_a_full_disk_is_exit_4(lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "run/steps.csv")

    monkeypatch.setattr("lrfind.runs.store.Run.add_lane", full)
    assert lrfind("range-test", config) == 4
    assert "the disk is full (run/steps.csv)" in lrfind.err


def test_one_damaged_run_hides_no_other(lrfind: Command, config: Path) -> None:
    for name in ("whole", "damaged"):
        assert lrfind("range-test", config, "--out", f"runs/{name}", "-q") == 0
    with sqlite3.connect("runs/damaged/run.sqlite") as connection:
        connection.execute("DROP TABLE evaluations")
    connection.close()
    assert lrfind("runs", "runs/whole") == 2
    assert "one run, not a directory with runs; `lrfind status runs/whole`" in lrfind.err
    assert lrfind("runs") == 0
    assert "whole" in lrfind.out
    assert (
        "'runs/damaged/run.sqlite' is damaged: its tables are not those that lrfind made: see evaluations."
        in lrfind.err
    )
