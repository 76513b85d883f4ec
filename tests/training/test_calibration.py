from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from lrfind.config.experiment import check
from lrfind.problem.problem import from_config
from lrfind.training import calibration
from lrfind.training.calibration import MIB, Plan, calibrate, computing_with
from lrfind.training.estimate import Estimate
from lrfind.training.mode import Mode
from lrfind.training.work import work_of
from tests.helpers.runs import LINEAR

OWN = """
import torch
from torch import nn

class Reassigning(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.layer = nn.Linear(in_features, out_features)
        self.register_buffer("mean", torch.zeros(in_features))
    def forward(self, x):
        self.mean = 0.5 * self.mean + x.square().mean(0)
        return self.layer(x - self.mean)

class Branching(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.layer = nn.Linear(in_features, out_features)
    def forward(self, x):
        y = self.layer(x)
        return y if y.mean() > 0 else 2 * y

class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyLinear(1))

class Normed(nn.Sequential):
    def __init__(self, in_features, out_features):
        super().__init__(nn.Linear(in_features, 3), nn.BatchNorm1d(3), nn.Linear(3, out_features))

class Spare(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.used, self.spare = nn.Linear(in_features, out_features), nn.Linear(2, 2)
    def forward(self, x):
        return self.used(x)

class Reading(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.layer = nn.Linear(in_features, out_features)
        self.calls = 0
    def forward(self, x):
        self.calls += 1
        return self.layer(x) * self.calls
"""


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_for_calibration.py").write_text(OWN)
    sys.path.insert(0, str(folder))


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRFIND_CACHE_DIR", str(tmp_path / "cache"))


def mode_of(
    *overrides: str,
    mode: str = "stacked",
    lanes: int = 3,
    steps: int = 100,
    seeds: int = 1,
    cores: int = 1,
    memory: float = 2.0,
    **more: object,
) -> Mode:
    options = {"grid.lanes": mode, "grid.stack_memory": memory} | {f"grid.{key}": more[key] for key in more}
    experiment = check(LINEAR, [*overrides, *(f"{key}={value}" for key, value in options.items())])
    plan = Plan(lanes, steps, seeds, 1e-3, cores)
    return calibrate(from_config(experiment), experiment.grid, plan, 0)


def test_a_small_model_is_stacked_by_the_work_of_its_step() -> None:
    found = mode_of(mode="auto", lanes=32)
    assert (found.name, found.stack_size) == ("stacked", 32)
    assert found.ratio is None  # nothing was timed
    assert "by the work of a step, 32 lanes in one stacked model should be about" in found.reason


def test_a_large_convolution_is_not_stacked_on_a_cpu() -> None:
    images = "data={name: mnist_mini, batch_size: 64}"
    cnn = "model={name: small_cnn, args: {channels: [16, 32, 32]}}"
    found = mode_of(cnn, images, "loss=cross_entropy", mode="auto", lanes=8, steps=20)
    assert (found.name, found.ratio) == ("single", None)
    assert "should be about only 0." in found.reason


@pytest.mark.parametrize(
    ("speed", "name"), [(0.1, "stacked"), (3.5, "stacked"), (3.9, "single"), (10.0, "single")]
)
def test_an_unclear_choice_is_timed_if_the_sweep_is_long(
    monkeypatch: pytest.MonkeyPatch, speed: float, name: str
) -> None:
    monkeypatch.setattr(Estimate, "ratio", lambda self, lanes: 1.1)
    monkeypatch.setattr("lrfind.training.calibration._Calibration._time_stack", lambda self, stack: speed)
    monkeypatch.setattr("lrfind.training.calibration._median_seconds", lambda step, limit: 1.0)
    assert mode_of(mode="auto", lanes=4, steps=20).ratio is None
    found = mode_of(mode="auto", lanes=4, steps=10**6)
    assert found.name == name
    assert found.ratio == pytest.approx(4 / speed)
    assert found.reason.startswith("in a timing test, 4 lanes in one stacked model were")
    assert found.reason.endswith("which is not enough") == (speed == 3.9)
    again = mode_of(mode="auto", lanes=4, steps=10**6)  # what was timed is remembered
    assert again.name == name


