"""`grid` and `compare` on a user's own objects: the answers of the CLI's analysis, and no trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import lrfind
from lrfind.analysis.sweeps import read_sweep
from tests.helpers.worlds import World, data

Batches = list[tuple[Tensor, Tensor]]


def line(rows: int = 8) -> tuple[nn.Module, torch.optim.Optimizer, Batches]:
    """A linear model on batches in a fixed order, which every seed sees alike."""
    torch.manual_seed(0)
    x = torch.randn(rows, 16, 4)
    model = nn.Linear(4, 1)
    return (
        model,
        torch.optim.SGD(model.parameters(), 0.1),
        [(part, part.sum(1, keepdim=True)) for part in x],
    )


def plain_training(lr: float, steps: int) -> tuple[list[float], float]:
    """The losses of a training, and the loss on the last two batches afterwards, in plain PyTorch."""
    model, _, batches = line()
    optimizer, losses = torch.optim.SGD(model.parameters(), lr), []
    for step in range(steps):
        x, y = batches[step % 6]
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        return losses, float(np.mean([nn.functional.mse_loss(model(x), y).item() for x, y in batches[6:]]))


def test_a_grid_is_whole_trainings_and_the_lowest_validation_loss_is_answered() -> None:
    model, optimizer, batches = line()
    lrs = [0.01, 0.1, 0.3, 30.0]
    result = lrfind.grid(
        model, optimizer, nn.MSELoss(), batches[:6], lrs=lrs, steps=30, seeds=1, val=batches[6:]
    )
    truth = {lr: plain_training(lr, 30) for lr in lrs[:3]}
    for lane in result.lanes[:3]:
        losses, val_loss = truth[lane.peak]
        np.testing.assert_allclose(lane.loss, losses, rtol=1e-5)
        assert lane.val_loss == pytest.approx(val_loss, rel=1e-4)
    assert result.lr == min(truth, key=lambda lr: truth[lr][1])
    assert list(result.table.lr) == lrs
    assert result.table.verdict.iloc[-1] == result.lanes[-1].outcome == "diverged"
    assert result.sweep.rates == read_sweep(result.lanes, "val_loss").rates
    assert result.cost == sum(lane.lr.size for lane in result.lanes)
    assert len(result.to_frame()) == result.cost


def test_a_batch_norm_that_the_models_train_keeps_frozen_is_frozen_in_a_grid() -> None:
    class FrozenNorm(nn.Sequential):
        def train(self, mode: bool = True) -> FrozenNorm:
            super().train(mode)
            self[0].eval()
            return self

    def made() -> tuple[nn.Module, torch.optim.Optimizer, Batches]:
        batches = line()[2]
        model = FrozenNorm(nn.BatchNorm1d(4), nn.Linear(4, 1))
        return model, torch.optim.SGD(model.parameters(), 0.1), batches

    model, optimizer, batches = made()
    result = lrfind.grid(model, optimizer, nn.MSELoss(), batches, lrs=[0.1, 0.2], steps=8, seeds=1)
    assert model[0].training  # as it was
    model, optimizer, _ = made()
    losses = []
    model.train()
    for x, y in batches:
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(result.lanes[0].loss, losses, rtol=1e-5)


def test_without_validation_data_the_last_twentieth_of_the_training_losses_decides() -> None:
    model, optimizer, batches = line()
    result = lrfind.grid(
        model, optimizer, nn.MSELoss(), batches[:6], lrs=[0.03, 0.1], steps=40, seeds=1, schedule="linear"
    )
    assert result.sweep.judge == "train_loss"
    assert list(result.table.loss) == [pytest.approx(lane.loss[-2:].mean()) for lane in result.lanes]
    assert result.lanes[0].lr[20] == pytest.approx(0.015)  # the middle of the linear schedule
    assert "final training loss" in result.reason


def test_seeds_that_change_nothing_are_trained_once_and_that_is_said() -> None:
    model, optimizer, batches = line()
    result = lrfind.grid(model, optimizer, nn.MSELoss(), batches, lrs=[0.01, 0.1], steps=20, seeds=3)
    assert len(result.lanes) == 2
    assert "Another seed gives the same training" in result.notes[-1]
    assert "by one seed" in result.headline
    world = World("adam")
    shuffled = lrfind.grid(
        world.model, world.optimizer, world.loss_fn, world.loader, lrs=[0.01, 0.1], steps=12, seeds=2
    )
    assert len(shuffled.lanes) == 4
    assert not shuffled.notes


def test_seeds_of_a_model_whose_last_layer_begins_with_zeros_differ() -> None:
    world = World("adam")
    last = [*world.model.parameters()][-2:]
    for parameter in last:
        nn.init.zeros_(parameter)
    parts = world.model, torch.optim.SGD(world.model.parameters(), 1e-9), world.loss_fn, world.loader
    result = lrfind.grid(*parts, lrs=[0.1], steps=8, seeds=2)
    assert len({float(lane.loss[0]) for lane in result.lanes}) == 1
    assert len({float(lane.loss[1]) for lane in result.lanes}) == 2
    assert not result.notes


def test_the_lr_of_the_optimizer_may_be_too_high_for_the_look_at_two_seeds() -> None:
    model, _, batches = line()

    def loss_fn(output: Tensor, y: Tensor) -> Tensor:
        loss = nn.functional.mse_loss(output, y)
        if loss > 1e6:
            raise ValueError("too high")
        return loss

    optimizer = torch.optim.SGD(model.parameters(), 1e6)
    result = lrfind.grid(model, optimizer, loss_fn, batches, lrs=[0.01], steps=8, seeds=2)
    assert [lane.outcome for lane in result.lanes] == ["finished"]


def test_a_grid_is_extended_while_its_best_rate_is_at_its_end() -> None:
    model, optimizer, batches = line()
    lrs = [0.001, 0.01]
    narrow = lrfind.grid(model, optimizer, nn.MSELoss(), batches, lrs=lrs, steps=20, seeds=1)
    wide = lrfind.grid(model, optimizer, nn.MSELoss(), batches, lrs=lrs, steps=20, seeds=1, extend=True)
    assert "It is the highest rate that was tried" in narrow.reason
    assert wide.lr == pytest.approx(0.1)
    assert "that was tried" not in wide.reason


def test_a_grid_at_which_nothing_falls_refuses_with_the_reason_and_keeps_its_table() -> None:
    model, optimizer, batches = line()
    result = lrfind.grid(model, optimizer, nn.MSELoss(), batches, lrs=[1e-9, 1e-8], steps=16, seeds=1)
    with pytest.raises(lrfind.NoSuggestion, match="the loss hardly fell|The loss hardly fell") as refusal:
        result.apply(optimizer)
    assert refusal.value.reason == result.reason
    assert refusal.value.cost == result.cost == 32
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert {*result.table.verdict} == {"no fall", "lowest"}
    assert "No best learning rate" in result._repr_html_()
    diverged = lrfind.grid(model, optimizer, nn.MSELoss(), batches, lrs=[50.0, 90.0], steps=60, seeds=1)
    assert "diverges at every lr that was tried, down to 50" in diverged.reason


def test_a_grid_judged_by_the_lowest_validation_loss_says_that_training_overfits_after_it() -> None:
    torch.manual_seed(0)
    model = nn.Linear(40, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, truth = torch.randn(440, 40), torch.randn(40, 1)
    y = x @ truth + 6 * torch.randn(440, 1)  # 40 rows are too few for 40 features
    train, val = [(x[:40], y[:40])], [(x[40:], y[40:])]
    result = lrfind.grid(
        model, optimizer, nn.MSELoss(), train, lrs=[0.02, 0.1], steps=300, seeds=1, val=val, eval_every=10,
        judge="best_val_loss",
    )  # fmt: skip
    assert "After its lowest validation loss, training overfits: end it there." in result.reason
    assert "has the lowest validation loss (" in result.reason


def compared(world: World, **options: Any) -> lrfind.ComparisonResult:
    options = {"schedules": ["constant", "cosine"], "steps": 12, "seeds": 2, "tuning_seeds": 1, **options}
    return lrfind.compare(world.model, world.optimizer, world.loss_fn, world.loader, **options)


def test_everything_is_as_it_was_after_a_grid_and_a_comparison_and_training_goes_on_the_same() -> None:
    plain, asked = World("adam"), World("adam")
    World.seed(3)
    asked.train(seed=7)
    World.seed(3)
    plain.train(seed=7)
    before = asked.state()
    val = DataLoader(data(), batch_size=30, shuffle=True)
    result = lrfind.grid(
        asked.model, asked.optimizer, asked.loss_fn, asked.loader, points=2, steps=8, seeds=2, val=val,
        eval_every=3, judge="best_val_loss",
    )  # fmt: skip
    assert [e.step for e in result.lanes[0].evaluations] == [3, 6, 8]
    assert result.metric == "accuracy"
    compared(asked, val=val)
    assert asked.state() == before
    assert plain.train(seed=11) == asked.train(seed=11)


def test_random_numbers_do_not_jump_back_when_an_interrupted_evaluation_is_forgotten() -> None:
    def interrupted(output: Tensor, target: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            raise KeyboardInterrupt
        return nn.functional.mse_loss(output, target)

    model, optimizer, batches = line()
    before = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt) as error:
        lrfind.grid(model, optimizer, interrupted, batches[:6], lrs=[0.1], steps=9, val=batches[6:])
    del error  # with it go the frames of the evaluation, and a generator that has not come to its end
    assert torch.equal(torch.get_rng_state(), before)


def test_data_that_is_not_finite_is_blamed_and_not_the_rates() -> None:
    model, optimizer, batches = line()
    bad = [(batches[0][0] * math.nan, batches[0][1])]
    parts = model, optimizer, nn.MSELoss()
    in_validation = lrfind.grid(*parts, batches, lrs=[0.01, 0.1], steps=20, seeds=1, val=bad)
    assert "The validation loss is not finite after any training" in in_validation.notes[0]
    two = lrfind.compare(
        *parts, batches, schedules=["constant", "linear"], common_peak=0.1, steps=20, seeds=1, val=bad
    )
    assert "The validation loss is not finite after any training" in two.notes[0]
    at_step_3 = [*batches[:3], *bad]
    result = lrfind.grid(*parts, at_step_3, lrs=[0.01, 0.1], steps=20, seeds=1)
    assert "at the same step (step 3 with seed 0), so the data of that step" in result.reason
    peaks = lrfind.compare(*parts, at_step_3, schedules=["constant", "linear"], peaks=[0.1], steps=20)
    assert "at the same step (step 3 with seed" in peaks.reason
    huge = lrfind.grid(*parts, batches, lrs=[1e9, 1e20], steps=20, seeds=1)
    assert "try lower ones" in huge.reason


def test_evaluations_do_not_change_the_trainings() -> None:
    world, lanes = World("adam"), []
    for every in (None, 2):
        val = DataLoader(data(), batch_size=30, shuffle=True)
        result = lrfind.grid(
            world.model, world.optimizer, world.loss_fn, world.loader, lrs=[0.01], steps=20, seeds=2, val=val,
            eval_every=every,
        )  # fmt: skip
        lanes.append([lane.loss.tolist() for lane in result.lanes])
    assert lanes[0] == lanes[1]


def test_evaluations_change_neither_a_generator_of_the_model_nor_their_batches() -> None:
    class Noisy(nn.Linear):
        own = torch.Generator()

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.add_(1) + torch.randn(x.shape, generator=self.own))

    model, (_, _, batches) = Noisy(4, 1), line()
    val = [(x + 1, y) for x, y in batches]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    lanes = [
        lrfind.grid(
            model, optimizer, nn.MSELoss(), batches, lrs=[0.01], steps=8, seeds=1, val=val, eval_every=every
        ).lanes[0]
        for every in (None, 2)
    ]  # fmt: skip
    np.testing.assert_array_equal(*(lane.loss for lane in lanes))
    assert lanes[0].val_loss == lanes[1].val_loss


def test_a_comparison_tunes_each_schedule_on_other_seeds_than_those_that_are_compared() -> None:
    result = compared(World("adam"), peaks=[0.003, 0.03])
    by_seed = {seed: {lane.variant for lane in result.lanes if lane.seed == seed} for seed in (0, 1, 2)}
    assert by_seed == {0: {"constant", "cosine"}, 1: {"constant", "cosine"}, 2: {"constant", "cosine"}}
    assert {lane.peak for lane in result.lanes if lane.seed == 2} == {0.003, 0.03}
    first = result.best
    compared_lanes = [lane for lane in result.lanes if lane.seed < 2 and lane.variant == first.variant]
    assert first.loss == pytest.approx(np.mean([lane.train_loss for lane in compared_lanes]))
    assert (result.schedule, result.lr) == (first.variant, compared_lanes[0].peak)
    assert result.table.schedule[0] == result.schedule
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    result.apply(optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(result.lr)


def test_schedules_of_every_form_are_compared_by_their_names() -> None:
    def decay(step: int) -> float:
        return 1 / (1 + step)

    forms = ["cosine", ("cosine", {"warmup": 3}), decay, lambda step: 1.0]
    result = compared(World("adam"), schedules=forms, common_peak=0.01, seeds=1)
    assert [*result.schedules] == ["cosine", "cosine (warmup 3)", "decay", "schedule 4"]
    named = compared(World("adam"), schedules={"mine": decay, "flat": "constant"}, common_peak=0.01, seeds=1)
    assert named.lanes[0].lr[1] == pytest.approx(0.005)
    assert [*named.schedules] == ["mine", "flat"]
    with pytest.raises(lrfind.UsageError, match="'cosine' stands there twice"):
        compared(World("adam"), schedules=["cosine", "cosine"])
    with pytest.raises(lrfind.UsageError, match="give at least two"):
        compared(World("adam"), schedules=["cosine"])


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[Any], Tensor]:
    """Return a step of the user's own."""

    def step(batch: Any) -> Tensor:
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_a_step_of_the_users_own_is_swept_without_validation() -> None:
    model, optimizer, batches = line()
    step = step_of(model, optimizer)
    result = lrfind.grid(step=step, data=batches[:6], optimizers=[optimizer], lrs=[0.1], steps=30, seeds=1)
    np.testing.assert_allclose(result.lanes[0].loss, plain_training(0.1, 30)[0], rtol=1e-5)
    with pytest.raises(lrfind.UsageError, match="val: lrfind cannot evaluate a step of your own"):
        lrfind.grid(step=step, data=batches, optimizers=[optimizer], steps=30, val=batches)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lrs": [0.1, 0.1]}, "0.1 is listed twice"),
        ({"judge": "best_val_loss"}, "give val, and an eval_every below 20, for example 2"),
        ({"schedule": "reduce_on_plateau"}, "watches the validation loss; give val and eval_every"),
        (
            {"schedule": torch.optim.lr_scheduler.ReduceLROnPlateau(line()[1])},
            "schedule: ReduceLROnPlateau reacts to the training; give the name 'reduce_on_plateau'",
        ),
        ({"val": torch.zeros(3)}, "val holds tensors, not batches"),
        ({"val": len}, "val must yield its batches and end"),
        ({"eval_every": 0}, "eval_every: must be a whole number of steps, 1 or more; found 0"),
        ({"seeds": 0}, "seeds: "),
    ],
)
def test_what_a_grid_cannot_do_is_refused(options: dict[str, Any], message: str) -> None:
    model, optimizer, batches = line()
    with pytest.raises(lrfind.UsageError, match=message):
        lrfind.grid(model, optimizer, nn.MSELoss(), batches, **{"steps": 20, **options})


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    given = {"steps": 20, "seeds": 1, "seed": 3, "looks": 1, "eval_every": 5, "accumulate": 1}
    results = []
    for kind in (int, np.int64):
        model, optimizer, batches = line()
        options = {name: kind(value) for name, value in given.items()}
        validation = {"val": batches[6:], "lrs": [0.1, 0.3]}
        results.append(lrfind.grid(model, optimizer, nn.MSELoss(), batches[:6], **options, **validation))
        lrfind.find(model, optimizer, nn.MSELoss(), batches, steps=kind(50), budget=kind(60), seed=kind(1))
    assert [lane.val_loss for lane in results[0].lanes] == [lane.val_loss for lane in results[1].lanes]


