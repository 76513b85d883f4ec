"""Layers: explanations of why one of torch's own layers refused its input."""

from __future__ import annotations

import math

from torch import Tensor, nn

from lrfind.errors import counted, listed
from lrfind.training.explanations.forms import dtype, form

CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
AXES = ("length", "height, width", "depth, height, width")


def why_not_accepted(layer: nn.Module, inputs: list[Tensor]) -> str | None:
    """Say why a layer cannot take its inputs; None where the reason is not known.

    Args:
        layer: the layer that raised an exception.
        inputs: the tensors in its arguments.
    """
    if not inputs:
        return None
    x = inputs[0]
    return (
        _why_not_its_shape(layer, x)
        or _why_not_its_values(layer, x)
        or _why_not_its_dtype(layer, x)
        or _why_not_their_device(layer, inputs)
    )


def _why_not_its_shape(layer: nn.Module, x: Tensor) -> str | None:
    its_input = f"its input is {form(x)}"
    match layer:
        case nn.Linear() if not x.ndim or x.shape[-1] != layer.in_features:
            width = x.shape[-1] if x.ndim else "a single number"
            flat = x.ndim > 2 and math.prod(x.shape[1:]) == layer.in_features
            advice = "; flatten it first: x.flatten(1)" if flat else ""
            return (
                f"takes {counted(layer.in_features, 'number')} per row but gets {width}: {its_input}{advice}"
            )
        case nn.RNNBase() if x.ndim and x.shape[-1] != layer.input_size:
            return f"takes {counted(layer.input_size, 'number')} per step but gets {x.shape[-1]}: {its_input}"
        case nn.MultiheadAttention() if x.ndim and x.shape[-1] != layer.embed_dim:
            return f"takes {counted(layer.embed_dim, 'number')} per step but gets {x.shape[-1]}: {its_input}"
        case nn.LayerNorm() if tuple(x.shape[-len(layer.normalized_shape) :]) != layer.normalized_shape:
            return f"takes an input whose shape ends in {tuple(layer.normalized_shape)}: {its_input}"
    if isinstance(layer, CONVOLUTIONS):
        return _why_not_its_channels(x, layer.in_channels, len(layer.kernel_size))
    if isinstance(layer, BATCH_NORMS):
        if x.ndim > 1 and x.shape[1] != layer.num_features:
            return f"takes {counted(layer.num_features, 'channel')} but gets {x.shape[1]}: {its_input}"
        if x.ndim > 1 and layer.training and x.numel() == x.shape[1]:
            return (
                "needs more than one number per channel to train, and a batch of one row has only one:"
                f" {its_input}; use a larger data.batch_size, or drop the last, smaller batch (drop_last)"
            )
    return None


def _why_not_its_channels(x: Tensor, channels: int, axes: int) -> str | None:
    its_input = f"its input is {form(x)}"
    if x.ndim not in (axes + 1, axes + 2):
        return f"takes (rows, {counted(channels, 'channel')}, {AXES[axes - 1]}): {its_input}"
    count = x.shape[-axes - 1]
    if count == channels:
        return None
    if x.ndim == axes + 1 and channels == 1:
        return (
            f"takes (rows, 1 channel, {AXES[axes - 1]}): {its_input}; add the axis of channels:"
            " x.unsqueeze(1)"
        )
    last = x.ndim == axes + 2 and x.shape[-1] == channels
    advice = "; the channels are last: x.movedim(-1, 1)" if last else ""
    return f"takes {counted(channels, 'channel')} but gets {count}: {its_input}{advice}"


def _why_not_its_values(layer: nn.Module, x: Tensor) -> str | None:
    if not isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return None
    if x.is_floating_point():
        return f"takes whole numbers, which are places in its table, but gets {form(x)}: give it x.long()"
    if x.device.type == "meta" or not x.numel():
        return None
    low, high, size = int(x.min()), int(x.max()), layer.num_embeddings
    if low >= 0 and high < size:
        return None
    return f"has {counted(size, 'entry')}, 0 to {size - 1}, but its input goes from {low} to {high}"


def _why_not_its_dtype(layer: nn.Module, x: Tensor) -> str | None:
    weight = next(layer.parameters(recurse=False), None)
    if weight is None or weight.dtype == x.dtype or isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return None
    kind = dtype(weight)
    call = {"float32": "float()", "float64": "double()"}.get(kind, f"to(torch.{kind})")
    return f"has weights of {kind} but its input is {form(x)}: give the data as {kind}, x.{call}"


def _why_not_their_device(layer: nn.Module, inputs: list[Tensor]) -> str | None:
    weight = next(layer.parameters(recurse=False), None)
    devices = {str(tensor.device) for tensor in inputs}
    if weight is not None and {str(weight.device)} != devices:
        return (
            f"has its weights on {weight.device} but its input on {listed(sorted(devices))}; lrfind moves the"
            " model and the batches to `device`: move neither in your code"
        )
    return None
