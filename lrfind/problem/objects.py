"""Problems made of objects that exist already: a model, an optimizer and a loss, or a whole training step."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from lrfind.errors import UsageError
from lrfind.problem.batches import (
    LossFn,
    OwnLoss,
    OwnStep,
    Tally,
    is_batch_function,
    loader_batches,
    one_pass,
    to_device,
)
from lrfind.problem.components import refuse_ascent
from lrfind.problem.data import length_of
from lrfind.problem.problem import Problem
from lrfind.problem.randomness import capture, reseed, restore
from lrfind.problem.ranks import rank_of_this_process
from lrfind.problem.rates import base_lr, groups_of, inner_name, innermost, is_optimizer
from lrfind.problem.replay import copy_of
from lrfind.problem.setup import PLAIN, Recipe, Setup, begin_training, trained_objects
from lrfind.problem.signatures import accepts
from lrfind.problem.snapshot import Snapshot

INTEGRATIONS = {
    "transformers": "transformers.find(trainer)",
    "lightning": "lightning.find(trainer, module)",
    "pytorch_lightning": "lightning.find(trainer, module)",
    "skorch": "skorch.find(net, x, y)",
    "fastai": "fastai.find(learn, n_epoch)",
    "ignite": "ignite.find(trainer, optimizer, loader, max_epochs)",
    "keras": "keras.find(model, x, y)",
    "sklearn": "sklearn.find(estimator, x, y)",
}
"""For each package of a framework, the call that takes its objects."""
IN_BATCHES = "DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)"
ORDER = " The order of the arguments is model, optimizer, loss_fn, data."


@dataclass(frozen=True)
class Objects:
    """A user's own objects, as they are given to `find` or `range_test`.

    Attributes:
        model: the model; an empty module where a whole step is given.
        optimizers: the optimizers.
        loss_fn: see `problem.batches.output_and_loss`.
        data: what yields the batches, or a function that returns the next one.
        own_step: the user's function for a whole step; None where lrfind takes the steps.
        kept: further objects that the training changes.
        recipe: how a step is made of the batches.
        held_out_batch: a batch whose loss is measured beside the train loss; None for no such batch.
        validation: what yields the batches of the validation split once; None for no such split.
    """

    model: nn.Module
    optimizers: Sequence[Any]
    loss_fn: LossFn | OwnLoss | None
    data: Any
    own_step: OwnStep | None = None
    kept: Sequence[Any] = ()
    recipe: Recipe = PLAIN
    held_out_batch: Any = None
    validation: Any = None

    @property
    def all_data(self) -> list[Any]:
        """Whatever yields batches, or is one."""
        return [part for part in (self.data, self.validation, self.held_out_batch) if part is not None]

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
        """The objects from which everything that a step changes can be reached."""
        return trained_objects(self.model, self.optimizers, self.loss_fn, self.own_step)


def objects_of(
    model: Any,
    optimizer: Any,
    loss_fn: Any,
    data: Any,
    *,
    loss: Any = None,
    step: Any = None,
    optimizers: Any = (),
    keep: Any = (),
    score: Any = None,
    recipe: Recipe = PLAIN,
    held_out_batch: Any = None,
    validation: Any = None,
) -> Objects:
    """Check what a user gives, a model with its loss or a whole step, and put it together.

    Args:
        model: see `api.calls.range_test`, also for the other arguments.
        optimizer: the optimizer of the model.
        loss_fn: the loss of (output, y).
        data: what yields the batches.
        loss: the loss of a batch.
        step: the whole step.
        optimizers: the optimizers of the step.
        keep: further objects that the training changes.
        score: the number to lower.
        recipe: how a step is made of batches; for a whole step, only the number of its calls.
        held_out_batch: a batch that is not trained on; for a model only.
        validation: what yields the batches of the validation split; for a model only.

    Raises:
        UsageError: if one of them is wrong; the message says which one, and what it should be.
    """
    kept = [*keep] if isinstance(keep, list | tuple | set) else [keep]
    if step is not None:
        if loss is not None or loss_fn is not None:
            raise UsageError("step and loss: give only one; a step computes its loss itself and returns it.")
        if replace(recipe, accumulate=1) != PLAIN:
            raise UsageError(
                "precision, clip_norm and clip_value: a step of your own does these itself; leave them out."
            )
        if validation is not None:
            raise UsageError(
                "val: lrfind cannot evaluate a step of your own; leave it out, and the training losses"
                " decide."
            )
        optimizers = [*optimizers.values()] if isinstance(optimizers, Mapping) else optimizers
        all_given = [*([optimizers] if is_optimizer(optimizers) else optimizers or [])]
        if optimizer is not None and all(optimizer is not other for other in all_given):
            all_given = [optimizer, *all_given]
        kept += [] if model is None else [model]
        return _step_objects(step, data, all_given, kept, score, recipe)
    if optimizers or score is not None:
        raise UsageError("optimizers and score belong to step; give the step too.")
    _check_model(model, optimizer)
    _check_data(data)
    if validation is not None:
        _check_data(validation, "val")
        if is_batch_function(validation):
            raise UsageError("val must yield its batches and end, as a loader does; found a function.")
    _check_losses(loss_fn, loss)
    own = loss_fn if loss is None else OwnLoss(loss, takes_model=False)
    return Objects(model, [optimizer], own, data, None, kept, recipe, held_out_batch, validation)


def _check_model(model: Any, optimizer: Any) -> None:
    """Refuse a model and an optimizer that cannot be trained together."""
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"model must be a torch module; found an object of type {type(model).__name__}."
            f"{integration_for(model)}"
        )
    if not is_optimizer(optimizer):
        inner = inner_name(optimizer)
        hint = integration_for(optimizer) if inner is None else f" Give its attribute `{inner}`."
        if isinstance(optimizer, nn.Module):
            hint = ORDER
        if isinstance(optimizer, list | tuple | Mapping):
            hint = " Of several, give the whole step: find(step=..., data=..., optimizers=[...])."
        raise UsageError(
            f"optimizer must be a torch optimizer; found an object of type {type(optimizer).__name__}.{hint}"
        )
    _check_optimizers([optimizer])
    model_parameters = {id(parameter) for parameter in model.parameters()}
    parameters = [p for group in groups_of([optimizer]) for p in group.get("params", ())]
    if not any(id(parameter) in model_parameters for parameter in parameters):
        raise UsageError(
            "the optimizer has none of the model's parameters; was it created for another model?"
        )
    if meta := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        raise UsageError(
            f"the model's weight '{meta[0]}' is on the device 'meta', where weights have no values; load or"
            " initialize the weights on a real device first."
        )


def integration_for(value: Any) -> str:
    """Say which adapter takes an object of a framework; "" if it belongs to none."""
    packages = [kind.__module__.split(".")[0] for kind in type(value).__mro__]
    call = next((INTEGRATIONS[package] for package in packages if package in INTEGRATIONS), None)
    return "" if call is None else f" Use lrfind.integrations.{call}."


def _check_losses(loss_fn: Any, loss: Any) -> None:
    """Refuse two losses, and what is no function of the right arguments."""
    if loss is not None and loss_fn is not None:
        raise UsageError("loss and loss_fn: give only one; loss(batch) computes the loss of a batch itself.")
    for name, function in (("loss_fn", loss_fn), ("loss", loss)):
        if inspect.isclass(function):
            raise UsageError(
                f"{name}: {function.__name__} is a class; give an instance of it: {function.__name__}()."
            )
        if function is not None and not callable(function):
            hint = ORDER if hasattr(function, "__iter__") else ""
            raise UsageError(
                f"{name} must be a function; found an object of type {type(function).__name__}.{hint}"
            )
    if loss is not None and not accepts(loss, (None,), {}):
        raise UsageError(
            "loss must be a function of one batch that returns the loss; give a function of (output, y) as"
            " loss_fn."
        )


def _step_objects(
    step: Any, data: Any, optimizers: list[Any], kept: list[Any], score: Any, recipe: Recipe
) -> Objects:
    """Check a whole training step and what it needs, and put them together."""
    if not callable(step) or inspect.isclass(step):
        raise UsageError(
            f"step must be a function of a batch; found an object of type {type(step).__name__}."
        )
    if not accepts(step, (None,), {}):
        raise UsageError(
            "step must be a function of one batch. If yours takes its data itself: step=lambda batch: step(),"
            " data=lambda: None."
        )
    if score is not None and not callable(score):
        raise UsageError(
            f"score must be a function of a batch; found an object of type {type(score).__name__}."
        )
    if not optimizers or not all(map(is_optimizer, optimizers)):
        raise UsageError(
            "optimizers must be the list of the torch optimizers that the step uses; found"
            f" {optimizers!r:.80}.{''.join(dict.fromkeys(map(integration_for, optimizers)))}"
        )
    _check_optimizers(optimizers)
    _check_data(data)
    return Objects(nn.Module(), optimizers, None, data, OwnStep(step, score), kept, recipe)


def _check_optimizers(optimizers: Sequence[Any]) -> None:
    """Refuse optimizers that have no lr to set, or that raise the loss."""
    base_lr(optimizers)
    for optimizer in innermost(optimizers):
        refuse_ascent(optimizer, "the optimizer")


def _check_data(data: Any, name: str = "data") -> None:
    """Refuse data that yields no batches, or only once; `name` is that of the argument."""
    if is_batch_function(data):
        return
    if data is None:
        raise UsageError(
            f"{name} is missing: give what yields the batches, such as a DataLoader. If the step takes its"
            f" data itself, as in reinforcement learning, give {name}=lambda: None."
        )
    if isinstance(data, Mapping) or type(data).__module__.partition(".")[0] in ("pandas", "polars"):
        raise UsageError(
            f"{name} is a {type(data).__name__}, which yields its names, not batches; make tensors of its"
            f" parts, and cut them into batches with a DataLoader: {IN_BATCHES}."
        )
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise UsageError(f"{name} is a Dataset, which yields single rows; wrap it in a DataLoader.")
    if hasattr(data, "column_names"):
        raise UsageError(
            f"{name} is a {type(data).__name__} with columns, which yields single rows; wrap it in a loader:"
            " DataLoader(data, batch_size=32, shuffle=True)."
        )
    parts = data if isinstance(data, tuple) else (data,)
    arrays = any(isinstance(part, np.ndarray) and part.ndim > 1 for part in parts)
    if arrays or any(isinstance(part, Tensor) for part in parts):
        kind, way = ("arrays", " make tensors of them, and") if arrays else ("tensors", "")
        raise UsageError(
            f"{name} holds {kind}, not batches;{way} cut them into batches with a DataLoader: {IN_BATCHES}."
        )
    if not isinstance(data, Iterable):
        raise UsageError(
            f"{name} must yield batches, or be a function that returns the next one; found an object of type"
            f" {type(data).__name__}."
        )
    if isinstance(data, Iterator):
        raise UsageError(
            f"{name} is an iterator, which can be read only once; give the DataLoader itself, or a list of"
            " batches."
        )


def from_objects(objects: Objects, snapshot: Snapshot) -> Problem:
    """Return a problem made of a user's own objects; every lane starts from their state in `snapshot`.

    Seeds vary the batch order and the dropout; the initial weights are always the model's.
    """
    first = next(objects.model.parameters(), None)
    device = None if first is None else first.device
    tally, generators = Tally(), snapshot.data_generators
    recordings: dict[Any, Any] = {}  # all setups have the same model

    def setup(seed: int) -> Setup:
        snapshot.restore()
        snapshot.clear_grads()
        reseed(seed, generators, apart=rank_of_this_process())
        if objects.own_step is None:
            begin_training(objects.model)
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
            recordings=recordings,
        )

    def validation() -> Iterator[Any]:
        states = capture(snapshot.generators)  # so that an evaluation does not change the steps after it
        try:
            batches = one_pass(objects.validation, device)
            stored = isinstance(objects.validation, list | tuple)  # a model may change its inputs in place
            yield from map(copy_of, batches) if stored else batches
        finally:
            restore(states)

    return Problem(
        setup,
        device or torch.device("cpu"),
        None if objects.validation is None else validation,
        length_of(objects.data),
        own_step=objects.own_step is not None,
    )
