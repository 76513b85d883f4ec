"""The validation split: loss and metric of a model, or of K stacked models, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lrfind.analysis.curves import Array
from lrfind.errors import UsageError, as_exception
from lrfind.problem.batches import LossFn, OwnLoss, batch_loss, output_and_loss
from lrfind.problem.randomness import GENERATORS, capture, restore
from lrfind.problem.replay import copy_of
from lrfind.training.interrupts import stop_if_asked

Metric = Literal["accuracy", "R^2", "perplexity"]
LOGITS = (
    nn.CrossEntropyLoss, nn.KLDivLoss, nn.MultiLabelSoftMarginLoss, nn.PoissonNLLLoss, nn.SoftMarginLoss,
)  # fmt: skip
"""The losses whose outputs are logits or logarithms, so that they are no predictions of the targets."""


class Score(NamedTuple):
    """The contribution of one batch to an evaluation.

    Attributes:
        loss: () the mean over the batch; (K,) for stacked lanes.
        part: () the number that the metric is computed from: the share of right answers, the mean squared
            error, the plain cross-entropy, or else the loss; (K,) for stacked lanes.
    """

    loss: Tensor
    part: Tensor


def metric_of(loss_fn: LossFn | OwnLoss | None, output: Any, target: Any) -> Metric | None:
    """Choose the metric that fits a task.

    The metric is:

    - the accuracy for classes (B,) and outputs (B, C), and for `BCEWithLogitsLoss`;
    - the perplexity for cross-entropy with more than one target per row, as in sequences;
    - R^2 for targets that are floating-point numbers, unless the loss takes `LOGITS`;
    - None for anything else.
    """
    if not (isinstance(output, Tensor) and isinstance(target, Tensor)):
        return None
    if isinstance(loss_fn, nn.BCEWithLogitsLoss):
        return "accuracy" if output.shape == target.shape else None
    if target.is_floating_point():
        return "R^2" if output.shape == target.shape and not isinstance(loss_fn, LOGITS) else None
    if target.ndim == 1 and output.ndim == 2:
        return "accuracy"
    return "perplexity" if target.ndim > 1 and isinstance(loss_fn, nn.CrossEntropyLoss) else None


def score(
    model: Callable[..., Any], loss_fn: LossFn | OwnLoss | None, batch: Any
) -> tuple[Score, Metric | None]:
    """Score one batch, with pure tensor arithmetic, so that `vmap` can run it over lanes."""
    output, loss = output_and_loss(model, loss_fn, batch)
    target = _target(batch)
    metric = metric_of(loss_fn, output, target)
    if metric == "accuracy":
        binary = output.shape == target.shape
        right = (output > 0) == (target > 0.5) if binary else output.argmax(1) == target
        exact = torch.float32 if right.device.type == "mps" else torch.float64  # MPS has no float64
        counts = _counts(loss_fn, target)
        part = right.to(exact).mean() if counts is None else (right * counts).to(exact).sum() / counts.sum()
    elif metric == "R^2":
        part = (output - target).square().mean()
    elif metric == "perplexity":  # of the classes themselves, without the smoothing and weights of the loss
        part = functional.cross_entropy(output, target, ignore_index=getattr(loss_fn, "ignore_index", -100))
    else:
        part = loss
    return Score(loss.reshape(()), part.reshape(())), metric


@as_exception()
def evaluate(
    score_batch: Callable[[Any], tuple[Score, Metric | None]],
    batches: Iterable[Any],
    loss_fn: LossFn | OwnLoss | None = None,
) -> tuple[Array, Array | None, Metric | None]:
    """Evaluate lanes on a validation split.

    Args:
        score_batch: a function from a batch to its score and metric; see `score`.
        batches: one pass over the split.
        loss_fn: the loss, which decides how much each batch counts for it; see `_divisor`.

    Returns:
        val_loss (K,), metric (K,) or None, and the metric's name. For the metric, batches are weighted by the
        targets that the loss counts, or else by the rows of their targets, or of their inputs where the
        targets have none. A batch without such targets counts for nothing.

    Raises:
        UsageError: if the split is empty.
    """
    losses, parts, rows, targets, divisors, weights = [], [], [], [], [], []
    metric: Metric | None = None
    try:
        for batch in batches:
            stop_if_asked()
            (loss, part), metric = score_batch(batch)
            losses.append(loss.detach().reshape(-1))
            parts.append(part.detach().reshape(-1))
            rows.append(_rows(batch))
            divisors.append(_divisor(loss_fn, batch))
            counts = _counts(loss_fn, _target(batch))
            weights.append(rows[-1] if counts is None else int(counts.sum()))
            if metric == "R^2":
                targets.append(_target(batch).detach().cpu().double().numpy().reshape(rows[-1], -1))
    finally:
        if isinstance(
            batches, Generator
        ):  # it sets the random state back now, not when Python forgets the error
            batches.close()
    if not rows:
        raise UsageError("data: the validation split yields no batches; give it rows, or leave it out.")
    val_loss, mean = _mean(divisors, losses), _mean(weights, parts)
    if metric is None or len({part.shape[1] for part in targets}) > 1:  # sequences of different lengths
        return val_loss, None, None
    if metric == "R^2":
        variance = float(np.concatenate(targets).var(axis=0).mean())
        return val_loss, 1 - mean / variance if variance else np.full_like(mean, np.nan), metric
    with np.errstate(over="ignore"):
        return val_loss, np.exp(mean) if metric == "perplexity" else mean, metric


def held_loss(model: nn.Module, loss_fn: LossFn | OwnLoss | None, batch: Any) -> float:
    """Return the loss of one batch in evaluation mode, without gradients; it leaves no trace.

    Every module has its mode afterwards, the batch its numbers, and the training draws the same numbers.
    """
    with as_exception(), evaluating(model), torch.no_grad():
        return batch_loss(model, loss_fn, copy_of(batch)).item()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside the block; afterwards restore the mode of every submodule.

    The random generators are restored too, the global ones and those of modules, because a model may draw
    numbers also in this mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    held = [value for module, _ in modes for value in vars(module).values() if isinstance(value, GENERATORS)]
    random = capture(held)
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        restore(random)


def _target(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return batch.get("labels")
    return batch[-1] if isinstance(batch, tuple | list) else None


def _rows(batch: Any) -> int:
    parts = (
        batch.values()
        if isinstance(batch, Mapping)
        else batch
        if isinstance(batch, tuple | list)
        else [batch]
    )
    parts = [_target(batch), *parts]  # the first axis of an input may be that of the time
    return next((len(part) for part in parts if isinstance(part, Tensor) and part.ndim), 1)


def _divisor(loss_fn: LossFn | OwnLoss | None, batch: Any) -> float:
    """Return what the mean loss of a batch was divided by: its rows, or the weights of its targets' classes.

    So the loss of a split is the same however it is cut into batches, also where these are sorted by class.
    """
    target = _target(batch)
    counts = _counts(loss_fn, target)
    if counts is None:
        return _rows(batch)
    weight = getattr(loss_fn, "weight", None)
    return float(counts.sum() if weight is None else weight[target[counts]].sum())


def _counts(loss_fn: LossFn | OwnLoss | None, target: Any) -> Tensor | None:
    """Return which targets a loss of classes counts: those that it does not ignore; None for other losses."""
    of_classes = isinstance(target, Tensor) and not target.is_floating_point()
    if isinstance(loss_fn, nn.CrossEntropyLoss | nn.NLLLoss) and of_classes:
        return cast(Tensor, target != loss_fn.ignore_index)
    return None


def _mean(weights: Sequence[float], values: Sequence[Tensor]) -> Array:
    """Return the weighted mean of N values (K,), of which those of weight 0 may be NaN; NaN if all are."""
    numbers = torch.stack([*values]).cpu().double().numpy()  # (N, K)
    total, weighed = sum(weights), np.asarray(weights) > 0
    if not total:
        return np.full(numbers.shape[1], np.nan)
    mean: Array = np.divide(weights, total)[weighed] @ numbers[weighed]
    return mean
