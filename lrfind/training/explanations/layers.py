"""Layers: what torch's own take, held against what one of them was given."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from lrfind.training.explanations.forms import dtype, form, listed

CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
AXES = ("length", "height, width", "depth, height, width")


def complaint(layer: nn.Module, inputs: list[Tensor]) -> str | None:
    """Why a layer cannot take its inputs, or None where that is not known.

    Args:
        layer: that raised an exception.
        inputs: the tensors that it was given.
    """
    if not inputs:
        return None
    x = inputs[0]
    return _of_shape(layer, x) or _of_values(layer, x) or _of_dtype(layer, x) or _of_device(layer, inputs)


def _of_shape(layer: nn.Module, x: Tensor) -> str | None:
    given = f"its input is {form(x)}"
    match layer:
        case nn.Linear() if not x.ndim or x.shape[-1] != layer.in_features:
            found = x.shape[-1] if x.ndim else "one alone"
            flat = x.ndim > 2 and math.prod(x.shape[1:]) == layer.in_features
            advice = "; flatten it first: x.flatten(1)" if flat else ""
            return f"takes {layer.in_features} numbers a row and gets {found}: {given}{advice}"
        case nn.RNNBase() if x.ndim and x.shape[-1] != layer.input_size:
            return f"takes {layer.input_size} numbers a step and gets {x.shape[-1]}: {given}"
        case nn.MultiheadAttention() if x.ndim and x.shape[-1] != layer.embed_dim:
            return f"takes {layer.embed_dim} numbers a step and gets {x.shape[-1]}: {given}"
        case nn.LayerNorm() if tuple(x.shape[-len(layer.normalized_shape) :]) != layer.normalized_shape:
            return f"takes rows that end in {tuple(layer.normalized_shape)}: {given}"
    if isinstance(layer, CONVOLUTIONS):
        return _of_channels(layer, x, layer.in_channels, len(layer.kernel_size), given)
    if isinstance(layer, BATCH_NORMS):
        if x.ndim > 1 and x.shape[1] != layer.num_features:
            return f"takes {layer.num_features} channels and gets {x.shape[1]}: {given}"
        if x.ndim > 1 and layer.training and x.numel() == x.shape[1]:
            return (
                f"needs more than one number a channel to train, and a batch of one row has no more: {given};"
                " use a larger data.batch_size, or leave the last, smaller batch out (drop_last)"
            )
    return None


def _of_channels(layer: Any, x: Tensor, channels: int, axes: int, given: str) -> str | None:
    if x.ndim not in (axes + 1, axes + 2):
        return f"takes (rows, {channels} channels, {AXES[axes - 1]}): {given}"
    found = x.shape[-axes - 1]
    if found == channels:
        return None
    if x.ndim == axes + 1 and channels == 1:
        return f"takes (rows, 1 channel, {AXES[axes - 1]}): {given}; add the axis of channels: x.unsqueeze(1)"
    last = x.ndim == axes + 2 and x.shape[-1] == channels
    advice = "; the channels are last: x.movedim(-1, 1)" if last else ""
    return f"takes {channels} channels and gets {found}: {given}{advice}"


def _of_values(layer: nn.Module, x: Tensor) -> str | None:
    if not isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return None
    if x.is_floating_point():
        return f"takes whole numbers, which are places in its table, and gets {form(x)}: give it x.long()"
    if x.device.type == "meta" or not x.numel():
        return None
    low, high, size = int(x.min()), int(x.max()), layer.num_embeddings
    if low >= 0 and high < size:
        return None
    return f"has {size} entries, 0 to {size - 1}, and its input goes from {low} to {high}"


def _of_dtype(layer: nn.Module, x: Tensor) -> str | None:
    own = next(layer.parameters(recurse=False), None)
    if own is None or own.dtype == x.dtype or isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return None
    call = {"float32": "float()", "float64": "double()"}.get(dtype(own), f"to(torch.{dtype(own)})")
    return f"has weights of {dtype(own)} and its input is {form(x)}: give the data as {dtype(own)}, x.{call}"


def _of_device(layer: nn.Module, inputs: list[Tensor]) -> str | None:
    own = next(layer.parameters(recurse=False), None)
    devices = {str(tensor.device) for tensor in inputs}
    if own is not None and {str(own.device)} != devices:
        return (
            f"has its weights on {own.device} and its input on {listed(sorted(devices))}; lrfind moves the"
            " model and the batches to `device`: move neither in your code"
        )
    return None
