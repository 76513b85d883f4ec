"""Models of the quality tasks that are not built in: small transformers, and models trained before."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from task_data import chains, digit_range
from torch import Tensor, nn
from torch.nn import functional

from lrfind.datasets.tensors import TensorData
from lrfind.datasets.text import text
from lrfind.models.small_cnn import SmallCNN
from lrfind.models.transformer import Attention

Norms = Literal["pre", "post"]
Tuned = Literal["all", "head", "lora"]
SONNET_LENGTH = 16  # characters in a window
BEFORE_STEPS, BEFORE_LR, BEFORE_BATCH = 400, 3e-3, 64  # how a model was trained before, with AdamW


class SelfAttention(Attention):
    """Attention of every token to all tokens, or to itself and the earlier ones.

    Args:
        width: the width of a token's vector.
        heads: the number of heads.
        causal: whether later tokens are hidden.
    """

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__(width, heads)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:  # (B, T, width) -> (B, T, width)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention, then a hidden layer, each with a shortcut around it, and a norm before or after.

    Args:
        width: the width of a token's vector.
        heads: the number of heads of the attention.
        causal: whether later tokens are hidden.
        norms: where the norms stand.
    """

    def __init__(self, width: int, heads: int, causal: bool, norms: Norms) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, causal)
        self.hidden = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.before = norms == "pre"

    def forward(self, x: Tensor) -> Tensor:  # (B, T, width) -> (B, T, width)
        for norm, part in zip(self.norms, (self.attention, self.hidden), strict=True):
            x = x + part(norm(x)) if self.before else norm(x + part(x))
        return x


