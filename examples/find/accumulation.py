"""Gradient accumulation: each step uses the gradients of four small batches, also in the probes.

The lr is that of the large batch, here four times 8 rows, for a memory that has no room for 32 rows at once.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrfind

ACCUMULATE = 4


def main() -> lrfind.Recommendation:
    """Find the lr for two epochs of SGD with momentum: 2 * 256 batches, 128 steps."""
    torch.manual_seed(0)
    x = torch.randn(2048, 10)
    y = (x[:, :3] + 0.3 * x[:, 3:6]).argmax(dim=1)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
    steps = 2 * len(loader) // ACCUMULATE  # steps of the optimizer; by default it is one epoch
    return lrfind.find(model, optimizer, nn.CrossEntropyLoss(), loader, steps=steps, accumulate=ACCUMULATE)


if __name__ == "__main__":
    print(main())  # noqa: T201 - a script of its own
