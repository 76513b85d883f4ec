from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lrfind.errors import UsageError
from lrfind.problem.batches import OwnLoss, loader_batches
from lrfind.problem.param_groups import MULTIPLIER
from lrfind.problem.rates import lr_ratios
from lrfind.problem.setup import Recipe, Setup
from lrfind.schedules.functions import one_cycle, one_cycle_momentum
from lrfind.training.evaluation import held_loss
from lrfind.training.loop import train

CPU = torch.device("cpu")
LR = np.geomspace(1e-3, 1e-1, 12)


def parts() -> tuple[nn.Module, list[tuple[torch.Tensor, torch.Tensor]]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    return model, [(torch.randn(16, 4), torch.randn(16, 1)) for _ in range(3)]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
        (torch.optim.Adam, {}),
        (torch.optim.RMSprop, {}),
    ],
)
def test_every_step_is_the_step_of_a_plain_loop(kind: type, arguments: dict[str, float]) -> None:
    model, batches = parts()
    plain = copy.deepcopy(model)
    optimizer = kind(model.parameters(), lr=1.0, **arguments)
    setup = Setup(model, optimizer, nn.functional.mse_loss, loader_batches(batches, CPU))
    steps = list(train(setup, LR, grad_norm=True))

    reference = kind(plain.parameters(), lr=1.0, **arguments)
    for t, lr in enumerate(LR):
        x, y = batches[t % 3]
        reference.zero_grad()
        loss = nn.functional.mse_loss(plain(x), y)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), torch.inf)
        assert steps[t].loss == loss.item()  # measured before the update that uses lr[t]
        assert steps[t].grad_norm == pytest.approx(norm.item(), rel=1e-6)
        assert (steps[t].step, steps[t].lr) == (t, lr)
        reference.param_groups[0]["lr"] = lr
        reference.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_stopping_leaves_the_weights_before_the_update() -> None:
    model, batches = parts()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    next(train(Setup(model, optimizer, nn.functional.mse_loss, iter(batches)), LR))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_param_groups_keep_their_ratios_and_the_lr_is_the_first_groups() -> None:
    model, batches = parts()
    groups = [{"params": model[0].parameters(), "lr": 0.3}, {"params": model[2].parameters(), "lr": 0.03}]
    optimizer = torch.optim.SGD(groups, lr=7.0)
    for step in train(Setup(model, optimizer, nn.functional.mse_loss, loader_batches(batches, CPU)), LR):
        used = [group["lr"] for group in optimizer.param_groups]
        assert used[0] == step.lr
        assert used[1] == pytest.approx(step.lr / 10)


def test_ratios_count_from_the_first_group_that_moves() -> None:
    model, _ = parts()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters(), "lr": 0.2}]
    assert lr_ratios([torch.optim.SGD(groups)]) == [0, 1]
    with pytest.raises(UsageError, match="every param group"):
        lr_ratios([torch.optim.SGD(model.parameters(), lr=0.0)])


def test_an_lr_held_in_a_tensor_is_filled() -> None:
    model, batches = parts()
    lr = torch.tensor(1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, foreach=False)
    steps = train(Setup(model, optimizer, nn.functional.mse_loss, iter(batches)), LR)
    assert next(steps).lr == pytest.approx(lr.item())
    assert optimizer.param_groups[0]["lr"] is lr


