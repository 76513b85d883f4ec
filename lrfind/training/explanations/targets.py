"""Targets: explanations of why an output and a y do not fit one of torch's losses."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lrfind.catalog import LOSSES
from lrfind.errors import counted
from lrfind.training.explanations.forms import dtype, form

ELEMENTWISE = (nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.SmoothL1Loss, nn.BCEWithLogitsLoss, nn.BCELoss)
"""Losses that compare each number of the output with the number of y in the same place."""
BY_CLASS = (nn.CrossEntropyLoss, nn.NLLLoss)
SUMS_TO_1 = 1e-2  # how far the probabilities of a row may be from a sum of 1, also in float16


def loss_name(loss_fn: Callable[..., Any]) -> str:
    """Return the name of a loss in a config, or else its import path.

    >>> loss_name(nn.CrossEntropyLoss())
    'cross_entropy'
    """
    function: Any = loss_fn.func if isinstance(loss_fn, partial) else loss_fn
    function = function if hasattr(function, "__qualname__") else type(function)
    path = f"{function.__module__}:{function.__qualname__}"
    return next((name for name, built_in in LOSSES.items() if built_in == path), path)


def misfit(loss_fn: Callable[..., Any], output: Tensor, y: Tensor) -> str | None:
    """Say what does not fit between an output and a y; None where that is not known."""
    name = loss_name(loss_fn)
    if isinstance(loss_fn, BY_CLASS):
        return _class_misfit(name, loss_fn, output, y)
    if isinstance(loss_fn, ELEMENTWISE):
        return _shape_misfit(name, output, y) or _dtype_misfit(name, output, y)
    return None


def silent_misfit(loss_fn: Callable[..., Any], output: Tensor, y: Tensor) -> str | None:
    """Describe a misfit that torch computes without an error, but with a result that nobody intends."""
    name = loss_name(loss_fn)
    if isinstance(loss_fn, ELEMENTWISE):
        return _shape_misfit(name, output, y)
    if isinstance(loss_fn, BY_CLASS):
        one_number_per_row = output.ndim < 2 or output.shape[1] == 1
        return _class_misfit(name, loss_fn, output, y) if one_number_per_row else None
    return _shape_misfit(name, output, y) if broadcasts(loss_fn, output, y) else None


def broadcasts(loss_fn: Callable[..., Any], output: Tensor, y: Tensor) -> bool:
    """Return whether a loss of the user's compares every number of y with every row of the output.

    The loss does this if the order of y does not change it, but the same numbers in the output's shape, such
    as (64, 1) instead of (64,), do change it.
    """
    if output.shape == y.shape or output.numel() != y.numel() or not output.is_floating_point():
        return False
    with warnings.catch_warnings(action="ignore"):
        try:
            exact, numbers = output.detach().double(), y.double() if y.is_floating_point() else y
            loss, reversed_loss, aligned_loss = (
                loss_fn(exact, target) for target in (numbers, numbers.flip(0), numbers.reshape(output.shape))
            )
        except Exception:  # a loss that refuses one of these tells nothing
            return False
    order_matters = not torch.isclose(loss, reversed_loss, rtol=1e-9)
    return not order_matters and not bool(torch.isclose(loss, aligned_loss, rtol=1e-4))


def dtype_misfit(loss_fn: Callable[..., Any], output: Tensor, y: Tensor) -> str | None:
    """Say which type of y would fit, if its type is one that only some versions of torch convert."""
    return _dtype_misfit(loss_name(loss_fn), output, y) if isinstance(loss_fn, ELEMENTWISE) else None


def softmax_misfit(loss_fn: Any, output: Any) -> str | None:
    """Say that a loss that computes a softmax gets an output that has been through one; None for all others.

    Such a model trains, but its gradients are small and its loss stays high.

    >>> softmax_misfit(nn.CrossEntropyLoss(), torch.tensor([[0.9, 0.1], [0.2, 0.8]])) is None
    False
    """
    scores_expected = isinstance(loss_fn, nn.CrossEntropyLoss) or loss_fn is nn.functional.cross_entropy
    if not (scores_expected and isinstance(output, Tensor) and output.is_floating_point()):
        return None
    if output.ndim < 2 or output.shape[1] < 2 or output.device.type == "meta":
        return None
    sums = output.detach().float().sum(1)
    if bool((output < 0).any()) or not torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=SUMS_TO_1):
        return None
    return (
        "the output of the model holds probabilities (each row sums to 1), but cross_entropy computes the"
        " softmax itself: remove the softmax at the end of the model, or the loss stays high and falls slowly"
    )


def _shape_misfit(name: str, output: Tensor, y: Tensor) -> str | None:
    if output.shape == y.shape:
        return None
    shapes = f"{name} compares number with number, but the output is {form(output)} and y is {form(y)}"
    if output.shape[:1] != y.shape[:1]:
        return f"{shapes}: they have {_rows(output)} and {_rows(y)} rows; look for a reshape that mixes rows"
    if not y.is_floating_point() and output.ndim == y.ndim + 1 and output.shape[1] > 1:
        return f"{shapes}; if y holds class numbers, use cross_entropy"
    if output.numel() == y.numel():
        axis = _surplus_axis(output, y.shape)
        way = "squeeze y" if axis is None else f"squeeze the output in forward: x.squeeze({axis})"
        return (
            f"{shapes}, so every row would be compared with every other row; {way}, or give y as"
            f" {tuple(output.shape)}"
        )
    return (
        f"{shapes}; make the shapes equal: {tuple(y.shape)} for the output (out_features?), or"
        f" {tuple(output.shape)} for y"
    )


def _surplus_axis(tensor: Tensor, shape: Sequence[int]) -> int | None:
    """Return the axis without which a tensor has this shape, -1 if it is the last; None if there is none.

    >>> _surplus_axis(torch.zeros(8, 1, 4, 4), (8, 4, 4)), _surplus_axis(torch.zeros(8, 1), (8,))
    (1, -1)
    """
    last = tensor.ndim - 1
    for axis in range(last, 0, -1):
        if tensor.shape[axis] == 1 and (*tensor.shape[:axis], *tensor.shape[axis + 1 :]) == (*shape,):
            return -1 if axis == last else axis
    return None


def _dtype_misfit(name: str, output: Tensor, y: Tensor) -> str | None:
    if output.dtype == y.dtype:
        return None
    advice = "" if y.is_floating_point() else " (if y holds class numbers, use cross_entropy)"
    return (
        f"y is {form(y)} but the output is {dtype(output)}: give {name} y.to(torch.{dtype(output)}){advice}"
    )


def _class_misfit(name: str, loss_fn: Any, output: Tensor, y: Tensor) -> str | None:
    if output.ndim < 2:
        return (
            f"the output is {form(output)}, one number per row: {name} takes one number for each class,"
            " (rows, classes); for two classes and one number per row use bce_with_logits"
        )
    classes, rows = output.shape[1], (output.shape[0], *output.shape[2:])
    if classes == 1:
        return (
            f"the output is {form(output)}, one number per row, and {name} of a single class is always 0: to"
            " predict numbers use mse or huber; for two classes set the model's out_features to 2"
        )
    expected = f"{name} takes class numbers, {rows} int64"
    if output.shape[:1] != y.shape[:1]:
        return (
            f"the output has {counted(_rows(output), 'row')} and y has {_rows(y)}: {expected}; look for a"
            " reshape in forward that mixes rows"
        )
    if y.shape == output.shape and not y.is_floating_point():
        return (
            f"y is {form(y)} and seems to be one-hot: {expected}: y.argmax(1), or shares of classes:"
            " y.float()"
        )
    if output.ndim > 2 and y.shape == output.shape[:-1]:
        return (
            f"the output is {form(output)} and y is {form(y)}: {name} takes the classes on axis 1; give it"
            " output.movedim(-1, 1), or flatten both over rows and steps"
        )
    if (axis := _surplus_axis(y, rows)) is not None:
        cast = "" if y.dtype.is_signed and not y.is_floating_point() else ".long()"
        return f"y is {form(y)}: {expected}: y.squeeze({axis}){cast}; to predict numbers use mse"
    if y.shape == rows and y.is_floating_point():
        return f"y is {form(y)}: {expected}: y.long(); to predict numbers use mse"
    if y.shape == rows and dtype(y) not in ("int64", "uint8"):
        return f"y is {form(y)}: {expected}: y.long()"
    if y.shape != rows:
        return f"y is {form(y)} and the output is {form(output)}: {expected}"
    weight = getattr(loss_fn, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim != 1:
        return f"the weight of {name} is {form(weight)}; it must be one list with a number for each class"
    if isinstance(weight, Tensor) and len(weight) != classes:
        return f"the weight of {name} has {counted(weight.numel(), 'number')} for {counted(classes, 'class')}"
    return _why_out_of_range(classes, getattr(loss_fn, "ignore_index", None), y)


def _why_out_of_range(classes: int, ignored: int | None, y: Tensor) -> str | None:
    if y.device.type == "meta":
        return None
    targets = y[y != ignored]
    if not targets.numel():
        return None
    low, high = int(targets.min()), int(targets.max())
    if low >= 0 and high < classes:
        return None
    if low < 0:
        advice = "count classes from 0, or give the loss that value as ignore_index"
    elif low > 0 and high == classes:
        advice = "count classes from 0"
    else:
        advice = f"set the model's out_features to {high + 1}"
    return (
        f"the model has {counted(classes, 'output')} per row, for the classes 0 to {classes - 1}, but y goes"
        f" from {low} to {high}: {advice}"
    )


def _rows(tensor: Tensor) -> int:
    return len(tensor) if tensor.ndim else 1
