"""Learning rates as functions of the step.

A schedule takes step numbers (N,), counted from 0, and T = `steps`, the number of steps. It returns (N,)
multipliers of the peak lr, which are 1.0 at the peak. It keeps no state, so it can compute any
step without the steps before. The arguments mean the same in all schedules:

- A length (`warmup`, `period`, `every`, `decay`, an entry of `at`) is a whole number of steps, or a share of
  the steps strictly between 0 and 1, which is rounded to whole steps.
- `warmup` is a length of W steps. A step t < W has the multiplier (t + 1) / (W + 1), so step W is the first
  step at the peak. The schedule itself begins at step W: t, T and the lengths in its formula count from
  there. This is torch's `SequentialLR` of `LinearLR(start_factor=1 / (W + 1), total_iters=W)` and the
  schedule.
- `end` is the share of the peak that is reached at t = T, one step after the last step. So with `end=0`, the
  last step still learns. (`one_cycle` reaches its end *at* the last step, as torch's does.)

An argument that is out of its bounds raises ArgumentError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.catalog import Spacing
from lrfind.errors import UsageError, counted, unknown

Length = int | float
"""A number of steps, or a share of the steps strictly between 0 and 1."""


class ArgumentError(UsageError):
    """An argument of a schedule that is out of its bounds.

    Attributes:
        path: the keys that lead to the argument in the schedule's args, such as ("warmup",), or
            ("parts", 1, "args", "warmup") for the argument of a part of a join.
    """

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


def ramp(start_lr: float, end_lr: float, steps: int, *, spacing: Spacing = "exponential") -> Array:
    """Rise from `start_lr` to `end_lr`, and reach both exactly (Smith 2015, arXiv:1506.01186).

    Args:
        start_lr: the lr of step 0, positive.
        end_lr: the lr of step `steps - 1`, above `start_lr`.
        steps: T, at least 2.
        spacing: "exponential" (equal ratios, which fastai made usual) or "linear" (equal differences, as in
            the paper).

    Returns:
        (T,) lrs, strictly increasing.

    >>> ramp(1e-3, 1e-1, 3)
    array([0.001, 0.01 , 0.1  ])
    """
    if spacing == "linear":
        return np.linspace(start_lr, end_lr, steps, dtype=np.float64)
    return np.geomspace(start_lr, end_lr, steps, dtype=np.float64)


def constant(step: Array, steps: int) -> Array:
    """Stay at the peak, as torch's `ConstantLR` with `factor=1`."""
    return np.ones(np.shape(step))


def linear_warmup(step: Array, steps: int, *, warmup: int | float = 0.05) -> Array:
    """Rise to the peak in a straight line, then stay (Goyal et al. 2017, arXiv:1706.02677, section 2.2).

    The multiplier is (t + 1) / (W + 1), at most 1. This is torch's `LinearLR` with
    `start_factor=1 / (W + 1)` and `total_iters=W`.

    >>> linear_warmup(np.arange(6), 6, warmup=3)
    array([0.25, 0.5 , 0.75, 1.  , 1.  , 1.  ])
    """
    return _after_warmup(step, steps, warmup, constant)


def linear(step: Array, steps: int, *, warmup: int | float = 0, end: float = 0.0) -> Array:
    """Fall to `end` in a straight line.

    The multiplier is 1 - (1 - end) t / T. This is torch's `LinearLR` with `start_factor=1`, `end_factor=end`
    and `total_iters=T`.

    >>> linear(np.arange(5), 5)
    array([1. , 0.8, 0.6, 0.4, 0.2])
    """
    return polynomial(step, steps, warmup=warmup, end=end)


def polynomial(
    step: Array, steps: int, *, warmup: int | float = 0, end: float = 0.0, power: float = 1.0
) -> Array:
    """Fall to `end` as a power of the steps left (Chen et al. 2016, arXiv:1606.00915, "poly", with `end=0`).

    The multiplier is end + (1 - end) (1 - t / T) ** power. This is Keras's `PolynomialDecay`, and torch's
    `PolynomialLR` with `end=0`.
    """
    _require_positive("power", power)
    return _fall(step, steps, warmup, end, lambda t, length: (1 - t / length) ** power)


