"""What a method spends on a problem beside gradient steps, and the lr that its optimizer has by default."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from lrfind.problem.problem import Problem

FORWARD = 1 / 3  # the cost of a forward pass alone, in gradient steps


def evaluation_cost(problem: Problem) -> float:
    """Return the cost of one pass over the validation split, in gradient steps.

    It is counted by rows, because validation batches are larger than training batches.
    """
    assert problem.validation is not None
    batch = next(problem.setup(0).batches)
    return FORWARD * sum(_rows(held) for held in problem.validation()) / _rows(batch)


def default_lr(problem: Problem) -> float:
    """Return the lr that torch gives the problem's optimizer if its user gives none."""
    kind = type(problem.setup(0).optimizer)
    return float(inspect.signature(kind).parameters["lr"].default)


def _rows(batch: Any) -> int:
    inputs: Tensor = batch[0]
    return len(inputs)
