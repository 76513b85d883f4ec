"""House prices from a CSV file, with your own data set, model and loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

FILE = Path(__file__).with_name("houses.csv")  # beside this file, from whichever folder lrfind is started


class Houses(Dataset[tuple[Tensor, Tensor]]):
    """One house in each row: x (4,) float32 with mean 0 and deviation 1, y (1,) float32 in units of 100,000.

    lrfind splits it (`data.validation`), shuffles it by the seed and makes batches of it.
    """

    def __init__(self, file: str | Path = FILE) -> None:
        table = np.loadtxt(file, delimiter=",", skiprows=1, dtype=np.float32)
        x = table[:, :-1]
        self.x = torch.from_numpy((x - x.mean(axis=0)) / x.std(axis=0))
        self.y = torch.from_numpy(table[:, -1:] / 100)  # (N, 1) like the model's output, not (N,)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.x[row], self.y[row]


class Prices(nn.Module):
    """Predict a price (B, 1) from x (B, in_features).

    Args:
        in_features: the number of columns of x. lrfind fills it in from the data, because it has this name.
        width: the width of the hidden layers, your own argument, from `model.args`.
    """

    def __init__(self, in_features: int, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Predict the prices of a batch."""
        return self.layers(x)


def pinball(output: Tensor, y: Tensor, quantile: float = 0.5) -> Tensor:
    """Return the quantile loss, smallest if the share `quantile` of the prices is below the prediction."""
    above = y - output
    return torch.maximum(quantile * above, (quantile - 1) * above).mean()  # one number
