"""Lanes trained by every built-in optimizer, against its paper's update formula and against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import SGDRegressor
from torch import nn

from lrfind.catalog import OPTIMIZERS
from lrfind.config.registry import resolve
from lrfind.models.linear import Linear
from lrfind.problem.setup import Setup
from lrfind.schedules.functions import constant, inverse_time
from lrfind.training.loop import train
from lrfind.training.stack import Stack

Array = np.ndarray
Updated = tuple[Array, tuple[Any, ...]]
"""The weights after one step, and the state that the next step takes."""

STEPS, FEATURES = 30, 4

# Each formula is one step of the weights w, from the gradient g, the learning rate lr, the number of the step
# t = 1, 2, ..., the state (none at t = 1) and the options, with their names and defaults in torch.


def sgd(
    w: Array,
    g: Array,
    lr: float,
    t: int,
    v: Array | float = 0.0,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Updated:
    # Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning", eqs. 1-4, as
    # torch has them: the lr multiplies the whole velocity (theirs: each gradient that enters it), and
    # Nesterov's look ahead is a change of variables, so that g is taken at w.
    g = g + weight_decay * w
    v = momentum * v + g
    return w - lr * (g + momentum * v if nesterov else v), (v,)


def adagrad(
    w: Array, g: Array, lr: float, t: int, total: Array | float = 0.0, *, eps: float = 1e-10
) -> Updated:
    # Duchi, Hazan & Singer 2011, JMLR 12, figure 1, the diagonal matrix; eps is their delta.
    total = total + g**2
    return w - lr * g / (eps + np.sqrt(total)), (total,)


def adadelta(
    w: Array,
    g: Array,
    lr: float,
    t: int,
    g2: Array | float = 0.0,
    dx2: Array | float = 0.0,
    *,
    rho: float = 0.9,
    eps: float = 1e-6,
) -> Updated:
    # Zeiler 2012, arXiv:1212.5701, algorithm 1. The lr is torch's: the paper's is 1.
    g2 = rho * g2 + (1 - rho) * g**2
    dx = -np.sqrt(dx2 + eps) / np.sqrt(g2 + eps) * g
    dx2 = rho * dx2 + (1 - rho) * dx**2
    return w + lr * dx, (g2, dx2)


def rmsprop(
    w: Array,
    g: Array,
    lr: float,
    t: int,
    square: Array | float = 0.0,
    *,
    alpha: float = 0.99,
    eps: float = 1e-8,
) -> Updated:
    # Hinton 2012, "Neural networks for machine learning", lecture 6e; eps, and 0.99 for his 0.9, are torch's.
    square = alpha * square + (1 - alpha) * g**2
    return w - lr * g / (np.sqrt(square) + eps), (square,)


def adam(
    w: Array,
    g: Array,
    lr: float,
    t: int,
    m: Array | float = 0.0,
    v: Array | float = 0.0,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Updated:
    # Kingma & Ba 2015, arXiv:1412.6980, algorithm 1.
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return w - lr * m_hat / (np.sqrt(v_hat) + eps), (m, v)


def adamw(
    w: Array,
    g: Array,
    lr: float,
    t: int,
    m: Array | float = 0.0,
    v: Array | float = 0.0,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> Updated:
    # Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2. Theirs decays by a schedule's multiplier times
    # lambda; torch by the lr itself times weight_decay.
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return w - lr * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * w), (m, v)


def adamax(
    w: Array,
    g: Array,
    lr: float,
    t: int,
    m: Array | float = 0.0,
    u: Array | float = 0.0,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Updated:
    # Kingma & Ba 2015, arXiv:1412.6980, algorithm 2. They have no eps; torch adds it to |g|, within the maximum.
    m = betas[0] * m + (1 - betas[0]) * g
    u = np.maximum(betas[1] * u, np.abs(g) + eps)
    return w - lr / (1 - betas[0] ** t) * m / u, (m, u)


def nadam(
    w: Array,
    g: Array,
    lr: float,
    t: int,
    m: Array | float = 0.0,
    v: Array | float = 0.0,
    product: float = 1.0,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum_decay: float = 4e-3,
) -> Updated:
    # Dozat 2016, "Incorporating Nesterov momentum into Adam", ICLR workshop: the algorithm, with momentum that
    # grows with t by the 0.96 ** (t / 250) of his experiments; 1 / 250 is torch's momentum_decay. His m decays by
    # mu too, torch's by betas[0].
    mu, following = (betas[0] * (1 - 0.5 * 0.96 ** (i * momentum_decay)) for i in (t, t + 1))
    product = product * mu
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_bar = following * m / (1 - product * following) + (1 - mu) * g / (1 - product)
    return w - lr * m_bar / (np.sqrt(v / (1 - betas[1] ** t)) + eps), (m, v, product)


def radam(
    w: Array,
    g: Array,
    lr: float,
    t: int,
    m: Array | float = 0.0,
    v: Array | float = 0.0,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Updated:
    # Liu et al. 2020, arXiv:1908.03265, algorithm 2. They rectify from rho > 4 on and have no eps; torch does
    # from rho > 5 on, and adds eps to the square root of v before its bias is corrected.
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat = m / (1 - betas[0] ** t)
    rho_inf = 2 / (1 - betas[1]) - 1
    rho = rho_inf - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
    if rho <= 5:
        return w - lr * m_hat, (m, v)
    r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    return w - lr * r * m_hat * np.sqrt(1 - betas[1] ** t) / (np.sqrt(v) + eps), (m, v)


FORMULAS: dict[str, Callable[..., Updated]] = {
    "adadelta": adadelta,
    "adagrad": adagrad,
    "adam": adam,
    "adamax": adamax,
    "adamw": adamw,
    "nadam": nadam,
    "radam": radam,
    "rmsprop": rmsprop,
    "sgd": sgd,
}

PEAK_LR = {"adadelta": 10.0, "adagrad": 0.5, "radam": 0.3, "sgd": 0.05}  # 0.1 for the others

OPTIONS = {"betas": (0.8, 0.9), "eps": 0.01}  # such a large eps shows where it is added
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in FORMULAS},
    "sgd-momentum": ("sgd", {"momentum": 0.9}),
    "sgd-nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}),
    "sgd-weight_decay": ("sgd", {"weight_decay": 0.1}),
    "adadelta-options": ("adadelta", {"rho": 0.7, "eps": 0.01}),
    "adagrad-options": ("adagrad", {"eps": 0.01}),
    "adam-options": ("adam", OPTIONS),
    "adamax-options": ("adamax", OPTIONS),
    "adamw-options": ("adamw", {**OPTIONS, "weight_decay": 0.3}),
    "nadam-options": ("nadam", {**OPTIONS, "momentum_decay": 0.5}),
    "radam-options": ("radam", OPTIONS),
    "rmsprop-options": ("rmsprop", {"alpha": 0.8, "eps": 0.01}),
    "sgd-options": ("sgd", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
}
STACKABLE = {case: values for case, values in CASES.items() if OPTIMIZERS[values[0]].stackable}
each_optimizer = pytest.mark.parametrize(("name", "options"), CASES.values(), ids=CASES)
each_stackable_optimizer = pytest.mark.parametrize(("name", "options"), STACKABLE.values(), ids=STACKABLE)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Set the default dtype to float64, in which torch then also keeps the product of NAdam's momenta."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(default)


def lr_columns(peak: float) -> Array:
    """Return three lanes' lrs (STEPS, 3), each a warmup and a decay of its own height and length."""
    t = np.arange(STEPS)[:, None]
    shape = np.minimum((t + 1) / [2, 5, 15], np.cos(0.45 * np.pi * t / STEPS))
    return peak * shape * [0.1, 0.4, 1]