def cosine(step: Array, steps: int, *, warmup: int | float = 0, end: float = 0.0) -> Array:
    """Fall to `end` along half a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5, one period).

    The multiplier is end + (1 - end) (1 + cos(pi t / T)) / 2. This is torch's `CosineAnnealingLR` with
    `T_max=T`, and Keras's `CosineDecay`.

    >>> cosine(np.arange(4), 4).round(3)
    array([1.   , 0.854, 0.5  , 0.146])
    """
    return _fall(step, steps, warmup, end, lambda t, length: _half_cosine(t / length))


def cosine_restarts(
    step: Array,
    steps: int,
    *,
    period: int | float = 0.25,
    growth: float = 1,
    warmup: int | float = 0,
    end: float = 0.0,
) -> Array:
    """Fall along half a cosine again and again (SGDR: Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5).

    The multiplier is end + (1 - end) (1 + cos(pi s / P)) / 2, where s counts the steps since the last
    restart. The first P is `period`, and the n-th P after it is `period * growth ** n`, rounded to whole
    steps. If `period` is a share of the steps and `growth` is 1, the restarts are rounded and not the period,
    so that the periods fill the training: some are one step longer, and none begins at its end.

    With a whole `growth` and a whole `period`, this is torch's `CosineAnnealingWarmRestarts` with
    `T_0=period` and `T_mult=growth`, and Keras's `CosineDecayRestarts` with `t_mul=growth`. A `growth` below
    1 makes the periods shorter; every period must have at least one step.

    >>> cosine_restarts(np.arange(6), 6, period=2, growth=2).round(3)
    array([1.   , 0.5  , 1.   , 0.854, 0.5  , 0.146])
    """
    _require_positive("growth", growth)

    def shape(t: Array, length: int) -> Array:
        end_of_run = max(length, int(t.max(initial=0)) + 1)
        first: Length = length_in_steps("period", period, length, least=1)
        if growth == 1 and isinstance(period, float):
            first = max(1.0, period * length)
        starts = _restarts(end_of_run, first, growth)
        last = np.searchsorted(starts, t, side="right") - 1
        return _half_cosine((t - starts[last]) / np.diff(starts)[last])

    return _fall(step, steps, warmup, end, shape)


def step_decay(
    step: Array, steps: int, *, every: int | float = 1 / 3, factor: float = 0.1, warmup: int | float = 0
) -> Array:
    """Multiply by `factor` at regular steps.

    The multiplier is factor ** floor(t / every). This is torch's `StepLR` with `step_size=every` and
    `gamma=factor`.

    >>> step_decay(np.arange(6), 6)
    array([1.  , 1.  , 0.1 , 0.1 , 0.01, 0.01])
    """
    _require_share("factor", factor)
    return exponential(step, steps, rate=factor, every=every, warmup=warmup, staircase=True)


def multi_step(
    step: Array,
    steps: int,
    *,
    at: Sequence[int | float] = (0.5, 0.75),
    factor: float = 0.1,
    warmup: int | float = 0,
) -> Array:
    """Multiply by `factor` at the given steps (as He et al. 2015, arXiv:1512.03385, section 4.2).

    The multiplier is factor ** n, where n is the number of entries of `at` that are t or less. This is
    torch's `MultiStepLR` with `milestones=at` and `gamma=factor`, and Keras's `PiecewiseConstantDecay`, whose
    borders are lower by one.
    """
    _require_share("factor", factor)

    def shape(t: Array, length: int) -> Array:
        drops = np.sort([length_in_steps("at", border, length, least=1) for border in at])
        return _power(factor, np.searchsorted(drops, t, side="right"))

    return _after_warmup(step, steps, warmup, shape)