def test_a_training_that_fails_later_is_a_result_and_one_that_never_starts_is_an_error() -> None:
    model, optimizer, batches = line()

    def fragile(output: Tensor, y: Tensor) -> Tensor:
        if output.abs().max() > 1e3:
            raise ZeroDivisionError("too large")
        return nn.functional.mse_loss(output, y)

    result = lrfind.grid(model, optimizer, fragile, batches, lrs=[0.1, 3.0], steps=30, seeds=1)
    assert [lane.outcome for lane in result.lanes] == ["finished", "failed"]
    assert result.lr == 0.1
    assert result.reason.startswith("Of 1 rate, lr 0.1 has the lowest final training loss (")
    assert "Training failed at lr 3: " in result.reason
    assert "too large" in result.reason

    def broken(output: Tensor, y: Tensor) -> Tensor:
        raise ZeroDivisionError("on purpose")

    with pytest.raises(lrfind.LrfindError, match="on purpose"):
        lrfind.grid(model, optimizer, broken, batches, lrs=[0.1, 3.0], steps=30)


def test_one_cycle_gives_no_momentum_to_an_optimizer_without_one() -> None:
    model, optimizer, batches = line()
    result = lrfind.grid(
        model, optimizer, nn.MSELoss(), batches, lrs=[0.1], steps=20, seeds=1, schedule="one_cycle"
    )
    assert result.lanes[0].momentum is None
    assert math.isfinite(result.lanes[0].loss[-1])


