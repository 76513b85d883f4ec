"""The final training: what it leaves, and that no interruption changes a bit of it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from lrfind.analysis.lanes import Evaluation, Lane, LaneResult
from lrfind.config.experiment import check, dump
from lrfind.errors import UsageError
from lrfind.experiments import checkpoint as checkpoints
from lrfind.problem.problem import from_config
from lrfind.runs.store import Run
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, conduct, summarized

MLP = (
    "model={name: mlp, args: {hidden: [8], dropout: 0.3}}",
    "data.batch_size=16",
    "training={steps: 24, eval_every: 5, schedule: one_cycle, seeds: 2, checkpoint_every: 3}",
)
WAYS = {
    "momentum": (*MLP, "optimizer={name: sgd, lr: 0.05, args: {momentum: 0.9, weight_decay: 0.01}}"),
    "adam": (*MLP, "optimizer={name: adam, lr: 0.01}"),
    "plateau": (
        *MLP, "training.schedule={name: reduce_on_plateau, args: {patience: 1, factor: 0.5}}",
        "training.early_stop.patience=3", "optimizer.lr=0.5",
    ),
    "grad_norm": (*MLP, "training.schedule=grad_norm", "training.accumulate=2"),
    "float16": (*MLP, "training.precision=float16", "optimizer={name: adamw, lr: 0.01}"),
}  # fmt: skip


class Crash(BaseException):
    """What no handler of ours sees: as if the process had died."""


def start(path: Path, *overrides: str) -> Run:
    experiment = check(LINEAR, overrides)
    return Run.start(path, "train", experiment, dump(experiment), [])


def crash_at(seed: int, step: int) -> Any:
    def watch(lanes: list[Lane], at: int, losses: list[float]) -> None:
        if (lanes[0].seed, at) == (seed, step):
            raise Crash

    return lambda lanes, steps: watch


def weights(run: Path) -> dict[str, bytes]:
    """The bits of every weight in every file."""
    return {
        f"{path.name} {name}": value.numpy().tobytes()
        for path in sorted(run.glob("*.pt"))
        for name, value in torch.load(path, weights_only=True).items()
    }


@pytest.fixture(scope="module", autouse=True)
def _looks_at_every_third_step() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrfind.analysis.health.FEWEST_STEPS_APART", 1)
        yield


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each way that nothing disturbed."""
    runs = {}
    for name, overrides in WAYS.items():
        run = start(tmp_path_factory.mktemp("calm") / name, *overrides)
        conduct(run)
        runs[name] = run.path
    return runs


@pytest.mark.parametrize("way", WAYS)
@settings(
    max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(crashes=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 23)), min_size=1, max_size=3))
def test_a_training_that_died_at_any_step_ends_with_the_same_weights_bit_for_bit(
    way: str, crashes: list[tuple[int, int]], calm: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = start(tmp_path_factory.mktemp("died") / "run", *WAYS[way])
    for seed, step in crashes:
        try:
            conduct(Run.open(run.path), watch=crash_at(seed, step))
        except Crash:
            torch.manual_seed(99)  # nothing may hang on what the process did before
            np.random.seed(99)
    conduct(Run.open(run.path))
    assert weights(run.path) == weights(calm[way])
    for table in ("steps.csv", "health.csv"):
        assert (run.path / table).read_text() == (calm[way] / table).read_text()
    tables = [pd.read_csv(path / "lanes.csv").drop(columns="train_seconds") for path in (run.path, calm[way])]
    pd.testing.assert_frame_equal(*tables)
    assert not list(run.path.glob("checkpoint*"))


def test_a_checkpoint_is_what_is_gone_on_from(tmp_path: Path) -> None:
    run = start(tmp_path / "run", *WAYS["adam"])
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(0, 20))
    held = torch.load(run.path / "checkpoint.seed0.pt", weights_only=True)
    assert len(held["steps"]) == 18  # the last multiple of 3 that was finished
    seen: list[tuple[int, int]] = []
    conduct(run, watch=lambda lanes, steps: lambda lanes, at, losses: seen.append((lanes[0].seed, at)))
    assert seen[0] == (0, 18)


