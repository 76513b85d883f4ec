"""A stream without length: an IterableDataset, of which nobody knows how long an epoch is.

So `steps` must be said: how many the training shall have. The probes read the first batches of the stream.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

import lrfind


class Readings(IterableDataset[tuple[Tensor, Tensor]]):
    """A sensor that never ends: noisy waves, and their frequencies."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """From the beginning, each time."""
        source = torch.Generator().manual_seed(self.seed)
        time = torch.linspace(0, 1, 32)
        while True:
            frequency = 1 + 3 * torch.rand(1, generator=source)
            noise = 0.1 * torch.randn(32, generator=source)
            yield torch.sin(2 * torch.pi * frequency * time) + noise, frequency


def main() -> lrfind.Recommendation:
    """For 200 steps of RMSprop at a constant lr."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.RMSprop(model.parameters())
    loader = DataLoader(Readings(), batch_size=16)
    return lrfind.find(model, optimizer, nn.MSELoss(), loader, steps=200)


if __name__ == "__main__":
    print(main())  # noqa: T201 - a script of its own
