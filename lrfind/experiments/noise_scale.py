"""Measuring the gradient noise scale: the batch size up to which more rows make a better step."""

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
from lrfind.errors import LrfindError, UsageError, counted, in_one_line, listed
from lrfind.problem.batches import batch_loss
from lrfind.problem.problem import Problem
from lrfind.problem.setup import Setup
from lrfind.problem.snapshot import preserved
from lrfind.training.explanations.failures import first_steps_failed
from lrfind.training.loop import Step, train

FEWEST = 4  # batches; with fewer, an interval says nothing
BLOCK = 2**20  # numbers of each gradient that are multiplied at a time, in float64
NO_NOISE = 1e-10  # share of the squared gradient; float32 rounding leaves about 1e-13
WHOLE = (
    "the batch is the whole training set, whose gradient has no noise to measure; give a smaller"
    " data.batch_size"
)


@dataclass(frozen=True)
class NoiseScale:
    """The noise scale at one moment of a training; figures that the batches do not show are None.

    Attributes:
        step: the number of updates before this moment.
        scale: B_simple = trace / gradient, in rows.
        low: the lower end of an approximate 95 % interval of the scale.
        high: the upper end of this interval; None if there is no bound.
        gradient: |G|^2, the squared norm of the true gradient; an estimate, which may be negative.
        trace: tr(Sigma), the variance of one row's gradient, summed over all parameters.
        rows: the number of rows of each batch.
        batches: the number of batches that were measured.
        note: why a figure is missing.
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

    The gradients are those of the training itself: in train mode, with dropout, before any clipping, and in
    float32. They are gradients of single batches, even if a step accumulates several batches. They are
    measured on batches in the order of another seed. The batches are the same at every moment, so that the
    moments can be compared. After each moment, the weights, the buffers, the optimizer and the random
    generators are restored, so the measurements do not change the training. The size of a batch is its number
    of rows, and the loss must be a mean over the rows. The function needs memory for `batches` gradients, on
    the CPU.

    Args:
        problem: the problem to train.
        seed: the seed of the training.
        lr: the lr of every step; the optimizer's own lr when omitted.
        steps: T, the number of updates in all.
        batches: the number of batches to measure at each moment, at least 4; never more than an epoch has.
        points: the moments, as shares of the training from 0 (before it) to 1 (after it).
        watch: a function that is called after every step.

    Returns:
        The noise scales, ascending in their steps. If the training diverges, the last one has no scale, and a
        note.

    Raises:
        UsageError: if there is no noise because the batch is the whole training set, if an epoch has too few
            batches, or if the rows of a batch cannot be counted.
    """
    if steps < 1 or batches < FEWEST or not points or not all(0 <= point <= 1 for point in points):
        raise UsageError(
            f"the noise scale needs at least 1 step, at least {FEWEST} batches, and points from 0 to 1; found"
            f" {counted(steps, 'step')}, {counted(batches, 'batch')} and the points"
            f" {listed(f'{p:g}' for p in points) if points else '(none)'}."
        )
    if lr is not None and not 0 < lr < math.inf:
        raise UsageError(f"lr must be a positive number; found {lr:g}.")
    stops = {round(point * steps) for point in points}
    scales: list[NoiseScale] = []
    number = 0
    with _failure_explained(lambda: number):
        chosen, rows = _batches(problem, seed, batches)
        setup = problem.setup(seed)  # after the batches were drawn, because it restarts all generators
        rate = _optimizer_lr(setup.optimizer) if lr is None else lr
        rule = DivergenceRule(AT_A_CONSTANT_LR)
        for step in train(setup, np.full(steps, rate)):
            number = step.step
            watch(step)
            if rule.diverges(step.loss):
                note = f"the training diverged here, at lr {rate:.3g}; nothing was measured after this step"
                last = NoiseScale(number, None, None, None, None, None, rows, len(chosen), note)
                return [*scales, last]
            if number in stops:
                scales.append(estimate(gram(setup, chosen), rows, number))
        if steps in stops:
            scales.append(estimate(gram(setup, chosen), rows, steps))
    return scales


def estimate(products: Array, rows: int, step: int = 0) -> NoiseScale:
    """Estimate the noise scale from the gradients of n batches at the same weights.

    |G|^2 and tr(Sigma) are the unbiased estimators of McCandlish et al. 2018 (arXiv:1812.06162), appendix
    A.1. B_small is the number of rows of one batch; its squared norm is a mean over all batches. B_big is the
    number of rows of all batches together. Batches without a common row, such as those of one epoch, are not
    quite independent. For them, |G|^2 is that of the distribution from which the training set was drawn, and
    not that of the set.

    The interval is a jackknife over batches, with Student's t. It is computed for the inverse,
    |G|^2 / tr(Sigma), and then inverted. Nearly all of the error is in |G|^2, so the inverse is close to
    symmetric. If |G|^2 could be zero, the scale has no upper bound, as it should.

    Args:
        products: (n, n) the inner products of the gradients; n is at least 4.
        rows: B, the number of rows of each batch.
        step: the step of the training at which the gradients were measured.

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
        note = "it is too large to measure with so few batches, because noise hides the gradient"
        return NoiseScale(step, None, low, None, gradient, trace, rows, n, note)
    return NoiseScale(step, trace / gradient, low, high, gradient, trace, rows, n)


def _moments(products: Array, rows: int) -> tuple[float, float]:
    """Return |G|^2 and tr(Sigma) from the (n, n) inner products of the gradients of n batches."""
    n = len(products)
    small = float(products.trace()) / n  # |G|^2 + tr(Sigma) / B, on average
    big = float(products.mean())  # |G|^2 + tr(Sigma) / (n B), on average
    return (n * big - small) / (n - 1), rows * (small - big) * n / (n - 1)


def gram(setup: Setup, batches: Sequence[Any]) -> Array:
    """Return the (n, n) inner products of the gradients of n batches, at the current weights.

    Everything is restored afterwards: weights, `.grad`, buffers, optimizer and random generators.
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
    for of_parameter in zip(*gradients, strict=True):  # the gradients of one parameter on all batches
        for columns in torch.split(torch.stack(of_parameter), BLOCK, dim=1):
            exact = columns.double()  # in float64, because the noise is a small difference of large numbers
            products += exact @ exact.T
    return products.numpy()


