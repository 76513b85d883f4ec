"""A model with two inputs: the last part of a batch is the target, and all others go into the model.

A batch `(image, facts, price)` is called as `loss_fn(model(image, facts), price)`.
"""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrfind


class Appraiser(nn.Module):
    """Prices a house by a picture of it and a few numbers."""

    def __init__(self, facts: int, width: int = 8) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Linear(4 * width + facts, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, image: Tensor, facts: Tensor) -> Tensor:
        """(B, 1, H, W) and (B, F) to prices (B, 1)."""
        return self.head(torch.cat([self.look(image), facts], dim=1))


def main() -> lrfind.Recommendation:
    """For 300 steps of Adam at a constant lr."""
    torch.manual_seed(0)
    image, facts = torch.rand(512, 1, 8, 8), torch.randn(512, 4)
    bright = image[..., :4].mean(dim=(1, 2, 3)) - image[..., 4:].mean(dim=(1, 2, 3))
    price = (facts[:, 0] * facts[:, 1] + facts[:, 2] + 5 * bright).unsqueeze(1)
    model = Appraiser(facts=4)
    optimizer = torch.optim.Adam(model.parameters())
    loader = DataLoader(TensorDataset(image, facts, price), batch_size=32, shuffle=True)
    return lrfind.find(model, optimizer, nn.MSELoss(), loader, steps=300)


if __name__ == "__main__":
    print(main())  # noqa: T201 - a script of its own
