"""The axes of all plots: which losses they span, and where their ticks are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECADES = 30  # the ratio of two losses from which the axis is logarithmic
MARGIN = 0.08  # of the axis, which stays empty at each end
WIDTH_OF_A_LABEL, HEIGHT_OF_A_LABEL = 4.6, 2.2  # of a tick, with the gap to the next, in font sizes
MOST_TICKS = 8
SMALLEST_LOSS = 1e-300  # on a logarithmic axis
REACH = 1.5  # times the drop from the start to the lowest loss: higher losses are not on the axis
REACH_WITHOUT_A_DROP = 1000.0  # times the distance of the lowest loss to the median one


@dataclass(frozen=True)
class LossAxis:
    """A loss axis.

    Attributes:
        bottom: its lower end.
        top: its upper end; higher losses are marked there.
        log: whether it is logarithmic.
    """

    bottom: float
    top: float
    log: bool


def loss_axis(losses: Iterable[float], start: float = math.nan, *, decades: float = DECADES) -> LossAxis:
    """Return the axis that the losses which matter fill.

    These are the losses that lie at most 1.5 times as far above the lowest as the start does. The start is on
    the axis too, if it takes no more than two thirds of it.

    Args:
        losses: the losses that are drawn, of any order; those that are not finite have no place.
        start: the loss before the training; NaN if it is not known.
        decades: the ratio of the highest loss to the lowest from which the axis is logarithmic.
    """
    finite = np.array([loss for loss in losses if math.isfinite(loss)] or [start], dtype=np.float64)
    if not np.isfinite(finite).all():
        return LossAxis(0.0, 1.0, log=False)
    lowest = float(finite.min())
    reach = REACH * (start - lowest) if start > lowest else 0.0
    reach = reach or REACH_WITHOUT_A_DROP * float(np.median(finite - lowest)) or math.inf
    highest = float(finite[finite <= lowest + reach].max())
    if highest < start <= highest + 2 * (highest - lowest) or highest == lowest < start:
        highest = start
    if lowest > 0 and highest / decades > lowest:
        room = 10 ** (MARGIN * (math.log10(highest) - math.log10(lowest)))
        return LossAxis(max(lowest / room, SMALLEST_LOSS), highest * room, log=True)
    room = MARGIN * (highest - lowest) or MARGIN * abs(lowest) or 1.0
    return LossAxis(lowest - room, highest + room, log=False)


def set_loss_axis(ax: Axes, axis: LossAxis) -> None:
    """Give an Axes its loss axis."""
    if axis.log:
        ax.set_yscale("log")
    ax.set_ylim(axis.bottom, axis.top)


def tidy_ticks(axis: Any) -> None:
    """Give an axis as many ticks as it has room for, at any size of the figure, with short labels.

    Args:
        axis: the x or y axis of an Axes or a colour bar; its scale is set already.
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter

    if axis.get_scale() == "log":
        axis.set_major_locator(_ticker("RateLocator"))
        axis.set_major_formatter(FuncFormatter(short))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(_ticker("StepLocator"))
        axis.get_major_locator().set_params(integer=axis.get_label_text() == "step")
        axis.set_major_formatter(_ticker("EvenFormatter"))


def short(value: float, place: int | None = None) -> str:
    """Return a number of a tick in few characters; matplotlib also gives the place of the tick, if any.

    >>> [short(value) for value in (0.1, 0.30000000000000004, 2e-05, 1e-6, 150, 20000, 3e8)]
    ['0.1', '0.3', '2e-5', '1e-6', '150', '20,000', '3e8']
    """
    if 1e4 <= abs(value) < 1e6 and value == round(value):
        return f"{value:,.0f}"
    mantissa, _, exponent = f"{value:.9{'e' if abs(value) >= 1e6 else 'g'}}".partition("e")
    return f"{float(mantissa):.10g}e{int(exponent)}" if exponent else mantissa


def even_numbers(values: Iterable[float]) -> list[str]:
    """Return numbers with equally many decimals, if none is very small or large.

    >>> even_numbers([1.0, 1.25, 1.5])
    ['1.00', '1.25', '1.50']
    """
    numbers = list(values)
    texts = [short(value) for value in numbers]
    if any("e" in text or "," in text for text in texts):
        return texts
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [f"{value:.{decimals}f}" for value in numbers]


