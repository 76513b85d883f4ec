"""Targets: what torch's losses take, held against an output and a y."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lrfind.catalog import LOSSES
from lrfind.training.explanations.forms import dtype, form

ELEMENTWISE = (nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.SmoothL1Loss, nn.BCEWithLogitsLoss, nn.BCELoss)
"""Losses that compare each number of the output with the number of y in the same place."""
BY_CLASS = (nn.CrossEntropyLoss, nn.NLLLoss)


def loss_name(loss_fn: Callable[..., Any]) -> str:
    """What a config calls a loss.

    >>> loss_name(nn.CrossEntropyLoss())
    'cross_entropy'
    """
    made: Any = loss_fn.func if isinstance(loss_fn, partial) else loss_fn
    made = made if hasattr(made, "__qualname__") else type(made)
    path = f"{made.__module__}:{made.__qualname__}"
    return next((name for name, known in LOSSES.items() if known == path), path)


def misfit(loss_fn: Callable[..., Any], output: Tensor, y: Tensor) -> str | None:
    """What does not fit between an output and a y, or None where that is not known."""
    name = loss_name(loss_fn)
    if isinstance(loss_fn, BY_CLASS):
        return _no_classes(name, loss_fn, output, y)
    if isinstance(loss_fn, ELEMENTWISE):
        return _other_shape(name, output, y) or _other_dtype(name, output, y)
    return None


def silent_misfit(loss_fn: Callable[..., Any], output: Tensor, y: Tensor) -> str | None:
    """What does not fit, and is computed all the same, as something that nobody means."""
    name = loss_name(loss_fn)
    if isinstance(loss_fn, ELEMENTWISE):
        return _other_shape(name, output, y)
    if isinstance(loss_fn, BY_CLASS):
        alone = output.ndim < 2 or output.shape[1] == 1
        return _no_classes(name, loss_fn, output, y) if alone else None
    return _other_shape(name, output, y) if broadcasts(loss_fn, output, y) else None


def broadcasts(loss_fn: Callable[..., Any], output: Tensor, y: Tensor) -> bool:
    """Whether a loss of the user's compares every number of y with every row of the output.

    It does if the order of y does not matter to it, and the same numbers in the output's shape, as (64, 1)
    for (64,), give another loss.
    """
    if output.shape == y.shape or output.numel() != y.numel() or not output.is_floating_point():
        return False
    with warnings.catch_warnings(action="ignore"):
        try:
            exact, numbers = output.detach().double(), y.double() if y.is_floating_point() else y
            asked, turned, meant = (
                loss_fn(exact, each) for each in (numbers, numbers.flip(0), numbers.reshape(output.shape))
            )
        except Exception:  # a loss that refuses one of these tells nothing
            return False
    return bool(torch.isclose(asked, turned, rtol=1e-9)) and not bool(torch.isclose(asked, meant, rtol=1e-4))


def idle_dtype(loss_fn: Callable[..., Any], output: Tensor, y: Tensor) -> str | None:
    """A type of y that some versions of torch convert and others refuse."""
    return _other_dtype(loss_name(loss_fn), output, y) if isinstance(loss_fn, ELEMENTWISE) else None


def _other_shape(name: str, output: Tensor, y: Tensor) -> str | None:
    if output.shape == y.shape:
        return None
    told = f"{name} compares number with number, and the output is {form(output)} where y is {form(y)}"
    if output.shape[:1] != y.shape[:1]:
        return f"{told}: they have {_rows(output)} and {_rows(y)} rows; look for a reshape that mixes rows"
    if not y.is_floating_point() and output.ndim == y.ndim + 1 and output.shape[1] > 1:
        return f"{told}; if y holds the numbers of classes, use cross_entropy"
    if output.numel() == y.numel():
        way = "squeeze the output in forward: x.squeeze(-1)" if output.ndim > y.ndim else "squeeze y"
        return f"{told}, so every row would meet every other; {way}, or give y as {tuple(output.shape)}"
    return f"{told}; let the model give {tuple(y.shape)} (out_features?), or y be {tuple(output.shape)}"


def _other_dtype(name: str, output: Tensor, y: Tensor) -> str | None:
    if output.dtype == y.dtype:
        return None
    hint = "" if y.is_floating_point() else " (of classes: cross_entropy)"
    return (
        f"y is {form(y)} where the output is {dtype(output)}: give {name} y.to(torch.{dtype(output)}){hint}"
    )


def _no_classes(name: str, loss_fn: Any, output: Tensor, y: Tensor) -> str | None:
    if output.ndim < 2:
        return (
            f"the output is {form(output)}, one number a row: {name} takes one for each class, (rows,"
            " classes); for two classes and one number a row use bce_with_logits"
        )
    classes, rows = output.shape[1], (output.shape[0], *output.shape[2:])
    if classes == 1:
        return (
            f"the output is {form(output)}, one number a row, and {name} of a single class is always 0: to"
            " predict numbers use mse or huber; for two classes give the model out_features 2"
        )
    wanted = f"{name} takes the numbers of classes, {rows} int64"
    if output.shape[:1] != y.shape[:1]:
        return (
            f"the output has {_rows(output)} rows and y has {_rows(y)}: {wanted}; look for a reshape in"
            " forward that mixes rows"
        )
    if y.shape == output.shape and not y.is_floating_point():
        return f"y is {form(y)}, one-hot it seems: {wanted}: y.argmax(1), or shares of classes: y.float()"
    if output.ndim > 2 and y.shape == output.shape[:-1]:
        return (
            f"the output is {form(output)} and y is {form(y)}: {name} takes the classes on axis 1; give it"
            " output.movedim(-1, 1), or flatten both over rows and steps"
        )
    if y.shape == (*rows, 1):
        cast = "" if y.dtype.is_signed and not y.is_floating_point() else ".long()"
        return f"y is {form(y)}: {wanted}: y.squeeze(-1){cast}; to predict numbers use mse"
    if y.shape == rows and y.is_floating_point():
        return f"y is {form(y)}: {wanted}: y.long(); to predict numbers use mse"
    if y.shape == rows and dtype(y) not in ("int64", "uint8"):
        return f"y is {form(y)}: {wanted}: y.long()"
    if y.shape != rows:
        return f"y is {form(y)} and the output is {form(output)}: {wanted}"
    return _out_of_range(classes, getattr(loss_fn, "ignore_index", None), y)


def _out_of_range(classes: int, ignored: int | None, y: Tensor) -> str | None:
    if y.device.type == "meta":
        return None
    counted = y[y != ignored]
    if not counted.numel():
        return None
    low, high = int(counted.min()), int(counted.max())
    if low >= 0 and high < classes:
        return None
    told = f"the model has {classes} outputs a row, for the classes 0 to {classes - 1}, and y goes"
    advice = (
        "count classes from 0" if low > 0 and high == classes else f"give the model out_features {high + 1}"
    )
    if low < 0:
        advice = "count classes from 0, or give the loss that value as ignore_index"
    return f"{told} from {low} to {high}: {advice}"


def _rows(tensor: Tensor) -> int:
    return len(tensor) if tensor.ndim else 1
