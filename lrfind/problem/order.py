"""The order of a loader's batches, fixed by a seed, whatever the model draws between them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lrfind.problem.batches import to_device
from lrfind.problem.randomness import capture, reseed, restore

MOST_NUMBERS = 1024  # of each tensor of a batch, by which the batch is recognised


class OrderedBatches:
    """An iterator over a loader's batches that has random states of its own.

    A loader without a generator, and a data set that augments its rows, draw from the global generators, as
    dropout does. Here they draw from states that are put in place only while a batch is made. So a lane that
    skips batches, to continue from a checkpoint, gets the same batches as the lane that trained on them.

    Args:
        source: the batches of the loader, without end.
        device: the device to which the batches are moved.
        seed: the seed of the order.
        generators: the random generators that the loader or its data set holds.

    Attributes:
        checksum: a number that depends on all batches so far, by which a resumed lane recognises them.
    """

    def __init__(
        self, source: Iterator[Any], device: torch.device, seed: int, generators: Sequence[Any]
    ) -> None:
        self.checksum = 0
        self._source, self._device, self._generators = source, device, generators
        reseed(seed, generators)
        self._random = capture(generators)

    def __iter__(self) -> OrderedBatches:
        return self

    def __next__(self) -> Any:
        outside = capture(self._generators)
        restore(self._random)
        try:
            batch = next(self._source)
        finally:
            self._random = capture(self._generators)
            restore(outside)
        self.checksum = _checksum(batch, self.checksum)
        return to_device(batch, self._device)


def _checksum(batch: Any, start: int) -> int:
    """Return a checksum of some numbers of each tensor of a batch."""
    if isinstance(batch, Tensor):
        if type(batch) is not Tensor or batch.layout is not torch.strided:
            return zlib.crc32(type(batch).__name__.encode(), start)
        flat = (batch if batch.is_contiguous() or not batch.ndim else batch[:1]).detach().reshape(-1)
        some = flat[:: max(1, flat.numel() // MOST_NUMBERS)].cpu().contiguous()
        return zlib.crc32(some.view(torch.uint8).numpy().data, start)
    if not isinstance(batch, Mapping | tuple | list):
        return start
    for part in batch.values() if isinstance(batch, Mapping) else batch:
        start = _checksum(part, start)
    return start
