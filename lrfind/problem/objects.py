"""Problems made of objects that exist already: a model, an optimizer and a loss, or a whole training step."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from lrfind.errors import UsageError, listed
from lrfind.problem.batches import (
    LossFn,
    OwnLoss,
    OwnStep,
    Tally,
    is_batch_function,
    loader_batches,
    to_device,
    users_function,
)
from lrfind.problem.components import refuse_ascent
from lrfind.problem.problem import Problem
from lrfind.problem.randomness import reseed
from lrfind.problem.rates import all_optimizers, base_lr, groups_of, innermost, is_optimizer
from lrfind.problem.reachable import generators_of, reachable
from lrfind.problem.setup import PLAIN, Recipe, Setup
from lrfind.problem.snapshot import Snapshot


@dataclass(frozen=True)
class Objects:
    """A user's own objects, as they are given to `find` or `range_test`.

    Attributes:
        model: the model; an empty module where a whole step is given that says nothing of a model.
        optimizers: the optimizers.
        loss_fn: see `problem.batches.output_and_loss`.
        data: what yields the batches, or a function that returns the next one.
        own_step: the user's function for a whole step; None where lrfind takes the steps.
        kept: further objects that the training changes.
        recipe: how a step is made of the batches.
        held_out_batch: a batch whose loss is measured beside the train loss; None for no such batch.
    """

    model: nn.Module
    optimizers: Sequence[Any]
    loss_fn: LossFn | OwnLoss | None
    data: Any
    own_step: OwnStep | None = None
    kept: Sequence[Any] = ()
    recipe: Recipe = PLAIN
    held_out_batch: Any = None

    @property
    def sharded(self) -> bool:
        """Return whether this process holds only shards of the weights, as FSDP does."""
        return any(hasattr(parameter, "full_tensor") for parameter in self.model.parameters())

    @property
    def stackable(self) -> bool:
        """Whether lanes could be stacked: whether lrfind itself calls the model."""
        own_loss = isinstance(self.loss_fn, OwnLoss) and not self.loss_fn.takes_model
        return self.own_step is None and not own_loss

    @property
    def trained(self) -> list[Any]:
        """Return the objects from which everything that a step changes can be reached."""
        own = [] if self.own_step is None else [self.own_step.function, self.own_step.score]
        return [self.model, *self.optimizers, users_function(self.loss_fn), *own]


def model_objects(
    model: Any,
    optimizer: Any,
    loss_fn: Any,
    data: Any,
    loss: Any,
    recipe: Recipe,
    held_out_batch: Any = None,
) -> Objects:
    """Check a model, an optimizer, a loss and data, and put them together.

    Raises:
        UsageError: if one of them is wrong; the message says which one, and what it should be.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"model must be a torch module; found an object of type {type(model).__name__}.")
    if not is_optimizer(optimizer):
        raise UsageError(
            f"optimizer must be a torch optimizer; found an object of type {type(optimizer).__name__}."
        )
    _check_optimizers([optimizer])
    model_parameters = {id(parameter) for parameter in model.parameters()}
    parameters = [p for group in groups_of([optimizer]) for p in group.get("params", ())]
    if not any(id(parameter) in model_parameters for parameter in parameters):
        raise UsageError(
            "the optimizer has none of the model's parameters; was it created for another model?"
        )
    _check_data(data)
    if loss is not None and loss_fn is not None:
        raise UsageError("loss and loss_fn: give only one; loss(batch) computes the loss of a batch itself.")
    for name, function in (("loss_fn", loss_fn), ("loss", loss)):
        if inspect.isclass(function):
            raise UsageError(
                f"{name}: {function.__name__} is a class; give an instance of it: {function.__name__}()."
            )
        if function is not None and not callable(function):
            raise UsageError(f"{name} must be a function; found an object of type {type(function).__name__}.")
    own = loss_fn if loss is None else OwnLoss(loss, takes_model=False)
    return Objects(model, [optimizer], own, data, recipe=recipe, held_out_batch=held_out_batch)


def step_objects(step: Any, data: Any, optimizers: Any, kept: Any, score: Any) -> Objects:
    """Check a whole training step and what it needs, and put them together.

    Raises:
        UsageError: if one of them is wrong; the message says which one, and what it should be.
    """
    if not callable(step) or inspect.isclass(step):
        raise UsageError(
            f"step must be a function of a batch; found an object of type {type(step).__name__}."
        )
    if score is not None and not callable(score):
        raise UsageError(
            f"score must be a function of a batch; found an object of type {type(score).__name__}."
        )
    optimizers = [optimizers] if is_optimizer(optimizers) else optimizers
    if not isinstance(optimizers, list | tuple) or not optimizers or not all(map(is_optimizer, optimizers)):
        raise UsageError(
            "optimizers must be the list of the torch optimizers that the step uses; found"
            f" {optimizers!r:.80}."
        )
    _check_optimizers(optimizers)
    _check_data(data)
    kept = [*kept] if isinstance(kept, list | tuple | set) else [kept]
    return Objects(nn.Module(), [*optimizers], None, data, OwnStep(step, score), kept)


