"""Streams: training batches by seed, from a data set in any form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

from lrfind.config.sections import USUAL_ROWS, USUAL_SHARE, DataSection
from lrfind.datasets.tensors import LazyData, TensorData, split
from lrfind.errors import UsageError, counted
from lrfind.problem.batches import (
    Tally,
    loader_batches,
    one_pass,
    tensor_batches,
    to_device,
)
from lrfind.problem.order import OrderedBatches
from lrfind.problem.randomness import capture, child_seed, restore
from lrfind.problem.reachable import generators_of

HELD_OUT_ROWS = 256  # rows of a validation batch; the first of these batches is the held-out batch


@dataclass(frozen=True)
class Stream:
    """The source of a lane's batches.

    Attributes:
        batches: a function from a seed to batches without end, in an order fixed by the seed.
        sizes: the arguments of `lrfind.config.arguments.SIZES` that the data determines.
        validation: a function that yields the batches of the validation split once; None without a split.
        batches_per_epoch: the number of batches in one pass; None where the data has no length.
        generators: the random generators that a loader or a data set of the user's draws from.
        facts: the facts that a run reports about its data; a fact that cannot be known is None.

            - "rows": the numbers of rows of "train" and "validation".
            - "batch": the shape and type of each tensor of a batch.
            - "transforms": the transforms of the data, in sentences.
            - "streamed": why data of a built-in kind is streamed; None if it is kept on the device.
    """

    batches: Callable[[int], Iterator[Any]]
    sizes: dict[str, Any]
    validation: Callable[[], Iterator[Any]] | None
    batches_per_epoch: int | None
    generators: Sequence[Any] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def stream(data: Any, section: DataSection, seed: int, device: torch.device) -> Stream:
    """Turn the data that a name in a config stands for into a stream.

    Args:
        data: TensorData, LazyData, a Dataset, tensors (x, y), a pair (train, validation) of Datasets, a
            DataLoader, or a pair of DataLoaders. A single Dataset and tensors (x, y) are split at random with
            `seed`. TensorData and LazyData are kept on the device if they fit into `memory`; otherwise their
            batches are moved there one by one, in the same order.
        section: the config of the data.
        seed: the seed of the split.
        device: the device for the batches.

    Raises:
        UsageError: if the data has none of these forms, or cannot be cut into batches as the section says.
    """
    batch_size, share = section.batch_size, section.validation or USUAL_SHARE
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, tuple) and data and all(isinstance(part, Tensor) for part in data):
        data = split(data, share, seed)
    if isinstance(data, LazyData):
        streamed = _why_not_on_device(data.train.bytes + data.validation.bytes, section.memory)
        if streamed is not None:
            return _lazy_stream(data, batch_size, device, streamed)
        data = data.loaded()
    if isinstance(data, TensorData):
        size = sum(tensor.nbytes for tensor in (*data.train, *data.validation))
        return _tensor_stream(data, batch_size, device, _why_not_on_device(size, section.memory))
    if isinstance(data, Dataset):
        data = _random_split(data, share, seed)
    elif isinstance(data, DataLoader):
        data = (data, None)
    if not (isinstance(data, tuple | list) and len(data) == 2):
        raise UsageError(
            f"data: '{section.name}' gives an object of type {type(data).__name__}; expected a Dataset,"
            " tensors (x, y), a pair (train, validation) of Datasets, or one or two DataLoaders."
        )
    train, validation = data
    if isinstance(train, DataLoader) and section.batch_size is not None:
        raise UsageError("data.batch_size: a DataLoader has its own batch size; leave data.batch_size out.")
    return _loader_stream(train, validation, batch_size, device)


def sizes_of(x: Tensor, y: Tensor, classes: int | None, vocabulary: int | None = None) -> dict[str, Any]:
    """Return the sizes of a model for inputs x (B, ...) and targets y (B, ...).

    Args:
        x: the inputs. Integers (B, T) are tokens; floating-point numbers (B, T, F) are T steps of F features.
        y: the targets. Integers are class numbers.
        classes: the number of classes; None where it is not known.
        vocabulary: the number of different tokens; None if x holds no tokens, or it is not known.
    """
    sizes: dict[str, Any] = {"in_features": x[0].numel()}
    if x.ndim == 4:
        sizes |= {"in_channels": x.shape[1], "image_size": tuple(x.shape[2:])}
    elif x.ndim == 3 and x.is_floating_point():
        sizes |= {"sequence_length": x.shape[1], "step_features": x.shape[2]}
    elif x.ndim == 2 and not x.is_floating_point():
        sizes |= {"sequence_length": x.shape[1]}
    if vocabulary is not None:  # tokens are not numbers to compute with
        del sizes["in_features"]
        sizes["vocabulary"] = vocabulary
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
        raise UsageError(
            f"data: the data set has {counted(rows, 'row')}, but needs at least 2, because one is held out."
        )
    held_out = min(max(1, round(rows * validation)), rows - 1)
    train, rest = random_split(data, [rows - held_out, held_out], torch.Generator().manual_seed(seed))
    return train, rest


def _batch_rows(batch_size: Any, total: int) -> int:
    """Return the number of rows that `data.batch_size` means when there are `total` training rows."""
    if not total:
        raise UsageError("data: there are no rows to train on; give at least one.")
    if batch_size == "full":
        return total
    if batch_size is not None and batch_size > total:
        raise UsageError(
            f"data.batch_size: {batch_size} is more than the {counted(total, 'training row')}; use at most"
            f" {total}, or full."
        )
    return min(USUAL_ROWS, total) if batch_size is None else int(batch_size)


def _why_not_on_device(size: int, memory: float) -> str | None:
    """Say why data of `size` bytes is not kept on the device; None if it is kept there."""
    if size <= memory * 2**30:
        return None
    return (
        f"the data takes {size / 2**30:.3g} GiB but data.memory allows {memory:g} GiB, so it is loaded batch"
        " by batch"
    )


def _facts(
    train: int | None,
    validation: int | None,
    batch: Sequence[Tensor] | None,
    transforms: Sequence[str] | None,
    streamed: str | None = None,
) -> dict[str, Any]:
    """Return the entries of `Stream.facts`; `batch` is an example of a batch."""
    shapes = None
    if batch is not None:
        shapes = [[[*part.shape], str(part.dtype).removeprefix("torch.")] for part in batch]
    return {
        "rows": {"train": train, "validation": validation},
        "batch": shapes,
        "transforms": None if transforms is None else [*transforms],
        "streamed": streamed,
    }


def _tensor_stream(data: TensorData, batch_size: Any, device: torch.device, streamed: str | None) -> Stream:
    data.check()
    home = device if streamed is None else torch.device("cpu")
    train = tuple(tensor.to(home) for tensor in data.train)
    total = len(train[0])
    rows = _batch_rows(batch_size, total)
    held_out = tuple(tensor.to(home) for tensor in data.validation)
    y = train[-1]
    classes = data.classes
    if classes is None and y.ndim == 1 and not y.is_floating_point():
        classes = int(y.max()) + 1

    def batches(seed: int) -> Iterator[Any]:
        result = tensor_batches(train, rows, child_seed(seed, "order"))
        return result if streamed is None else one_pass(result, device)

    return Stream(
        batches,
        sizes_of(train[0], y, classes, data.vocabulary),
        lambda: one_pass(_in_parts(held_out), device),
        total // rows,
        facts=_facts(total, len(held_out[0]), [part[:rows] for part in train], data.transforms, streamed),
    )


def _in_parts(tensors: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """Yield all rows of tensors in copies of a few, because a model may change its inputs in place."""
    for parts in zip(*(torch.split(tensor, HELD_OUT_ROWS) for tensor in tensors), strict=True):
        yield tuple(part.clone() for part in parts)


def _lazy_stream(data: LazyData, batch_size: Any, device: torch.device, streamed: str) -> Stream:
    """Return a stream that creates the rows batch by batch, in the order in which tensors would be drawn."""
    train, held_out = data.train, data.validation
    total = len(train)
    rows = _batch_rows(batch_size, total)

    def batches(seed: int) -> Iterator[Any]:
        order = tensor_batches((torch.arange(total),), rows, child_seed(seed, "order"))
        return (to_device(train.rows(index.tolist()), device) for (index,) in order)

    def validation() -> Iterator[Any]:
        order = torch.split(torch.arange(len(held_out)), HELD_OUT_ROWS)
        return (to_device(held_out.rows(index.tolist()), device) for index in order)

    example = [part.expand(rows, *part.shape[1:]) for part in train.rows([0])]
    return Stream(
        batches,
        sizes_of(example[0], example[-1], train.classes),
        validation,
        total // rows,
        facts=_facts(total, len(held_out), example, train.transforms, streamed),
    )


def _loader_stream(train: Any, held_out: Any, batch_size: Any, device: torch.device) -> Stream:
    def loader(data: Any, generator: torch.Generator | None) -> Iterable[Any]:
        if not isinstance(data, Dataset):
            return cast(Iterable[Any], data)
        if not hasattr(data, "__len__"):
            if batch_size == "full":
                raise UsageError("data.batch_size: full needs a data set with a length; give a number.")
            return DataLoader(data, batch_size or USUAL_ROWS)
        if generator is None:
            return DataLoader(data, len(data) if batch_size == "full" else batch_size or USUAL_ROWS)
        rows = _batch_rows(batch_size, len(data))
        return DataLoader(data, rows, shuffle=True, drop_last=True, generator=generator)

    tally = Tally()

    def batches(seed: int) -> Iterator[Any]:
        order = child_seed(seed, "order")
        source = loader_batches(loader(train, torch.Generator().manual_seed(order)), None, tally)
        return OrderedBatches(source, device, order, generators_of(train))

    def validation() -> Iterator[Any]:
        # An evaluation must not change the random numbers of the training.
        states = capture(generators_of(held_out))
        try:
            yield from one_pass(loader(held_out, None), device)
        finally:
            restore(states)

    example = next(batches(0))
    tensors = isinstance(example, tuple | list) and all(isinstance(part, Tensor) for part in example)
    sizes = sizes_of(example[0], example[-1], _classes(train)) if tensors else {}
    length = length_of(loader(train, torch.Generator()))
    held_out_rows = 0 if held_out is None else _count(held_out)
    facts = _facts(_count(train), held_out_rows, example if tensors else None, None)
    generators = generators_of((train, held_out))
    return Stream(batches, sizes, None if held_out is None else validation, length, generators, facts)


def length_of(data: Any) -> int | None:
    """Return the length of data; None for a function, an iterable data set, and a length that is refused."""
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def _count(data: Any) -> int | None:
    """Count the rows of a data set, or of the data set of a loader."""
    data = data.dataset if isinstance(data, DataLoader) else data
    return length_of(data) if isinstance(data, Dataset) else None


def _classes(data: Any) -> int | None:
    """Return the number of classes that a data set declares in `classes`, as torchvision's do."""
    while isinstance(data, DataLoader | Subset):
        data = data.dataset
    classes = getattr(data, "classes", None)
    return len(classes) if classes is not None and hasattr(classes, "__len__") else None