def exponential(
    step: Array,
    steps: int,
    *,
    rate: float = 0.1,
    every: int | float | None = None,
    warmup: int | float = 0,
    staircase: bool = False,
) -> Array:
    """Multiply by the same factor at each step, which gives `rate` over `every` steps.

    The multiplier is rate ** (t / every). With `staircase`, the exponent is rounded down, so the lr changes
    only after each `every` steps. `every=None` means T, so by default the lr falls to a tenth. This is
    Keras's `ExponentialDecay`, and torch's `ExponentialLR` with `gamma=rate` if `every=1`.
    """
    _require_share("rate", rate)

    def shape(t: Array, length: int) -> Array:
        times = t / _every(every, length)
        return _power(rate, np.floor(times) if staircase else times)

    return _after_warmup(step, steps, warmup, shape)


def inverse_time(
    step: Array,
    steps: int,
    *,
    rate: float = 9.0,
    power: float = 1.0,
    every: int | float | None = None,
    warmup: int | float = 0,
) -> Array:
    """Fall as 1 / time, or as a power of 1 / time (Robbins & Monro 1951).

    The multiplier is (1 + rate t / every) ** -power. `every=None` means T. With the default rate of 9, the
    lr falls to a tenth, as in `exponential`. With `power=1`, this is Keras's `InverseTimeDecay`. With
    `every=1`, it is Caffe's "inv" with `gamma=rate`. With `every=1` and `rate=1`, it is scikit-learn's
    "invscaling" with `power_t=power`; scikit-learn counts the steps from 1.
    """
    _require_positive("rate", rate)
    _require_positive("power", power)
    return _after_warmup(
        step, steps, warmup, lambda t, length: (1 + rate * t / _every(every, length)) ** -power
    )


def inverse_sqrt(step: Array, steps: int, *, warmup: int | float = 0.1) -> Array:
    """Rise, then fall as 1 / sqrt(step) (Vaswani et al. 2017, arXiv:1706.03762, eq. 3).

    The multiplier is min(s / W, sqrt(W / s)), with s = t + 1 and W of at least 1. This is the paper's lr
    divided by its highest value; the paper computes that value from the model's width. The rise is
    the paper's: it reaches the peak at step W - 1. The rise in the module's docstring does not apply here.

    >>> inverse_sqrt(np.arange(8), 8, warmup=2).round(3)
    array([0.5  , 1.   , 0.816, 0.707, 0.632, 0.577, 0.535, 0.5  ])
    """
    peak = max(1, warmup_steps(warmup, steps))
    count = np.asarray(step, np.float64) + 1
    return np.minimum(count / peak, np.sqrt(peak / count))


def cyclic(
    step: Array,
    steps: int,
    *,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    period: int | float = 0.25,
    low: float = 0.25,
    gamma: float = 0.999,
    momentum: Sequence[float] | None = None,
) -> Array:
    """Rise and fall in straight lines, again and again (Smith 2015, arXiv:1506.01186, section 3).

    The multiplier is low + (1 - low) h, where h goes from 0 to 1 and back in each period. This is torch's
    `CyclicLR` with `step_size_up=period / 2`, the peak as `max_lr`, and `low` times the peak as `base_lr`.

    Args:
        step: (N,) step numbers.
        steps: T.
        mode: "triangular" leaves h as it is, "triangular2" halves it from one period to the next,
            "exp_range" multiplies it by gamma ** t.
        period: the length of one rise and fall, at least 2 steps.
        low: the share of the peak where each period begins and ends, above 0.
        gamma: the base of the factor of "exp_range"; the other modes ignore it.
        momentum: the highest and the lowest momentum, for `cyclic_momentum`; None leaves the momentum as it
            is.

    >>> cyclic(np.arange(6), 6, period=4, low=0.2)
    array([0.2, 0.6, 1. , 0.6, 0.2, 0.6])
    """
    _require_share("low", low)
    if momentum is not None:
        _extremes(momentum)
    return _down_to(low, _swing(step, steps, mode, period, gamma))


