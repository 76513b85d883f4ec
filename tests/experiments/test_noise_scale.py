from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lrfind.analysis.noise_scale import NoiseScale, estimate, implication
from lrfind.config.experiment import check
from lrfind.datasets.regression import regression
from lrfind.errors import LrfindError, UsageError
from lrfind.experiments.noise_scale import gram, measure, rows_of
from lrfind.problem.batches import loader_batches, tensor_batches
from lrfind.problem.problem import Problem, from_config
from lrfind.problem.setup import Setup
from lrfind.training.loop import Step, train

CPU = torch.device("cpu")
CONFIG = """
model: linear
data: {name: regression, batch_size: 16, args: {samples: 8192, features: 6, noise: 1.0}}
loss: mse
optimizer: {name: sgd, lr: 0.05}
training: {steps: 10}
"""


def exact(model: nn.Module) -> float:
    """Return tr(cov) / |mean|^2 of the gradients of the single rows: 2 (x w + b - y) (x, 1)."""
    x, y = (tensor.double().numpy() for tensor in regression(samples=8192, features=6, noise=1.0).train)
    weight, bias = (p.detach().double().numpy() for p in model.parameters())
    gradients = 2 * (x @ weight.T + bias - y) * np.hstack([x, np.ones_like(y)])  # (N, 7)
    mean = gradients.mean(axis=0)
    return float(gradients.var(axis=0).sum() / (mean @ mean))


def test_the_scale_of_linear_regression_is_that_of_its_rows() -> None:
    problem = from_config(check(CONFIG))
    scales = measure(problem, 0, steps=8, batches=400, points=(0, 1))
    plain = problem.setup(0)
    for at, model in zip(scales, [plain.model, plain.model], strict=True):
        if at.step:
            assert len(list(train(plain, np.full(8, 0.05)))) == at.step == 8
        assert at.scale == pytest.approx(exact(model), rel=0.15)
        assert at.low is not None
        assert at.high is not None
        assert at.low < exact(model) < at.high
        assert (at.rows, at.batches, at.note) == (16, 400, None)


def test_the_moments_are_unbiased_and_the_interval_covers() -> None:
    rng = np.random.default_rng(0)
    true = 50.0  # with 20 directions, |G| = 1 and batches of 32 rows
    scales = []
    for _ in range(300):
        noise = rng.standard_normal((16, 20)) * np.sqrt(true / 20 / 32)
        gradients = np.eye(20)[0] + noise
        scales.append(estimate(gradients @ gradients.T, 32))
    assert np.mean([at.gradient for at in scales]) == pytest.approx(1, rel=0.03)
    assert np.mean([at.trace for at in scales]) == pytest.approx(true, rel=0.03)
    covered = [at.low is not None and at.low < true and (at.high is None or true < at.high) for at in scales]
    assert np.mean(covered) >= 0.93


def test_the_moments_are_those_of_the_two_batch_sizes() -> None:
    gradients = np.random.default_rng(1).standard_normal((5, 3)) + 2
    rows = 8
    big = (gradients.mean(axis=0) ** 2).sum()
    small = (gradients**2).sum(axis=1).mean()
    at = estimate(gradients @ gradients.T, rows)
    assert at.gradient == pytest.approx((5 * rows * big - rows * small) / (5 * rows - rows))
    assert at.trace == pytest.approx((small - big) / (1 / rows - 1 / (5 * rows)))


