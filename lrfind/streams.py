"""Streams: a data set in any form, as training batches by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

from lrfind.batches import loader_batches, one_pass, tensor_batches
from lrfind.datasets.tensors import TensorData, split
from lrfind.errors import UsageError
from lrfind.randomness import capture, child_seed, generators, reseed, restore
from lrfind.sections import USUAL_ROWS, DataSection

HELD_ROWS = 256  # of a validation batch; the first of them is the probe batch


@dataclass(frozen=True)
class Stream:
    """Where a lane's batches come from.

    Attributes:
        batches: from a seed to batches without end, in an order fixed by the seed.
        sizes: the arguments of `lrfind.arguments.SIZES` that the data tells.
        validation: the validation split, once; None where there is none.
        batches_per_epoch: batches in one pass; None where the data does not tell.
        generators: those that a loader or a data set of the user's draws from.
    """

    batches: Callable[[int], Iterator[Any]]
    sizes: dict[str, Any]
    validation: Callable[[], Iterator[Any]] | None
    batches_per_epoch: int | None
    generators: Sequence[Any] = ()


def stream(made: Any, section: DataSection, seed: int, device: torch.device) -> Stream:
    """Turn what a data set's name resolved to into a stream.

    Args:
        made: TensorData, a Dataset or tensors (x, y) (split by `seed`), a pair (train, validation) of
            Datasets, a DataLoader or a pair of them.
        section: the config of the data.
        seed: of the split.
        device: where the batches shall be.

    Raises:
        UsageError: if it is none of these, or cannot be cut into batches as the section says.
    """
    if isinstance(made, TensorDataset):
        made = made.tensors
    if isinstance(made, tuple) and made and all(isinstance(part, Tensor) for part in made):
        made = split(made, section.validation, seed)
    if isinstance(made, TensorData):
        return _tensor_stream(made, section.batch_size or USUAL_ROWS, device)
    if isinstance(made, Dataset):
        made = _random_split(made, section.validation, seed)
    elif isinstance(made, DataLoader):
        made = (made, None)
    if not (isinstance(made, tuple | list) and len(made) == 2):
        raise UsageError(
            f"data: '{section.name}' gave a {type(made).__name__}; expected a Dataset, tensors (x, y), a pair"
            " (train, validation) of Datasets, or one or two DataLoaders."
        )
    train, held = made
    if isinstance(train, DataLoader) and section.batch_size is not None:
        raise UsageError("data.batch_size: the data is a DataLoader with batches of its own; leave this out.")
    return _loader_stream(train, held, section.batch_size or USUAL_ROWS, device)


def sizes_of(x: Tensor, y: Tensor, classes: int | None) -> dict[str, Any]:
    """The sizes of a model for inputs x (B, ...) and targets y (B, ...); integer targets are of `classes`.

    Integers x (B, T) are tokens, of as many kinds as there are classes; numbers x (B, T, F) are T steps of F.
    """
    sizes: dict[str, Any] = {"in_features": x[0].numel()}
    if x.ndim == 4:
        sizes |= {"in_channels": x.shape[1], "image_size": tuple(x.shape[2:])}
    elif x.ndim == 3 and x.is_floating_point():
        sizes |= {"sequence_length": x.shape[1], "step_features": x.shape[2]}
    elif x.ndim == 2 and not x.is_floating_point():
        sizes |= {"sequence_length": x.shape[1]} | ({} if classes is None else {"vocabulary": classes})
    if y.is_floating_point():
        sizes["out_features"] = y[0].numel()
    elif classes is not None:
        sizes["out_features"] = classes
    return sizes


def _random_split(data: Any, validation: float, seed: int) -> tuple[Any, Any]:
    try:
        rows = len(data)
    except TypeError:
        return data, None  # an iterable data set has no length: nothing is split off
    if rows < 2:
        raise UsageError(f"data: the data set has {rows} rows; at least 2 are needed, one of them held out.")
    held = min(max(1, round(rows * validation)), rows - 1)
    train, rest = random_split(data, [rows - held, held], torch.Generator().manual_seed(seed))
    return train, rest


def _check_rows(rows: int, total: int) -> None:
    if rows > total:
        raise UsageError(
            f"data.batch_size: {rows} is more than the {total} training rows; use at most that, or full."
        )


def _tensor_stream(data: TensorData, batch_size: Any, device: torch.device) -> Stream:
    data.check()
    train = tuple(tensor.to(device) for tensor in data.train)
    rows = len(train[0]) if batch_size == "full" else batch_size
    _check_rows(rows, len(train[0]))
    held = tuple(tensor.to(device) for tensor in data.validation)
    y = train[-1]
    classes = data.classes
    if classes is None and y.ndim == 1 and not y.is_floating_point():
        classes = int(y.max()) + 1
    return Stream(
        lambda seed: tensor_batches(train, rows, child_seed(seed, "order")),
        sizes_of(train[0], y, classes),
        lambda: zip(*(torch.split(tensor, HELD_ROWS) for tensor in held), strict=True),
        len(train[0]) // rows,
    )


def _loader_stream(train: Any, held: Any, batch_size: Any, device: torch.device) -> Stream:
    def loader(data: Any, generator: torch.Generator | None) -> Iterable[Any]:
        if not isinstance(data, Dataset):
            return cast(Iterable[Any], data)
        if not hasattr(data, "__len__"):
            if batch_size == "full":
                raise UsageError("data.batch_size: full needs a data set with a length; give a number.")
            return DataLoader(data, batch_size)
        rows = len(data) if batch_size == "full" else batch_size
        if generator is None:
            return DataLoader(data, rows)
        _check_rows(rows, len(data))
        return DataLoader(data, rows, shuffle=True, drop_last=True, generator=generator)

    def batches(seed: int) -> Iterator[Any]:
        order = child_seed(seed, "order")
        reseed(order, train)
        return loader_batches(loader(train, torch.Generator().manual_seed(order)), device)

    def validation() -> Iterator[Any]:
        states = capture(generators(held))  # an evaluation must not move what the training draws
        try:
            yield from one_pass(loader(held, None), device)
        finally:
            restore(states)

    example = next(batches(0))
    tensors = isinstance(example, tuple | list) and all(isinstance(part, Tensor) for part in example)
    sizes = sizes_of(example[0], example[-1], _classes(train)) if tensors else {}
    length = _length(loader(train, torch.Generator()))
    return Stream(batches, sizes, None if held is None else validation, length, generators(train))


def _length(loader: Iterable[Any]) -> int | None:
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:  # an iterable data set
        return None


def _classes(data: Any) -> int | None:
    """How many classes a data set says that it has, as torchvision's do in `classes`."""
    while isinstance(data, DataLoader | Subset):
        data = data.dataset
    classes = getattr(data, "classes", None)
    return len(classes) if classes is not None and hasattr(classes, "__len__") else None
