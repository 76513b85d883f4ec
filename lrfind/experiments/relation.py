"""Whether the output of a model has anything to do with the targets, by forward passes alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
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
BATCHES, MOST_BATCHES = 8, 32  # on which the loss is compared; more of them if they have few rows
ROWS = 64  # that are needed; among fewer, chance can hide a relation


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
        are not known, if the data has too few rows, or if the loss does not depend on which target belongs to
        which row.
    """
    if setup.own_step is not None:
        return None
    order = torch.Generator().manual_seed(0)
    rises: list[float] = []
    varies, rows = False, 0
    with contextlib.suppress(Exception), as_exception():  # a loss may not take shuffled targets
        while len(rises) < BATCHES or (rows < ROWS and len(rises) < MOST_BATCHES):
            stop_if_asked()
            batch = next(batches)
            if (key := target_key(batch)) is None:
                return None
            rows += len(batch[key])
            shuffled = with_shuffled_targets(batch, order)
            random = capture()
            with setup.casting():
                output, loss = output_and_loss(setup.model, setup.loss_fn, batch)
                restore(random)
                other = output_and_loss(setup.model, setup.loss_fn, shuffled)[1]
            rise = float(other.detach()) - float(loss.detach())
            rises.append(rise if abs(rise) > SAME * abs(float(loss.detach())) else 0.0)
            varies = varies or not same_for_all_rows(output)
    stop_if_asked()
    count = len(rises)
    different = min(epoch or count, count)
    if count < BATCHES or rows * different < ROWS * count or (varies and not any(rises)):
        return None
    return Relation(tuple(rises), varies, different if different < count else None)


def target_key(batch: Any) -> str | int | None:
    """Return where a batch has its targets; None if it has none, or only one row.

    They are the last part of a tuple, or the entry of a dict that has one of the names in `TARGETS`.
    """
    if isinstance(batch, Mapping):
        return next((key for key in TARGETS if _has_rows(batch.get(key))), None)
    return -1 if isinstance(batch, tuple | list) and len(batch) > 1 and _has_rows(batch[-1]) else None


def with_shuffled_targets(batch: Any, order: torch.Generator) -> Any:
    """Return a batch whose targets, which it must have, are shuffled among its rows."""
    key = target_key(batch)
    if isinstance(batch, Mapping):
        return {**batch, key: _shuffled(batch[key], order)}
    return (*batch[:-1], _shuffled(batch[-1], order))


def _has_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) > 1


def _shuffled(targets: Tensor, order: torch.Generator) -> Tensor:
    places = torch.randperm(len(targets), generator=order).to(targets.device)
    if len(targets) >= BATCHES:
        return targets[places]
    shuffled = targets.clone()
    shuffled[places] = targets[places.roll(1)]  # among so few rows, many would keep their targets
    return shuffled


def same_for_all_rows(output: Any) -> bool:
    """Return whether a model's output is the same for all rows of a batch, up to rounding."""
    if not _has_rows(output):
        return False
    spread = float((output - output[:1]).detach().abs().max())
    return spread <= 10 * SAME * float(output.detach().abs().max())
