"""A model in the style of Hugging Face: batches are dicts, and the model's output holds the loss.

The model is called as `model(**batch)`. With `loss_fn=None`, the loss is the one in the output.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

import lrfind

VOCABULARY, TAGS = 200, 6


class Tagger(nn.Module):
    """A token classifier: it predicts the tag of every token."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, TAGS))

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return a dict; an object with these attributes, such as a ModelOutput, works too."""
        logits = self.head(self.embedding(input_ids))  # (B, T, TAGS)
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


def collate(sentences: list[Tensor]) -> dict[str, Tensor]:
    """Pad with token 0, whose label -100 is ignored by the loss."""
    input_ids = pad_sequence(sentences, batch_first=True)
    return {"input_ids": input_ids, "labels": (input_ids % TAGS).masked_fill(input_ids == 0, -100)}


def main() -> lrfind.Recommendation:
    """Find the peak lr of a cosine schedule with warmup, for 300 steps of AdamW."""
    torch.manual_seed(0)
    sentences = [torch.randint(1, VOCABULARY, (4 + row % 12,)) for row in range(512)]
    model = Tagger()
    optimizer = torch.optim.AdamW(model.parameters())
    loader = DataLoader(sentences, batch_size=16, shuffle=True, collate_fn=collate)
    return lrfind.find(model, optimizer, None, loader, steps=300, schedule=("cosine", {"warmup": 15}))


if __name__ == "__main__":
    print(main())  # noqa: T201 - a script of its own
