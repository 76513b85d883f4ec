"""Batches: where they come from, and the loss for each form of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter

from lrfind.errors import UsageError, counted, listed
from lrfind.problem.signatures import accepts, takes_one_object

LossFn = Callable[..., Tensor]


@dataclass(frozen=True)
class OwnLoss:
    """A loss that a user's function computes from the model and a batch.

    Attributes:
        function: a function of (model, batch), or of a batch, that returns a tensor with one element.
        takes_model: whether it calls the model that it is given, so that lanes can be stacked. A function in
            a notebook has the model in a variable instead.
    """

    function: Callable[..., Any]
    takes_model: bool = True

    def __call__(self, model: Any, batch: Any) -> Any:
        """Return the loss of one batch."""
        return self.function(model, batch) if self.takes_model else self.function(batch)


def users_function(loss_fn: Any) -> Any:
    """Return the function or module of the user's that computes the loss."""
    return loss_fn.function if isinstance(loss_fn, OwnLoss) else loss_fn


@dataclass(frozen=True)
class OwnStep:
    """A whole training step that a user's function takes, with optimizers of its own.

    Attributes:
        function: a function of a batch that takes one step and returns the loss before it.
        score: a function of a batch that returns the number to lower, measured before the step; None if the
            loss is that number.
    """

    function: Callable[[Any], Any]
    score: Callable[[Any], Any] | None = None

    def take(self, batch: Any) -> float:
        """Take one step, and return the score before it; NaN if the loss of the step is not finite.

        Raises:
            UsageError: if the loss, or the score if there is one, is not one number.
        """
        with _never_exhausted("the step"):
            if self.score is None:
                return one_number(self.function(batch), "step")
            score = one_number(self.score(batch), "score")
            loss = self.function(batch)
        return score if loss is None or math.isfinite(one_number(loss, "step")) else math.nan


@contextmanager
def _never_exhausted(what: str) -> Iterator[None]:
    """Turn the end of an iterator inside the block, which would end a generator silently, into an error."""
    try:
        yield
    except StopIteration as error:
        raise UsageError(
            f"{what} reached the end of an iterator (StopIteration): start it again when it ends, or give"
            " the loader itself as data."
        ) from error


def one_number(value: Any, name: str) -> float:
    """Return the number that a user's function returned.

    Raises:
        UsageError: if it returned anything else.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.detach())
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return float(value)
    form = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    which = "the number to lower" if name == "score" else "the loss of the batch before the step"
    raise UsageError(
        f"{name} must return one number, {which}; it returned {form}. End the function with `return loss`; of"
        " several losses, return the one that shows whether the training gets better, or their sum."
    )


def batch_loss(model: Callable[..., Any], loss_fn: LossFn | OwnLoss | None, batch: Any) -> Tensor:
    """Return the loss of one batch; see `output_and_loss`."""
    return output_and_loss(model, loss_fn, batch)[1]


def output_and_loss(
    model: Callable[..., Any], loss_fn: LossFn | OwnLoss | None, batch: Any
) -> tuple[Any, Tensor]:
    """Return the model's output on one batch, and the loss.

    The loss is, for each form of a batch:

    - (x, y): loss_fn(model(x), y);
    - (x1, ..., xn, y): loss_fn(model(x1, ..., xn), y);
    - a dict: loss_fn(model(**batch), batch), or loss_fn(model(batch), batch) if `forward` takes the dict;
    - x or (x,), as for an autoencoder: loss_fn(model(x), x);
    - any other object: loss_fn(model(batch), batch).

    With no loss_fn, the model gets all parts of a tuple, and the loss is the output's `loss`, or the only
    tensor with one element in an output that is a tuple. An `OwnLoss` decides everything itself; there is no
    output then.

    Args:
        model: the model.
        loss_fn: see above.
        batch: one batch.

    Returns:
        The output, and the loss as a tensor with one element. (When a step fails,
        `training.explanations.failures` reads `batch`, `output`, `loss_fn` and `loss` from the frame of this
        function: keep their names.)

    Raises:
        UsageError: if the loss is not a tensor with one floating-point number.
    """
    if isinstance(loss_fn, OwnLoss):
        with _never_exhausted("the loss"):
            output, loss = None, loss_fn(model, batch)
    else:
        inputs, named, target = _parts_for(model, loss_fn, batch)
        output = model(*inputs, **named)
        loss = _loss_of_output(output, batch) if loss_fn is None else loss_fn(output, target)
    if not (isinstance(loss, Tensor) and loss.numel() == 1 and loss.is_floating_point()):
        raise UsageError(f"the loss must be a tensor with one element; {_form_and_remedy(loss)}.")
    return output, loss


def _form_and_remedy(loss: Any) -> str:
    """Say what was returned as a loss, and what to return instead."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return f"found {loss.dtype}. Return a floating-point number: others have no gradient"
    if isinstance(loss, Tensor):
        return f"found shape {tuple(loss.shape)}. Return its mean: loss.mean()"
    if loss is None:
        return "found None. End the function with `return loss`, without loss.backward()"
    if isinstance(loss, int | float):
        return f"found the number {loss:.4g}, which has no gradient. Return the tensor itself, not .item()"
    if isinstance(loss, tuple | list | Mapping):
        parts = counted(len(loss), "part")
        return f"found a {type(loss).__name__} of {parts}. Return the tensor to minimise alone, or their sum"
    return f"found an object of type {type(loss).__name__}. Return the tensor to minimise"


