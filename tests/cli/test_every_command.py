"""What a config may say holds in every command: optimizers, and how steps are taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from lrfind.catalog import OPTIMIZERS
from lrfind.config.experiment import check, dump
from lrfind.problem.problem import from_config
from lrfind.runs.store import Run
from lrfind.training.loop import train
from tests.helpers.runs import LINEAR, conduct

COMMANDS = {
    "find": "find={budget: 80}",
    "range-test": "range_test={steps: 30, seeds: 1, start_lr: 1e-5, end_lr: 1}",
    "grid": "grid={lrs: [1e-4, 1e-3], seeds: 1}",
    "search": "search={sampler: random, trials: 2, low: 1e-4, high: 1e-2, seeds: 1}",
    "compare": "compare={schedules: [constant, cosine], peaks: [1e-3], seeds: 1}",
    "train": "optimizer.lr=1e-3",
}


def run(command: str, path: Path, *overrides: str) -> dict[str, Any]:
    experiment = check(LINEAR, [*overrides, "training.steps=6", COMMANDS[command]])
    return conduct(Run.start(path, command, experiment, dump(experiment), []))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_optimizer_runs_in_every_command(command: str, tmp_path: Path) -> None:
    for name in (*OPTIMIZERS, "torch.optim:ASGD"):
        run(command, tmp_path / name.rpartition(":")[2], f"optimizer={{name: '{name}'}}")
        lanes = pd.read_csv(tmp_path / name.rpartition(":")[2] / "lanes.csv")
        assert set(lanes.outcome) <= {"finished", "diverged"}, name
        assert (lanes.steps[lanes.outcome == "finished"] >= 6).all()


@pytest.mark.parametrize("command", ["range-test", "grid", "train"])  # searches run as grids
@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (("data.batch_size=8", "training.accumulate=2"), True),
        (("training.precision=bfloat16",), True),
        (("training.precision=float16",), True),
        (("training.l1=0.05",), True),
        (("training.clip_norm=0.01",), True),
        (("training.clip_value=0.001",), True),
        (("optimizer.args.weight_decay=0.1",), True),
        (("optimizer.param_groups=[{name: weights, match: '*weight', lr_multiplier: 0.1}]",), True),
        (("training.clip_norm=1e9",), False),
    ],
    ids=lambda value: value[-1].partition("=")[0].rpartition(".")[2] if isinstance(value, tuple) else None,
)
def test_how_steps_are_taken_holds_in_every_kind_of_run(
    command: str, overrides: tuple[str, ...], changes: bool, tmp_path: Path
) -> None:
    run(command, tmp_path / "plain", *(part for part in overrides if part.startswith("data.")))
    run(command, tmp_path / "run", *overrides)
    losses = [pd.read_csv(tmp_path / name / "steps.csv").loss for name in ("plain", "run")]
    assert losses[0].equals(losses[1]) is not changes


def test_label_smoothing_is_an_argument_of_the_loss() -> None:
    classes = "data={name: mnist_mini, batch_size: 8}"
    smooth = "loss={name: cross_entropy, args: {label_smoothing: 0.2}}"
    setup = from_config(check(LINEAR, [classes, smooth])).setup(0)
    step = next(train(setup, np.full(1, 0.1)))
    again = from_config(check(LINEAR, [classes, smooth])).setup(0)
    x, y = next(again.batches)
    expected = nn.functional.cross_entropy(again.model(x), y, label_smoothing=0.2).item()
    assert step.loss == pytest.approx(expected, rel=1e-6)
