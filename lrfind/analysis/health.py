"""Gradient health: what is measured of every layer, at some steps of a lane."""

from __future__ import annotations

import math
from typing import NamedTuple


class LayerHealth(NamedTuple):
    """One look at one layer: a module with parameters of its own.

    Attributes:
        step: before whose update the gradient was measured.
        layer: name of the module.
        size: how many numbers it has.
        trained: whether the optimizer has any of them.
        matrix: whether it maps its input by a matrix, as norms and embeddings do not.
        grad_norm: Euclidean norm of the gradient, before clipping; None where none arrives.
        weight_norm: of the weights; None where it is not trained.
        update_ratio: norm of what the step changed, over that of the weights; None where none was taken, and
            of weights that are all 0.
        zero_share: of the gradient's numbers that are exactly 0; None where any is NaN.
        nonfinite_share: of those that are NaN or infinite.
        dead_share: of a linear or convolutional layer's units, those whose gradient was 0 at this look and
            the three before it, as far as there are any; None for other layers.
        clipped_share: of the gradient's numbers that clipping changes; None without clipping.
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
        """Norm of the gradient over that of the weights; None where there is no gradient, or no weight."""
        return self.grad_norm / self.weight_norm if self.grad_norm is not None and self.weight_norm else None


APART = 40  # steps between two looks, at least: a look at a small model costs about as much as a step


def look_steps(steps: int, looks: int) -> range:
    """The steps of a lane at which its layers are looked at: evenly spaced, from the first.

    >>> list(look_steps(300, 5)), list(look_steps(100, 10)), list(look_steps(5, 0))
    ([0, 60, 120, 180, 240], [0, 40, 80], [])
    """
    return range(0, steps if looks else 0, max(APART, math.ceil(steps / looks)) if looks else 1)