def _flat_gradient(parameter: Tensor) -> Tensor:
    grad = parameter.grad
    if grad is None:  # this batch does not use the parameter
        return torch.zeros(parameter.numel(), dtype=parameter.dtype)
    return (grad.to_dense() if grad.is_sparse else grad).detach().flatten().cpu()


def _batches(problem: Problem, seed: int, count: int) -> tuple[list[Any], int]:
    """Return batches in another order than the training's, and their number of rows; skip shorter batches."""
    setup = problem.setup(seed ^ 1)
    epoch = problem.batches_per_epoch
    if epoch == 1:
        raise UsageError(f"an epoch is a single batch: {WHOLE}.")
    if epoch is not None and epoch < FEWEST:
        raise UsageError(
            f"an epoch has only {counted(epoch, 'batch')}, and the noise scale needs at least {FEWEST}; give"
            " a smaller data.batch_size."
        )
    count = count if epoch is None else min(count, epoch)
    chosen: list[Any] = []
    rows = None
    for batch in islice(setup.batches, 4 * count):
        batch_rows = rows_of(batch)
        if batch_rows is None:
            raise UsageError(
                f"the rows of a batch cannot be counted: there is no tensor in it ({type(batch).__name__})."
            )
        rows = rows or batch_rows
        if batch_rows == rows:
            chosen.append(batch)
        if len(chosen) == count:
            return chosen, batch_rows
    raise UsageError(
        f"the noise scale needs {counted(count, 'batch')} of the same size; found only"
        f" {counted(len(chosen), 'batch')} of {counted(rows or 0, 'row')} among the first {4 * count}."
    )


def rows_of(batch: Any) -> int | None:
    """Return the number of rows of a batch: the length of the first tensor in it; None without a tensor."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else None
    parts = batch.values() if isinstance(batch, Mapping) else batch
    if not isinstance(batch, Mapping | tuple | list):
        return None
    return next((rows for rows in map(rows_of, parts) if rows is not None), None)


def _optimizer_lr(optimizer: torch.optim.Optimizer) -> float:
    lrs = [float(group["lr"]) for group in optimizer.param_groups]
    return next((lr for lr in lrs if lr > 0), 0.0)  # if all are zero, `train` raises the error


@contextmanager
def _failure_explained(step: Callable[[], int]) -> Iterator[None]:
    try:
        yield
    except LrfindError:
        raise
    except Exception as error:
        if step() == 0:
            raise first_steps_failed(error) from error
        raise LrfindError(f"the training failed at step {step()}: {in_one_line(error)}") from error


def implication(measured: NoiseScale, batch: int, to_batch: int | None = None) -> list[str]:
    """Return what a noise scale implies for the batch size in use and for another batch size, in sentences.

    A training takes S_min (1 + B_noise / B) steps and E_min (1 + B / B_noise) examples. This is the curve of
    McCandlish et al. 2018 (arXiv:1812.06162), eq. 2.11.
    """
    caution = (
        "The noise scale usually grows during training, and this simple noise scale ignores the curvature, so"
        " only its order of magnitude is reliable."
    )
    if measured.scale is None:
        bound = "" if measured.low is None else f"; it is probably above {measured.low:.3g}"
        return [f"The noise scale is not known at step {measured.step}: {measured.note}{bound}."]
    scale = measured.scale
    sentences = [
        f"A batch of {batch} is {_place(batch, scale)}: training takes {1 + scale / batch:.3g} times the"
        f" fewest possible steps and {1 + batch / scale:.3g} times the fewest possible examples."
    ]
    if to_batch is not None and to_batch != batch:
        steps = (1 + scale / to_batch) / (1 + scale / batch)
        examples = (1 + to_batch / scale) / (1 + batch / scale)
        sentences.append(
            f"A batch of {to_batch} is {_place(to_batch, scale)}: it takes {steps:.3g} times the steps and"
            f" {examples:.3g} times the examples that a batch of {batch} takes."
        )
    return [*sentences, caution]


def _place(batch: int, scale: float) -> str:
    """Compare a batch size with the noise scale, and say what more rows would change there."""
    if batch < scale / 3:
        return "below the noise scale, where a larger batch needs almost proportionally fewer steps"
    if batch <= scale * 3:
        return "near the noise scale, where a larger batch still needs fewer steps, but more examples"
    return "above the noise scale, where a larger batch needs hardly fewer steps and wastes computation"
