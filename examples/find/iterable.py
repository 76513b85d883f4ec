"""A stream without a length: an IterableDataset, so the length of an epoch is unknown.

Therefore you must give `steps`, the number of steps of your training. The probes read the first batches of
the stream.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

import lrfind


class Readings(IterableDataset[tuple[Tensor, Tensor]]):
    """The endless readings of a sensor: noisy waves and their frequencies."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Start the same stream from its beginning."""
        source = torch.Generator().manual_seed(self.seed)
        time = torch.linspace(0, 1, 32)
        while True:
            frequency = 1 + 3 * torch.rand(1, generator=source)
            noise = 0.1 * torch.randn(32, generator=source)
            yield torch.sin(2 * torch.pi * frequency * time) + noise, frequency


def main() -> lrfind.Recommendation:
    """Find the constant lr for 200 steps of RMSprop."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.RMSprop(model.parameters())
    loader = DataLoader(Readings(), batch_size=16)
    return lrfind.find(model, optimizer, nn.MSELoss(), loader, steps=200)


if __name__ == "__main__":
    print(main())  # noqa: T201 - a script of its own