def cyclic_momentum(
    step: Array,
    steps: int,
    *,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    period: int | float = 0.25,
    low: float = 0.25,
    gamma: float = 0.999,
    momentum: Sequence[float] | None = None,
) -> Array | None:
    """Return the momentum that belongs to `cyclic` with the same arguments: it is low where the lr is high.

    This is torch's `CyclicLR` with `cycle_momentum=True`, `max_momentum` and `base_momentum`.

    Returns:
        (N,) momenta, which are not multipliers; None if `momentum` is None.
    """
    if momentum is None:
        return None
    highest, lowest = _extremes(momentum)
    return highest - (highest - lowest) * _swing(step, steps, mode, period, gamma)


def one_cycle(
    step: Array,
    steps: int,
    *,
    rise: float = 0.3,
    start: float = 0.04,
    end: float = 4e-6,
    anneal: Literal["cosine", "linear"] = "cosine",
    three_phase: bool = False,
    momentum: Sequence[float] | None = (0.95, 0.85),
) -> Array:
    """Rise to the peak once, and fall far below the start (Smith & Topin 2017, arXiv:1708.07120).

    This equals torch's `OneCycleLR` step for step. The defaults are fastai's: two phases that follow cosines.
    The paper has three straight phases. If rise * T is 1 or less, torch divides by zero or begins past the
    peak; here the first step is at `start`, and then the lr falls.

    Args:
        step: (N,) step numbers.
        steps: T.
        rise: the share of the steps until the peak, which is at t = rise * T - 1; torch's `pct_start`.
        start: the share of the peak at the first step; 1 / `div_factor` in torch.
        end: the share of the peak at the last step; start / `final_div_factor` in torch.
        anneal: the line that each phase follows; torch's `anneal_strategy`.
        three_phase: whether the lr falls to `start` in as many steps as the rise took, and then to `end`;
            otherwise it falls to `end` in one phase.
        momentum: the highest and the lowest momentum, for `one_cycle_momentum`; None leaves the momentum as
            it is.

    >>> one_cycle(np.arange(6), 6, rise=0.5, start=0.2, end=0.1, anneal="linear")
    array([0.2, 0.6, 1. , 0.7, 0.4, 0.1])
    """
    _require_share("start", start)
    _require_share("end", end)
    if momentum is not None:
        _extremes(momentum)
    levels = (start, 1.0, start, end) if three_phase else (start, 1.0, end)
    return _through(step, _turns(steps, rise, three_phase), levels, anneal)


def one_cycle_momentum(
    step: Array,
    steps: int,
    *,
    rise: float = 0.3,
    start: float = 0.04,
    end: float = 4e-6,
    anneal: Literal["cosine", "linear"] = "cosine",
    three_phase: bool = False,
    momentum: Sequence[float] | None = (0.95, 0.85),
) -> Array | None:
    """Return the momentum that belongs to `one_cycle` with the same arguments: it is lowest at the lr's peak.

    This is torch's `OneCycleLR` with `cycle_momentum=True`, `max_momentum` and `base_momentum`.

    Returns:
        (N,) momenta, which are not multipliers; None if `momentum` is None.
    """
    if momentum is None:
        return None
    highest, lowest = _extremes(momentum)
    levels = (highest, lowest, highest, highest) if three_phase else (highest, lowest, highest)
    return _through(step, _turns(steps, rise, three_phase), levels, anneal)


def wsd(
    step: Array,
    steps: int,
    *,
    warmup: int | float = 0.05,
    decay: int | float = 0.2,
    end: float = 0.0,
    shape: Literal["linear", "sqrt"] = "linear",
) -> Array:
    """Warm up, stay at the peak, and fall to `end` over the last steps (Hu et al. 2024, arXiv:2404.06395).

    The multiplier is end + (1 - end) f(x), where x runs from 0 to 1 over the last `decay` steps. f(x) is
    1 - x or, with "sqrt", 1 - sqrt(x) (both in Hägele et al. 2024, arXiv:2405.18392). If `decay` is a share,
    it is a share of all steps, as in the papers, and not only of the steps after the warmup.

    >>> wsd(np.arange(8), 8, warmup=1, decay=4)
    array([0.5 , 1.  , 1.  , 1.  , 1.  , 0.75, 0.5 , 0.25])
    """
    line = _choice("shape", shape, {"linear": _straight, "sqrt": _one_minus_root})
    decay_steps = length_in_steps("decay", decay, steps, least=1)

    def stay_then_fall(t: Array, length: int) -> Array:
        limit = f"at most the {counted(length, 'step')} that the warmup leaves"
        require("decay", decay, decay_steps <= length, limit)
        return line(np.maximum(0, (t - (length - decay_steps)) / decay_steps))

    return _fall(step, steps, warmup, end, stay_then_fall)


