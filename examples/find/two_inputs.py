"""A model with two inputs: the last part of a batch is the target, and all other parts go into the model.

For a batch `(image, facts, price)` the loss is `loss_fn(model(image, facts), price)`.
"""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrfind


class Appraiser(nn.Module):
    """A network that predicts the price of a house from a picture and a few numbers."""

    def __init__(self, facts: int, width: int = 8) -> None:
        super().__init__()
        self.image_layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Linear(4 * width + facts, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, image: Tensor, facts: Tensor) -> Tensor:
        """Predict prices (B, 1) from images (B, 1, H, W) and facts (B, F)."""
        return self.head(torch.cat([self.image_layers(image), facts], dim=1))


def main() -> lrfind.Recommendation:
    """Find the constant lr for 300 steps of Adam."""
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