@pytest.mark.parametrize("own_step", [False, True])
def test_a_scheduler_that_moves_the_momentum_moves_it_as_in_a_plain_loop(own_step: bool) -> None:
    def world() -> tuple[Any, ...]:
        model, _, batches = line()
        optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=20)

        return model, optimizer, batches, scheduler, step_of(model, optimizer)

    _, _, batches, scheduler, step = world()
    plain = []
    for batch in (batches * 3)[:20]:
        plain.append(step(batch).item())
        scheduler.step()
    model, optimizer, batches, scheduler, step = world()
    how: dict[str, Any] = {"step": step, "optimizers": [optimizer]}
    if not own_step:
        how = {"model": model, "optimizer": optimizer, "loss_fn": nn.MSELoss()}
    result = lrfind.grid(**how, data=batches, lrs=[0.02], steps=20, seeds=1, schedule=scheduler)
    np.testing.assert_allclose(result.lanes[0].loss, plain, rtol=1e-5)
    assert optimizer.param_groups[0]["momentum"] == 0.95


def test_a_wrapper_that_sets_its_own_lr_trains_at_the_rates_of_the_grid() -> None:
    class Noam:
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            self.inner, self.param_groups, self.zero_grad = inner, inner.param_groups, inner.zero_grad

        def step(self) -> None:
            self.param_groups[0]["lr"] = 1e-4
            self.inner.step()

    model, optimizer, batches = line()
    options: dict[str, Any] = {"lrs": [0.01, 0.1], "steps": 20, "seeds": 1}
    plain = lrfind.grid(model, optimizer, nn.MSELoss(), batches, **options)
    wrapped = lrfind.grid(model, Noam(optimizer), nn.MSELoss(), batches, **options)
    for lane, same in zip(plain.lanes, wrapped.lanes, strict=True):
        np.testing.assert_array_equal(lane.loss, same.loss)
