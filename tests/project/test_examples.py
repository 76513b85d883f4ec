"""The examples of examples/, each as a user runs it from the root of the repository."""

from __future__ import annotations

import copy
import itertools
import json
import math
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

import lrfind as package
from lrfind.config.experiment import Experiment
from lrfind.problem.batches import batch_loss, loader_batches
from tests.helpers.command import Command

EXAMPLES = Path(__file__).parents[2] / "examples"
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
def test_an_example_answers_a_find_a_range_test_and_a_grid(lrfind: Command, example: list[str]) -> None:
    assert lrfind("find", *example, "--out", "probes", "--json") == 0, lrfind.out + lrfind.err
    assert 1e-5 < json.loads(lrfind.out)["answer"]["lr"] < 10
    assert lrfind("range-test", *example, "--out", "ramp", "--json") == 0, lrfind.out + lrfind.err
    summary = json.loads(lrfind.out)
    assert 1e-5 < summary["answer"]["lr"] < 10
    # In six steps the loss may not fall by more than its noise, and then there is no best rate.
    assert lrfind("grid", *example, "--out", "sweep", "--json") in (0, 3), lrfind.err
    lanes = pd.read_csv("sweep/lanes.csv")
    assert json.loads(lrfind.out)["answer"]["lr"] in [None, *(pytest.approx(lr) for lr in lanes.lr)]
    assert [*lanes.outcome] == ["finished"] * 2


@pytest.mark.parametrize("example", ["fine_tuning"], indirect=True)
def test_fine_tuning_starts_from_the_file_but_for_its_head(lrfind: Command, example: list[str]) -> None:
    assert lrfind("range-test", *example, "--group", "head", "--out", "ramp", "--json") in (0, 3)
    (note,) = json.loads(lrfind.out)["notes"]
    assert note.startswith("6 of 8 weights were loaded from '")
    assert "the others keep their initial values: 2 of another shape or type: head.weight (8, 16)" in note


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


class Asked:
    """Stands in for `lrfind.find`: keeps what it was asked, and sees to it that nothing of it has changed."""

    def __init__(self) -> None:
        self.find = package.find

    def __call__(
        self, model: Any, optimizer: Any, loss_fn: Any, loader: Any, **options: Any
    ) -> package.Recommendation:
        self.optimizer, self.loss_fn, self.loader, self.options = optimizer, loss_fn, loader, options
        self.model, (self.copy, self.copied) = model, copy.deepcopy((model, optimizer))
        random = torch.get_rng_state()
        found = self.find(model, optimizer, loss_fn, loader, **options)
        assert torch.equal(torch.get_rng_state(), random)
        for ours, theirs in zip(model.parameters(), self.copy.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert ours.grad is None
        assert optimizer.state_dict() == self.copied.state_dict()
        return found

    def train(self, lr: float, steps: int) -> float:
        """The mean loss over the last tenth of a training; infinite if it has no end."""
        torch.manual_seed(1)
        model, optimizer = copy.deepcopy((self.copy, self.copied))
        first, accumulate = optimizer.param_groups[0]["lr"], self.options.get("accumulate", 1)
        for group in optimizer.param_groups:
            group["lr"] *= lr / first
        batches, losses = loader_batches(self.loader, torch.device("cpu")), []
        for _ in range(steps):
            optimizer.zero_grad()
            parts = [
                batch_loss(model, self.loss_fn, batch) for batch in itertools.islice(batches, accumulate)
            ]
            loss = torch.stack(parts).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        end = sum(losses[-steps // 10 :]) / (steps // 10)
        return end if math.isfinite(end) else math.inf


def shows_dicts(asked: Asked, found: package.Recommendation) -> None:
    assert asked.loss_fn is None
    assert {*next(iter(asked.loader))} == {"input_ids", "labels"}
    assert found.training.mean_multiplier == pytest.approx(0.5, abs=0.05)


def shows_two_inputs(asked: Asked, found: package.Recommendation) -> None:
    assert [part.dim() for part in next(iter(asked.loader))] == [4, 2, 2]


def shows_a_frozen_backbone(asked: Asked, found: package.Recommendation) -> None:
    head, block = asked.optimizer.param_groups
    assert head["lr"] == pytest.approx(found.lr)
    assert block["lr"] == pytest.approx(found.lr / 10)
    assert not any(parameter.requires_grad for parameter in asked.model.backbone.parameters())


def shows_accumulation(asked: Asked, found: package.Recommendation) -> None:
    assert asked.options["accumulate"] == 4
    assert found.training.steps == 2 * len(asked.loader) // 4


def shows_no_length(asked: Asked, found: package.Recommendation) -> None:
    with pytest.raises(package.UsageError, match="steps: the data has no length"):
        asked.find(asked.model, asked.optimizer, asked.loss_fn, asked.loader)


SHOWN = {
    "accumulation": shows_accumulation,
    "dict_batches": shows_dicts,
    "frozen_backbone": shows_a_frozen_backbone,
    "iterable": shows_no_length,
    "two_inputs": shows_two_inputs,
}


def test_every_example_of_find_is_run() -> None:
    assert {path.stem for path in (EXAMPLES / "find").glob("*.py")} == {*SHOWN}


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_of_find_trains_best_at_what_it_finds(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked()
    monkeypatch.setattr(package, "find", asked)
    found = runpy.run_path(str(EXAMPLES / "find" / f"{name}.py"))["main"]()
    low, own, high = (asked.train(found.lr * factor, steps=100) for factor in (0.1, 1, 30))
    assert own < low
    assert own < high
    assert found.low < found.lr < found.high
    assert found.table.steps.sum() <= found.cost < 200
    SHOWN[name](asked, found)
    assert ("head: lr" in capsys.readouterr().out) is (name == "frozen_backbone")
