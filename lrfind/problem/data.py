"""Streams: a data set in any form, as training batches by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, random_split

from lrfind.config.sections import USUAL_ROWS, USUAL_SHARE, DataSection
from lrfind.datasets.tensors import LazyData, TensorData, split
from lrfind.errors import UsageError
from lrfind.problem.batches import Tally, loader_batches, one_pass, tensor_batches, to_device
from lrfind.problem.randomness import capture, child_seed, generators, reseed, restore

HELD_ROWS = 256  # of a validation batch; the first of them is the held-out batch


@dataclass(frozen=True)
class Stream:
    """Where a lane's batches come from.

    Attributes:
        batches: from a seed to batches without end, in an order fixed by the seed.
        sizes: the arguments of `lrfind.config.arguments.SIZES` that the data tells.
        validation: the validation split, once; None where there is none.
        batches_per_epoch: batches in one pass; None where the data does not tell.
        generators: those that a loader or a data set of the user's draws from.
        facts: what a run tells of its data: "rows" of "train" and "validation", the shape and type of each
            tensor of a "batch", the "transforms" in sentences, and why data of a built-in kind is "streamed"
            (None: it is kept on the device). None also stands for what cannot be known.
    """

    batches: Callable[[int], Iterator[Any]]
    sizes: dict[str, Any]
    validation: Callable[[], Iterator[Any]] | None
    batches_per_epoch: int | None
    generators: Sequence[Any] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def stream(made: Any, section: DataSection, seed: int, device: torch.device) -> Stream:
    """Turn what a data set's name resolved to into a stream.

    Args:
        made: TensorData, a Dataset or tensors (x, y) (split by `seed`), a pair (train, validation) of
            Datasets, a DataLoader or a pair of them. TensorData and LazyData are kept on the device if they
            fit into `memory`; else their batches go there one by one, in the same order.
        section: the config of the data.
        seed: of the split.
        device: where the batches shall be.

    Raises:
        UsageError: if it is none of these, or cannot be cut into batches as the section says.
    """
    batch_size, share = section.batch_size, section.validation or USUAL_SHARE
    if isinstance(made, TensorDataset):
        made = made.tensors
    if isinstance(made, tuple) and made and all(isinstance(part, Tensor) for part in made):
        made = split(made, share, seed)
    if isinstance(made, LazyData):
        streamed = _too_large(made.train.bytes + made.validation.bytes, section.memory)
        if streamed is not None:
            return _lazy_stream(made, batch_size, device, streamed)
        made = made.loaded()
    if isinstance(made, TensorData):
        size = sum(tensor.nbytes for tensor in (*made.train, *made.validation))
        return _tensor_stream(made, batch_size, device, _too_large(size, section.memory))
    if isinstance(made, Dataset):
        made = _random_split(made, share, seed)
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
    return _loader_stream(train, held, batch_size, device)


def sizes_of(x: Tensor, y: Tensor, classes: int | None, vocabulary: int | None = None) -> dict[str, Any]:
    """The sizes of a model for inputs x (B, ...) and targets y (B, ...).

    Integer targets are of `classes`. Integers x (B, T) are tokens, of as many kinds as `vocabulary` says;
    numbers x (B, T, F) are T steps of F.
    """
    sizes: dict[str, Any] = {"in_features": x[0].numel()}
    if x.ndim == 4:
        sizes |= {"in_channels": x.shape[1], "image_size": tuple(x.shape[2:])}
    elif x.ndim == 3 and x.is_floating_point():
        sizes |= {"sequence_length": x.shape[1], "step_features": x.shape[2]}
    elif x.ndim == 2 and not x.is_floating_point():
        sizes |= {"sequence_length": x.shape[1]}
    if vocabulary is not None:  # tokens are no numbers to compute with
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
        raise UsageError(f"data: the data set has {rows} rows; at least 2 are needed, one of them held out.")
    held = min(max(1, round(rows * validation)), rows - 1)
    train, rest = random_split(data, [rows - held, held], torch.Generator().manual_seed(seed))
    return train, rest


def _rows_of_a_batch(batch_size: Any, total: int) -> int:
    """What `data.batch_size` means for so many training rows."""
    if batch_size == "full":
        return total
    if batch_size is not None and batch_size > total:
        raise UsageError(
            f"data.batch_size: {batch_size} is more than the {total} training rows; use at most that, or"
            " full."
        )
    return min(USUAL_ROWS, total) if batch_size is None else int(batch_size)


def _too_large(size: int, memory: float) -> str | None:
    """Why data of `size` bytes is not kept on the device; None if it is."""
    if size <= memory * 2**30:
        return None
    return (
        f"the data takes {size / 2**30:.3g} GiB and data.memory allows {memory:g}: it is loaded batch by"
        " batch"
    )


def _facts(
    train: int | None,
    validation: int | None,
    batch: Sequence[Tensor] | None,
    transforms: Sequence[str] | None,
    streamed: str | None = None,
) -> dict[str, Any]:
    """See `Stream.facts`; `batch` is an example of one."""
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
    rows = _rows_of_a_batch(batch_size, total)
    held = tuple(tensor.to(home) for tensor in data.validation)
    y = train[-1]
    classes = data.classes
    if classes is None and y.ndim == 1 and not y.is_floating_point():
        classes = int(y.max()) + 1

    def batches(seed: int) -> Iterator[Any]:
        found = tensor_batches(train, rows, child_seed(seed, "order"))
        return found if streamed is None else one_pass(found, device)

    return Stream(
        batches,
        sizes_of(train[0], y, classes, data.vocabulary),
        lambda: one_pass(zip(*(torch.split(tensor, HELD_ROWS) for tensor in held), strict=True), device),
        total // rows,
        facts=_facts(total, len(held[0]), [part[:rows] for part in train], data.transforms, streamed),
    )


def _lazy_stream(data: LazyData, batch_size: Any, device: torch.device, streamed: str) -> Stream:
    """Rows that are made when a batch wants them, in the order that they would have as tensors."""
    train, held = data.train, data.validation
    total = len(train)
    rows = _rows_of_a_batch(batch_size, total)

    def batches(seed: int) -> Iterator[Any]:
        order = tensor_batches((torch.arange(total),), rows, child_seed(seed, "order"))
        return (to_device(train.rows(index.tolist()), device) for (index,) in order)

    def validation() -> Iterator[Any]:
        order = torch.split(torch.arange(len(held)), HELD_ROWS)
        return (to_device(held.rows(index.tolist()), device) for index in order)

    example = [part.expand(rows, *part.shape[1:]) for part in train.rows([0])]
    return Stream(
        batches,
        sizes_of(example[0], example[-1], train.classes),
        validation,
        total // rows,
        facts=_facts(total, len(held), example, train.transforms, streamed),
    )


def _loader_stream(train: Any, held: Any, batch_size: Any, device: torch.device) -> Stream:
    def loader(data: Any, generator: torch.Generator | None) -> Iterable[Any]:
        if not isinstance(data, Dataset):
            return cast(Iterable[Any], data)
        if not hasattr(data, "__len__"):
            if batch_size == "full":
                raise UsageError("data.batch_size: full needs a data set with a length; give a number.")
            return DataLoader(data, batch_size or USUAL_ROWS)
        if generator is None:
            return DataLoader(data, len(data) if batch_size == "full" else batch_size or USUAL_ROWS)
        rows = _rows_of_a_batch(batch_size, len(data))
        return DataLoader(data, rows, shuffle=True, drop_last=True, generator=generator)

    tally = Tally()

    def batches(seed: int) -> Iterator[Any]:
        order = child_seed(seed, "order")
        reseed(order, train)
        return loader_batches(loader(train, torch.Generator().manual_seed(order)), device, tally)

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
    facts = _facts(_count(train), _count(held), example if tensors else None, None)
    return Stream(batches, sizes, None if held is None else validation, length, generators(train), facts)


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except TypeError:  # an iterable data set
        return None


def _count(data: Any) -> int | None:
    """The rows of a data set, or of what a loader loads."""
    data = data.dataset if isinstance(data, DataLoader) else data
    return _length(data) if isinstance(data, Dataset) else None


def _classes(data: Any) -> int | None:
    """How many classes a data set says that it has, as torchvision's do in `classes`."""
    while isinstance(data, DataLoader | Subset):
        data = data.dataset
    classes = getattr(data, "classes", None)
    return len(classes) if classes is not None and hasattr(classes, "__len__") else None
