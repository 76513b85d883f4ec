"""Whether the output of a model has anything to do with the targets, by forward passes alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lrfind.analysis.noise import SAME
from lrfind.analysis.relation import Relation
from lrfind.errors import as_exception
from lrfind.problem.batches import output_and_loss
from lrfind.problem.randomness import capture, restore
from lrfind.problem.setup import Setup
from lrfind.training.interrupts import stop_if_asked

TARGETS = ("labels", "label", "targets", "target", "y")  # their keys in batches that are dicts
BATCHES = 8  # on which the loss is compared


def relation_on(setup: Setup, batches: Iterator[Any], epoch: int | None) -> Relation | None:
    """Compare the losses of a model with those for targets that are shuffled among the rows of each batch.

    A model that has learned nothing of its inputs, or nothing but what all targets share, has the same loss
    for both. Each pair of losses has the same dropout masks.

    Args:
        setup: the model, in the state that is measured, and its loss.
        batches: the next batches.
        epoch: the number of batches in one pass over the data; None if it is not known.

    Returns:
        The relation. None if it cannot be measured: in a step of the user's own, for batches whose targets
        are not known, or if the loss does not depend on which target belongs to which row.
    """
    if setup.own_step is not None:
        return None
    order = torch.Generator().manual_seed(0)
    rises, varies = [], False
    with contextlib.suppress(Exception), as_exception():  # a loss may not take shuffled targets
        for _ in range(BATCHES):
            stop_if_asked()
            batch = next(batches)
            shuffled = with_shuffled_targets(batch, order)
            if shuffled is None:
                return None
            random = capture()
            with setup.casting():
                output, loss = output_and_loss(setup.model, setup.loss_fn, batch)
                restore(random)
                other = output_and_loss(setup.model, setup.loss_fn, shuffled)[1]
            rise = float(other.detach()) - float(loss.detach())
            rises.append(rise if abs(rise) > SAME * abs(float(loss.detach())) else 0.0)
            varies = varies or not same_for_all_rows(output)
    stop_if_asked()
    if len(rises) < BATCHES or (varies and not any(rises)):
        return None
    return Relation(tuple(rises), varies, epoch if epoch and epoch < BATCHES else None)


def with_shuffled_targets(batch: Any, order: torch.Generator) -> Any:
    """Return a batch whose targets are shuffled among its rows; None if there are none, or only one row.

    The targets are the last part of a tuple, or the entry of a dict that has one of the names in `TARGETS`.
    """
    if isinstance(batch, Mapping):
        keys: Sequence[Any] = [key for key in TARGETS if _has_rows(batch.get(key))]
        return {**batch, keys[0]: _shuffled(batch[keys[0]], order)} if keys else None
    if isinstance(batch, tuple | list) and len(batch) > 1 and _has_rows(batch[-1]):
        return (*batch[:-1], _shuffled(batch[-1], order))
    return None


def _has_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) > 1


def _shuffled(targets: Tensor, order: torch.Generator) -> Tensor:
    return targets[torch.randperm(len(targets), generator=order).to(targets.device)]


def same_for_all_rows(output: Any) -> bool:
    """Return whether a model's output is the same for all rows of a batch, up to rounding."""
    if not _has_rows(output):
        return False
    spread = float((output - output[:1]).detach().abs().max())
    return spread <= 10 * SAME * float(output.detach().abs().max())