class GPT(nn.Module):
    """A decoder-only transformer with pre-norm or post-norm blocks, whose head may be the embedding.

    The weights are drawn as in GPT-2: normally with a deviation of 0.02, and biases are 0.

    Args:
        vocabulary: the number of kinds of tokens.
        sequence_length: the number of tokens in one input.
        out_features: the number of kinds of tokens that are predicted.
        width: the width of a token's vector.
        heads: the number of heads of each attention.
        layers: the number of blocks.
        norms: where the norms stand.
        tied: whether the head has the weights of the embedding.
    """

    def __init__(
        self,
        vocabulary: int,
        sequence_length: int,
        out_features: int,
        width: int = 32,
        heads: int = 2,
        layers: int = 2,
        norms: Norms = "pre",
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(sequence_length, width)
        self.blocks = nn.Sequential(*(Block(width, heads, True, norms) for _ in range(layers)))
        self.norm = nn.LayerNorm(width) if norms == "pre" else nn.Identity()
        self.head = nn.Linear(width, out_features, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:  # (B, T) -> (B, out_features, T)
        embedded = self.tokens(x) + self.positions.weight[: x.shape[1]]
        out: Tensor = self.head(self.norm(self.blocks(embedded)))
        return out.transpose(1, 2)


class Encoder(nn.Module):
    """Attention over all tokens, or over all patches of an image, whose mean is classified.

    Args:
        out_features: the number of classes.
        width: the width of a token's vector.
        heads: the number of heads of each attention.
        layers: the number of blocks.
        vocabulary: the number of kinds of tokens, for tokens.
        sequence_length: the number of tokens in one input, for tokens.
        in_channels: the number of channels, for images.
        image_size: (height, width), for images.
        patch: the height and width of a patch, for images.
        norms: where the norms stand.
    """

    def __init__(
        self,
        out_features: int,
        width: int = 32,
        heads: int = 2,
        layers: int = 2,
        vocabulary: int | None = None,
        sequence_length: int | None = None,
        in_channels: int = 1,
        image_size: Sequence[int] = (8, 8),
        patch: int = 2,
        norms: Norms = "pre",
    ) -> None:
        super().__init__()
        if vocabulary is not None:
            self.embed: nn.Module = nn.Embedding(vocabulary, width)
            places = sequence_length or 1
        else:
            self.embed = nn.Conv2d(in_channels, width, patch, patch)
            places = (image_size[0] // patch) * (image_size[1] // patch)
        self.positions = nn.Parameter(0.02 * torch.randn(places, width))
        self.blocks = nn.Sequential(*(Block(width, heads, False, norms) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, out_features)

    def forward(self, x: Tensor) -> Tensor:  # (B, T) or (B, C, H, W) -> (B, out_features)
        embedded = self.embed(x)
        if embedded.ndim == 4:
            embedded = embedded.flatten(2).transpose(1, 2)
        out: Tensor = self.head(self.norm(self.blocks(embedded + self.positions).mean(dim=1)))
        return out


class LoRA(nn.Module):
    """A frozen affine layer plus a trained matrix of low rank (Hu et al. 2021, arXiv:2106.09685).

    Args:
        layer: the layer.
        rank: the rank of the matrix, which is scaled by 2 and begins at 0.
    """

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x) + 2 * functional.linear(functional.linear(x, self.down), self.up)
        return out


def tuned_cnn(out_features: int, tune: Tuned = "all", small: bool = False) -> nn.Module:
    """Return a CNN that learned the digits 0 to 4 before, with a new head.

    Args:
        out_features: the number of classes.
        tune: what is trained: everything or the head.
        small: whether the images are those of `small_images`.
    """
    model = _trained_before("small_cnn" if small else "cnn")
    model.requires_grad_(tune == "all")
    model.head[-1] = nn.Linear(model.head[-1].in_features, out_features)
    return model


def tuned_vit(out_features: int, tune: Tuned = "all", rank: int = 4) -> nn.Module:
    """Return a vision transformer that learned the digits 0 to 4 before, with a new head.

    Args:
        out_features: the number of classes.
        tune: what is trained: everything, the head, or the head and LoRA in all blocks.
        rank: the rank of LoRA.
    """
    return _with_new_head(_adapted(_trained_before("vit"), tune, rank), out_features)


def tuned_encoder(out_features: int, tune: Tuned = "all", rank: int = 4) -> nn.Module:
    """Return an encoder that learned to tell other chains apart before, with a new head.

    Args:
        out_features: the number of classes.
        tune: see `tuned_vit`.
        rank: the rank of LoRA.
    """
    return _with_new_head(_adapted(_trained_before("encoder"), tune, rank), out_features)


def tuned_gpt(tune: Tuned = "all", rank: int = 4) -> nn.Module:
    """Return a GPT that learned the sonnets before. It keeps its head, which LoRA does not train.

    Args:
        tune: see `tuned_vit`.
        rank: the rank of LoRA.
    """
    model = _adapted(_trained_before("gpt"), tune, rank)
    model.head.requires_grad_(tune == "head")
    return model if tune != "all" else model.requires_grad_(True)


def _with_new_head(model: nn.Module, out_features: int) -> nn.Module:
    assert isinstance(model.head, nn.Linear)
    model.head = nn.Linear(model.head.in_features, out_features)
    return model


def _adapted(model: nn.Module, tune: Tuned, rank: int) -> nn.Module:
    """Freeze what is not trained, and add LoRA to the affine layers of the blocks."""
    model.requires_grad_(tune == "all")
    if tune == "lora":
        for module in [*model.get_submodule("blocks").modules()]:
            for name, layer in [*module.named_children()]:
                if isinstance(layer, nn.Linear):
                    setattr(module, name, LoRA(layer, rank))
    return model


BEFORE: dict[str, tuple[Callable[[], nn.Module], Callable[[], TensorData]]] = {
    "cnn": (lambda: SmallCNN(1, (8, 8), 5, channels=(8, 16), hidden=32), lambda: digit_range(0, 4)),
    "small_cnn": (
        lambda: SmallCNN(1, (14, 14), 5, channels=(8, 16), hidden=32),
        lambda: digit_range(0, 4, small=True),
    ),
    "vit": (lambda: Encoder(5), lambda: digit_range(0, 4)),
    "encoder": (lambda: Encoder(4, vocabulary=8, sequence_length=12), chains),
    "gpt": (lambda: GPT(*_sonnet_sizes()), lambda: text(length=SONNET_LENGTH)),
}
"""What was trained before, and on what; `digits` has images of 8 by 8, `small_images` of 14 by 14."""


def _sonnet_sizes() -> tuple[int, int, int]:
    kinds = text(length=SONNET_LENGTH).classes or 0
    return kinds, SONNET_LENGTH, kinds


def _trained_before(kind: str) -> nn.Module:
    """Return a copy of a model as it was after its first training, always the same."""
    return copy.deepcopy(_first_training(kind))


@functools.cache
def _first_training(kind: str) -> nn.Module:
    make_model, make_data = BEFORE[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, (x, y) = make_model(), make_data().train
        optimizer = torch.optim.AdamW(model.parameters(), lr=BEFORE_LR)
        with torch.enable_grad():
            for _ in range(BEFORE_STEPS):
                rows = torch.randint(len(x), (BEFORE_BATCH,))
                optimizer.zero_grad()
                functional.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
    optimizer.zero_grad()
    return model