def _check_optimizers(optimizers: Sequence[Any]) -> None:
    """Refuse optimizers that have no lr to set, or that raise the loss."""
    base_lr(groups_of(optimizers))
    for optimizer in innermost(optimizers):
        refuse_ascent(optimizer, "the optimizer")


def _check_data(data: Any) -> None:
    """Refuse data that yields no batches, or only once."""
    if is_batch_function(data):
        return
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise UsageError("data is a Dataset, which yields single rows; wrap it in a DataLoader.")
    if hasattr(data, "column_names"):
        raise UsageError(
            f"data is a {type(data).__name__} with columns, which yields single rows; wrap it in a loader:"
            " DataLoader(data, batch_size=32, shuffle=True)."
        )
    if isinstance(data, Tensor) or (
        isinstance(data, tuple) and any(isinstance(part, Tensor) for part in data)
    ):
        raise UsageError(
            "data holds tensors, not batches; cut them into batches with a DataLoader:"
            " DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)."
        )
    if not isinstance(data, Iterable):
        raise UsageError(
            "data must yield batches, or be a function that returns the next one; found an object of type"
            f" {type(data).__name__}."
        )
    if isinstance(data, Iterator):
        raise UsageError(
            "the data is an iterator, which can be read only once; give the DataLoader itself, or a list of"
            " batches."
        )


def warn_before_the_first_step(objects: Objects, snapshot: Snapshot) -> None:
    """Warn of what lrfind cannot set back, and of weights and optimizers that it leaves alone."""
    _warn_of_what_is_lost(snapshot)
    in_optimizers = {id(p) for group in groups_of(objects.optimizers) for p in group.get("params", ())}
    if objects.own_step is not None:
        listed_ids = {id(optimizer) for optimizer in all_optimizers(objects.optimizers)}
        others = [type(o).__name__ for o in snapshot.optimizers if id(o) not in listed_ids]
        if others:
            _warn(
                f"the step refers to {listed(others)}, which `optimizers` does not name: its lr stays as it"
                " is in all probes. Name all optimizers whose lrs you look for."
            )
        return
    in_model = {id(parameter) for parameter in objects.model.parameters()}
    names = [
        name
        for module in reachable([users_function(objects.loss_fn)]).modules
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad and id(parameter) not in in_optimizers | in_model
    ]
    if names:
        _warn(
            f"the loss has weights ({listed(names[:3])}) that the optimizer does not have: they stand still"
            " in all probes. If another optimizer trains them, give the whole step: find(step=..., data=...,"
            " optimizers=[...])."
        )


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=6)


def _warn_of_what_is_lost(snapshot: Snapshot) -> None:
    """Warn of what the training changes and lrfind cannot set back."""
    if snapshot.lost:
        things = listed(dict.fromkeys(snapshot.lost))
        _warn(
            f"the training refers to {things}, which lrfind cannot set back: what it takes from there is"
            " missing in your training afterwards. Give the loader itself, or create the iterator anew."
        )


def from_objects(objects: Objects, snapshot: Snapshot) -> Problem:
    """Return a problem made of a user's own objects; every lane starts from their state in `snapshot`.

    Seeds vary the batch order and the dropout; the initial weights are always the model's.
    """
    first = next(objects.model.parameters(), None)
    device = None if first is None else first.device
    tally, generators = Tally(), generators_of(objects.data)

    def setup(seed: int) -> Setup:
        snapshot.restore()
        snapshot.clear_grads()
        reseed(seed, generators)
        if objects.own_step is None and not objects.model.training:
            objects.model.train()
        for optimizer in objects.optimizers:
            if callable(getattr(optimizer, "train", None)):  # schedule-free optimizers have modes, too
                optimizer.train()
        return Setup(
            objects.model,
            objects.optimizers[0],
            objects.loss_fn,
            loader_batches(objects.data, device, tally),
            objects.recipe,
            to_device(objects.held_out_batch, device),
            own_step=objects.own_step,
            optimizers=objects.optimizers,
            kept=objects.kept,
        )

    return Problem(setup, device or torch.device("cpu"))
