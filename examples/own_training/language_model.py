"""A language model in the style of nanoGPT: the model returns (logits, loss), `get_batch` draws the batches.

The loop sets the lr itself, with a function that returns absolute lrs, and clips the gradient. `find` gets
this function as `schedule` and the limit as `clip_norm`. Then the training gets `peak=best.lr`.
"""

import math
from importlib.resources import files

import torch
from torch import Tensor, nn
from torch.nn import functional

import lrfind

STEPS, WARMUP, PEAK, CLIP = 400, 40, 6e-4, 1.0
BATCH, LENGTH = 16, 32
TEXT = (files("lrfind.datasets") / "sonnets.txt").read_bytes()
DATA = torch.frombuffer(bytearray(TEXT), dtype=torch.uint8).long().clamp(max=127)


class GPT(nn.Module):
    """A transformer of one block that predicts the next letter."""

    def __init__(self, width: int = 32, heads: int = 4, letters: int = 128) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(letters, width), nn.Embedding(LENGTH, width)
        self.block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.head = nn.Linear(width, letters)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the logits of the next letters, and with targets y the loss."""
        length = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.letters(x) + self.places(torch.arange(length))
        logits = self.head(self.block(hidden, src_mask=mask, is_causal=True))
        return logits, None if y is None else functional.cross_entropy(logits.flatten(0, 1), y.flatten())


def get_batch() -> tuple[Tensor, Tensor]:
    """Draw pieces of the text, and the same pieces one letter later."""
    starts = torch.randint(len(DATA) - LENGTH, (BATCH,)).tolist()
    x = torch.stack([DATA[start : start + LENGTH] for start in starts])
    y = torch.stack([DATA[start + 1 : start + 1 + LENGTH] for start in starts])
    return x, y


def get_lr(step: int, peak: float = PEAK) -> float:
    """Return the lr of a step: a warmup, then a cosine down to a tenth of the peak."""
    if step < WARMUP:
        return peak * (step + 1) / WARMUP
    share = (step - WARMUP) / max(1, STEPS - WARMUP)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def build() -> tuple[GPT, torch.optim.Optimizer]:
    """Make the model, and AdamW with weight decay for the matrices only."""
    torch.manual_seed(0)
    model = GPT()
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.95))


def train(model: GPT, optimizer: torch.optim.Optimizer, steps: int, peak: float = PEAK) -> list[float]:
    """Train, and return the loss of every step."""
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = get_lr(step, peak)
        _, loss = model(*get_batch())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def find(model: GPT, optimizer: torch.optim.Optimizer) -> lrfind.Recommendation:
    """Find the peak of `get_lr` for 400 steps."""
    return lrfind.find(
        model,
        optimizer,
        data=get_batch,
        loss=lambda batch: model(*batch)[1],
        steps=STEPS,
        schedule=get_lr,
        clip_norm=CLIP,
    )


if __name__ == "__main__":
    model, optimizer = build()
    best = find(model, optimizer)
    losses = train(model, optimizer, STEPS, peak=best.lr)
    print(f"{best}\nloss: from {losses[0]:.2f} to {losses[-1]:.2f}")  # noqa: T201 - a script of its own
