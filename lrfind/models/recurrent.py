"""Recurrent networks over sequences of numbers or of tokens."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from lrfind.catalog import Init
from lrfind.models import parts


class _Recurrent(nn.Module):
    """The common base of RNN, LSTM and GRU: an embedding of tokens, recurrent layers and an affine map."""

    layer: ClassVar[type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]]

    def __init__(
        self,
        out_features: int,
        step_features: int | None = None,
        vocabulary: int | None = None,
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        each_step: bool | None = None,
        init: Init = "default",
    ) -> None:
        super().__init__()
        if (step_features is None) == (vocabulary is None):
            raise ValueError(
                f"{type(self).__name__} needs either step_features, for numbers x (B, T, F), or vocabulary,"
                f" for tokens x (B, T); found {'neither' if vocabulary is None else 'both'}"
            )
        self.each_step = vocabulary is not None if each_step is None else each_step
        self.embedding = nn.Identity() if vocabulary is None else nn.Embedding(vocabulary, hidden)
        self.recurrent = self.layer(
            step_features or hidden,
            hidden,
            num_layers=layers,
            batch_first=True,
            dropout=dropout
            if layers > 1
            else 0.0,  # torch drops between layers, and warns if there is only one
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, out_features))
        parts.initialise(self, init)

    def forward(
        self, x: Tensor
    ) -> Tensor:  # (B, T, F) or (B, T) -> (B, out_features) or (B, out_features, T)
        """Map a batch."""
        states, _ = self.recurrent(self.embedding(x))  # (B, T, hidden)
        out: Tensor = self.head(states if self.each_step else states[:, -1])
        return out.transpose(1, 2) if self.each_step else out


class RNN(_Recurrent):
    """A plain recurrent network: h' = tanh(W x + U h + b) (Elman 1990).

    Args:
        out_features: the number of outputs: numbers, classes or kinds of tokens; taken from the data when
            omitted.
        step_features: F, the number of values in each step of x (B, T, F); taken from the data when omitted.
        vocabulary: the number of kinds of tokens in inputs x (B, T); taken from the data when omitted. A
            model has either `step_features` or `vocabulary`.
        hidden: the width of each layer and of a token's embedding.
        layers: the number of layers, one on top of the other.
        dropout: the share of each layer's outputs that is dropped in training.
        each_step: true for an output at every step, (B, out_features, T); false for one output for the whole
            sequence, (B, out_features), from its last step. When omitted, it is true for tokens and false
            for numbers.
        init: how the weights are drawn; see `lrfind.models.parts.initialise`.
    """

    layer = nn.RNN


class LSTM(_Recurrent):
    """A long short-term memory (Hochreiter and Schmidhuber 1997), with forget gates (Gers et al. 2000).

    Args:
        out_features: the number of outputs: numbers, classes or kinds of tokens; taken from the data when
            omitted.
        step_features: F, the number of values in each step of x (B, T, F); taken from the data when omitted.
        vocabulary: the number of kinds of tokens in inputs x (B, T); taken from the data when omitted. A
            model has either `step_features` or `vocabulary`.
        hidden: the width of each layer and of a token's embedding.
        layers: the number of layers, one on top of the other.
        dropout: the share of each layer's outputs that is dropped in training.
        each_step: true for an output at every step, (B, out_features, T); false for one output for the whole
            sequence, (B, out_features), from its last step. When omitted, it is true for tokens and false
            for numbers.
        init: how the weights are drawn; see `lrfind.models.parts.initialise`.
    """

    layer = nn.LSTM


class GRU(_Recurrent):
    """Gated recurrent units (Cho et al. 2014, arXiv:1406.1078).

    Args:
        out_features: the number of outputs: numbers, classes or kinds of tokens; taken from the data when
            omitted.
        step_features: F, the number of values in each step of x (B, T, F); taken from the data when omitted.
        vocabulary: the number of kinds of tokens in inputs x (B, T); taken from the data when omitted. A
            model has either `step_features` or `vocabulary`.
        hidden: the width of each layer and of a token's embedding.
        layers: the number of layers, one on top of the other.
        dropout: the share of each layer's outputs that is dropped in training.
        each_step: true for an output at every step, (B, out_features, T); false for one output for the whole
            sequence, (B, out_features), from its last step. When omitted, it is true for tokens and false
            for numbers.
        init: how the weights are drawn; see `lrfind.models.parts.initialise`.
    """

    layer = nn.GRU
