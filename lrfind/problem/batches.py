"""Batches: where they come from, and the loss for each form of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrfind.errors import UsageError, counted

LossFn = Callable[..., Tensor]

CONTRACT = (
    "a batch is (x, y), (x1, ..., xn, y) or a dict: the loss is loss_fn(model(x), y),"
    " loss_fn(model(x1, ..., xn), y) or loss_fn(model(**batch), batch); with no loss_fn it is the output's"
    " .loss"
)


def batch_loss(model: Callable[..., Any], loss_fn: LossFn | None, batch: Any) -> Tensor:
    """Return the loss of one batch; see `output_and_loss`."""
    return output_and_loss(model, loss_fn, batch)[1]


def output_and_loss(model: Callable[..., Any], loss_fn: LossFn | None, batch: Any) -> tuple[Any, Tensor]:
    """Return the model's output on one batch, and the loss.

    Args:
        model: a function that takes x, or x1, ..., xn, or the items of a dict as keyword arguments.
        loss_fn: a function of (output, y), or of (output, batch) for a dict. With None the loss is the
            output's `loss`, and the model gets all elements of a tuple.
        batch: (x, y), (x1, ..., xn, y) or a dict.

    Returns:
        The output, and the loss as a tensor with one element. (When a step fails,
        `training.explanations.failures` reads `batch`, `output`, `loss_fn` and `loss` from the frame of this
        function: keep their names.)

    Raises:
        UsageError: if the batch or the loss has none of these forms.
    """
    if isinstance(batch, Mapping):
        output = model(**batch)
        loss = _loss_of_output(output) if loss_fn is None else loss_fn(output, batch)
    elif isinstance(batch, tuple | list) and len(batch) >= 2:
        output = model(*batch) if loss_fn is None else model(*batch[:-1])
        loss = _loss_of_output(output) if loss_fn is None else loss_fn(output, batch[-1])
    else:
        raise UsageError(f"the data yields a {type(batch).__name__}; {CONTRACT}.")
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        form = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise UsageError(f"the loss must be a tensor with one element; found {form}. Return its mean.")
    return output, loss


def _loss_of_output(output: Any) -> Any:
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None:
        raise UsageError(
            f"there is no loss_fn, and the model's output ({type(output).__name__}) has no `loss`;"
            f" {CONTRACT}."
        )
    return loss


def to_device(batch: Any, device: torch.device) -> Any:
    """Move a batch, with every tensor in its tuples, lists and dicts, to `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if hasattr(batch, "to") and not isinstance(batch, Mapping):
        return batch.to(device)  # a PackedSequence, or a class of the user's
    if isinstance(batch, Mapping):
        moved = {key: to_device(value, device) for key, value in batch.items()}
        if all(moved[key] is value for key, value in batch.items()):
            return batch
        return moved if type(batch) is dict else type(batch)(moved)  # type: ignore[call-arg]
    if isinstance(batch, tuple | list):
        parts = [to_device(value, device) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def tensor_batches(tensors: tuple[Tensor, ...], rows: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches of `rows` rows without end, in an order fixed by `seed` that is new in every epoch.

    The rows that do not fill a batch at the end of an epoch are left out of that epoch.

    Args:
        tensors: the data, each tensor (N, ...), on the device where it is used.
        rows: B, the rows of a batch, at most N. With B = N every batch is the tensors themselves, as the
            order does not change a mean.
        seed: the seed of the order.
    """
    total = len(tensors[0])
    if rows == total:
        while True:
            yield tensors
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


def loader_batches(loader: Iterable[Any], device: torch.device, tally: Tally | None = None) -> Iterator[Any]:
    """Yield a loader's batches without end, on `device`; start the loader again when it is exhausted.

    Args:
        loader: an iterable of batches.
        device: the device for the batches.
        tally: counts the batches for all readers of this loader; a new count when omitted.

    Raises:
        UsageError: if a whole pass yields nothing; the message says whether an earlier pass yielded batches.
    """
    tally = tally or Tally()
    while True:
        before = tally.batches
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


def one_pass(loader: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """Yield a loader's batches once, on `device`."""
    for batch in loader:
        yield to_device(batch, device)
