"""A user's code that fails or meddles, at any door: told in our words, and what was measured is kept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from lrfind.errors import UsersExit, as_exception, in_one_line
from lrfind.training.explanations.failures import failure_text
from tests.helpers.command import Command

FAULTS = """
import os, sys
import torch
from torch import nn

class Odd(BaseException):
    pass

class Mute(Exception):
    def __str__(self):
        raise ValueError

where, at, calls, fault = "", 0, 0, None

def hit(place):
    global calls
    if place == where:
        calls += 1
        if calls >= at:
            fault()

def odd(): raise Odd("not an Exception")
def mute(): raise Mute
def leave(): sys.exit(3)
def error(): raise RuntimeError("broken")
def away(): os.chdir("/")
def settings():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)

class Net(nn.Linear):
    def forward(self, x): hit("forward"); return super().forward(x)
    def to(self, *a, **k): hit("to"); return super().to(*a, **k)
    def train(self, mode=True): hit("mode"); return super().train(mode)
    def parameters(self, *a, **k): hit("parameters"); return super().parameters(*a, **k)
    def state_dict(self, *a, **k): hit("state_dict"); return super().state_dict(*a, **k)

class Opt(torch.optim.SGD):
    def step(self, closure=None): hit("step"); return super().step()

def schedule(step, steps): hit("schedule"); return 1.0
"""
WAY = (
    "--set", "model={name: 'code_with_faults:Net', args: {in_features: 4, out_features: 1}}",
    "--set", "optimizer={name: 'code_with_faults:Opt', lr: 0.1}",
    "--set", "training={steps: 6, eval_every: 3, checkpoint_every: 2, schedule: {name: 'code_with_faults:schedule'}}",
    "--import-root", ".", "--out", "run",
)  # fmt: skip
GRID = ("--lrs", "0.01,0.1", "--seeds", "1", "--lanes", "single")


@pytest.fixture
def faults(config: Path) -> object:
    import importlib
    import sys

    Path("code_with_faults.py").write_text(FAULTS)
    sys.path.insert(0, ".")
    sys.modules.pop("code_with_faults", None)
    importlib.invalidate_caches()
    module = importlib.import_module("code_with_faults")
    sys.path.remove(".")
    return module


@pytest.mark.parametrize(
    ("command", "where", "at", "fault"),
    [("train", "to", 1, "odd"), ("train", "parameters", 2, "error"), ("train", "state_dict", 1, "leave"),
     ("train", "schedule", 2, "odd"), ("grid", "forward", 7, "odd"), ("grid", "forward", 7, "mute"),
     ("grid", "forward", 7, "leave"), ("grid", "mode", 3, "odd"), ("grid", "step", 2, "mute"),
     ("find", "forward", 6, "odd"), ("range-test", "step", 9, "leave"), ("check", "forward", 1, "odd")],
)  # fmt: skip
def test_a_fault_of_the_users_code_is_one_message_with_its_place(
    command: str, where: str, at: int, fault: str, lrfind: Command, config: Path, faults: object
) -> None:
    vars(faults).update(where=where, at=at, fault=getattr(faults, fault))
    options = {"grid": GRID, "check": ("--batch",)}.get(command, ())
    way = WAY[:-2] if command == "check" else WAY
    assert lrfind(command, config, *way, *options) in (1, 2)
    assert vars(faults)["calls"] >= at
    assert "Traceback" not in lrfind.err
    assert len(lrfind.err.splitlines()) < 12
    name = {"odd": "Odd: not an Exception", "mute": "Mute: (its text cannot be read: ValueError)",
            "leave": "SystemExit: 3", "error": "RuntimeError: broken"}[fault]  # fmt: skip
    assert name in lrfind.err + lrfind.out + (
        Path("run/lanes.csv").read_text() if Path("run/lanes.csv").exists() else ""
    )


def test_a_lane_that_fails_late_leaves_the_others_alone(
    lrfind: Command, config: Path, faults: object
) -> None:
    calls = []
    vars(faults).update(where="step", fault=lambda: calls.append(0), at=0)
    assert lrfind("grid", config, *WAY[:-1], "calm", *GRID) == 0, lrfind.err
    vars(faults).update(fault=vars(faults)["odd"], calls=0, at=len(calls) - 2)
    assert lrfind("grid", config, *WAY, *GRID) == 0
    assert pd.read_csv("run/lanes.csv").outcome.tolist() == ["finished", "failed"]


def test_a_training_that_fails_names_the_step_that_it_could_not_take(
    lrfind: Command, config: Path, faults: object
) -> None:
    vars(faults).update(where="step", fault=vars(faults)["odd"], at=5)
    assert lrfind("train", config, *WAY) == 1
    steps = len(pd.read_csv("run/steps.csv"))  # numbered from 0
    assert f"seed 0 failed at step {steps}: Odd" in " ".join(lrfind.out.split())


def test_what_was_measured_is_kept_where_the_users_code_changes_the_working_directory(
    lrfind: Command, config: Path, faults: object
) -> None:
    vars(faults).update(where="step", fault=vars(faults)["away"], at=4)
    home = Path.cwd()
    assert lrfind("train", config, *WAY) == 0, lrfind.err
    assert Path.cwd() == Path("/")
    names = {path.name for path in (home / "run").iterdir()}
    assert {"run.sqlite", "steps.csv", "summary.json", "model.seed0.pt", "training.png"} <= names
    assert "run: run" in lrfind.out


def test_torchs_settings_are_the_same_for_every_lane_whatever_the_code_changes(
    lrfind: Command, config: Path, faults: object
) -> None:
    before = torch.get_default_dtype(), torch.get_num_threads()
    vars(faults).update(where="step", fault=lambda: None)
    assert lrfind("grid", config, *WAY[:-1], "calm", *GRID) == 0
    vars(faults).update(fault=vars(faults)["settings"], at=30, calls=0)
    assert lrfind("grid", config, *WAY, *GRID) == 0
    torch.set_default_dtype(before[0])
    torch.use_deterministic_algorithms(False)
    assert torch.get_num_threads() == before[1]
    assert Path("run/steps.csv").read_text() == Path("calm/steps.csv").read_text()


def test_an_exit_is_an_exception_with_its_cause_and_an_interruption_stays_one() -> None:
    def exit_in_block(error: BaseException) -> None:
        with as_exception():
            raise error

    with pytest.raises(UsersExit) as caught:
        exit_in_block(SystemExit(3))
    assert in_one_line(caught.value) == "SystemExit: 3"
    assert failure_text(caught.value).startswith("SystemExit: 3")
    assert isinstance(caught.value.__cause__, SystemExit)
    with pytest.raises(KeyboardInterrupt):
        exit_in_block(KeyboardInterrupt())
