"""An LSTM that reads long streams piece by piece: its hidden state goes on from batch to batch.

The state is an attribute of the trainer. `find` follows `trainer.loss` to it, so every probe starts from the
same state, and afterwards the state is as it was.
"""

import torch
from torch import Tensor, nn

import lrfind

EPOCHS, STREAMS, PIECES, LENGTH = 20, 16, 20, 10
Batches = list[tuple[Tensor, Tensor]]


class Reader(nn.Module):
    """An LSTM with a number for every moment."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, width, batch_first=True), nn.Linear(width, 1)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return a number for every moment (B, T, 1), and the state at the end."""
        hidden, state = self.lstm(x, state)
        return self.head(hidden), state


class Trainer:
    """A model, its optimizer, and the state at the end of what was read so far."""

    def __init__(self, model: Reader, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.state: tuple[Tensor, Tensor] | None = None

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Read the next piece of the streams, and return the loss."""
        x, y = batch
        output, (hidden, cell) = self.model(x, self.state)
        self.state = hidden.detach(), cell.detach()
        return nn.functional.mse_loss(output, y)


def build() -> tuple[Trainer, Batches]:
    """Make the trainer, and 20 successive pieces of 16 streams whose target is a sum that slowly fades."""
    torch.manual_seed(0)
    x = torch.randn(STREAMS, PIECES * LENGTH, 1)
    sums = [torch.zeros(STREAMS, 1)]
    for moment in range(PIECES * LENGTH):
        sums.append(0.9 * sums[-1] + 0.4 * x[:, moment])
    y = torch.stack(sums[1:], dim=1)
    model = Reader()
    trainer = Trainer(model, torch.optim.Adam(model.parameters()))
    return trainer, [*zip(x.split(LENGTH, dim=1), y.split(LENGTH, dim=1), strict=True)]


def train(trainer: Trainer, batches: Batches, epochs: int) -> list[float]:
    """Train, and return the loss of every step."""
    losses = []
    for _ in range(epochs):
        for batch in batches:
            loss = trainer.loss(batch)
            trainer.optimizer.zero_grad()
            loss.backward()
            trainer.optimizer.step()
            losses.append(loss.item())
    return losses


def find(trainer: Trainer, batches: Batches) -> lrfind.Recommendation:
    """Find the lr for 20 epochs."""
    return lrfind.find(
        trainer.model, trainer.optimizer, data=batches, loss=trainer.loss, steps=EPOCHS * PIECES
    )


if __name__ == "__main__":
    trainer, batches = build()
    best = find(trainer, batches)
    best.apply(trainer.optimizer)
    losses = train(trainer, batches, EPOCHS)
    print(f"{best}\nloss: from {losses[0]:.3f} to {losses[-1]:.3f}")  # noqa: T201 - a script of its own