@pytest.mark.parametrize("mode", ["auto", "single"])
def test_the_choice_takes_few_steps_of_a_short_sweep(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    taken: list[float] = []
    step = calibration._step
    monkeypatch.setattr(calibration, "_step", lambda setup, lr: (taken.append(lr), step(setup, lr)))
    monkeypatch.setattr(calibration, "_seconds", lambda step: (step(), 1.0)[1])
    mode_of(mode=mode, lanes=4, steps=50)
    assert len(taken) <= 0.05 * 4 * 50


def test_lanes_run_in_several_processes_where_that_saves_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_median_seconds", lambda step, limit: 0.05)
    monkeypatch.setattr(Estimate, "ratio", lambda self, lanes: 0.1)
    assert mode_of(mode="auto", lanes=4, cores=2).processes == 2
    assert mode_of(mode="auto", lanes=4, steps=1, cores=2).processes == 1
    assert mode_of(mode="single", lanes=4, cores=2).processes == 1
    assert mode_of(mode="auto", lanes=1, seeds=3, cores=2).processes == 2
    monkeypatch.setattr(Estimate, "ratio", lambda self, lanes: 9.0)
    monkeypatch.setattr(Estimate, "stack", lambda self, lanes: 0.05 * lanes)  # each lane costs the same
    halves = mode_of(mode="auto", lanes=6, cores=2)
    assert (halves.name, halves.stack_size, halves.processes) == ("stacked", 3, 2)
    wholes = mode_of(mode="auto", lanes=6, seeds=2, cores=2)
    assert (wholes.name, wholes.stack_size, wholes.processes) == ("stacked", 6, 2)
    monkeypatch.setattr(Estimate, "stack", lambda self, lanes: 0.05)  # a further lane costs nothing
    assert mode_of(mode="auto", lanes=6, cores=2).processes == 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer='torch.optim:ASGD'"], "ASGD is not an optimizer whose update is linear in the lr"),
        (["model='own_for_calibration:Reassigning'"], "gives the buffer mean a new tensor"),
        (["model='own_for_calibration:Lazy'"], "uninitialized"),
        (["training.precision=float16"], "float16 scales the loss of each lane"),
        (["model='own_for_calibration:Branching'"], "data-dependent control flow|vmap"),
    ],
)
def test_what_stacks_wrongly_runs_single_and_says_why(overrides: list[str], words: str) -> None:
    found = mode_of(*overrides)
    assert (found.name, found.stack_size) == ("single", 1)
    assert any(word in found.reason for word in words.split("|")), found.reason


def test_batch_norm_is_no_obstacle() -> None:
    assert mode_of("model='own_for_calibration:Normed'").name == "stacked"
    images = "data={name: mnist_mini, batch_size: 32}"  # a bias before the norm has rounding for a gradient
    cnn = "model={name: small_cnn, args: {channels: [4, 8], hidden: 16, norm: batch}}"
    assert mode_of(cnn, images, "loss=cross_entropy").name == "stacked"


def test_a_layer_that_takes_no_part_in_the_loss_is_no_obstacle() -> None:
    assert mode_of("model='own_for_calibration:Spare'").name == "stacked"


def test_a_model_that_keeps_count_is_stacked_without_a_recording() -> None:
    assert mode_of("model='own_for_calibration:Reading'").name == "stacked"


def test_what_is_asked_for_is_done() -> None:
    assert mode_of(mode="single").reason == "as requested"
    stacked = mode_of(mode="stacked")
    assert stacked.reason.startswith("as requested; in a timing test")
    assert stacked.ratio is not None
    assert "nothing to stack" in mode_of(lanes=1).reason


def test_only_auto_chooses_the_number_of_threads() -> None:
    with computing_with(2):
        assert mode_of().threads == mode_of(mode="single").threads == 2
        assert mode_of(mode="auto").threads in (1, 2)
        assert mode_of(mode="auto", threads=3).threads == 3
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1


def test_the_memory_cap_cuts_a_stack_into_even_chunks() -> None:
    wide = "model={name: mlp, args: {hidden: [300, 300]}}"
    size = work_of(from_config(check(LINEAR, [wide])).setup(0)).memory
    weights = 4 * (4 * 300 + 300 + 300 * 300 + 300 + 300 + 1)
    assert size > 5 * weights
    assert size == pytest.approx(5 * weights + 64 * 4 * 600, rel=0.1)  # activations of 64 rows
    assert mode_of(wide, lanes=10, memory=4.5 * size / MIB / 1024).stack_size == 4  # 4, 4 and 2
    assert "stack_memory allows" in mode_of(wide, memory=1.5 * size / MIB / 1024).reason


def test_a_problem_that_cannot_train_is_told_before_the_first_lane() -> None:
    from lrfind.errors import UsageError

    with pytest.raises(UsageError, match="the first training step failed"):
        mode_of("model.args.out_features=3", "loss=cross_entropy")


def test_a_stored_mode_of_an_older_version_is_read() -> None:
    mode = Mode("single", "as requested", 1, 0.1, usual_digits=False)
    row = asdict(mode)
    assert Mode.stored(row) == mode
    row["usual_products"] = row.pop("usual_digits")
    assert Mode.stored(row) == mode
