"""A language model of characters that takes dicts as batches and computes its own loss.

The models of Hugging Face's transformers work like this: `model(**batch)` returns an object with `.loss`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

FILE = Path(__file__).with_name("alice.txt")
VOCABULARY = 128  # ASCII


class Characters(Dataset[dict[str, Tensor]]):
    """Windows of a text: {"input_ids": (T,) int64, "labels": (T,) int64}, the labels one character ahead.

    torch makes batches (B, T) of them. The keys are the names of the arguments of `forward`.
    """

    def __init__(self, window: int = 32, stride: int = 8) -> None:
        text = FILE.read_text(encoding="ascii")
        ids = torch.tensor([*text.encode("ascii")])
        self.windows = ids.unfold(0, window + 1, stride)  # (N, T + 1)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        window = self.windows[row]
        return {"input_ids": window[:-1], "labels": window[1:]}


@dataclass
class Output:
    """The output of the model. If the config has no `loss`, lrfind takes the one here."""

    loss: Tensor | None
    logits: Tensor


class LanguageModel(nn.Module):
    """A GRU over characters."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.steps = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> Output:
        """Return logits (B, T, VOCABULARY) and, if there are labels, the mean cross-entropy, one number."""
        logits = self.head(self.steps(self.embedding(input_ids))[0])
        if labels is None:
            return Output(None, logits)
        return Output(nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), logits)
