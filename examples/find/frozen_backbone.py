"""Fine-tuning: a frozen backbone, a new head, and a last block whose lr is a tenth of the head's lr.

The param groups keep the ratio of their lrs in the optimizer, here 10 to 1. lrfind recommends the lr of the
first group; the lrs of the other groups follow from it.
"""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrfind


class Classifier(nn.Module):
    """A backbone that is frozen, a block that is adapted, and a head that is new."""

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(16, width), nn.ReLU())  # yours would have its weights loaded
        self.block = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, classes)
        self.backbone.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes)."""
        return self.head(self.block(self.backbone(x)))


def main() -> lrfind.Recommendation:
    """Find the lr for 200 steps of AdamW, then set the optimizer to it."""
    torch.manual_seed(0)
    x = torch.randn(512, 16)
    y = (x @ torch.randn(16, 4)).argmax(dim=1)
    model = Classifier(classes=4)
    optimizer = torch.optim.AdamW(
        [
            {"params": model.head.parameters(), "lr": 1e-3},
            {"params": model.block.parameters(), "lr": 1e-4},
        ]
    )
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    recommendation = lrfind.find(model, optimizer, nn.CrossEntropyLoss(), loader, steps=200)
    factor = recommendation.lr / optimizer.param_groups[0]["lr"]
    for name, group in zip(("head", "block"), optimizer.param_groups, strict=True):
        group["lr"] *= factor
        print(f"{name}: lr {group['lr']:.3g}")  # noqa: T201
    return recommendation


if __name__ == "__main__":
    print(main())  # noqa: T201 - a script of its own
