"""A variational autoencoder: its loss needs the input and three outputs of the model.

The loss of a batch is a function already, so `find` gets it as `loss=`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

import lrfind
from lrfind.datasets.mnist import mnist_mini

EPOCHS = 20


class VAE(nn.Module):
    """An encoder to the mean and the variance of a code, and a decoder of a code drawn from them."""

    def __init__(self, pixels: int = 196, width: int = 64, code: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, 2 * code))
        self.decoder = nn.Sequential(nn.Linear(code, width), nn.ReLU(), nn.Linear(width, pixels))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits of the pixels, and the mean and the log of the variance of the code."""
        mean, log_variance = self.encoder(image).chunk(2, dim=1)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(code), mean, log_variance


def negative_elbo(model: VAE, image: Tensor) -> Tensor:
    """Return the cross-entropy of the pixels plus the divergence of the code from a normal distribution."""
    logits, mean, log_variance = model(image)
    pixels = functional.binary_cross_entropy_with_logits(logits, image, reduction="sum")
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
    return (pixels + divergence) / len(image)


def build() -> tuple[VAE, torch.optim.Optimizer, DataLoader]:
    """Make the model, the optimizer, and batches of images (64, 196) with pixels from 0 to 1."""
    torch.manual_seed(0)
    images = mnist_mini().train[0][:1024, 0, ::2, ::2] * 0.3081 + 0.1307
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters())
    return model, optimizer, DataLoader(images.flatten(1).clamp(0, 1), batch_size=64, shuffle=True)


def train(model: VAE, optimizer: torch.optim.Optimizer, loader: DataLoader, epochs: int) -> list[float]:
    """Train, and return the loss of every step."""
    losses = []
    for _ in range(epochs):
        for image in loader:
            loss = negative_elbo(model, image)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def find(model: VAE, optimizer: torch.optim.Optimizer, loader: DataLoader) -> lrfind.Recommendation:
    """Find the lr for 20 epochs."""
    return lrfind.find(
        model,
        optimizer,
        data=loader,
        loss=lambda image: negative_elbo(model, image),
        steps=EPOCHS * len(loader),
    )


if __name__ == "__main__":
    model, optimizer, loader = build()
    best = find(model, optimizer, loader)
    best.apply(optimizer)
    losses = train(model, optimizer, loader, EPOCHS)
    print(f"{best}\nloss: from {losses[0]:.1f} to {losses[-1]:.1f}")  # noqa: T201 - a script of its own
