"""The axes of charts: their ends, their ticks, and the way from a value to a place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.views.plots.axes import even_numbers, short

MOST_TICKS = 7
HUGE = 1e150  # an axis that reaches further has no room at its ends


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`.

    Attributes:
        low: the value at one end.
        high: the value at the other end.
        log: whether it is logarithmic.
    """

    low: float
    high: float
    log: bool

    def share(self, values: Array | float) -> Array:
        """Return the places of values: 0 at `low`, 1 at `high`; NaN for those that the axis cannot have."""
        numbers = np.asarray(values, dtype=np.float64)
        with np.errstate(all="ignore"):
            if self.log:
                low, high = math.log(self.low), math.log(self.high)
                shares: Array = (np.log(numbers) - low) / (high - low)
            else:
                shares = (numbers - self.low) / (self.high - self.low)
        return np.where(np.isfinite(shares), shares, np.nan)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """The ticks of the axis, with labels as on the axes of the plots: (place, label).

        >>> [label for _, label in Scale(1e-4, 2.0, log=True).ticks]
        ['0.0001', '0.001', '0.01', '0.1', '1']
        >>> [label for _, label in Scale(0.0, 1.0, log=False).ticks]
        ['0.0', '0.2', '0.4', '0.6', '0.8', '1.0']
        """
        values = _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)
        labels = [*map(short, values)] if self.log else even_numbers(values)
        return [(float(self.share(value)), label) for value, label in zip(values, labels, strict=True)]


def scale_for(values: Sequence[float], *, log: bool) -> Scale | None:
    """Return an axis that holds these values with a little room; None if it cannot be logarithmic.

    >>> scale_for([1.0, 2.0], log=False)
    Scale(low=0.94, high=2.06, log=False)
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    if log:
        if low <= 0:
            return None
        extreme = high > HUGE or low < 1 / HUGE
        room = 1.0 if extreme and low < high else max(high / low, 1.2) ** 0.06
        return Scale(low / room, high * room, True)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 0.5
    return Scale(low - room, high + room, False)


def _linear_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two ends.

    >>> _linear_ticks(0.0, 2.4)
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    raw = (high - low) / (MOST_TICKS - 1)
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * part for part in (1, 2, 2.5, 5, 10) if size * part >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * (first + i), 12) for i in range(math.floor(high / step + 1e-9) - first + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two ends of a logarithmic axis.

    >>> _log_ticks(0.008, 0.4), _log_ticks(1e-5, 20)
    ([0.01, 0.02, 0.05, 0.1, 0.2], [1e-05, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0])
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for parts in ((1, 2, 5), (1, 3), (1,)):
        values = [float(f"{part}e{power}") for power in range(first, last + 1) for part in parts]
        inside = [value for value in values if low * 0.999 <= value <= high * 1.001]
        if len(inside) <= MOST_TICKS:
            break
    if len(inside) < 3:
        return [value for value in _linear_ticks(low, high) if value > 0]
    return inside[:: -(-len(inside) // MOST_TICKS)]
