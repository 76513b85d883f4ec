"""`lrfind script`: an answer for a script that nobody edits, and a run directory like any other."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import lrfind as public
from lrfind.experiments.script import starts
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result
from tests.helpers.command import Command
from tests.helpers.scripts import Forked

SCRIPT = """
import argparse, sys, torch
from torch import nn
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-3)
args = parser.parse_args()
torch.manual_seed(1)
x = torch.randn(128, 6)
y = (x @ torch.randn(6, 1)).tanh() + 0.1 * torch.randn(128, 1)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
for epoch in range(50):
    for inputs, targets in zip(x.split(16), y.split(16)):
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    open("history.txt", "a").write(f"{epoch}\\n")
"""


@pytest.fixture(autouse=True)
def _forked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "Popen", Forked)
    Path("train.py").write_text(SCRIPT)


def answer_of_the_api() -> public.Recommendation:
    torch.manual_seed(1)
    x = torch.randn(128, 6)
    y = (x @ torch.randn(6, 1)).tanh() + 0.1 * torch.randn(128, 1)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    batches = [*zip(x.split(16), y.split(16), strict=True)]
    return public.find(
        model, optimizer, nn.functional.mse_loss, batches, steps=300, schedule="linear", progress=False
    )


def test_the_answer_is_that_of_find_and_the_run_is_one_like_any_other(lrfind: Command) -> None:
    options = ("--steps", 300, "--schedule", "linear", "--out", "run")
    assert lrfind("script", *options, "--", sys.executable, "train.py", "--lr", "0.5") == 0
    assert "script: each probe starts" in lrfind.err
    assert "usually" in lrfind.err
    assert "Learning rate: " in lrfind.out
    assert "the script's own lr: 0.5; the answer is " in lrfind.out
    assert "a start goes on after the steps of its probe" in lrfind.out
    best = answer_of_the_api()
    result = read_result(Run.open(Path("run")))
    assert result.answer["lr"] == pytest.approx(best.lr, rel=0.01)
    assert result.summary["training"] == vars(best.training) | {"epoch": None}  # unknown of a script
    assert [row["lr"] for row in result.summary["probes"]] == [*best.table.lr]
    assert [row["score"] for row in result.summary["probes"]] == pytest.approx(
        [*best.table.score], rel=1e-5, nan_ok=True
    )
    assert 4 <= result.summary["script"]["starts"] <= 18
    assert result.summary["cost"] == result.summary["script"]["steps"] >= best.cost

    # Its files, and what the other commands say of it.
    files = {path.name for path in Path("run").iterdir()}
    assert {
        "config.yaml",
        "summary.json",
        "steps.csv",
        "lanes.csv",
        "environment.json",
        "find.png",
        "script.log",
    } <= files
    assert "best.yaml" not in files
    assert not Path("history.txt").exists()
    assert lrfind("suggest", "run") == 0
    assert lrfind("runs", ".") == 0
    assert lrfind("resume", "run", "--json") == 0
    assert json.loads(lrfind.out)["answer"] == result.answer
    assert lrfind("train", "--from", "run") == 2
    assert "the lr of a script, and only the script can train with it" in lrfind.err
    assert lrfind("find", "run/config.yaml") == 2
    assert "only `lrfind script` starts" in lrfind.err


def test_an_interrupted_run_asks_before_it_starts_the_script_again_and_repeats_nothing(
    lrfind: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def interrupted(*args: object, **kwargs: object) -> Forked:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return Forked(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(starts, "Popen", interrupted)
    assert lrfind("script", "--steps", 300, "--out", "run", "-q", "train.py") == 130
    assert lrfind("status", "run") == 0
    assert "probes: 0 so far (2 interrupted)" in lrfind.out  # and the untouched script
    assert lrfind("resume", "run") == 2
    assert f"--import-root {Path.cwd()}" in lrfind.err
    assert lrfind("resume", "run", "--import-root", ".", "--no-import-paths") == 2
    assert count == 5
    assert lrfind("resume", "run", "--import-root", ".", "--json") == 0
    resumed = json.loads(lrfind.out)
    assert resumed["script"]["starts"] == count - 1
    shutil.rmtree("run")
    count = 10
    assert lrfind("script", "--steps", 300, "--out", "run", "-q", "--json", "train.py") == 0
    assert json.loads(lrfind.out)["answer"] == resumed["answer"]


def test_a_script_that_cannot_be_probed_is_refused_and_leaves_no_run(lrfind: Command) -> None:
    Path("train.py").write_text("print('hello')")
    assert lrfind("script", "--steps", 300, "train.py") == 2
    assert "no step of a torch optimizer" in lrfind.err
    assert "hello" in lrfind.err
    assert [*Path("runs").iterdir()] == []
    Path("train.py").write_text("import torch\nopen('missing.csv')")
    assert lrfind("script", "--steps", 300, "train.py") == 1
    assert "No such file or directory: 'missing.csv'" in lrfind.err
    assert "--link" not in lrfind.err
    Path("missing.csv").touch()
    assert lrfind("script", "--steps", 300, "train.py") == 1
    assert "give --link missing.csv" in lrfind.err
    assert lrfind("script", "--steps", 300, "--link", "missing.csv", "train.py") == 2  # it trains nothing


def test_a_script_that_asks_for_a_learning_rate_itself_is_refused(lrfind: Command) -> None:
    call = "import lrfind; lrfind.range_test(model, optimizer, nn.MSELoss(), [(x, y)], steps=9)"
    Path("train.py").write_text(SCRIPT.replace("for epoch", f"{call}\nfor epoch"))
    assert lrfind("script", "--steps", 300, "train.py") == 1
    assert "which itself asks lrfind for a learning rate" in " ".join(lrfind.err.split())


def test_a_script_that_is_never_the_same_has_no_answer(lrfind: Command) -> None:
    Path("train.py").write_text(SCRIPT.replace("manual_seed(1)", "seed()"))
    assert lrfind("script", "--steps", 300, "--out", "run", "train.py", "--json") == 1
    assert "unrecognized arguments: --json" in lrfind.err  # it was for the script
    assert lrfind("script", "--steps", 300, "--out", "run", "--json", "train.py") == 3
    summary = json.loads(lrfind.out)
    assert "two untouched runs differ at step 0" in summary["answer"]["reason"]
    assert summary["script"]["starts"] == 2


def test_what_will_be_done_is_said_before(lrfind: Command) -> None:
    Path("data").mkdir()
    command = ("script", "--steps", 300, "--dry-run")
    assert lrfind(*command, "--", "train.py", "data", "./train.py", "--lr", 3) == 0
    assert f"{Path.cwd()}/train.py data {Path.cwd()}/train.py --lr 3`" in lrfind.out
    assert "links to data" in lrfind.out
    assert "at most 128 steps" in lrfind.out
    assert lrfind.out.endswith("Nothing was started.\n")
    assert lrfind(*command, "--here", "--json", "train.py") == 0
    assert json.loads(lrfind.out)["script"]["here"] is True
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "300"), "Missing argument"),
        (("train.py",), "Missing option '--steps'"),
        (("--steps", "300", "tarin.py"), "there is no script 'tarin.py'"),
        (("--steps", "many", "train.py"), "--steps"),
        (("--steps", "300", "--", "-m"), "name the script, a Python file"),
        (("--steps", "300", "train.ipynb"), "is a notebook, not a script"),
        (("--steps", "300", "--link", "nowhere", "train.py"), "--link: there is no 'nowhere'"),
        (("--steps", "300", "--", "python9.99", "train.py"), "there is no 'python9.99'"),
    ],
)
def test_mistakes_in_the_command_line_are_told(
    lrfind: Command, arguments: tuple[str, ...], message: str
) -> None:
    Path("train.ipynb").write_text("{}")
    assert lrfind("script", *arguments) == 2
    assert message in lrfind.err
    assert not Path("runs").exists()


def test_a_script_of_several_processes_is_refused(lrfind: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert lrfind("script", "--steps", 300, "train.py") == 2
    assert "several processes" in lrfind.err


def test_a_script_that_fails_before_its_first_step_leaves_no_run_and_says_so(lrfind: Command) -> None:
    Path("train.py").write_text("raise SystemExit('no data here')")
    assert lrfind("script", "--steps", 300, "--out", "run", "train.py") == 1
    assert "Nothing was measured, so run is removed." in lrfind.err
    assert not Path("run").exists()


def test_a_module_of_a_package_is_run_as_python_does_it(lrfind: Command) -> None:
    Path("package").mkdir()
    Path("package/parts.py").write_text("import torch\nfrom torch import nn")
    Path("package/run.py").write_text(f"from .parts import *\nprint(__name__, __file__)\n{SCRIPT}")
    options = ("--steps", 300, "--max-seconds", 0.001, "--out", "run", "-q", "--")
    assert lrfind("script", *options, "python", "-u", "-m", "package.run", "--lr", "0.5") == 3
    file = Path("package/run.py").absolute()
    assert f"__main__ {file}\n" in Path("run/script.log").read_text()
    assert lrfind("script", "--steps", 300, "--dry-run", "--", "-m", "package.run", "--lr", "0.5") == 0
    assert " -m package.run --lr 0.5`" in " ".join((lrfind.out + lrfind.err).split())
    Path("package/run.py").write_text("raise ValueError('no data')")
    assert lrfind("script", *options[:2], "--", "-m", "package.run") == 1
    assert "runpy" not in lrfind.err
    assert "ValueError: no data" in lrfind.err
    assert lrfind("script", *options[:2], "--", "-m", "package.fit") == 2
    assert "there is no module 'package.fit' in this directory" in lrfind.err
