"""The gradient noise scale, measured: up to which batch size more rows make a better step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrfind.analysis.curves import AT_A_CONSTANT_LR, Array, DivergenceRule
from lrfind.analysis.statistics import t_95
from lrfind.errors import LrfindError, UsageError
from lrfind.problem.batches import batch_loss
from lrfind.problem.problem import Problem
from lrfind.problem.setup import Setup
from lrfind.problem.snapshot import preserved
from lrfind.training.explanations.failures import first_steps_failed
from lrfind.training.loop import Step, train

FEWEST = 4  # batches: of fewer, an interval says nothing
BLOCK = 2**20  # numbers of each gradient that are multiplied at a time, in float64
NO_NOISE = 1e-10  # of the squared gradient: float32 rounding leaves about 1e-13
WHOLE = (
    "the batch is the whole training set, whose gradient has no noise to measure; give a smaller"
    " data.batch_size"
)


@dataclass(frozen=True)
class NoiseScale:
    """The noise scale at one moment of a training; None where the batches do not tell.

    Attributes:
        step: the number of updates before it.
        scale: B_simple = trace / gradient, in rows.
        low: lower end of an approximate 95 % interval of the scale.
        high: its upper end; None where there is no bound.
        gradient: |G|^2, the squared norm of the true gradient; an estimate, which may be negative.
        trace: tr(Sigma), the variance of one row's gradient, summed over all parameters.
        rows: of each batch.
        batches: how many were measured.
        note: why something is missing.
    """

    step: int
    scale: float | None
    low: float | None
    high: float | None
    gradient: float | None
    trace: float | None
    rows: int
    batches: int
    note: str | None = None


def measure(
    problem: Problem,
    seed: int,
    lr: float | None = None,
    *,
    steps: int,
    batches: int = 16,
    points: Sequence[float] = (0.0, 0.25, 0.5, 1.0),
    watch: Callable[[Step], None] = lambda step: None,
) -> list[NoiseScale]:
    """Measure the noise scale at several moments of a training at a constant lr; see `estimate`.

    The gradients are those of the training itself: in train mode, with dropout, before any clipping; of
    single batches also where a step accumulates several; in float32. They are taken on batches of another
    seed's order, the same ones at every moment, so that moments compare well. Weights, buffers, optimizer
    and random generators are put back after each, so the training is the one that it is without. A batch
    counts by its rows, and the loss must be a mean over them. Needs memory for `batches` gradients, on the
    CPU.

    Args:
        problem: what to train.
        seed: of the training.
        lr: of every step; the optimizer's own when omitted.
        steps: T, updates in all.
        batches: at each moment, at least 4; no more than an epoch has are used.
        points: the moments, as shares of the training from 0 (before it) to 1 (after it).
        watch: told of every step.

    Returns:
        Ascending in their steps. If the training diverges, the last one has no scale, and a note.

    Raises:
        UsageError: if there is no noise because the batch is the whole training set, or too few batches in
            an epoch, or batches whose rows cannot be counted.
    """
    if steps < 1 or batches < FEWEST or not points or not all(0 <= point <= 1 for point in points):
        raise UsageError(
            f"the noise scale needs at least 1 step, {FEWEST} batches and points from 0 to 1; found"
            f" {steps} steps, {batches} batches and points {', '.join(f'{p:g}' for p in points) or 'none'}."
        )
    if lr is not None and not 0 < lr < math.inf:
        raise UsageError(f"lr must be a positive number; found {lr:g}.")
    stops = {round(point * steps) for point in points}
    found: list[NoiseScale] = []
    step = 0
    with _failure_told(lambda: step):
        chosen, rows = _batches(problem, seed, batches)
        setup = problem.setup(seed)  # after the batches were drawn: it starts all generators anew
        rate = _own_lr(setup.optimizer) if lr is None else lr
        rule = DivergenceRule(AT_A_CONSTANT_LR)
        for taken in train(setup, np.full(steps, rate)):
            step = taken.step
            watch(taken)
            if rule.diverges(taken.loss):
                note = f"the training diverged here, at lr {rate:.3g}; nothing later was measured"
                ended = NoiseScale(step, None, None, None, None, None, rows, len(chosen), note)
                return [*found, ended]
            if step in stops:
                found.append(estimate(gram(setup, chosen), rows, step))
        if steps in stops:
            found.append(estimate(gram(setup, chosen), rows, steps))
    return found


def estimate(products: Array, rows: int, step: int = 0) -> NoiseScale:
    """Estimate the noise scale from the gradients of n batches at the same weights.

    |G|^2 and tr(Sigma) are the unbiased estimators of McCandlish et al. 2018 (arXiv:1812.06162), appendix
    A.1, with B_small the rows of one batch (its squared norm a mean over all of them) and B_big the rows of
    all. Batches without a common row, as those of one epoch, are not quite independent: then |G|^2 is that
    of the distribution that the training set was drawn from rather than of the set.

    The interval is a jackknife over batches, with Student's t. It is of the inverse, |G|^2 / tr(Sigma), and
    turned over: nearly all of the error is in |G|^2, so the inverse is close to symmetric, and an |G|^2
    that could be zero gives a scale without upper bound, as it should.

    Args:
        products: (n, n) inner products of the gradients; n at least 4.
        rows: B, of each batch.
        step: where in a training.

    Raises:
        UsageError: if the gradients are all the same.
    """
    n = len(products)
    if not np.isfinite(products).all():
        note = "the gradient is not finite"
        return NoiseScale(step, None, None, None, None, None, rows, n, note)
    gradient, trace = _moments(products, rows)
    size = float(products.trace()) / n
    if size == 0:
        note = "the gradient is zero on every batch"
        return NoiseScale(step, None, None, None, gradient, trace, rows, n, note)
    if trace <= NO_NOISE * size * rows:
        raise UsageError(f"every batch has the same gradient: {WHOLE}.")
    kept = [np.delete(np.arange(n), i) for i in range(n)]
    without = np.array([np.divide(*_moments(products[np.ix_(rest, rest)], rows)) for rest in kept])
    error = math.sqrt((n - 1) * float(np.var(without)))
    reach = t_95(n - 1) * error
    inverse = gradient / trace
    low = 1 / (inverse + reach) if inverse + reach > 0 else None
    high = 1 / (inverse - reach) if inverse - reach > 0 else None
    if gradient <= 0:
        note = "larger than can be seen with so few batches: the gradient drowns in its noise"
        return NoiseScale(step, None, low, None, gradient, trace, rows, n, note)
    return NoiseScale(step, trace / gradient, low, high, gradient, trace, rows, n)


def _moments(products: Array, rows: int) -> tuple[float, float]:
    """|G|^2 and tr(Sigma) from the (n, n) inner products of the gradients of n batches."""
    n = len(products)
    small = float(products.trace()) / n  # |G|^2 + tr(Sigma) / B, on average
    big = float(products.mean())  # |G|^2 + tr(Sigma) / (n B), on average
    return (n * big - small) / (n - 1), rows * (small - big) * n / (n - 1)


def gram(setup: Setup, batches: Sequence[Any]) -> Array:
    """The (n, n) inner products of the gradients of n batches, at the weights as they are.

    Everything is put back as it was: weights, `.grad`, buffers, optimizer, random generators.
    """
    parameters = [p for group in setup.optimizer.param_groups for p in group["params"] if p.requires_grad]
    gradients: list[list[Tensor]] = []
    with preserved(setup.model, setup.optimizer, setup.loss_fn):
        for batch in batches:
            loss = batch_loss(setup.model, setup.loss_fn, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            gradients.append([_flat_gradient(parameter) for parameter in parameters])
            for parameter in parameters:
                parameter.grad = None
    products = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for same in zip(*gradients, strict=True):  # one parameter's gradients
        for columns in torch.split(torch.stack(same), BLOCK, dim=1):
            exact = columns.double()  # the noise is a small difference of large numbers
            products += exact @ exact.T
    return products.numpy()


def _flat_gradient(parameter: Tensor) -> Tensor:
    grad = parameter.grad
    if grad is None:  # not used by this batch
        return torch.zeros(parameter.numel(), dtype=parameter.dtype)
    return (grad.to_dense() if grad.is_sparse else grad).detach().flatten().cpu()


def _batches(problem: Problem, seed: int, count: int) -> tuple[list[Any], int]:
    """Batches of another order than the training's, and their rows; shorter ones are passed over."""
    setup = problem.setup(seed ^ 1)
    epoch = problem.batches_per_epoch
    if epoch == 1:
        raise UsageError(f"an epoch is a single batch: {WHOLE}.")
    if epoch is not None and epoch < FEWEST:
        raise UsageError(
            f"an epoch has only {epoch} batches, and the noise scale needs at least {FEWEST}; give a smaller"
            " data.batch_size."
        )
    count = count if epoch is None else min(count, epoch)
    chosen: list[Any] = []
    rows = None
    for batch in islice(setup.batches, 4 * count):
        found = rows_of(batch)
        if found is None:
            raise UsageError(
                f"cannot tell how many rows a batch has: there is no tensor in it ({type(batch).__name__})."
            )
        rows = rows or found
        if found == rows:
            chosen.append(batch)
        if len(chosen) == count:
            return chosen, found
    raise UsageError(
        f"the noise scale needs batches of the same size; found {len(chosen)} of {rows} rows among the first"
        f" {4 * count}."
    )


