"""Measuring the gradient noise scale: the batch size up to which more rows make a better step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lrfind.analysis.curves import Array
from lrfind.analysis.divergence import AT_A_CONSTANT_LR, DivergenceRule
from lrfind.analysis.noise_scale import WHOLE, NoiseScale, estimate
from lrfind.errors import LrfindError, UsageError, counted, in_one_line, listed
from lrfind.problem.batches import batch_loss
from lrfind.problem.problem import Problem
from lrfind.problem.setup import Setup
from lrfind.problem.snapshot import preserved
from lrfind.training.explanations.failures import raise_explained
from lrfind.training.loop import Step, train

FEWEST = 4  # batches; with fewer, an interval says nothing
BLOCK = 2**20  # numbers of each gradient that are multiplied at a time, in float64


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
        The noise scales, ascending in their steps. If the training diverges, the last one has a note instead
        of a scale.

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


def gram(setup: Setup, batches: Sequence[Any]) -> Array:
    """Return the (n, n) inner products of the gradients of n batches, at the current weights.

    Everything is restored afterwards: weights, `.grad`, buffers, optimizer and random generators.
    """
    parameters = [p for group in setup.optimizer.param_groups for p in group["params"] if p.requires_grad]
    gradients: list[list[Tensor]] = []
    with preserved(setup.trained):
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
            raise_explained(error)
        raise LrfindError(f"the training failed at step {step()}: {in_one_line(error)}") from error
