"""Every experiment that comes with lrfind, on a tiny budget; and the files that some of them need."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from lrfind.config.experiment import Experiment, anchored, check
from lrfind.config.shapes import shape_of
from lrfind.config.templates import companions, starter, templates
from lrfind.problem.problem import from_config
from lrfind.runs.store import Run
from tests.helpers.command import Command
from tests.helpers.runs import conduct

TINY = ("range_test.steps=8", "range_test.seeds=1", "training.steps=3", "grid.seeds=1", "grid.lanes=single")


def experiment(name: str, *overrides: str) -> Experiment:
    return anchored(check(starter(name), overrides, name), templates()[name].parent)


@pytest.mark.parametrize("name", templates())
def test_an_experiment_runs(name: str, here: Path) -> None:
    tiny = experiment(name, *TINY, "grid.lrs=[1e-4, 1e-3]")
    ramp = conduct(Run.start(here / "ramp", "range-test", tiny, "", []))
    assert [lane["steps"] for lane in ramp["ramps"]] == [8]
    grid = conduct(Run.start(here / "grid", "grid", tiny, "", []))
    assert grid["answer"]["lr"] in (1e-4, 1e-3, None)  # in so few steps, the loss may not fall
    assert all(rate["val_loss"] > 0 for rate in grid["rates"])
    assert grid["data"]["rows"]["validation"] > 0


def test_the_classic_cnn_decays_by_a_tenth_an_epoch() -> None:
    training = experiment("mnist_cnn_adam").training
    multiplier = shape_of(training.schedule, 300, steps_per_epoch=78).multiplier
    assert multiplier[[0, 77, 78, 155, 156]].tolist() == pytest.approx([1, 1, 0.9, 0.9, 0.81])


def test_fine_tuning_starts_from_trained_weights_and_holds_the_stem() -> None:
    problem = from_config(experiment("fine_tuning"))
    setup, other = problem.setup(0), problem.setup(1)
    assert problem.notes[0].startswith("8 of 10 weights were loaded")
    trained = {name: p.requires_grad for name, p in setup.model.named_parameters()}
    assert [name for name, learns in trained.items() if not learns] == [
        f"features.{layer}.{kind}" for layer in (0, 3) for kind in ("weight", "bias")
    ]
    pairs = zip(setup.model.modules(), other.model.modules(), strict=True)
    same = [bool((a.weight == b.weight).all()) for a, b in pairs if isinstance(a, nn.Linear | nn.Conv2d)]
    assert same == [True, True, True, True, False]  # the head is new


def test_a_template_comes_with_its_files(lrfind: Command) -> None:
    assert lrfind("init", "--template", "csv_regression", "mine.yaml") == 0
    assert "wrote mine.yaml, csv_regression.csv" in lrfind.out
    (table,) = companions("csv_regression")
    assert Path("csv_regression.csv").read_bytes() == table.read_bytes()
    assert lrfind("check", "mine.yaml", "--batch") == 0
    assert "data: target rent: regression" in lrfind.out
    assert lrfind("init", "--template", "csv_regression", "other.yaml") == 2
    assert "'csv_regression.csv' exists already and is left as it is" in lrfind.err
    assert not Path("other.yaml").exists()


def test_a_file_is_looked_for_here_and_then_beside_the_config(here: Path) -> None:
    text = "model: {name: mlp, init_from: w.pt}\ndata: {name: csv, args: {path: t.csv, target: y}}\noptimizer: sgd"
    beside = here / "configs"
    beside.mkdir()
    for name in ("w.pt", "t.csv"):
        (beside / name).touch()
    (here / "t.csv").touch()
    found = anchored(check(text), beside)
    assert (found.model.init_from, found.data.args["path"]) == (str(beside / "w.pt"), str(here / "t.csv"))
    assert anchored(check(text.replace("w.pt", "none.pt")), beside).model.init_from == str(here / "none.pt")
