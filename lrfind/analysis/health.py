"""Gradient health: the looks, each of which measures every layer at one step of a lane."""

from __future__ import annotations

import math
from typing import NamedTuple


class LayerHealth(NamedTuple):
    """One look at one layer, which is a module with parameters of its own.

    Attributes:
        step: the step before whose update the gradient was measured.
        layer: the name of the module.
        size: the total number of elements of its parameters.
        trained: whether the optimizer has at least one of its parameters.
        matrix: whether it multiplies its input by a matrix; norms and embeddings do not.
        grad_norm: the Euclidean norm of the gradient, before clipping; None if no gradient arrives.
        weight_norm: the Euclidean norm of the weights; None if the layer is not trained.
        update_ratio: the norm of the change that the step made, divided by the norm of the weights; None if
            no step was taken, or if all weights are 0.
        zero_share: the share of the gradient's numbers that are exactly 0; None if any of them is NaN.
        nonfinite_share: the share of the gradient's numbers that are NaN or infinite.
        dead_share: the share of units whose gradient was 0 at this look and at the three looks before it (or
            at as many looks as there are before it); None for a layer that is not linear or convolutional.
        clipped_share: the share of the gradient's numbers that clipping changes; None without clipping.
    """

    step: int
    layer: str
    size: int
    trained: bool
    matrix: bool
    grad_norm: float | None = None
    weight_norm: float | None = None
    update_ratio: float | None = None
    zero_share: float | None = None
    nonfinite_share: float | None = None
    dead_share: float | None = None
    clipped_share: float | None = None

    @property
    def relative(self) -> float | None:
        """Return grad_norm divided by weight_norm; None if one is missing or all weights are 0."""
        return self.grad_norm / self.weight_norm if self.grad_norm is not None and self.weight_norm else None


FEWEST_STEPS_APART = 40
"""The fewest steps between two looks: a look at a small model costs about as much as a step."""


def look_steps(steps: int, looks: int) -> range:
    """Return the steps of a lane at which its layers are looked at: evenly spaced, from the first step on.

    >>> list(look_steps(300, 5)), list(look_steps(100, 10)), list(look_steps(5, 0))
    ([0, 60, 120, 180, 240], [0, 40, 80], [])
    """
    return range(0, steps if looks else 0, max(FEWEST_STEPS_APART, math.ceil(steps / looks)) if looks else 1)