def test_a_training_is_a_plain_loop_with_torchs_scheduler(tmp_path: Path) -> None:
    overrides = [
        "training={steps: 30, schedule: {name: one_cycle, args: {momentum: [0.95, 0.8]}}}",
        "optimizer={name: sgd, lr: 0.05, args: {momentum: 0.9}}",
    ]
    run = start(tmp_path / "run", *overrides)
    conduct(run)
    setup = from_config(check(LINEAR, overrides)).setup(0)
    optimizer = torch.optim.SGD(setup.model.parameters(), lr=0.05, momentum=0.9, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.05, total_steps=30, base_momentum=0.8, max_momentum=0.95
    )
    for _ in range(30):
        x, y = next(setup.batches)
        optimizer.zero_grad()
        nn.functional.mse_loss(setup.model(x), y).backward()
        optimizer.step()
        schedule.step() if schedule.last_epoch < 29 else None
    kept = torch.load(run.path / "model.seed0.pt", weights_only=True)
    for name, value in setup.model.state_dict().items():
        torch.testing.assert_close(kept[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.rendered
def test_it_leaves_weights_tables_a_plot_and_what_each_seed_reached(lrfind: Command, config: Path) -> None:
    way = [word for part in MLP for word in ("--set", part)]
    assert lrfind("train", config, "--lr", "0.05", "--out", "run", *way) == 0
    assert lrfind.out.startswith("Trained at learning rate 0.05, schedule one_cycle\n  validation loss: ")
    found = json.loads(Path("run/summary.json").read_text())
    lanes = pd.read_csv("run/lanes.csv")
    assert found["val_loss"]["mean"] == pytest.approx(lanes.val_loss.mean())
    assert found["val_loss"]["deviation"] == pytest.approx(lanes.val_loss.std())
    assert sorted(path.name for path in Path("run").glob("*.pt")) == [
        "best.seed0.pt", "best.seed1.pt", "model.seed0.pt", "model.seed1.pt",
    ]  # fmt: skip
    assert Path("run/training.png").read_bytes().startswith(b"\x89PNG")
    assert lrfind("resume", "run", "-q") == 0
    assert lrfind("status", "run") == 0
    assert "train of tiny, finished" in lrfind.out
    assert lrfind("train", config, "--init-from", "run/model.seed1.pt", *way, "--steps", "1", "-q") == 0
    steps = pd.read_csv(sorted(Path("runs").glob("*/steps.csv"))[0])
    trained = pd.read_csv("run/steps.csv")
    assert steps.loss[0] < trained[trained.seed == 0].loss[0]


def test_the_best_weights_are_those_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    overrides = (*WAYS["momentum"], "training.schedule=constant", "optimizer.lr=0.3", "training.seeds=1")
    run = start(tmp_path / "run", *overrides)
    summary = conduct(run)
    lowest = summary["trainings"][0]["best_evaluation"]
    problem = from_config(check(LINEAR, list(overrides)))
    setup = problem.setup(0)
    setup.model.load_state_dict(torch.load(run.path / "best.seed0.pt", weights_only=True))
    setup.model.eval()
    assert problem.validation is not None
    x, y = (torch.cat(part) for part in zip(*problem.validation(), strict=True))
    with torch.no_grad():
        loss = nn.functional.mse_loss(setup.model(x), y).item()
    assert loss == pytest.approx(lowest["val_loss"], rel=1e-5)


def test_a_training_that_diverges_says_so_and_is_exit_3(lrfind: Command, config: Path) -> None:
    assert lrfind("train", config, "--lr", "50", "--out", "run") == 3
    assert "No trained model: no training has finished." in lrfind.out
    assert "warning: seed 0 diverged at step" in lrfind.out
    assert not list(Path("run").glob("*.pt"))


def test_a_validation_loss_that_is_not_finite_is_told_and_did_not_stop_falling() -> None:
    def lane(seed: int, *val_losses: float) -> LaneResult:
        evaluations = tuple(Evaluation(5 * (n + 1), loss, None) for n, loss in enumerate(val_losses))
        loss = np.linspace(2.0, 1.0, 5 * len(val_losses))
        return LaneResult(seed, seed, 30, 0.1, "finished", loss, loss, evaluations=evaluations)

    nan = math.nan
    assert summarized("train", [lane(0, 1.5, 1.6), lane(1, nan, nan)])["warnings"] == [
        "training stopped early, at step 10 of 30, because the validation loss no longer fell.",
        "training stopped early, at step 10 of 30, because the validation loss was never finite.",
        "the validation loss of seed 1 is not finite at the end; look for NaN and inf in the validation data,"
        " and for a loss that counts none of its targets.",
    ]
    (warning,) = summarized("train", [lane(0, *[nan] * 6)])["warnings"]
    assert warning.startswith("the validation loss is not finite at the end; look for NaN")


def test_it_takes_what_another_run_found(lrfind: Command, config: Path) -> None:
    assert (
        lrfind("grid", config, "--lrs", "1e-3,0.1", "--seeds", "1", "--lanes", "single", "--out", "grid") == 0
    )
    assert lrfind("train", "--from", "grid", "--out", "a", "-q") == 0
    assert check(Path("a/resolved.yaml").read_text()).optimizer.lr == 0.1
    assert lrfind("train", config, "--from", "grid", "--steps", "7", "--out", "b") == 0
    assert "from grid: lr 0.1, schedule constant" in lrfind.err
    assert len(pd.read_csv("b/steps.csv")) == 7
    assert lrfind("train", config, "--from", "grid", "--lr", "1") == 2
    assert "give --lr or --from, not both" in lrfind.err
    assert lrfind("grid", config, "--lrs", "90,100", "--seeds", "1", "--lanes", "single", "--out", "bad") == 3
    assert lrfind("train", "--from", "bad") == 2
    assert "'bad' has no learning rate to give: training diverges at every lr that was tried" in lrfind.err


def test_a_broken_checkpoint_is_named_with_what_would_do(tmp_path: Path) -> None:
    run = start(tmp_path / "run", *WAYS["adam"])
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(0, 20))
    (run.path / "checkpoint.seed0.pt").write_bytes(b"half a file")
    with pytest.raises(
        UsageError, match=r"checkpoint.seed0.pt' is damaged.*; delete it to start this lane from its first"
    ):
        conduct(run)


def test_a_checkpoint_of_another_seed_is_refused_and_nothing_is_concluded(tmp_path: Path) -> None:
    run = start(tmp_path / "run", *WAYS["adam"])
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(0, 20))
    kept = (run.path / "checkpoint.seed0.pt").read_bytes()
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(1, 20))
    (run.path / "checkpoint.seed1.pt").write_bytes(kept)
    with pytest.raises(UsageError, match=r"checkpoint.seed1.pt' belongs to another training, lane or seed"):
        conduct(run)
    assert (run.path / "checkpoint.seed1.pt").is_file()
    assert not run.concluded


