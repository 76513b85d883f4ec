"""The course of losses for the eye: without the noise of single batches, over several seeds, thinned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrfind.analysis.curves import Array, without_blow_up

HALVES = (2, 4, 8, 16, 32, 64, 128)  # steps on each side of a step that may be averaged
SHARE = 10  # a side has at most a tenth of all steps
GROWTH = 4  # at step t, a side has at most t / 4 steps, because a loss falls fast at first
TOLERANCE = 1.1  # times the least error: of the widths below it, the widest is taken


def trend(loss: Array) -> Array:
    """Return the moving average of a training's loss whose width suits its noise, (T,).

    The width is the widest one whose leave-one-out error is about the least, of `HALVES` and no averaging at
    all. So a clean curve stays as it is, and so does the first loss. The last steps, which have too few steps
    after them, lie on a straight line through the last full window. `lrfind.analysis.curves.smooth` fits
    parabolas instead, which follow the noise at both ends.

    Args:
        loss: (T,) finite losses.
    """
    capped = without_blow_up(loss)
    halves = [half for half in HALVES if half <= loss.size // SHARE]
    if not halves:
        return capped
    compared = slice(GROWTH, loss.size - halves[-1])  # where each width has other steps on both sides
    neighbours = (capped[:-2] + capped[2:]) / 2
    errors = {0: float(np.mean((capped[1:-1] - neighbours)[GROWTH - 1 : compared.stop - 1] ** 2))}
    growing = _growing(capped, halves[-1])
    for half in halves:
        count = 2 * _sides(loss.size, half)[compared] + 1
        left_out = (capped - _average(capped, half, growing))[compared] * count / (count - 1)
        errors[half] = float(np.mean(left_out**2))
    best = max(half for half, error in errors.items() if error <= TOLERANCE * min(errors.values()))
    if not best:
        return capped
    once = _average(capped, best, growing)
    return _average(once, best, _growing(once, best))


def over_seeds(rows: Sequence[Array], diverged: Sequence[bool]) -> tuple[Array, Array, Array]:
    """Return the median, the lowest and the highest value over seeds at each step, (t,) each.

    A seed that diverged counts as infinitely high after its end, so a few of them do not end the median: t is
    the number of steps up to which the median is finite. A seed that was cut off counts only up to its end.

    Args:
        rows: (t_k,) the values of each seed; their lengths may differ.
        diverged: whether each seed diverged at its end.

    >>> seeds = [np.array([3.0, 2.0, 1.0]), np.array([4.0]), np.array([5.0, 4.0])]
    >>> [values.tolist() for values in over_seeds(seeds, [False, True, True])]
    [[4.0, 4.0], [3.0, 2.0], [5.0, 4.0]]
    """
    if not rows:
        return np.empty(0), np.empty(0), np.empty(0)
    table = np.full((len(rows), max(row.size for row in rows)), np.nan)
    for seed, (row, ended_high) in enumerate(zip(rows, diverged, strict=True)):
        table[seed, : row.size] = row
        table[seed, row.size :] = np.inf if ended_high else np.nan
    middle = np.nanmedian(table, axis=0)
    infinite = np.flatnonzero(~np.isfinite(middle))
    steps = int(infinite[0]) if infinite.size else middle.size
    known = np.where(np.isfinite(table), table, np.nan)[:, :steps]
    return middle[:steps], np.nanmin(known, axis=0), np.nanmax(known, axis=0)


def _sides(size: int, half: int) -> np.ndarray:
    """Return the number of steps on each side of every step that are averaged, (T - half,)."""
    return np.minimum(half, np.arange(size - half) // GROWTH)


def _growing(y: Array, half: int) -> Array:
    """Return the averages at the first steps, (4 half,), whose windows grow up to `half` on each side."""
    averages = [y[:GROWTH]]
    for side in range(1, half):  # at the steps from 4 * side on
        width, begin = 2 * side + 1, (GROWTH - 1) * side
        averages.append(np.array([y[at : at + width] for at in range(begin, begin + GROWTH)]).mean(axis=1))
    return np.concatenate(averages)


def _average(y: Array, half: int, growing: Array) -> Array:
    """Return the moving averages of y, (T,), and at the end the line through the last window.

    Args:
        y: (T,) the values.
        half: the number of values on each side of a value, but for the first ones.
        growing: the averages at the first steps, or more of them; see `_growing`.
    """
    narrow, width = GROWTH * half, 2 * half + 1
    average = np.empty_like(y)
    average[:narrow] = growing[:narrow]
    average[narrow : y.size - half] = np.convolve(y[narrow - half :], np.full(width, 1 / width), "valid")
    last, offset = y[-width:], np.arange(width) - half
    slope = float(last @ offset) / float(offset @ offset)
    average[-half:] = np.clip(last.mean() + slope * offset[-half:], last.min(), last.max())
    return average


def spread_places(length: int, most: int) -> list[int]:
    """Return at most `most` places of a sequence, spread evenly, with its first and its last.

    >>> spread_places(100, 3), spread_places(2, 5)
    ([0, 50, 99], [0, 1])
    """
    if length <= most:
        return [*range(length)]
    return [int(place) for place in np.linspace(0, length - 1, most).round()]
