from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lrfind.errors import UsageError
from lrfind.schedules.reactive import grad_norm, plateaued, reduce_on_plateau


def noisy_losses(seed: int, size: int = 120) -> list[float]:
    """Return losses that fall, level out and shake; a few of them are not finite."""
    rng = np.random.default_rng(seed)
    losses = 0.5 + np.exp(-np.arange(size) / 10) + rng.normal(0, 0.01, size)
    losses[rng.random(size) < 0.05] = math.nan
    losses[rng.random(size) < 0.02] = math.inf
    return [float(loss) for loss in losses]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("peak", [0.3, 1e-4])
@pytest.mark.parametrize(
    "args",
    [
        {},
        {"patience": 0, "factor": 0.5},
        {"patience": 3, "cooldown": 4},
        {"patience": 1, "cooldown": 1, "factor": 0.9, "threshold": 0.0},
        {"patience": 2, "min_lr": 5e-5, "threshold": 0.02},
        {"patience": 2, "min_lr": 1.0},
    ],
)
def test_reduce_on_plateau_equals_torchs_scheduler(args: dict[str, Any], peak: float, seed: int) -> None:
    losses = noisy_losses(seed)
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = ReduceLROnPlateau(optimizer, **args)
    assert reduce_on_plateau([], peak, **args) == 1.0
    for seen, loss in enumerate(losses, start=1):
        optimizer.step()
        scheduler.step(loss)
        ours = peak * reduce_on_plateau(losses[:seen], peak, **args)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_reduce_on_plateau_equals_torchs_scheduler_on_negative_losses(sign: float) -> None:
    losses = list(-3 + sign * np.random.default_rng(0).normal(0, 0.1, 60))
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = ReduceLROnPlateau(optimizer, patience=2, threshold=0.01)
    for loss in losses:
        scheduler.step(loss)
    ours = reduce_on_plateau(losses, 1.0, patience=2, threshold=0.01)
    assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("patience", [1, 3, 8])
def test_plateaued_equals_keras_early_stopping_at_a_threshold_of_0(patience: int, seed: int) -> None:
    losses = noisy_losses(seed)
    best, wait = math.inf, 0
    for seen, loss in enumerate(losses, start=1):
        best, wait = (loss, 0) if loss < best else (best, wait + 1)
        assert plateaued(losses[:seen], patience=patience, threshold=0.0) == (wait >= patience)


@pytest.mark.parametrize(
    ("losses", "answer"),
    [
        ([], False),
        ([1.0], False),
        ([1.0, 1.0], False),
        ([1.0, 1.0, 1.0], True),
        ([1.0, 0.95, 0.91], True),  # each is lower, by less than the threshold
        ([1.0, 0.95, 0.89], False),
        ([1.0, 0.8, 1.0, 1.0], True),
        ([1.0, math.nan, math.nan], True),
        ([math.nan, math.nan], True),
        ([math.nan, math.nan, 9.0], False),
        ([-1.0, -1.05, -1.09], True),
        ([-1.0, -1.05, -1.11], False),
        ([0.0, 0.0, -1e-9], False),
    ],
)
def test_a_plateau_is_no_relative_fall_in_the_last_evaluations(losses: list[float], answer: bool) -> None:
    assert plateaued(losses, patience=2, threshold=0.1) is answer


def test_grad_norm_equals_autoclip_for_plain_sgd() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 8, 5, generator=generator, dtype=torch.float64)
    targets = torch.randn(64, 8, generator=generator, dtype=torch.float64)
    targets[::9] *= 30  # a few steps with a large gradient
    peak, percentile = 0.05, 40.0
    clipped, slowed = (torch.zeros(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    history: list[float] = []
    norms: list[float] = []
    multipliers = []
    for x, y in zip(inputs, targets, strict=True):
        (gradient,) = torch.autograd.grad(((x @ clipped - y) ** 2).mean(), clipped)
        history.append(float(gradient.norm()))
        limit = float(np.percentile(history, percentile))
        gradient = gradient * min(1.0, limit / history[-1])
        clipped = (clipped - peak * gradient).detach().requires_grad_()

        (gradient,) = torch.autograd.grad(((x @ slowed - y) ** 2).mean(), slowed)
        norms.append(float(gradient.norm()))
        multipliers.append(grad_norm(norms, peak, percentile=percentile))
        slowed = (slowed - peak * multipliers[-1] * gradient).detach().requires_grad_()
    torch.testing.assert_close(slowed, clipped, rtol=1e-9, atol=0)
    assert min(multipliers) < 0.1
    assert max(multipliers) == 1.0


def test_grad_norm_looks_back_no_further_than_its_window() -> None:
    norms = [1.0] * 50 + [8.0] * 10
    assert grad_norm(norms, 0.1, window=60) == 1 / 8
    assert grad_norm(norms, 0.1, window=10) == 1.0


@pytest.mark.parametrize("norms", [[], [0.0], [1.0, 0.0], [1.0, math.nan], [1.0, math.inf]])
def test_grad_norm_leaves_the_lr_where_there_is_no_norm_to_divide_by(norms: list[float]) -> None:
    assert grad_norm(norms, 0.1) == 1.0


def test_grad_norm_passes_over_earlier_norms_that_are_not_finite() -> None:
    assert grad_norm([1.0, math.inf, math.nan, 1.0, 4.0], 0.1, percentile=50) == 0.25


@pytest.mark.parametrize(
    ("reaction", "args", "message"),
    [
        (reduce_on_plateau, {"factor": 1.0}, "factor must be above 0 and below 1; found 1.0"),
        (reduce_on_plateau, {"patience": -1}, "patience must be a whole number of at least 0; found -1"),
        (reduce_on_plateau, {"patience": 1.5}, "patience must be a whole number"),
        (reduce_on_plateau, {"cooldown": -1}, "cooldown must be"),
        (
            reduce_on_plateau,
            {"threshold": 1.0},
            "threshold must be a share of the loss, at least 0 and below 1",
        ),
        (reduce_on_plateau, {"min_lr": -0.1}, "min_lr must be a learning rate of at least 0"),
        (reduce_on_plateau, {"peak": 0.0}, "peak must be a positive learning rate; found 0.0"),
        (plateaued, {"patience": 0}, "patience must be a whole number of at least 1"),
        (plateaued, {"patience": 1, "threshold": -0.1}, "threshold must be"),
        (grad_norm, {"percentile": 101.0}, "percentile must be from 0 to 100; found 101.0"),
        (grad_norm, {"window": 0}, "window must be a whole number of at least 1"),
        (grad_norm, {"peak": math.nan}, "peak must be"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_do(
    reaction: Any, args: dict[str, Any], message: str
) -> None:
    peak = {} if reaction is plateaued else {"peak": 0.1}
    with pytest.raises(UsageError) as caught:
        reaction([1.0, 2.0], **{**peak, **args})
    assert message in str(caught.value)