def rows_of(batch: Any) -> int | None:
    """The rows of a batch: the length of the first tensor in it; None if there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else None
    parts = batch.values() if isinstance(batch, Mapping) else batch
    if not isinstance(batch, Mapping | tuple | list):
        return None
    return next((rows for rows in map(rows_of, parts) if rows is not None), None)


def _own_lr(optimizer: torch.optim.Optimizer) -> float:
    lrs = [float(group["lr"]) for group in optimizer.param_groups]
    return next((lr for lr in lrs if lr > 0), 0.0)  # if all are zero, `train` says so


@contextmanager
def _failure_told(step: Callable[[], int]) -> Iterator[None]:
    try:
        yield
    except LrfindError:
        raise
    except Exception as error:
        if step() == 0:
            raise first_steps_failed(error) from error
        text = " ".join(str(error).split())
        raise LrfindError(f"the training failed at step {step()}: {type(error).__name__}: {text}") from error


def implication(found: NoiseScale, batch: int, to_batch: int | None = None) -> list[str]:
    """What a noise scale implies for the batch size in use, and for one that is asked about.

    A training takes S_min (1 + B_noise / B) steps and E_min (1 + B / B_noise) examples, the curve of
    McCandlish et al. 2018 (arXiv:1812.06162), eq. 2.11.

    Returns:
        Sentences.
    """
    caution = (
        "The noise scale usually grows during training, and this simple one ignores the curvature: take it"
        " for the order of magnitude."
    )
    if found.scale is None:
        known = "" if found.low is None else f"; it is probably above {found.low:.3g}"
        return [f"The noise scale is not known at step {found.step}: {found.note}{known}."]
    scale = found.scale
    said = [
        f"A batch of {batch} is {_place(batch, scale)}: training takes {1 + scale / batch:.3g} times the"
        f" fewest possible steps and {1 + batch / scale:.3g} times the fewest possible examples."
    ]
    if to_batch is not None and to_batch != batch:
        steps = (1 + scale / to_batch) / (1 + scale / batch)
        examples = (1 + to_batch / scale) / (1 + batch / scale)
        said.append(
            f"A batch of {to_batch} is {_place(to_batch, scale)}: it takes {steps:.3g} times the steps and"
            f" {examples:.3g} times the examples that {batch} takes."
        )
    return [*said, caution]


def _place(batch: int, scale: float) -> str:
    """Where a batch size is beside the noise scale, and what more rows would buy there."""
    if batch < scale / 3:
        return "below the noise scale, where a larger batch buys almost proportionally fewer steps"
    if batch <= scale * 3:
        return "near the noise scale, where a larger batch still buys fewer steps, for more examples"
    return "above the noise scale, where a larger batch buys hardly fewer steps and wastes computation"