def test_the_held_out_batch_is_measured_in_evaluation_mode_and_changes_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    model[1].eval()  # a frozen batch norm stays frozen
    held_out = (torch.randn(5, 4), torch.randn(5, 1))
    before = copy.deepcopy(model.state_dict())
    expected = nn.functional.mse_loss(copy.deepcopy(model).eval()(held_out[0]), held_out[1]).item()
    assert held_loss(model, nn.functional.mse_loss, held_out) == expected
    assert [m.training for m in model] == [True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_held_out_batch_stays_as_it_is_and_draws_no_numbers_of_the_training() -> None:
    class Noisy(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.sub_(0.5) + torch.randn(1))

    held_out = {"x": torch.randn(5, 4)}
    before, random = copy.deepcopy(held_out), torch.get_rng_state()
    loss_fn = OwnLoss(lambda model, batch: model(batch["x"]).square().mean())
    model = Noisy(4, 1)
    torch.set_rng_state(random)
    assert held_loss(model, loss_fn, held_out) > 0
    assert torch.equal(held_out["x"], before["x"])
    assert torch.equal(torch.get_rng_state(), random)


def test_a_loss_without_gradient_is_explained() -> None:
    model, batches = parts()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(UsageError, match="does not depend on any parameter"):
        next(train(Setup(model, optimizer, nn.functional.mse_loss, iter(batches)), LR))


Batch = tuple[torch.Tensor, torch.Tensor]


def precise(rows: Iterable[int]) -> tuple[nn.Module, list[Batch]]:
    model, _ = parts()
    float64 = {"dtype": torch.float64}
    return model.double(), [(torch.randn(n, 4, **float64), torch.randn(n, 1, **float64)) for n in rows]


def by_recipe(model: nn.Module, batches: list[Batch], recipe: Recipe) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    loss_fn = nn.functional.mse_loss
    setup = Setup(model, optimizer, loss_fn, loader_batches(batches, CPU), recipe)
    return [step.loss for step in train(setup, LR)]


def by_hand(
    model: nn.Module,
    batches: list[Batch],
    loss_fn: Callable[[nn.Module, Batch], torch.Tensor],
    *,
    penalty: Callable[[nn.Module], Any] = lambda model: 0.0,
    clip: Callable[[nn.Module], Any] = lambda model: None,
) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    losses = []
    for lr, batch in zip(LR, cycle(batches), strict=False):
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        (loss + penalty(model)).backward()
        clip(model)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        losses.append(loss.item())
    return losses


def plain_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def assert_same_weights(ours: nn.Module, theirs: nn.Module, **tolerance: float) -> None:
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, **(tolerance or {"rtol": 1e-12, "atol": 1e-13}))


def test_four_accumulated_batches_are_one_batch_of_all_their_rows() -> None:
    model, small = precise([8] * 4 * LR.size)
    plain = copy.deepcopy(model)
    large = [tuple(map(torch.cat, zip(*small[i : i + 4], strict=True))) for i in range(0, len(small), 4)]
    losses = by_recipe(model, small, Recipe(accumulate=4))
    np.testing.assert_allclose(losses, by_hand(plain, large, plain_loss), rtol=1e-12)
    assert_same_weights(model, plain)


def test_accumulated_batches_count_the_same_whatever_their_rows() -> None:
    model, batches = precise([3, 8, 5])
    plain = copy.deepcopy(model)

    def mean(model: nn.Module, three: list[Batch]) -> torch.Tensor:
        return torch.stack([plain_loss(model, batch) for batch in three]).mean()

    losses = by_recipe(model, batches, Recipe(accumulate=3))
    np.testing.assert_allclose(losses, by_hand(plain, [batches], mean), rtol=1e-12)
    assert_same_weights(model, plain)


def test_l1_is_descended_on_weights_but_neither_on_biases_nor_in_the_loss_that_is_reported() -> None:
    model, batches = precise([8] * 3)
    plain = copy.deepcopy(model)

    def weights(model: nn.Module) -> torch.Tensor:
        return 0.03 * sum(p.abs().sum() for p in model.parameters() if p.ndim >= 2)

    losses = by_recipe(model, batches, Recipe(l1=0.03))
    np.testing.assert_allclose(losses, by_hand(plain, batches, plain_loss, penalty=weights), rtol=1e-12)
    assert_same_weights(model, plain)


