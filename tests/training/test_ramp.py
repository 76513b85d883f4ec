"""Ramps on data that misleads: harder batches are no divergence, and values that are not finite are named."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.suggestions import suggest_over
from lrfind.config.sections import RangeTestSection
from lrfind.errors import LrfindError, NoSuggestion
from lrfind.experiments.range_test import range_test
from lrfind.problem.batches import OwnStep
from lrfind.problem.problem import Problem
from lrfind.problem.replay import HeldBatch
from lrfind.problem.setup import Recipe, Setup
from lrfind.training.explanations.values import why_not_float16
from lrfind.training.loop import train
from lrfind.training.ramp import RampBatches
from tests.helpers.worlds import Net

Batches = Iterable[Any]
SGD = torch.optim.SGD


def problem_of(
    model: nn.Module,
    batches: Batches,
    loss_fn: Callable[..., Tensor] | None,
    accumulate: int = 1,
    optimizer: Callable[..., torch.optim.Optimizer] = SGD,
) -> Problem:
    def setup(seed: int) -> Setup:
        torch.manual_seed(seed)
        lane = copy.deepcopy(model).train()
        repeated: Iterator[Any] = itertools.cycle(batches)
        return Setup(
            lane, optimizer(lane.parameters(), lr=0.1), loss_fn, repeated, Recipe(accumulate=accumulate)
        )

    return Problem(setup, torch.device("cpu"))


def ramp(problem: Problem, start_lr: float = 1e-6, end_lr: float = 10.0, steps: int = 60) -> LaneResult:
    section = RangeTestSection(start_lr=start_lr, end_lr=end_lr, steps=steps, seeds=1)
    return range_test(problem, section, seed=0)[0]


def classes(rows: int = 160) -> tuple[Tensor, Tensor]:
    make = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 6, generator=make)
    return x, x[:, :3].argmax(1)


def sorted_batches(size: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Batches of one class each, the easiest class for `classifier` first."""
    x, y = classes()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(classifier()(x), y, reduction="none")
    ranks = torch.stack([loss[y == k].mean() for k in range(3)]).argsort().argsort()
    order = ranks[y].argsort(stable=True)
    return [(x[part], y[part]) for part in order.split(size)]


def classifier() -> nn.Module:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([0.0, 1.0, -1.0]))  # so some classes are easier
    return model


def refusal(lane: LaneResult) -> str:
    with pytest.raises(NoSuggestion) as caught:
        suggest_over([lane.curve])
    return caught.value.reason


def test_rows_sorted_by_class_are_no_divergence_and_the_curve_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = problem_of(classifier(), sorted_batches(), nn.CrossEntropyLoss())
    assert "raise end_lr to 100. The order of the data shows" in refusal(ramp(problem))
    lane = ramp(problem, end_lr=1e3)
    assert lane.lr[-1] > 0.1
    answer = suggest_over([lane.curve])
    assert 1e-3 < answer.lr < lane.lr[-1]
    assert "the order of the data shows in the curve: at " in answer.note
    assert "shuffle the training data" in lane.error
    monkeypatch.setattr(RampBatches, "_are_harder", lambda self: False)
    assert ramp(problem, end_lr=1e3).lr[-1] < 1e-3  # the rule alone


@pytest.mark.parametrize("rows", [1, 8, 160])
@pytest.mark.parametrize("optimizer", [SGD, torch.optim.Adam])
def test_a_ramp_on_shuffled_rows_stops_where_the_rule_alone_stops(
    rows: int, optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = classes()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(2))
    batches = [(x[part], y[part]) for part in order.split(rows)]
    problem = problem_of(classifier(), batches, nn.CrossEntropyLoss(), optimizer=optimizer)
    lane = ramp(problem, end_lr=1e3)
    monkeypatch.setattr(RampBatches, "_are_harder", lambda self: False)
    alone = ramp(problem, end_lr=1e3)
    assert lane.outcome == alone.outcome == "diverged"
    np.testing.assert_array_equal(lane.loss, alone.loss)


