"""The examples of examples/, each as a user runs it from the root of the repository."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lrfind.config import Experiment
from tests.conftest import Command

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ("csv_regression", "fine_tuning", "dict_language_model")
SMALL = ("range_test.seeds=1", "range_test.steps=80", "training.steps=6", "grid.seeds=1", "grid.points=2")


@pytest.fixture
def example(here: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[str]:
    """A copy of one example below the working directory, and the arguments that every command has."""
    shutil.copytree(EXAMPLES, here / "examples", ignore=shutil.ignore_patterns("*.pt", "__pycache__"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    for module in ("houses", "patterns", "language"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    folder = f"examples/{request.param}"
    if request.param == "fine_tuning":
        monkeypatch.syspath_prepend(folder)
        runpy.run_path(f"{folder}/pretrain.py")["pretrain"](steps=60)
    small = [word for override in SMALL for word in ("--set", override)]
    return [f"{folder}/config.yaml", "--import-root", folder, *small, "-q"]


@pytest.mark.parametrize(
    ("example", "lines"),
    [
        ("csv_regression", ["batch: x (16, 4) float32, y (16, 1) float32", "all trained", "(houses:pinball)"]),
        ("fine_tuning", ["3,539 of 3,619 weights are trained; frozen: stem.*", "gradient: reaches all 6 tensors"]),
        ("dict_language_model", ["a dict: input_ids (16, 32) int64, labels (16, 32) int64", "(the output's .loss)"]),
    ],
    indirect=["example"],
)  # fmt: skip
def test_an_example_fits(lrfind: Command, example: list[str], lines: list[str]) -> None:
    assert lrfind("check", "--batch", *example) == 0, lrfind.err
    assert [line for line in lines if line not in lrfind.out] == []
    assert lrfind.out.endswith("\nok\n")


@pytest.mark.parametrize("example", NAMES, indirect=True)
def test_an_example_answers_a_range_test_and_a_grid(lrfind: Command, example: list[str]) -> None:
    assert lrfind("range-test", *example, "--out", "ramp", "--json") == 0, lrfind.out + lrfind.err
    summary = json.loads(lrfind.out)
    assert 1e-5 < summary["suggestion"]["lr"] < 10
    assert lrfind("grid", *example, "--out", "sweep", "--json") == 0, lrfind.err
    lanes = pd.read_csv("sweep/lanes.csv")
    assert json.loads(lrfind.out)["best"]["lr"] in [pytest.approx(lr) for lr in lanes.lr]
    assert len(lanes) == 2


@pytest.mark.parametrize("example", ["fine_tuning"], indirect=True)
def test_fine_tuning_starts_from_the_file_but_for_its_head(lrfind: Command, example: list[str]) -> None:
    assert lrfind("range-test", *example, "--group", "head", "--out", "ramp", "--json") in (0, 3)
    (note,) = json.loads(lrfind.out)["notes"]
    assert note.startswith("6 of 8 weights were loaded from '")
    assert "left as they were made: 2 of another shape or type: head.weight (8, 16)" in note


@pytest.mark.parametrize("name", NAMES)
def test_a_config_says_how_it_is_run_and_asks_for_little(name: str) -> None:
    text = (EXAMPLES / name / "config.yaml").read_text(encoding="utf-8")
    folder = f"examples/{name}"
    assert f"# lrfind range-test {folder}/config.yaml --import-root {folder}\n" in text
    experiment = Experiment.model_validate(
        yaml.safe_load(text) | {"range_test": {}, "grid": {}, "optimizer": "sgd"}
    )
    assert experiment.training.steps is not None
    assert experiment.training.steps <= 200
