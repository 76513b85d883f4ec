"""A small decoder-only transformer for tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from lrfind.catalog import Activation, Init
from lrfind.errors import counted
from lrfind.models import parts


class Transformer(nn.Module):
    """Predicts, at every step, the next token from this token and the earlier ones, by causal self-attention.

    This is the transformer of Vaswani et al. 2017 (arXiv:1706.03762) in the form of GPT-2 (Radford et al.
    2019): it has decoder blocks only, each norm is before its sublayer, and positions are learned. The head
    has its own weights.

    Args:
        vocabulary: the number of kinds of tokens; taken from the data when omitted.
        sequence_length: the largest number of tokens in one input; taken from the data when omitted.
        out_features: the number of kinds of tokens that are predicted; taken from the data when omitted.
        width: the width of a token's vector, divisible by `heads`.
        heads: the number of heads of each attention.
        layers: the number of blocks.
        dropout: the share of the embeddings and of each sublayer's outputs that is dropped in training.
        activation: the activation of the hidden layer in each block, which is 4 times as wide as a token.
        init: how the weights are drawn; see `lrfind.models.parts.initialise`.
    """

    def __init__(
        self,
        vocabulary: int,
        sequence_length: int,
        out_features: int,
        width: int = 64,
        heads: int = 4,
        layers: int = 2,
        dropout: float = 0.0,
        activation: Activation = "gelu",
        init: Init = "default",
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"a width of {width} cannot be divided among {counted(heads, 'head')}; use a multiple of"
                f" {heads}"
            )
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(sequence_length, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout, activation) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out_features))
        parts.initialise(self, init, activation)

    def forward(self, x: Tensor) -> Tensor:  # (B, T) -> (B, out_features, T)
        """Map a batch.

        Raises:
            ValueError: if an input is longer than `sequence_length`.
        """
        length, most = x.shape[1], self.positions.num_embeddings
        if length > most:
            raise ValueError(
                f"an input of {counted(length, 'token')} is longer than the sequence_length of {most}"
            )
        embedded = self.dropout(self.tokens(x) + self.positions.weight[:length])  # (B, T, width)
        out: Tensor = self.head(self.blocks(embedded))
        return out.transpose(1, 2)


class Block(nn.Module):
    """Attention, then a hidden layer, each after a norm and with a shortcut around it.

    Args:
        width: the width of a token's vector.
        heads: the number of heads of the attention.
        dropout: the share of the attention's and the hidden layer's outputs that is dropped in training.
        activation: the activation of the hidden layer.
    """

    def __init__(self, width: int, heads: int, dropout: float, activation: Activation) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width, heads), nn.Dropout(dropout))
        self.hidden = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            parts.activation(activation),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, T, width) -> (B, T, width)
        """Map a batch."""
        x = x + self.attention(x)
        out: Tensor = x + self.hidden(x)
        return out


class Attention(nn.Module):
    """Causal self-attention: softmax(Q K' / sqrt(D)) V in each head, over this and the earlier tokens.

    Args:
        width: the width of a token's vector.
        heads: H, the number of heads, each of width D = width / H.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, width) -> (B, T, width)
        """Map a batch."""
        split = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, D)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out