def join(
    step: Array,
    steps: int,
    *,
    parts: Sequence[Callable[[Array, int], Array]],
    at: Sequence[int | float],
) -> Array:
    """Follow one schedule after another; each counts its own steps from 0 and has its own length.

    The first of `parts` lasts until step at[0], the second one until at[1], and so on. This is torch's
    `SequentialLR` with `milestones=at`.

    >>> join(np.arange(6), 6, parts=[constant, linear], at=[4])
    array([1. , 1. , 1. , 1. , 1. , 0.5])
    """
    if len(parts) != len(at) + 1:
        raise ArgumentError(
            "join needs one entry of `at` for each border between two parts; found"
            f" {counted(len(at), 'entry')} for {counted(len(parts), 'part')}.",
            "at",
        )
    borders = [0, *(length_in_steps("at", border, steps, least=1) for border in at), steps]
    increase = all(start < stop for start, stop in pairwise(borders))
    require("at", list(at), increase, f"increasing and below {steps}, the number of steps")
    step = np.asarray(step, np.float64)
    part_of_step = np.searchsorted(borders[1:-1], step, side="right")
    result = np.empty_like(step)
    for number, (part, (start, stop)) in enumerate(zip(parts, pairwise(borders), strict=True)):
        inside = part_of_step == number
        result[inside] = part(step[inside] - start, stop - start)
    return result


def require(name: str, value: object, holds: bool, what: str) -> None:
    """Raise ArgumentError for the argument `name` unless `holds`; `what` says what the argument must be.

    >>> require("power", -1, -1 > 0, "a positive number")
    Traceback (most recent call last):
    lrfind.schedules.functions.ArgumentError: power must be a positive number; found -1.
    """
    if not holds:
        raise ArgumentError(f"{name} must be {what}; found {value!r}.", name)


def _require_positive(name: str, value: float) -> None:
    require(name, value, 0 < value < math.inf, "a positive number")


def _require_share(name: str, value: float) -> None:
    require(name, value, 0 < value <= 1, "above 0 and at most 1")


def _extremes(momentum: Sequence[float]) -> tuple[float, float]:
    """Return the highest and the lowest momentum."""
    valid = len(momentum) == 2 and 0 <= momentum[1] <= momentum[0] < 1
    require("momentum", momentum, valid, "the highest and the lowest momentum, both at least 0 and below 1")
    return momentum[0], momentum[1]


def length_in_steps(name: str, value: Length, steps: int, *, least: int = 0) -> int:
    """Return a length as a number of steps; a share is never rounded below `least`."""
    require("steps", steps, steps >= 1, "at least 1")
    if isinstance(value, (int, np.integer)) and value >= least:
        return int(value)
    is_share = isinstance(value, float) and 0 < value < 1
    what = f"a whole number of steps (at least {least}) or a share of the steps (between 0 and 1)"
    require(name, value, is_share, what)
    return max(least, round(value * steps))


def warmup_steps(warmup: Length, steps: int) -> int:
    """Return the number of steps of the warmup; at least one step must be left after it."""
    rise = length_in_steps("warmup", warmup, steps)
    require("warmup", warmup, rise < steps, f"shorter than the run, which has {counted(steps, 'step')}")
    return rise


def _every(every: Length | None, length: int) -> int:
    return length if every is None else length_in_steps("every", every, length, least=1)