def size_of(ax: Axes) -> tuple[float, float]:
    """Return the width and the height of axes in points; before the layout of the figure, about these."""
    window, dpi = ax.get_window_extent(), ax.figure.dpi
    return float(window.width) * 72 / dpi, float(window.height) * 72 / dpi


def _room(axis: Any) -> float:
    """Return how many tick labels fit side by side on an axis."""
    width, height = size_of(axis.axes)
    font = float(axis.get_major_ticks(1)[0].label1.get_size())
    return width / (WIDTH_OF_A_LABEL * font) if axis.axis_name == "x" else height / (HEIGHT_OF_A_LABEL * font)


def _ticker(name: str) -> Any:
    """Return a new locator or formatter; pickled figures call this too."""
    return _tickers()[name]()


@cache
def _tickers() -> dict[str, Any]:
    """Return the classes of locators and formatters; they are made here to import matplotlib only to draw."""
    from matplotlib.ticker import Formatter, Locator, MaxNLocator

    class RateLocator(Locator):
        """Ticks at 1, 2 and 5, at 1 and 3, or at powers of ten: as many as do not overlap."""

        def __call__(self) -> Any:
            assert self.axis is not None  # matplotlib calls it only from an axis
            low, high = sorted(self.axis.get_view_interval())
            return rate_ticks(low, high, _room(self.axis))

        def tick_values(self, vmin: float, vmax: float) -> Any:
            return rate_ticks(vmin, vmax, MOST_TICKS)

        def __reduce__(self) -> Any:
            return _ticker, ("RateLocator",), self.__dict__

    class StepLocator(MaxNLocator):
        """Ticks at round numbers: as many as do not overlap."""

        def __init__(self) -> None:
            super().__init__(steps=[1, 2, 2.5, 5, 10])

        def __call__(self) -> Any:
            self.set_params(nbins=int(np.clip(_room(self.axis), 1, MOST_TICKS)))
            return super().__call__()

        def __reduce__(self) -> Any:
            return _ticker, ("StepLocator",), self.__dict__

    class EvenFormatter(Formatter):
        """Numbers with as many decimals as their neighbours."""

        def __call__(self, value: float, place: int | None = None) -> str:
            return short(value)

        def format_ticks(self, values: Iterable[float]) -> list[str]:
            return even_numbers(values)

        def __reduce__(self) -> Any:
            return _ticker, ("EvenFormatter",), self.__dict__

    return {made.__name__: made for made in (RateLocator, StepLocator, EvenFormatter)}


def rate_ticks(low: float, high: float, room: float) -> list[float]:
    """Return the ticks of a logarithmic axis.

    Args:
        low: the lower end of the axis, positive.
        high: the upper end of the axis.
        room: the largest number of labels that fit side by side.

    >>> rate_ticks(0.008, 0.4, 8), rate_ticks(0.008, 0.4, 5), rate_ticks(1e-6, 1.0, 4)
    ([0.01, 0.02, 0.05, 0.1, 0.2], [0.01, 0.03, 0.1, 0.3], [1e-06, 0.0001, 0.01, 1.0])
    """
    from matplotlib.ticker import MaxNLocator

    if not 0 < low < high < math.inf:
        return []
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = math.log10(high) - math.log10(low)
    if decades < 0.6:
        ticks = MaxNLocator(max(1, min(5, int(room)))).tick_values(low, high)
        return [float(tick) for tick in ticks if low <= tick <= high]
    for multiples, gap in (((1, 2, 5), 0.3), ((1, 3), 0.477)):
        if gap * room >= decades:
            ticks = [float(f"{m}e{n}") for n in range(first, last + 1) for m in multiples]
            return [tick for tick in ticks if low <= tick <= high]
    every = max(1, math.ceil(decades / room))
    powers = [n for n in range(first, last + 1) if low <= 10.0**n <= high]
    return [float(f"1e{n}") for n in powers if (n - powers[0]) % every == 0]
