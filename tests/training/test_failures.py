"""Messages that a user's exception became: they keep it as their cause, and say where it was raised."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrfind.analysis.lanes import Lane, LaneResult
from lrfind.config.sections import RangeTestSection
from lrfind.errors import LrfindError, NoGradient, NoSuggestion, UsageError
from lrfind.experiments.range_test import range_test
from lrfind.problem.batches import OwnLoss
from lrfind.problem.problem import Problem
from lrfind.problem.setup import Setup
from lrfind.training.executor import Conditions
from lrfind.training.explanations.failures import raise_explained
from lrfind.training.mode import Mode
from lrfind.training.run import run_lane, run_lanes

SINGLE = Mode("single", "asked for", threads=1, seconds_per_step=0.0)
MODULE = """
import torch
from torch import nn

class Missing(KeyError):
    pass

class Fails(nn.Module):
    def __init__(self, at):
        super().__init__()
        self.layer, self.at, self.calls = nn.Linear(3, 1), at, 0
    def forward(self, x):
        self.calls += 1
        if self.calls > self.at:
            raise Missing("no such row")
        return self.layer(x)
"""
LINE = "own_failures.py:15, in forward: raise Missing"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_failures.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    import own_failures

    yield own_failures
    sys.path.remove(str(folder))


def problem_of(model: Callable[[], nn.Module], *rows: int, loss: Any = None) -> Problem:
    def setup(seed: int) -> Setup:
        lane = model()
        batches = itertools.cycle([(torch.ones(n, 3), torch.ones(n, 1)) for n in rows])
        return Setup(lane, torch.optim.SGD(lane.parameters(), lr=0.1), loss or nn.MSELoss(), batches)

    return Problem(setup, torch.device("cpu"))


def range_tested(problem: Problem) -> None:
    range_test(problem, RangeTestSection(steps=8, seeds=1), seed=0)


def trained(problem: Problem) -> None:
    run_lane(problem, Lane(0, 0, np.full(8, 0.1)), Conditions(evaluated=False))


@pytest.mark.parametrize("run", [range_tested, trained])
@pytest.mark.parametrize("step", [0, 3])
def test_a_failed_step_keeps_the_users_exception_and_names_its_line(
    own: Any, step: int, run: Callable[[Problem], None]
) -> None:
    with pytest.raises(LrfindError) as caught:
        run(problem_of(lambda: own.Fails(step), 4))
    assert type(caught.value.__cause__) is own.Missing
    assert LINE in str(caught.value)
    assert "Missing: 'no such row'" in str(caught.value)
    where = "at step 3, lr " if step else "the first training step failed"
    assert where in str(caught.value)


def test_a_loss_of_whole_numbers_asks_for_a_floating_point_number() -> None:
    loss = OwnLoss(lambda model, batch: (model(batch[0]) > batch[1]).sum())
    with pytest.raises(UsageError, match=r"gives \(\) int64, but the loss must be a floating-point number"):
        range_tested(problem_of(lambda: nn.Linear(3, 1), 4, loss=loss))


def test_a_lane_of_a_grid_says_why_and_where_it_failed(own: Any) -> None:
    kept: list[LaneResult] = []
    lanes = [Lane(0, 0, np.full(8, 0.1))]
    run_lanes(
        problem_of(lambda: own.Fails(3), 4), lanes, Conditions(evaluated=False), SINGLE, keep=kept.extend
    )
    assert kept[0].error.startswith("Missing: 'no such row' (")
    assert LINE in kept[0].error


def batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


@pytest.mark.parametrize("run", [range_tested, trained])
@pytest.mark.parametrize("rows", [(1,), (4, 4, 1)])
def test_a_batch_of_one_row_asks_for_drop_last_at_any_step(
    rows: tuple[int, ...], run: Callable[[Problem], None]
) -> None:
    with pytest.raises(
        LrfindError, match=r"layer '1' \(BatchNorm1d\) needs more than one.*drop_last"
    ) as caught:
        run(problem_of(batch_norm, *rows))
    assert type(caught.value.__cause__) is ValueError


def test_a_grid_asks_for_drop_last_too() -> None:
    kept: list[LaneResult] = []
    lanes = [Lane(0, 0, np.full(8, 0.1))]
    run_lanes(problem_of(batch_norm, 4, 4, 1), lanes, Conditions(evaluated=False), SINGLE, keep=kept.extend)
    assert "drop_last" in kept[0].error


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_the_cause_is_the_users_exception_also_behind_an_error_of_lrfinds_own() -> None:
    users = raised(OSError("the disk is gone"))
    between = UsageError("data: reading the first batch failed")
    between.__cause__ = users
    for where in ("", "a probe at lr 0.1 failed at step 3"):
        with pytest.raises(UsageError, match="reading the first batch failed") as caught:
            raise_explained(raised(between), where)
        assert caught.value.__cause__ is users


@pytest.mark.parametrize("error", [NoGradient("frozen"), NoSuggestion("flat"), LrfindError("odd")])
def test_an_error_of_lrfinds_own_without_a_cause_stays_itself(error: LrfindError) -> None:
    with pytest.raises(type(error)) as caught:
        raise_explained(raised(error))
    assert caught.value is error
    assert error.__cause__ is None


def wrong_width(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.mse_loss(model(batch[0][:, :2]), batch[1])


def wrong_loss(model: nn.Module, batch: Any) -> Tensor:
    return nn.CrossEntropyLoss()(model(batch[0]).squeeze(1), batch[1])


def no_name(model: nn.Module, batch: Any) -> Tensor:
    return model(batch[0]).mean() + batch["y"]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (wrong_width, r"model: Linear takes 3 numbers per row but gets 2"),
        (wrong_loss, r"loss: the output is \(4,\) float32, one number per row"),
        (no_name, r"loss: .*no_name failed on the batch, which is a tuple of 2"),
    ],
)
def test_a_loss_of_the_users_own_is_explained(function: Callable[..., Tensor], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        trained(problem_of(lambda: nn.Linear(3, 1), 4, loss=OwnLoss(function)))
    assert Path(__file__).name in str(caught.value)
