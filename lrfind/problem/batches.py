"""Batches: where they come from, and what a loss is for each form of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lrfind.errors import UsageError

LossFn = Callable[..., Tensor]

CONTRACT = (
    "a batch is (x, y), (x1, ..., xn, y) or a dict: the loss is loss_fn(model(x), y),"
    " loss_fn(model(x1, ..., xn), y) or loss_fn(model(**batch), batch); with no loss_fn it is the output's"
    " .loss"
)


def batch_loss(model: Callable[..., Any], loss_fn: LossFn | None, batch: Any) -> Tensor:
    """The loss of one batch; see `output_and_loss`."""
    return output_and_loss(model, loss_fn, batch)[1]


def output_and_loss(model: Callable[..., Any], loss_fn: LossFn | None, batch: Any) -> tuple[Any, Tensor]:
    """What the model makes of one batch, and its loss.

    Args:
        model: called with x, with x1, ..., xn, or with the batch's items by keyword if it is a dict.
        loss_fn: of (output, y), or of (output, batch) for a dict; None takes the output's `loss`, and then a
            tuple is passed to the model whole.
        batch: (x, y), (x1, ..., xn, y) or a dict.

    Returns:
        The output, and a tensor with one element. (When a step fails, `training.explanations.failures` reads
        `batch`, `output`, `loss_fn` and `loss` from the frame of this function: keep their names.)

    Raises:
        UsageError: if the batch or the loss has none of these forms.
    """
    if isinstance(batch, Mapping):
        output = model(**batch)
        loss = _own_loss(output) if loss_fn is None else loss_fn(output, batch)
    elif isinstance(batch, tuple | list) and len(batch) >= 2:
        output = model(*batch) if loss_fn is None else model(*batch[:-1])
        loss = _own_loss(output) if loss_fn is None else loss_fn(output, batch[-1])
    else:
        raise UsageError(f"the data yields a {type(batch).__name__}; {CONTRACT}.")
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise UsageError(f"the loss must be a tensor with one element; found {found}; take its mean.")
    return output, loss


def _own_loss(output: Any) -> Any:
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None:
        raise UsageError(
            f"there is no loss_fn, and the model's output ({type(output).__name__}) has no `loss`;"
            f" {CONTRACT}."
        )
    return loss


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with every tensor in it (in tuples, lists and dicts too) on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if hasattr(batch, "to") and not isinstance(batch, Mapping):
        return batch.to(device)  # a PackedSequence, or something of the user's own
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
    """Batches of `rows` rows without end, in an order fixed by `seed`, new in every epoch.

    The rows that do not fill a batch at the end of an epoch are left out of that epoch.

    Args:
        tensors: (N, ...) each, on the device where they are used.
        rows: B, at most N. With B = N, the tensors themselves: order does not matter to a mean.
        seed: of the order.
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
            chosen = index[start : start + rows]
            yield tuple(tensor.index_select(0, chosen) for tensor in tensors)


@dataclass
class Tally:
    """How many batches a loader has yielded to all who read it."""

    batches: int = 0


def loader_batches(loader: Iterable[Any], device: torch.device, tally: Tally | None = None) -> Iterator[Any]:
    """A loader's batches without end, on `device`; the loader starts anew when it is exhausted.

    Args:
        loader: yields batches.
        device: where they shall be.
        tally: shared by all who read this loader; one's own when omitted.

    Raises:
        UsageError: if a whole pass yields nothing; says whether an earlier one did.
    """
    tally = tally or Tally()
    while True:
        before = tally.batches
        for batch in one_pass(loader, device):
            tally.batches += 1
            yield batch
        if tally.batches == before:
            raise UsageError(_nothing_from_a_loader(before))


def _nothing_from_a_loader(before: int) -> str:
    """Why a pass yields nothing, after so many batches in earlier ones."""
    if not before:
        return "the loader yields no batches; is drop_last on with too few rows?"
    return (
        f"the loader yielded {before} batch{'es' * (before > 1)}, and none when it was read again: it can be"
        " read only once, and lrfind reads it many times; give a list of its batches, or a DataLoader whose"
        " data set starts anew."
    )


def one_pass(loader: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """A loader's batches once, on `device`."""
    for batch in loader:
        yield to_device(batch, device)
