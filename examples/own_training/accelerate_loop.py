"""A loop with Accelerate: `backward` and the clipping are the accelerator's, so `find` gets the step.

The model, the optimizer and the loader are those that `accelerator.prepare` returns. With `accelerate launch`
on several processes, all of them call `find` and get the same answer.
"""

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrfind
from lrfind.datasets.mnist import mnist_mini

EPOCHS = 20
Parts = tuple[Accelerator, nn.Module, torch.optim.Optimizer, DataLoader]


def build() -> Parts:
    """Make the accelerator, the model, the optimizer, and batches of images (64, 196) and digits."""
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    images, digits = mnist_mini().train
    rows = TensorDataset(images[:1024, 0, ::2, ::2].flatten(1), digits[:1024])
    model = nn.Sequential(nn.Linear(196, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.AdamW(model.parameters())
    loader = DataLoader(rows, batch_size=64, shuffle=True)
    return accelerator, *accelerator.prepare(model, optimizer, loader)


def train_step(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, batch: list[Tensor]
) -> Tensor:
    """Train on one batch; return the loss before."""
    x, y = batch
    loss = nn.functional.cross_entropy(model(x), y)
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def train(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader,
    epochs: int,
) -> list[float]:
    """Train, and return the loss of every step."""
    losses = []
    for _ in range(epochs):
        for batch in loader:
            losses.append(train_step(accelerator, model, optimizer, batch).item())
    return losses


def find(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader
) -> lrfind.Recommendation:
    """Find the lr for 20 epochs."""
    return lrfind.find(
        step=lambda batch: train_step(accelerator, model, optimizer, batch),
        data=loader,
        optimizers=[optimizer],
        steps=EPOCHS * len(loader),
    )


if __name__ == "__main__":
    accelerator, model, optimizer, loader = build()
    best = find(accelerator, model, optimizer, loader)
    best.apply(optimizer)
    losses = train(accelerator, model, optimizer, loader, EPOCHS)
    accelerator.print(f"{best}\nloss: from {losses[0]:.2f} to {losses[-1]:.2f}")
