from __future__ import annotations

import sys

import pytest
import torch

from lrfind.config.experiment import check
from lrfind.problem.problem import from_config
from lrfind.training.calibration import MIB, calibrate, computing_with, lane_bytes
from lrfind.training.mode import Mode
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


def mode_of(
    *overrides: str, mode: str = "stacked", lanes: int = 3, memory: float = 2.0, **more: object
) -> Mode:
    options = {"grid.lanes": mode, "grid.stack_memory": memory} | {f"grid.{key}": more[key] for key in more}
    experiment = check(LINEAR, [*overrides, *(f"{key}={value}" for key, value in options.items())])
    return calibrate(from_config(experiment), experiment.grid, lanes, 1e-3, 0)


def test_a_small_model_is_stacked_because_that_is_faster() -> None:
    found = mode_of(mode="auto", lanes=32)
    assert found.name == "stacked"
    assert found.ratio is not None
    assert found.ratio > 1
    assert f"were {found.ratio:.2f} times as fast as" in found.reason
    assert found.stack_size == 32


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optimizer='torch.optim:ASGD'"], "ASGD is not an optimizer whose update is linear in the lr"),
        (["model='own_for_calibration:Reassigning'"], "gives the buffer mean a new tensor"),
        (["model='own_for_calibration:Lazy'"], "uninitialized"),
        (["model='own_for_calibration:Spare'"], "spare.weight takes no part in the loss"),
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


def test_a_model_that_keeps_count_is_stacked_without_a_recording() -> None:
    assert mode_of("model='own_for_calibration:Reading'").name == "stacked"


def test_what_is_asked_for_is_done() -> None:
    assert mode_of(mode="single").reason == "as requested"
    assert mode_of(mode="stacked").reason.startswith("as requested; ")
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
    size = lane_bytes(from_config(check(LINEAR, [wide])).setup(0))
    weights = 4 * (4 * 300 + 300 + 300 * 300 + 300 + 300 + 1)
    assert size > 5 * weights
    assert size == pytest.approx(5 * weights + 64 * 4 * 600, rel=0.1)  # activations of 64 rows
    assert mode_of(wide, lanes=10, memory=4.5 * size / MIB / 1024).stack_size == 4  # 4, 4 and 2
    assert "stack_memory allows" in mode_of(wide, memory=1.5 * size / MIB / 1024).reason


def test_a_problem_that_cannot_train_is_told_before_the_first_lane() -> None:
    from lrfind.errors import UsageError

    with pytest.raises(UsageError, match="the first training step failed"):
        mode_of("model.args.out_features=3", "loss=cross_entropy")