def batches() -> list[tuple[Array, Array]]:
    """Return three batches of x (8, FEATURES) and y (8, 1), with noise, so that gradients do not vanish."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 8, FEATURES))
    y = x @ rng.standard_normal((FEATURES, 1)) + 1 + 0.5 * rng.standard_normal((3, 8, 1))
    return list(zip(x, y, strict=True))


def setup(name: str, options: dict[str, Any], data: list[tuple[Array, Array]]) -> Setup:
    torch.manual_seed(0)
    model = Linear(FEATURES, 1)
    optimizer = resolve(OPTIMIZERS[name].path)(model.parameters(), lr=1.0, **options)
    tensors = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in data]
    return Setup(model, optimizer, nn.functional.mse_loss, cycle(tensors))


def weights(model: nn.Module) -> Array:
    """Return the slopes and then the intercept, (FEATURES + 1,)."""
    return nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()


def by_formula(name: str, options: dict[str, Any], lr: Array) -> Array:
    """Return the weights of least squares after one step of the formula for each lr (T,)."""
    w, state = weights(setup(name, options, batches()).model), ()
    for t, (value, (x, y)) in enumerate(zip(lr, cycle(batches()), strict=False), 1):
        x1 = np.hstack([x, np.ones_like(y)])
        g = 2 / len(y) * x1.T @ (x1 @ w - y[:, 0])  # the gradient of the mean squared error
        w, state = FORMULAS[name](w, g, value, t, *state, **options)
    return w


def test_every_optimizer_of_the_catalog_has_a_formula_here() -> None:
    assert set(FORMULAS) == set(OPTIMIZERS)


@each_optimizer
def test_a_lane_takes_the_steps_of_the_papers_formula(name: str, options: dict[str, Any]) -> None:
    lr = lr_columns(PEAK_LR.get(name, 0.1))[:, 1]
    parts = setup(name, options, batches())
    assert len(list(train(parts, lr))) == STEPS
    np.testing.assert_allclose(weights(parts.model), by_formula(name, options, lr), rtol=1e-10)


@each_stackable_optimizer
def test_stacked_lanes_take_the_steps_of_the_papers_formula(name: str, options: dict[str, Any]) -> None:
    lr = lr_columns(PEAK_LR.get(name, 0.1))
    stack = Stack(setup(name, options, batches()), lr.shape[1])
    stack.train(lr)
    stacked = torch.hstack([p.flatten(1) for p in stack.parameters.values()]).numpy()  # (3, FEATURES + 1)
    expected = [by_formula(name, options, column) for column in lr.T]
    np.testing.assert_allclose(stacked, expected, rtol=1e-10)


POWER = 0.4
MULTIPLIERS = {"constant": constant, "invscaling": partial(inverse_time, rate=1.0, power=POWER, every=1)}


@pytest.mark.parametrize("epochs", [1, 5])
@pytest.mark.parametrize("learning_rate", MULTIPLIERS)
def test_sgd_on_single_rows_takes_the_steps_of_scikit_learns(learning_rate: str, epochs: int) -> None:
    x, y = (np.concatenate(part) for part in zip(*batches(), strict=True))
    rows = list(zip(x[:, None], y[:, None], strict=True))
    parts = setup("sgd", {}, rows)
    *slopes, intercept = weights(parts.model)
    theirs = SGDRegressor(
        loss="squared_error",
        penalty=None,
        learning_rate=learning_rate,
        eta0=0.05,
        power_t=POWER,
        max_iter=epochs,
        tol=None,
        shuffle=False,
    ).fit(x, y[:, 0], coef_init=np.array(slopes), intercept_init=np.array([intercept]))

    steps = epochs * len(rows)
    lr = (
        0.05 / 2 * MULTIPLIERS[learning_rate](np.arange(steps), steps)
    )  # half, because their loss is half of ours
    assert len(list(train(parts, lr))) == steps
    np.testing.assert_allclose(weights(parts.model), [*theirs.coef_, *theirs.intercept_], rtol=1e-9)
