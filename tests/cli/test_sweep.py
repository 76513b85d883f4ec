"""Sweeps and run directories from the command line: what is printed, where, and with which exit code."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.command import Command

QUICK = ("--seeds", 2, "--lanes", "single", "--steps", 20)


def files(path: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(path).iterdir()}


def test_a_grid_leaves_tables_plots_and_a_config_with_the_best_lr(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "1e-3,1e-2,1e-1", "--out", "run", *QUICK) == 0
    first, second, _, seeds, *_ = lrfind.out.splitlines()
    assert first == "Best learning rate: 0.1"
    assert second.startswith("  final validation loss ")
    assert second.endswith(" (the lowest of 3 rates, median of 2 seeds)")
    assert seeds == "  seeds: with each of the 2, this rate has the lowest loss"
    assert "trainings: 6 of 6 (6 finished), 120 steps" in lrfind.out
    assert "trainings (lanes) run one after another, on 1 thread: as requested" in lrfind.text
    assert (
        "warning: the best lr is the highest one that was tried; higher ones may be better: give --extend"
        in lrfind.text
    )
    assert lrfind.err.startswith("6 trainings x 20 steps, ")
    assert set(files("run")) == {
        "config.yaml", "resolved.yaml", "environment.json", "run.sqlite", "steps.csv", "lanes.csv", "summary.json",
        "best.yaml", "sweep.png", "sweep.svg", "curves.png", "curves.svg", "health.csv", "health.png", "health.svg",
        "report.html", ".lock",
    }  # fmt: skip
    assert lrfind("range-test", "run/best.yaml", "--out", "test", "-q") == 0


def test_json_is_the_summary(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "[1e-3, 30]", "--out", "run", *QUICK, "--json", "-q") == 0
    assert lrfind.err == ""
    summary = json.loads(lrfind.out)
    assert summary == json.loads(Path("run/summary.json").read_text())
    assert set(summary["answer"]) >= {"lr", "low", "high", "val_loss", "metric"}
    assert [(rate["lr"], rate["outcome"]) for rate in summary["rates"]] == [
        (1e-3, "finished"),
        (30, "diverged"),
    ]
    assert summary["rates"][1]["val_loss"] is None
    assert {"edge", "sensitivity", "mode", "warnings"} <= set(summary)


@pytest.mark.parametrize(("low", "more"), [(1e-3, "raise --high"), (1e-6, "give more --trials")])
def test_a_search_whose_best_rate_is_the_highest_says_how_to_try_higher_ones(
    lrfind: Command, config: Path, low: float, more: str
) -> None:
    call = ("search", config, "--sampler", "sobol", "--trials", 3, "--low", low, "--high", 0.4)
    assert lrfind(*call, "--out", "run", *QUICK) == 0
    assert f"is the highest one that was tried; higher ones may be better: {more}." in " ".join(
        lrfind.text.split()
    )


def test_the_only_rate_is_compared_with_no_other(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "0.1", "--out", "run", *QUICK) == 0
    assert "(the only rate" in lrfind.out
    assert "usable" not in lrfind.out


def test_a_sweep_that_may_get_more_trainings_says_so(lrfind: Command, config: Path) -> None:
    for options in (("compare",), ("grid", "--extend")):
        assert lrfind(options[0], config, *options[1:], "--dry-run") == 0
        assert "at least " in lrfind.text
        assert "; more follow, while " in lrfind.text
    assert lrfind("compare", config, "--peaks", "0.1", "--dry-run") == 0
    assert "at least " not in lrfind.text


def test_options_win_over_the_config_and_the_last_way_of_giving_lrs_over_the_others(
    lrfind: Command, config: Path
) -> None:
    config.write_text(config.read_text() + "grid: {lrs: [1e-3, 1e-2], seeds: 1}\n")
    assert lrfind("grid", config, "--dry-run", "-q") == 0
    assert [line.split() for line in lrfind.out.splitlines()[:3]] == [
        ["lane", "seed", "lr"], ["0", "0", "0.001"], ["1", "0", "0.01"]
    ]  # fmt: skip
    assert (
        lrfind("grid", config, "--low", 1e-2, "--high", 1, "--points", 3, "--seeds", 2, "--dry-run", "--json")
        == 0
    )
    plan = json.loads(lrfind.out)
    assert [(lane["seed"], lane["lr"]) for lane in plan["plan"]] == [
        (s, lr) for s in (0, 1) for lr in (0.01, 0.1, 1)
    ]
    assert plan["cost"]["lane_count"] == 6
    assert plan["cost"]["steps"] == 20
    assert not Path("runs").exists()


def test_a_search_tries_the_range_tests_answer_first(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--out", "test", "--json", "-q") == 0
    answer = json.loads(lrfind.out)["answer"]["lr"]
    call = (
        "search",
        config,
        "--sampler",
        "sobol",
        "--trials",
        4,
        "--low",
        1e-3,
        "--high",
        1,
        "--from",
        "test",
    )
    assert lrfind(*call, "--out", "run", *QUICK) == 0
    assert pd.read_csv("run/lanes.csv").lr[0] == answer
    assert len(pd.read_csv("run/lanes.csv")) == 8
    # Without a config, the config is that of the run, and not the packaged one.
    own = ("search", "--from", "run", "--sampler", "random", "--trials", 2, "--out", "own")
    assert lrfind(*own, *QUICK, "--json", "-q") == 0
    assert Path("own/resolved.yaml").read_text().startswith("name: tiny\n")
    assert (
        json.loads(Path("run/summary.json").read_text())["answer"]["lr"] == pd.read_csv("own/lanes.csv").lr[0]
    )
    assert lrfind("train", config, "--out", "trained", "-q") == 0
    assert lrfind("search", config, "--from", "trained") == 2
    assert "--from: 'trained', a run of `lrfind train`, recommends no learning rate; to begin" in lrfind.err
    advised = lrfind.err.split("`lrfind ")[-1].split("`")[0].split()
    assert lrfind(*advised, "--sampler", "random", "--trials", 2, "--out", "again", *QUICK) == 0
    trained = json.loads(Path("trained/summary.json").read_text())
    assert pd.read_csv("again/lanes.csv").lr[0] == trained["answer"]["lr"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grid", "--lrs", "1e-3,ten"], "--lrs:1:13: error: grid.lrs.1: must be a number"),
        (["grid", "--lrs", "1e-3,-1"], "must be greater than 0; found -1"),
        (["grid", "--lrs", ""], "grid.lrs: "),
        (["grid", "--lrs", "1,1"], "1 is listed twice"),
        (["grid", "--low", "2"], "grid.high: must be well above low (2)"),
        (["grid", "--lrs", "1e-3,1e-400"], "1e-400 is closer to 0 than the smallest number of 64 bits"),
        (["grid", "--lrs", "1e-3", "--low", "1e-4"], "give --lrs or --low, not both"),
        (["search", "--steps", "3", "--epochs", "1"], "give --steps or --epochs, not both"),
        (["grid", "--lanes", "stack"], "must be 'auto', 'single' or 'stacked'"),
        (["search", "--sampler", "cma"], "unknown sampler 'cma'; known: gp, random, sobol, tpe. For your own code give pkg.module:attr."),
        (["search", "--trials", "0"], "search.trials: must be at least 1"),
        (["grid", "--steps", "0"], "training.steps: must be greater than 0"),
        (["grid", "--judge", "best_val_loss"], "give training.eval_every (--eval-every)"),
        (["search", "--judge", "lowest"], "must be 'val_loss', 'train_loss' or 'best_val_loss'"),
        (["resume", "none"], "there is no run directory 'none'"),
        (["plot", "."], "'.' is not a run directory: it has no run.sqlite"),
        (["status"], "Missing argument 'RUN'"),
        (["runs"], "there is no directory 'runs'"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_exit_2_with_a_message(
    lrfind: Command, arguments: list[str], message: str, here: Path
) -> None:
    assert lrfind(*arguments) == 2
    assert message in lrfind.err
    assert "Traceback" not in lrfind.err
    assert list(here.iterdir()) == []


def test_no_finished_lr_is_exit_3_and_a_failure_of_all_is_exit_1(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "30,100", *QUICK, "--json") == 3
    assert json.loads(lrfind.out)["answer"]["lr"] is None
    Path("own_for_cli_sweeps.py").write_text(
        "from torch import nn\ncalls = 0\n"
        "def loss(output, y):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    if calls > 40: raise FloatingPointError('worn out')\n"
        "    return nn.functional.mse_loss(output, y)\n"
    )
    own = ("--set", "loss='own_for_cli_sweeps:loss'", "--import-root", ".")
    assert (
        lrfind("grid", config, "--lrs", "0.1,0.2", "--steps", 60, "--lanes", "single", "--seeds", 1, *own)
        == 1
    )
    assert "No best learning rate: no lane finished; FloatingPointError: worn out" in lrfind.out


def test_what_cannot_train_leaves_no_run_behind(lrfind: Command, config: Path) -> None:
    broken = ("--set", "model.args.out_features=3", "--set", "loss=cross_entropy")
    assert lrfind("grid", config, *broken) == 2
    assert "the first training step failed" in lrfind.err
    assert list(Path("runs").iterdir()) == []


def test_resuming_a_finished_run_changes_nothing(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "0.1", "--out", "run", *QUICK) == 0
    before, said = files("run"), lrfind.out
    assert lrfind("resume", "run") == 0
    assert (files("run"), lrfind.out) == (before, said)


def test_a_run_whose_config_was_changed_is_refused_with_the_difference(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "0.1", "--out", "run", *QUICK) == 0
    resolved = Path("run/resolved.yaml")
    resolved.write_text(resolved.read_text().replace("steps: 20", "steps: 30"))
    assert lrfind("resume", "run") == 2
    assert "the config has changed since the run began" in lrfind.err
    assert "-  steps: 20\n+  steps: 30" in lrfind.err
    resolved.unlink()
    assert lrfind("resume", "run") == 0
    assert "steps: 20" in resolved.read_text()


def test_a_second_process_is_refused_and_told_who_holds_the_run(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "0.1", "--out", "run", *QUICK) == 0
    from lrfind.runs.store import Run

    Run.open(Path("run")).keep_facts(concluded=False)
    with Run.open(Path("run")).held():
        assert lrfind("status", "run") == 0
        assert f"process {os.getpid()} on " in lrfind.out
        assert lrfind("resume", "run") == 2
        assert f"'run' is being run by process {os.getpid()} on " in lrfind.err
    assert lrfind("resume", "run") == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_sweep_that_is_stopped_says_how_to_go_on_and_does(
    lrfind: Command, config: Path, number: int, code: int
) -> None:
    # The loss sends the signal to its own process, in the middle of the fourth lane.
    name = f"signal_for_sweeps_{int(number)}"
    Path(f"{name}.py").write_text(
        "import os, signal\nfrom torch import nn\ncalls = 0\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in a background process
        "def loss(output, y):\n"
        "    global calls\n"
        "    calls += output.requires_grad\n"
        f"    if calls == 75 and os.environ.get('SIGNAL'): os.kill(os.getpid(), {int(number)})\n"
        "    return nn.functional.mse_loss(output, y)\n"
    )
    own = ("--set", f"loss='{name}:loss'", "--import-root", ".")
    call = [
        sys.executable,
        "-m",
        "lrfind",
        "grid",
        config,
        "--out",
        "run",
        "--lrs",
        "1e-3,1e-2,0.1",
        *QUICK,
        *own,
    ]
    done = subprocess.run(
        list(map(str, call)), capture_output=True, text=True, env=os.environ | {"SIGNAL": "1"}
    )
    assert done.returncode == code, done.stderr
    assert f"run `lrfind resume run --import-root {Path.cwd()}` to continue." in done.stderr
    assert "Traceback" not in done.stderr
    assert lrfind("status", "run") == 0
    assert "grid of tiny, unfinished" in lrfind.out
    assert "trainings: 3 of 6" in lrfind.out
    assert lrfind("resume", "run") == 2  # the run directory may be somebody else's
    assert (
        f"code that is not part of lrfind: {name}:loss. If you trust it, run `lrfind resume run --imp"
        in lrfind.err
    )
    assert lrfind("resume", "run", "--import-root", ".") == 0
    assert lrfind("grid", config, "--out", "calm", "--lrs", "1e-3,1e-2,0.1", *QUICK, *own) == 0
    assert Path("run/steps.csv").read_text() == Path("calm/steps.csv").read_text()


def test_runs_lists_what_stands_where(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "0.01,0.1", *QUICK) == 0
    assert lrfind("range-test", config) == 0
    Path("runs/broken").mkdir()
    Path("runs/broken/run.sqlite").write_text("no database" * 50)
    assert lrfind("runs") == 0
    grid, of_grid, ramp, of_ramp = lrfind.out.splitlines()
    assert [Path(run).parent for run in (grid, ramp)] == [Path("runs")] * 2
    assert re.fullmatch(r"  grid        finished just now  lr 0\.1 +loss \S+", of_grid)
    assert re.fullmatch(r"  range-test  finished just now  lr \S+", of_ramp)
    assert "left out: 'runs/broken/run.sqlite' is damaged: file is not a database" in lrfind.err
    assert lrfind("runs", "--json", "-q") == 0
    assert lrfind.err == ""
    states = json.loads(lrfind.out)
    assert [state["command"] for state in states] == ["grid", "range-test"]
    for state in states:
        times = [datetime.fromisoformat(state[name]) for name in ("began", "ended")]
        assert times[0] <= times[1] <= datetime.now().astimezone()
    summary = json.loads(Path(grid, "summary.json").read_text())
    assert [state["loss"] for state in states] == [summary["answer"]["val_loss"], None]


@pytest.mark.rendered
def test_plot_draws_again_and_overlays_several_runs(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "0.01,0.1,30", "--out", "run", *QUICK) == 0
    assert lrfind("range-test", config, "--out", "test") == 0
    before = files("run")
    Path("run/sweep.png").unlink()
    assert lrfind("plot", "run") == 0
    assert lrfind.out == "wrote run/sweep.png\nwrote run/curves.png\nwrote run/health.png\n"
    assert files("run") == before
    assert lrfind("plot", "run", "test", "--out", "both.png") == 0
    assert lrfind.out == "wrote both.png\nwrote both.svg\n"
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")
    svg = Path("both.svg").read_text()
    assert "<svg" in svg


def test_export_writes_a_study_that_optuna_reads(lrfind: Command, config: Path) -> None:
    import optuna

    assert lrfind("grid", config, "--lrs", "0.01,0.1,30", "--out", "run", *QUICK) == 0
    assert lrfind("export", "run", "--optuna", "study.db") == 0
    (name,) = optuna.get_all_study_names("sqlite:///study.db")
    study = optuna.load_study(study_name=name, storage="sqlite:///study.db")
    lanes = pd.read_csv("run/lanes.csv")
    assert [trial.params["lr"] for trial in study.trials] == lanes.lr.tolist()
    assert study.best_value == pytest.approx(lanes.val_loss.min())
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "FAIL"}
    assert lrfind("export", "run", "--optuna", "study.db") == 2
    assert "exists already and is not overwritten" in lrfind.err
    assert lrfind("range-test", config, "--out", "test") == 0
    assert lrfind("export", "test", "--optuna", "other.db") == 2