def _parts_for(
    model: Callable[..., Any], loss_fn: LossFn | None, batch: Any
) -> tuple[Sequence[Any], Mapping[str, Any], Any]:
    """Return what a batch gives to the model, by place and by name, and what it gives to the loss."""
    if isinstance(batch, Mapping):
        whole = not accepts(model, (), batch) and takes_one_object(model)
        return ((batch,), {}, batch) if whole else ((), batch, batch)
    if isinstance(batch, tuple | list) and batch:
        all_are_inputs = loss_fn is None or len(batch) == 1
        return (batch if all_are_inputs else batch[:-1]), {}, batch[-1]
    return (batch,), {}, batch


def _loss_of_output(output: Any, batch: Any) -> Any:
    """Return the loss in a model's output.

    Raises:
        UsageError: if there is none.
    """
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None and isinstance(output, Tensor) and output.numel() == 1:
        return output
    if loss is None and isinstance(output, tuple | list):
        single = [part for part in output if isinstance(part, Tensor) and part.numel() == 1]
        loss = single[0] if len(single) == 1 else None
    if loss is None:
        kind = type(output).__name__
        parts = f", a {kind} of {listed(output)}," if isinstance(output, Mapping) else f" ({kind})"
        raise UsageError(
            f"there is no loss_fn, and the model's output{parts} has no `loss`."
            f" {_way_to_a_loss(output, batch)}"
        )
    return loss


def _way_to_a_loss(output: Any, batch: Any) -> str:
    """Say how to get the loss that a model's output lacks."""
    values = [*output.values()] if isinstance(output, Mapping) else []
    if values and all(isinstance(value, Tensor) and value.numel() == 1 for value in values):
        call = "model(**batch)" if isinstance(batch, Mapping) else "model(*batch)"
        return (
            f"If the training lowers the sum of these losses: loss=lambda batch: sum({call}.values()) in"
            " Python, or in a config `loss: {step: my.module:loss}` with a function loss(model, batch) that"
            " returns it."
        )
    of_transformers = type(output).__module__.partition(".")[0] == "transformers"
    if of_transformers and isinstance(batch, Mapping) and "labels" not in batch:
        return (
            "A model of transformers computes it if the batch has `labels`, and if the model has a head for"
            f" a task; the batch has {listed(batch)}."
        )
    return own_loss_line(batch)


def own_loss_line(batch: Any) -> str:
    """Return the sentence that shows how to compute the loss of batches of this form."""
    if isinstance(batch, Mapping):
        keys = [str(key) for key in batch][:2]
        inner = f'model(batch["{keys[0]}"]), batch["{keys[-1]}"]' if keys else "model(**batch), batch"
    elif isinstance(batch, tuple | list):
        places = [f"batch[{place}]" for place in range(len(batch))]
        inner = f"model({places[0]}), {places[min(1, len(places) - 1)]}" if places else "model(batch), batch"
    else:
        inner = "model(batch), batch"
    return (
        "Leave out what the loss does not need with a collate_fn, or say how one batch gives the loss:"
        f" loss=lambda batch: loss_fn({inner}) in Python, or `loss: {{step: my.module:loss}}` with a function"
        " loss(model, batch) in a config."
    )