def _after_warmup(step: Array, steps: int, warmup: Length, shape: Callable[[Array, int], Array]) -> Array:
    """Rise to the peak, then follow `shape`, a function of the steps since the peak and of their number."""
    rise = warmup_steps(warmup, steps)
    step = np.asarray(step, np.float64)
    since = np.maximum(step - rise, 0)
    return np.where(step < rise, (step + 1) / (rise + 1), shape(since, steps - rise))


def _fall(step: Array, steps: int, warmup: Length, end: float, shape: Callable[[Array, int], Array]) -> Array:
    """Follow `shape` after the warmup; `shape` goes from 1 to 0, and is stretched to go from 1 to `end`."""
    require("end", end, 0 <= end <= 1, "a share of the peak, from 0 to 1")
    return _after_warmup(step, steps, warmup, lambda t, length: _down_to(end, shape(t, length)))


def _down_to(end: float, height: Array) -> Array:
    return end + (1 - end) * height


def _power(base: float, exponent: Any) -> Array:
    power: Array = np.power(base, exponent, dtype=np.float64)
    return power


def _straight(x: Array) -> Array:
    return 1 - x


def _half_cosine(x: Array) -> Array:
    return (1 + np.cos(np.pi * x)) / 2


def _one_minus_root(x: Array) -> Array:
    return 1 - np.sqrt(x)


def _choice(kind: str, name: str, table: dict[str, Callable[..., Array]]) -> Callable[..., Array]:
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]


def _restarts(steps: int, period: float, growth: float) -> Array:
    """Return the steps at which the periods begin, from 0 to the first one at `steps` or later."""
    if growth == 1:
        even: Array = np.floor(np.arange(0, steps + period, period, dtype=np.float64) + 0.5)
        return even
    starts = [0]
    while starts[-1] < steps:
        width = round(period * growth ** (len(starts) - 1))
        limit = f"larger, because period {len(starts)} would be shorter than one step"
        require("growth", growth, width >= 1, limit)
        starts.append(starts[-1] + width)
    return np.array(starts, np.float64)


def _swing(step: Array, steps: int, mode: str, period: Length, gamma: float) -> Array:
    """Return heights (N,) from 0 to 1 that go up and down in each period."""
    _require_share("gamma", gamma)
    t = np.asarray(step, np.float64)
    turn = t / length_in_steps("period", period, steps, least=2)
    scales: dict[str, Callable[..., Array]] = {
        "triangular": lambda: np.ones_like(t),
        "triangular2": lambda: _power(0.5, np.floor(turn)),
        "exp_range": lambda: _power(gamma, t),
    }
    triangle: Array = 1 - np.abs(1 - 2 * (turn % 1))
    return _choice("mode", mode, scales)() * triangle


def _turns(steps: int, rise: float, three_phase: bool) -> list[float]:
    """Return the steps at which the phases of `one_cycle` begin, and the step at which the last one ends."""
    _require_share("rise", rise)
    limit = "at most 0.5 with three phases, because two of them are that long"
    require("rise", rise, not three_phase or rise <= 0.5, limit)
    peak = max(0.0, rise * steps - 1)
    return [0, peak, 2 * peak, steps - 1] if three_phase else [0, peak, steps - 1]


def _through(step: Array, turns: Sequence[float], levels: Sequence[float], anneal: str) -> Array:
    """Go through the `levels` (P + 1,) of P phases, and reach each level at its step in `turns` (P + 1,)."""
    line = _choice("anneal", anneal, {"cosine": _half_cosine, "linear": _straight})
    t, begin, level = np.asarray(step, np.float64), np.asarray(turns), np.asarray(levels)
    phase = np.searchsorted(begin[1:-1], t)  # a turn belongs to the phase that it ends
    width = np.maximum(np.diff(begin), np.finfo(np.float64).tiny)  # a phase may have no steps
    first, last = level[phase], level[phase + 1]
    heights: Array = last + (first - last) * line((t - begin[phase]) / width[phase])
    return heights