def test_gradients_take_l1_first_and_are_then_cut_by_value_and_at_last_by_norm() -> None:
    model, batches = precise([8] * 3)
    plain = copy.deepcopy(model)

    def weights(model: nn.Module) -> torch.Tensor:
        return 0.03 * sum(p.abs().sum() for p in model.parameters() if p.ndim >= 2)

    def clip(model: nn.Module) -> None:
        assert max(p.grad.abs().max() for p in model.parameters()) > 0.05
        torch.nn.utils.clip_grad_value_(model.parameters(), 0.05)
        assert torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1) > 0.1

    losses = by_recipe(model, batches, Recipe(l1=0.03, clip_value=0.05, clip_norm=0.1))
    expected = by_hand(plain, batches, plain_loss, penalty=weights, clip=clip)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    assert_same_weights(model, plain)


def test_bfloat16_is_a_plain_loop_under_autocast_and_keeps_the_weights_in_float32() -> None:
    model, batches = parts()
    plain, exact = copy.deepcopy(model), copy.deepcopy(model)

    def autocast(model: nn.Module, batch: Batch) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return plain_loss(model, batch)

    losses = by_recipe(model, batches, Recipe(precision="bfloat16"))
    assert losses == by_hand(plain, batches, autocast)
    assert losses != by_hand(exact, batches, plain_loss)
    assert_same_weights(model, plain, rtol=0, atol=0)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.Adam, {"fused": True})],
)
def test_a_float16_step_that_overflows_is_skipped_as_torchs_scaler_skips_it(
    kind: type, arguments: dict[str, Any]
) -> None:
    model, batches = parts()
    batches[2][1].mul_(3000)  # times the first scale of 65536, its gradient is more than float16 holds
    plain = copy.deepcopy(model)
    setup = Setup(
        model,
        kind(model.parameters(), lr=1.0, **arguments),
        lambda output, y: 0.01 * nn.functional.mse_loss(output, y),
        loader_batches(batches, CPU),
        Recipe(precision="float16", clip_norm=10.0),
    )
    steps, states = [], []
    for step in train(setup, LR / 10):
        steps.append(step)
        states.append([p.detach().clone() for p in model.parameters()])
    for t in range(LR.size - 1):
        unchanged = all(map(torch.equal, states[t], states[t + 1]))
        assert unchanged == steps[t].skipped

    reference = kind(plain.parameters(), lr=1.0, **arguments)
    scaler = torch.amp.GradScaler("cpu")
    for t, lr in enumerate(LR / 10):
        reference.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = 0.01 * plain_loss(plain, batches[t % 3])
        scaler.scale(loss).backward()
        scaler.unscale_(reference)
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 10.0)
        reference.param_groups[0]["lr"] = lr
        before = scaler.get_scale()
        scaler.step(reference)
        scaler.update()
        assert (steps[t].loss, steps[t].skipped) == (loss.item(), scaler.get_scale() < before)
    assert_same_weights(model, plain, rtol=0, atol=0)
    skipped = [step.skipped for step in steps]
    assert skipped[:4] == [False, False, True, False]  # and the lane continues


@pytest.fixture
def unwritten_memory_is_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("unwritten_memory_is_nan")
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (
            torch.optim.SGD,
            {"momentum": 0.9, "fused": True},
        ),  # torch's own keeps uninitialised momentum when skipped
        (torch.optim.Adam, {"fused": True}),
    ],
)
def test_a_float16_overflow_at_the_first_step_leaves_no_trace(kind: type, arguments: dict[str, Any]) -> None:
    model, batches = parts()
    without_overflow = copy.deepcopy(model)
    x, y = batches[0]

    def run(model: nn.Module, batches: list[Batch]) -> list[bool | None]:
        optimizer = kind(model.parameters(), lr=1.0, **arguments)
        setup = Setup(model, optimizer, nn.functional.mse_loss, iter(batches), Recipe(precision="float16"))
        return [step.skipped for step in train(setup, np.full(len(batches), 1e-2))]

    assert run(model, [(x, 1e4 * y), *batches]) == [True, False, False, False]
    assert run(without_overflow, batches) == [False, False, False]
    assert_same_weights(model, without_overflow, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "arguments"), [(torch.optim.SGD, {"momentum": 0.5}), (torch.optim.Adam, {"fused": True})]
)
def test_one_cycle_with_its_momentum_is_torchs_scheduler(kind: type, arguments: dict[str, Any]) -> None:
    model, batches = precise([8] * 3)
    plain, t = copy.deepcopy(model), np.arange(20.0)
    optimizer = kind(model.parameters(), lr=1.0, **arguments)
    setup = Setup(model, optimizer, nn.functional.mse_loss, loader_batches(batches, CPU))
    losses = [step.loss for step in train(setup, 0.1 * one_cycle(t, 20), momentum=one_cycle_momentum(t, 20))]

    reference = kind(plain.parameters(), lr=1.0, **arguments)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(reference, max_lr=0.1, total_steps=20)
    for lane_loss, batch in zip(losses, cycle(batches), strict=False):
        reference.zero_grad()
        loss = plain_loss(plain, batch)
        loss.backward()
        reference.step()
        if scheduler.last_epoch < 19:
            scheduler.step()
        assert lane_loss == pytest.approx(loss.item(), rel=1e-11)
    assert_same_weights(model, plain, rtol=1e-10, atol=1e-12)