def test_looking_at_harder_batches_changes_nothing_in_the_training() -> None:
    net = Net()  # with batch norm, dropout and counters
    with torch.no_grad():
        net.head.bias.copy_(torch.tensor([0.0, 2.0, -2.0]))
    batches = sorted(
        sorted_batches(),
        key=lambda batch: nn.functional.cross_entropy(
            net.head.bias.expand(len(batch[1]), 3), batch[1]
        ).item(),
    )
    problem = problem_of(net, batches, nn.CrossEntropyLoss())
    lane = ramp(problem, end_lr=1e-3)
    assert lane.outcome == "finished"
    assert "the order of the data" in lane.error
    again = [step.loss for step in train(problem.setup(0), lane.lr)]
    np.testing.assert_array_equal(lane.loss, again)


def test_a_whole_step_of_the_users_own_goes_on_over_sorted_rows_and_stays_as_it_is() -> None:
    counts = {"steps": 0}

    def setup(seed: int) -> Setup:
        model = classifier()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

        def step(batch: Any) -> Tensor:
            counts["steps"] += 1
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            return loss

        batches = itertools.cycle(sorted_batches())
        return Setup(nn.Module(), optimizer, None, batches, own_step=OwnStep(step), optimizers=[optimizer])

    problem = Problem(setup, torch.device("cpu"))
    lane = ramp(problem, end_lr=1e-2)
    assert lane.outcome == "finished"
    assert "the order of the data" in lane.error
    assert counts["steps"] == lane.lr.size  # the looks are set back, the counter too
    np.testing.assert_array_equal(lane.loss, [step.loss for step in train(problem.setup(0), lane.lr)])


def test_until_the_rule_fires_nothing_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("evaluated")

    monkeypatch.setattr(RampBatches, "_evaluate_untouched", refuse)
    x, y = classes()
    assert ramp(problem_of(classifier(), [(x, y)], nn.CrossEntropyLoss()), end_lr=0.1).outcome == "finished"