def to_device(batch: Any, device: torch.device | None) -> Any:
    """Move a batch, with every tensor in its tuples, lists and dicts, to `device`; None leaves it there."""
    if device is None or (isinstance(batch, Tensor) and batch.device == device):
        return batch
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=device.type != "cpu")  # to the CPU, it could be read too early
    if isinstance(batch, tuple | list) and not hasattr(batch, "to"):
        parts = [to_device(value, device) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    if hasattr(batch, "to") and not isinstance(batch, Mapping):
        moved = batch.to(device)  # a PackedSequence, or a class of the user's
        return batch if moved is None else moved
    if isinstance(batch, Mapping):
        moved = {key: to_device(value, device) for key, value in batch.items()}
        if all(moved[key] is value for key, value in batch.items()):
            return batch
        return moved if type(batch) is dict else type(batch)(moved)  # type: ignore[call-arg]
    return batch


def tensor_batches(tensors: tuple[Tensor, ...], rows: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches of `rows` rows without end, in an order fixed by `seed` that is new in every epoch.

    The rows that do not fill a batch at the end of an epoch are left out of that epoch.

    Args:
        tensors: the data, each tensor (N, ...), on the device where it is used.
        rows: B, the rows of a batch, at most N. With B = N every batch has the order of the tensors, as the
            order does not change a mean.
        seed: the seed of the order.
    """
    total = len(tensors[0])
    if rows == total:
        while True:
            yield tuple(tensor.clone() for tensor in tensors)  # a model may change its inputs in place
    order = torch.Generator().manual_seed(seed)
    device = tensors[0].device
    while True:
        index = torch.randperm(total, generator=order).to(device)
        for start in range(0, total - rows + 1, rows):
            places = index[start : start + rows]
            yield tuple(tensor.index_select(0, places) for tensor in tensors)


@dataclass
class Tally:
    """The number of batches that a loader has yielded to all its readers."""

    batches: int = 0


def loader_batches(
    loader: Iterable[Any] | Callable[[], Any], device: torch.device | None, tally: Tally | None = None
) -> Iterator[Any]:
    """Yield a loader's batches without end, on `device`; start the loader again when it is exhausted.

    Args:
        loader: an iterable of batches, or a function that returns the next batch.
        device: the device for the batches; None to leave them where they are.
        tally: counts the batches for all readers of this loader; a new count when omitted.

    Raises:
        UsageError: if a whole pass yields nothing; the message says whether an earlier pass yielded batches.
    """
    tally = tally or Tally()
    if not isinstance(loader, Iterable):
        while True:
            tally.batches += 1
            with _never_exhausted("the function that returns the next batch"):
                batch = loader()
            if isinstance(batch, Iterator):
                raise UsageError(
                    "the data function returned a generator, not a batch; give what can be read again"
                    " and again: a list of batches, a DataLoader, or a class with __iter__."
                )
            yield to_device(batch, device)
    while True:
        before = tally.batches
        if getattr(loader, "_iterator", None) is not None:
            loader._iterator = None  # type: ignore[attr-defined] # the user's own pass, with its workers, waits
        for batch in one_pass(loader, device):
            tally.batches += 1
            yield batch
        if tally.batches == before:
            raise UsageError(_why_no_batches(before))


def _why_no_batches(before: int) -> str:
    """Say why a pass yields nothing, after `before` batches in earlier passes."""
    if not before:
        return "the loader yields no batches; is drop_last on with too few rows?"
    return (
        f"the loader yielded {counted(before, 'batch')}, and none when it was read again: it can be read only"
        " once, but lrfind reads it many times. Give a list of its batches, or a DataLoader whose data set"
        " can be read again from its start."
    )


def is_batch_function(data: Any) -> bool:
    """Return whether `data` is a function that returns the next batch."""
    return callable(data) and not isinstance(data, Iterable)


def one_pass(loader: Iterable[Any], device: torch.device | None) -> Iterator[Any]:
    """Yield a loader's batches once, on `device`."""
    batches: Any = iter(loader)
    plain = type(batches) is _SingleProcessDataLoaderIter
    draw = batches._next_data if plain else batches.__next__  # without an entry in torch's profiler
    while True:
        try:
            batch = draw()
        except StopIteration:
            return
        yield to_device(batch, device)
