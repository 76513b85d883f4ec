"""A siamese network: three images of a triplet go through one encoder, and the loss compares their codes."""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrfind
from lrfind.datasets.mnist import mnist_mini

EPOCHS = 20


def triplets(count: int) -> TensorDataset:
    """Draw images (N, 196) of a digit, of the same digit, and of another digit."""
    images, digits = mnist_mini().train
    images = images[:, 0, ::2, ::2].flatten(1)
    of_digit = [torch.nonzero(digits == digit)[:, 0] for digit in range(10)]
    places = []
    for _ in range(count):
        same, other = torch.randperm(10)[:2].tolist()
        pair = of_digit[same][torch.randint(len(of_digit[same]), (2,))]
        places.append(torch.cat([pair, of_digit[other][torch.randint(len(of_digit[other]), (1,))]]))
    return TensorDataset(*(images[column] for column in torch.stack(places, dim=1)))


def build() -> tuple[nn.Module, torch.optim.Optimizer, nn.TripletMarginLoss, DataLoader]:
    """Make the encoder, the optimizer, the loss, and batches of 32 triplets."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 16))
    optimizer = torch.optim.Adam(encoder.parameters())
    loader = DataLoader(triplets(512), batch_size=32, shuffle=True)
    return encoder, optimizer, nn.TripletMarginLoss(margin=1.0), loader


def train(
    encoder: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: nn.TripletMarginLoss,
    loader: DataLoader,
    epochs: int,
) -> list[float]:
    """Train, and return the loss of every step."""
    losses = []
    for _ in range(epochs):
        for anchor, same, other in loader:
            loss: Tensor = loss_fn(encoder(anchor), encoder(same), encoder(other))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def find(
    encoder: nn.Module, optimizer: torch.optim.Optimizer, loss_fn: nn.TripletMarginLoss, loader: DataLoader
) -> lrfind.Recommendation:
    """Find the lr for 20 epochs."""
    return lrfind.find(
        encoder,
        optimizer,
        data=loader,
        loss=lambda triplet: loss_fn(*map(encoder, triplet)),
        steps=EPOCHS * len(loader),
    )


if __name__ == "__main__":
    encoder, optimizer, loss_fn, loader = build()
    best = find(encoder, optimizer, loss_fn, loader)
    best.apply(optimizer)
    losses = train(encoder, optimizer, loss_fn, loader, EPOCHS)
    print(f"{best}\nloss: from {losses[0]:.2f} to {losses[-1]:.2f}")  # noqa: T201 - a script of its own