class FilledAgain:
    """Yields batches in memory that is filled again for later ones, which torch counts or does not count."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]], memories: int, by: str) -> None:
        self._batches, self._by = batches, by
        arrays = [[part.numpy().copy() for part in batches[0]] for _ in range(memories)]
        made = torch.from_numpy if by == "numpy" else torch.tensor
        self._places = [tuple(map(made, place)) for place in arrays]

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for place, batch in zip(itertools.cycle(self._places), self._batches, strict=False):
            for part, values in zip(place, batch, strict=True):
                if self._by == "numpy":
                    np.copyto(part.numpy(), values.numpy())
                else:
                    (part if self._by == "torch" else part.data).copy_(values)
            yield place


@pytest.mark.parametrize("memories", [1, 3, 9])
@pytest.mark.parametrize("by", ["torch", "torch without a count", "numpy"])
def test_a_loader_may_fill_its_memory_again(memories: int, by: str) -> None:
    x, _ = classes(480)
    batches = [(part, part[:, :3] + 40 * (40 <= step < 50)) for step, part in enumerate(x.split(8))]

    def ramp_on(batches: Batches) -> LaneResult:
        setup = problem_of(nn.Linear(6, 3), [], nn.MSELoss()).setup
        repeated = (batch for _ in itertools.count() for batch in batches)
        problem = Problem(lambda seed: replace(setup(seed), batches=repeated), torch.device("cpu"))
        return ramp(problem, end_lr=1e-3)

    lane, again = ramp_on(batches), ramp_on(FilledAgain(batches, memories, by))
    np.testing.assert_array_equal(lane.loss, again.loss)
    assert "the order of the data" in lane.error == again.error


def test_a_batch_is_held_without_a_copy_where_torch_counts_its_changes() -> None:
    x, y = classes()
    held, numbers = HeldBatch([x, y]), HeldBatch(torch.from_numpy(np.ones(2)))
    copied, keyed = HeldBatch((x, y), copied=True), HeldBatch({"x": x})
    before, _ = copied.copy()
    assert not held.lost
    x.mul_(2)
    assert held.lost
    with pytest.raises(LrfindError, match="changed in place"):
        held.copy()
    for batch in (copied.copy()[0], keyed.copy()["x"]):
        assert torch.equal(batch, before)
    assert not numbers.lost


def test_a_batch_that_is_let_go_says_whether_its_memory_is_kept_or_changed() -> None:
    x = torch.randn(4, 2)
    let_go, kept, kept_by_its_base = (HeldBatch(batch) for batch in ([x.clone(), x * 2], [x], [x[1:]]))
    assert [batch.release() for batch in (let_go, kept, kept_by_its_base)] == [False, True, True]
    y = x.clone()
    changed = HeldBatch([y])
    y.zero_()
    del y
    assert changed.release()


def test_a_model_that_cannot_run_twice_keeps_the_word_of_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no second call")

    monkeypatch.setattr("lrfind.training.ramp.batch_loss", refuse)
    assert ramp(problem_of(classifier(), sorted_batches(), nn.CrossEntropyLoss())).outcome == "diverged"


def mean_square(output: Tensor, batch: Any) -> Tensor:
    return (output - batch["y"]).square().mean()


class ByKeys(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layer(x)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["x", "y"])
@pytest.mark.parametrize("form", ["tuple", "dict"])
@pytest.mark.parametrize("at", [0, 1, 7, 20])
def test_a_row_that_is_not_finite_is_named_instead_of_the_range(
    value: float, part: str, form: str, at: int
) -> None:
    make = torch.Generator().manual_seed(0)
    batches = [
        {"x": torch.randn(4, 6, generator=make), "y": torch.randn(4, 1, generator=make)} for _ in range(24)
    ]
    batches[at][part][2] = value
    if form == "dict":
        lane = ramp(problem_of(ByKeys(), batches, mean_square))
    else:
        lane = ramp(problem_of(nn.Linear(6, 1), [tuple(b.values()) for b in batches], nn.MSELoss()))
    assert lane.lr.size == at + 1
    reason = refusal(lane)
    assert "the data holds values that are not finite (NaN or inf)" in reason
    width = {"x": 6, "y": 1}[part]
    assert f"batch {at + 1} (step {at}): {part} (4, {width}) float32 in row 2." in reason
    assert "start_lr" not in reason
    with pytest.raises(NoSuggestion, match="the data holds values"):
        suggest_over([lane.curve], "edge")


def test_batches_that_share_a_step_are_counted_one_by_one() -> None:
    x, y = torch.ones(4, 6), torch.ones(4, 1)
    bad = torch.full((4, 1), float("nan"))
    batches = [(x, y)] * 8 + [(x, bad)]
    lane = ramp(problem_of(nn.Linear(6, 1), batches, nn.MSELoss(), accumulate=2))
    assert "batch 9 (step 4): y (4, 1) float32 in rows 0, 1, 2, 3." in refusal(lane)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.layer(x) * mask.exp()


def test_a_mask_of_minus_infinity_is_not_blamed_for_a_divergence() -> None:
    make = torch.Generator().manual_seed(0)
    x, y = torch.randn(16, 6, generator=make), torch.randn(16, 1, generator=make)
    mask = torch.zeros(16, 1)
    mask[:4] = -torch.inf
    lane = ramp(problem_of(Masked(), [(x, mask, y)], nn.MSELoss()), end_lr=1e30, steps=9)
    assert lane.outcome == "diverged"
    assert lane.error is None


def test_float16_weights_are_named_where_adam_blows_up() -> None:
    x, y = classes()
    problem = problem_of(
        classifier().half(), [(x.half(), y)], nn.CrossEntropyLoss(), optimizer=torch.optim.Adam
    )
    assert "the weights are float16, in which Adam's eps of 1e-08 is 0" in refusal(ramp(problem))


def test_only_float16_weights_with_a_vanishing_eps_blow_up() -> None:
    half = [torch.zeros(3, dtype=torch.float16, requires_grad=True)]
    assert "use autocast: precision='float16'" in why_not_float16(torch.optim.AdamW(half))
    assert "RMSprop's eps of 1e-08" in why_not_float16(torch.optim.RMSprop(half))
    assert why_not_float16(torch.optim.Adam(half, eps=1e-4)) is None
    assert why_not_float16(SGD(half, lr=0.1)) is None
    assert why_not_float16(torch.optim.Adam([torch.zeros(3, requires_grad=True)])) is None