def restless(seed: int) -> Setup:
    """A model with running averages and dropout, on shuffled batches, with momentum and a global draw."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(256, 5, generator=generator)
    y = x.sum(dim=1, keepdim=True) + torch.randn(256, 1, generator=generator)
    model = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return Setup(model, optimizer, nn.functional.mse_loss, tensor_batches((x, y), 16, seed))


def test_measuring_does_not_change_the_training() -> None:
    setups: list[Setup] = []

    def setup(seed: int) -> Setup:
        setups.append(restless(seed))
        return setups[-1]

    steps: list[Step] = []
    scales = measure(Problem(setup, CPU, batches_per_epoch=16), 7, 0.02, steps=30, watch=steps.append)
    assert [at.step for at in scales] == [0, 8, 15, 30]
    plain = restless(7)
    assert steps == list(train(plain, np.full(30, 0.02)))
    for ours, theirs in zip(
        setups[-1].model.state_dict().values(), plain.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_measuring_restores_the_gradients_and_the_random_state() -> None:
    batches = list(itertools.islice(restless(1).batches, 4))
    setup = restless(0)
    next(train(setup, np.full(3, 0.01)))
    grads = [p.grad.clone() for p in setup.model.parameters() if p.grad is not None]
    random, state = torch.get_rng_state(), {k: v.clone() for k, v in setup.model.state_dict().items()}
    gram(setup, batches)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, state[key]) for key, value in setup.model.state_dict().items())
    after = [p.grad for p in setup.model.parameters()]
    assert all(a is not None and torch.equal(a, b) for a, b in zip(after, grads, strict=True))


def of(make: Callable[[], Iterator[Any]], *, lr: float = 0.01, epoch: int | None = None) -> Problem:
    def setup(seed: int) -> Setup:
        torch.manual_seed(seed)
        model = nn.Linear(3, 1)
        return Setup(model, torch.optim.SGD(model.parameters(), lr=lr), nn.functional.mse_loss, make())

    return Problem(setup, CPU, batches_per_epoch=epoch)


def random_batches(sizes: tuple[int, ...] = (8,)) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for rows in itertools.cycle(sizes):
        yield torch.randn(rows, 3, generator=generator), torch.randn(rows, 1, generator=generator)


def test_a_full_batch_has_no_noise_to_measure() -> None:
    x, y = next(random_batches((32,)))
    with pytest.raises(UsageError, match="an epoch is a single batch: the batch is the whole training set"):
        measure(of(lambda: iter([(x, y)]), epoch=1), 0, steps=4)

    def shuffled() -> Iterator[Any]:
        while True:
            order = torch.randperm(32)
            yield x[order], y[order]

    with pytest.raises(UsageError, match="same gradient: the batch is the whole training set"):
        measure(of(shuffled), 0, steps=4)
    with pytest.raises(UsageError, match="an epoch has only 3 batches"):
        measure(of(random_batches, epoch=3), 0, steps=4)


def test_no_more_batches_are_measured_than_an_epoch_has() -> None:
    (at,) = measure(of(random_batches, epoch=6), 0, steps=1, points=(0,))
    assert at.batches == 6


def test_divergence_ends_the_measuring_with_a_note() -> None:
    scales = measure(of(random_batches), 0, 1e6, steps=60)
    assert scales[0].step == 0
    assert scales[0].trace is not None
    assert scales[-1].scale is None
    assert "diverged here, at lr 1e+06" in (scales[-1].note or "")
    assert scales[-1].step < 60


def test_a_gradient_far_below_its_noise_has_no_scale_but_a_lower_bound() -> None:
    signs = np.array([1.0, -1.0] * 8)[:, None]
    noise = np.random.default_rng(0).standard_normal((16, 40)) * 0.1
    at = estimate((signs + noise) @ (signs + noise).T, 8)
    assert at.scale is None
    assert at.high is None
    assert "too large to measure with so few batches" in (at.note or "")
    assert "is not known at step 0" in implication(at, 64)[0]


def test_gradients_that_are_zero_or_not_finite_have_a_note() -> None:
    assert estimate(np.zeros((4, 4)), 8).note == "the gradient is zero on every batch"
    assert estimate(np.full((4, 4), np.nan), 8).note == "the gradient is not finite"


def test_short_batches_are_skipped_and_uneven_ones_refused() -> None:
    (at,) = measure(of(lambda: random_batches((8, 8, 3))), 0, steps=1, points=(0,), batches=5)
    assert (at.rows, at.batches) == (8, 5)
    with pytest.raises(
        UsageError, match="5 batches of the same size; found only 1 batch of 8 rows among the first 20"
    ):
        measure(of(lambda: random_batches(tuple(range(8, 40)))), 0, steps=1, batches=5)
    with pytest.raises(UsageError, match="no tensor in it"):
        measure(of(lambda: itertools.repeat(("a", "b"))), 0, steps=1)


def test_the_rows_of_a_batch_are_those_of_its_first_tensor() -> None:
    assert rows_of({"ids": torch.zeros(5, 2), "y": torch.zeros(3)}) == 5
    assert rows_of((["text"], torch.zeros(()), (torch.zeros(4),))) == 4


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"batches": 3}, {"points": ()}, {"points": (0.0, 1.5)}, {"lr": -1.0}]
)
def test_arguments_that_cannot_be_measured_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="found"):
        measure(of(random_batches), 0, **{"steps": 5, **change})


def test_a_training_that_fails_is_reported_with_its_step() -> None:
    loader = [(torch.zeros(8, 4), torch.zeros(8, 1))]
    with pytest.raises(UsageError, match="the first training step failed"):
        measure(of(lambda: loader_batches(loader, CPU)), 0, steps=5)

    def late() -> Iterator[Any]:
        yield from itertools.islice(random_batches(), 20)
        raise RuntimeError("the disk is gone")

    with pytest.raises(LrfindError, match="failed at step 19: RuntimeError: the disk is gone"):
        measure(of(late), 0, steps=50)


def test_the_implication_is_the_curve_between_fewest_steps_and_fewest_examples() -> None:
    at = NoiseScale(0, 100.0, 80.0, 130.0, 1.0, 100.0, 32, 16)
    here, there, caution = implication(at, 100, 400)
    assert "2 times the fewest possible steps and 2 times the fewest possible examples" in here
    assert "0.625 times the steps and 2.5 times the examples that a batch of 100 takes" in there
    assert "grows during training" in caution
    assert "almost proportionally fewer steps" in implication(at, 10)[0]
    assert "wastes computation" in implication(at, 1000)[0]