OWN = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.layer = nn.Linear(in_features, out_features)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.generator = torch.Generator().manual_seed(5)
        self.calls = 0

    def forward(self, x):
        if self.training:
            self.calls += 1
            self.seen += x.mean().abs()
        noise = torch.rand(1, generator=self.generator)
        return self.layer(x) * (1 + 0.01 * self.calls) + self.seen * noise

class Running(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("level", torch.ones(()))

    def forward(self, output, y):
        loss = (output - y).square().mean()
        if output.requires_grad:
            self.level.lerp_(loss.detach(), 0.1)
        return loss / self.level
"""


def test_state_beside_the_weights_is_in_a_checkpoint_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_for_trainings.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    way = ("model='odd_for_trainings:Odd'", "loss='odd_for_trainings:Running'", "data.batch_size=16", "training={steps: 24, checkpoint_every: 5}")  # fmt: skip
    calm = start(tmp_path / "calm", *way)
    conduct(calm)
    run = start(tmp_path / "run", *way)
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(0, 17))
    conduct(run)
    assert weights(run.path) == weights(calm.path)
    assert (run.path / "steps.csv").read_text() == (calm.path / "steps.csv").read_text()


def test_checkpoints_are_written_by_the_clock_unless_steps_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.0)
    run = start(tmp_path / "run", *WAYS["adam"], "training={steps: 24}")
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(0, 15))
    held = torch.load(run.path / "checkpoint.seed0.pt", weights_only=True)
    assert len(held["steps"]) == checkpoints.PAUSE_STEPS


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9)])
def test_a_training_stopped_by_a_signal_goes_on_to_the_same_weights(
    lrfind: Command, config: Path, number: int, code: int
) -> None:
    # The loss sends the signal to its own process, in the middle of the second seed.
    name = f"signal_for_trainings_{int(number)}"
    Path(f"{name}.py").write_text(
        "import os\nfrom torch import nn\ncalls = 0\n"
        "def loss(output, y):\n"
        "    global calls\n"
        "    calls += output.requires_grad\n"
        f"    if calls == 40 and os.environ.get('SIGNAL'): os.kill(os.getpid(), {int(number)})\n"
        "    return nn.functional.mse_loss(output, y)\n"
    )
    way = [word for part in (*MLP, f"loss='{name}:loss'") for word in ("--set", part)]
    call = [sys.executable, "-m", "lrfind", "train", config, "--out", "run", *way, "--import-root", "."]
    done = subprocess.run(
        list(map(str, call)), capture_output=True, text=True, env=os.environ | {"SIGNAL": "1"}
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert Path("run/checkpoint.seed1.pt").is_file()
    assert lrfind("resume", "run", "--import-root", ".") == 0, lrfind.err
    assert lrfind("train", config, "--out", "calm", *way, "--import-root", ".") == 0
    assert weights(Path("run")) == weights(Path("calm"))
    assert Path("run/steps.csv").read_text() == Path("calm/steps.csv").read_text()