def test_a_momentum_for_an_optimizer_without_one_is_refused() -> None:
    model, batches = parts()
    setup = Setup(model, torch.optim.Adagrad(model.parameters()), nn.functional.mse_loss, iter(batches))
    with pytest.raises(
        UsageError, match="Adagrad has no momentum that a schedule could change; .*`momentum: null`"
    ):
        next(train(setup, LR, momentum=np.full(LR.size, 0.9)))


def test_damping_multiplies_the_lr_that_is_used_and_recorded() -> None:
    model, batches = precise([8] * 3)
    weights = [*model.parameters()]
    groups = [{"params": model[0].parameters(), "lr": 1.0}, {"params": model[2].parameters(), "lr": 0.5}]
    setup = Setup(model, torch.optim.SGD(groups), nn.functional.mse_loss, loader_batches(batches, CPU))
    expected = None
    for lr, step in zip(LR, train(setup, LR, damping=lambda norm: 1 / (1 + norm)), strict=True):
        if expected is not None:  # the weights after the step before
            torch.testing.assert_close(weights, expected, rtol=1e-12, atol=0)
        norm = torch.cat([p.grad.flatten() for p in weights]).norm().item()
        assert step.grad_norm == pytest.approx(norm, rel=1e-12)
        assert step.lr == pytest.approx(lr / (1 + norm), rel=1e-12)
        used = [step.lr, step.lr, step.lr / 2, step.lr / 2]
        expected = [p.detach() - part * p.grad for part, p in zip(used, weights, strict=True)]


@pytest.mark.parametrize(
    ("options", "used"),
    [
        (({"group": 1}, False), lambda lr: [0.3, lr, 0.2]),
        (({}, False), lambda lr: [lr, 0.0, 2 / 3 * lr]),
        (({}, True), lambda lr: [3 * lr, 0.5 * lr, 2 * lr]),
    ],
    ids=["one group", "ratios of their lrs", "multipliers"],
)
def test_param_groups_move_alone_or_together_by_their_ratios_or_multipliers(
    options: tuple[dict[str, Any], bool], used: Callable[[float], list[float]]
) -> None:
    model, batches = parts()
    group, with_multipliers = options
    groups: list[dict[str, Any]] = [
        {"params": [model[0].weight], "lr": 0.3},
        {"params": [model[0].bias], "lr": 0.0},
        {"params": model[2].parameters(), "lr": 0.2},
    ]
    if with_multipliers:
        for settings, multiplier in zip(groups, (3.0, 0.5, 2.0), strict=True):
            settings[MULTIPLIER] = multiplier
    optimizer = torch.optim.SGD(groups, lr=7.0)
    setup = Setup(model, optimizer, nn.functional.mse_loss, loader_batches(batches, CPU), **group)
    for lr, step in zip(LR, train(setup, LR), strict=True):
        assert step.lr == lr
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(used(lr), rel=1e-12)
