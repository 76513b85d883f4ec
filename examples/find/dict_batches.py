"""A model in the style of Hugging Face: batches are dicts, and the loss is in what the model returns.

Every batch is called as `model(**batch)`; with `loss_fn=None`, the loss is the output's `.loss`.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

import lrfind

VOCABULARY, TAGS = 200, 6


class Tagger(nn.Module):
    """Names the tag of every token, as a token classifier does."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width, padding_idx=0)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, TAGS))

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """A dict, or an object with these attributes, such as a ModelOutput."""
        logits = self.head(self.embedding(input_ids))  # (B, T, TAGS)
        return {"loss": nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


def collate(sentences: list[Tensor]) -> dict[str, Tensor]:
    """Pad with token 0, whose label -100 counts for nothing in the loss."""
    input_ids = pad_sequence(sentences, batch_first=True)
    return {"input_ids": input_ids, "labels": (input_ids % TAGS).masked_fill(input_ids == 0, -100)}


def main() -> lrfind.Recommendation:
    """The peak of a cosine schedule with warmup, for 300 steps of AdamW."""
    torch.manual_seed(0)
    sentences = [torch.randint(1, VOCABULARY, (4 + row % 12,)) for row in range(512)]
    model = Tagger()
    optimizer = torch.optim.AdamW(model.parameters())
    loader = DataLoader(sentences, batch_size=16, shuffle=True, collate_fn=collate)
    return lrfind.find(model, optimizer, None, loader, steps=300, schedule="cosine")


if __name__ == "__main__":
    print(main())  # noqa: T201 - a script of its own
