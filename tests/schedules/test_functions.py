from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import SGD, lr_scheduler

from lrfind.analysis.curves import Array
from lrfind.errors import UsageError
from lrfind.schedules import functions as schedules
from lrfind.schedules.functions import (
    ArgumentError,
    constant,
    cosine,
    cosine_restarts,
    cyclic,
    cyclic_momentum,
    exponential,
    inverse_sqrt,
    inverse_time,
    join,
    linear,
    linear_warmup,
    multi_step,
    one_cycle,
    one_cycle_momentum,
    polynomial,
    ramp,
    step_decay,
    wsd,
)

PEAK = 0.3
SCHEDULES = {
    name: getattr(schedules, name)
    for name in (
        *("constant", "linear_warmup", "linear", "polynomial", "cosine", "cosine_restarts", "step_decay"),
        *("multi_step", "exponential", "inverse_time", "inverse_sqrt", "cyclic", "one_cycle", "wsd"),
    )
}
Make = Callable[[SGD], lr_scheduler.LRScheduler]


def from_torch(make: Make, steps: int) -> tuple[Array, Array]:
    """Return the multiplier of the peak lr (T,) and the momentum (T,) that a real optimizer used at each step."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.9)
    scheduler = make(optimizer)
    used = []
    for step in range(steps):
        if step > 0:
            optimizer.step()
            scheduler.step()
        used.append((optimizer.param_groups[0]["lr"] / PEAK, optimizer.param_groups[0]["momentum"]))
    lr, momentum = np.array(used).T
    return lr, momentum


def assert_equals(ours: Array, theirs: Array) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def assert_equals_torch(ours: Array, make: Make) -> None:
    assert_equals(ours, from_torch(make, ours.size)[0])


@pytest.mark.parametrize("shape", ["exponential", "linear"])
@pytest.mark.parametrize("steps", [2, 7, 100])
def test_a_ramp_reaches_both_ends_exactly(shape: str, steps: int) -> None:
    lr = ramp(1e-6, 3.3, steps, spacing=shape)
    assert (lr[0], lr[-1], lr.size) == (1e-6, 3.3, steps)


def test_an_exponential_ramp_has_equal_ratios_and_a_linear_one_equal_differences() -> None:
    exponential, linear = ramp(1e-6, 10, 50), ramp(1e-6, 10, 50, spacing="linear")
    np.testing.assert_allclose(exponential[1:] / exponential[:-1], 1e7 ** (1 / 49), rtol=1e-12)
    np.testing.assert_allclose(np.diff(linear), (10 - 1e-6) / 49, rtol=1e-9)


def test_constant_equals_torchs_scheduler() -> None:
    ours = constant(np.arange(20), 20)
    assert_equals_torch(ours, lambda sgd: lr_scheduler.ConstantLR(sgd, factor=1.0))


@pytest.mark.parametrize(("warmup", "rise"), [(1, 1), (7, 7), (0.25, 10), (0.05, 2)])
def test_linear_warmup_equals_torchs_scheduler(warmup: float, rise: int) -> None:
    ours = linear_warmup(np.arange(40), 40, warmup=warmup)
    start = 1 / (rise + 1)
    assert_equals_torch(ours, lambda sgd: lr_scheduler.LinearLR(sgd, start, total_iters=rise))


@pytest.mark.parametrize("end", [0.0, 0.1, 1.0])
def test_linear_equals_torchs_scheduler(end: float) -> None:
    ours = linear(np.arange(40), 40, end=end)
    assert_equals_torch(ours, lambda sgd: lr_scheduler.LinearLR(sgd, 1.0, end, total_iters=40))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 0.9])
def test_polynomial_equals_torchs_scheduler(power: float) -> None:
    ours = polynomial(np.arange(40), 40, power=power)
    assert_equals_torch(ours, lambda sgd: lr_scheduler.PolynomialLR(sgd, total_iters=40, power=power))


@pytest.mark.parametrize("end", [0.01, 0.5])
def test_polynomial_with_an_end_follows_keras_formula(end: float) -> None:
    ours = polynomial(np.arange(40), 40, power=3.0, end=end)
    keras = [(PEAK - end * PEAK) * (1 - step / 40) ** 3.0 + end * PEAK for step in range(40)]
    assert_equals(PEAK * ours, np.array(keras))


@pytest.mark.parametrize("end", [0.0, 0.1])
@pytest.mark.parametrize("steps", [1, 2, 15, 1000])
def test_cosine_equals_torchs_scheduler(steps: int, end: float) -> None:
    ours = cosine(np.arange(steps), steps, end=end)
    assert_equals_torch(ours, lambda sgd: lr_scheduler.CosineAnnealingLR(sgd, steps, end * PEAK))


@pytest.mark.parametrize(
    ("period", "first", "growth", "end"),
    [(0.25, 25, 1, 0.0), (7, 7, 1, 0.1), (1, 1, 1, 0.0), (1, 1, 2, 0.0), (7, 7, 2, 0.1), (4, 4, 3, 0.0)],
)
def test_cosine_restarts_equals_torchs_scheduler(period: float, first: int, growth: int, end: float) -> None:
    ours = cosine_restarts(np.arange(100), 100, period=period, growth=growth, end=end)
    assert_equals_torch(
        ours, lambda sgd: lr_scheduler.CosineAnnealingWarmRestarts(sgd, first, growth, end * PEAK)
    )


@pytest.mark.parametrize(
    ("period", "growth", "lengths"),
    [
        (20, 1.5, [20, 30, 45, 68]),
        (16, 0.75, [16, 12, 9, 7, 5, 4]),
        (0.25, 1.1, [25, 28, 30, 33]),
        (100, 0.5, [100]),
        (3, 1e200, [3, 97]),
    ],
)
def test_cosine_restarts_grow_by_any_factor(period: float, growth: float, lengths: list[int]) -> None:
    steps = min(100, sum(lengths))
    ours = cosine_restarts(np.arange(steps), steps, period=period, growth=growth, end=0.2)
    if growth < 1e100:
        cosines = [0.5 + 0.5 * math.cos(math.pi * s / length) for length in lengths for s in range(length)]
        assert_equals(ours, 0.2 + 0.8 * np.array(cosines[:steps]))
    restarts = 1 + np.flatnonzero(np.diff(ours) > 0)
    assert restarts.tolist() == [end for end in np.cumsum(lengths) if end < steps]


@pytest.mark.parametrize("cycles", [2, 3, 4, 7])
@pytest.mark.parametrize("steps", [10, 33, 157, 469, 938, 1000])
def test_restarts_after_a_share_of_the_steps_fill_the_training(steps: int, cycles: int) -> None:
    ours = cosine_restarts(np.arange(steps), steps, period=1 / cycles)
    restarts = np.flatnonzero(ours == 1)
    assert np.abs(restarts - np.arange(cycles) * steps / cycles).max() <= 0.5
    end = (1 + math.cos(math.pi * (1 - 1 / (steps - restarts[-1])))) / 2
    assert ours[-1] == pytest.approx(end)


def test_an_argument_out_of_bounds_is_named_by_its_path() -> None:
    with pytest.raises(ArgumentError) as caught:
        cosine(np.arange(10), 10, warmup=10)
    assert caught.value.path == ("warmup",)


@pytest.mark.parametrize(
    ("every", "size", "factor"), [(1 / 3, 20, 0.1), (7, 7, 0.5), (1, 1, 0.9), (100, 100, 0.1)]
)
def test_step_decay_equals_torchs_scheduler(every: float, size: int, factor: float) -> None:
    ours = step_decay(np.arange(60), 60, every=every, factor=factor)
    assert_equals_torch(ours, lambda sgd: lr_scheduler.StepLR(sgd, size, factor))


@pytest.mark.parametrize(
    ("at", "milestones"),
    [((0.5, 0.75), [30, 45]), ((20, 0.5), [20, 30]), ([45, 7, 7], [45, 7, 7]), ([100], [100]), ([], [])],
)
@pytest.mark.parametrize("factor", [0.1, 0.5])
def test_multi_step_equals_torchs_scheduler(at: Any, milestones: list[int], factor: float) -> None:
    ours = multi_step(np.arange(60), 60, at=at, factor=factor)
    assert_equals_torch(ours, lambda sgd: lr_scheduler.MultiStepLR(sgd, milestones, factor))


@pytest.mark.parametrize("rate", [0.5, 0.97, 1.0])
def test_exponential_equals_torchs_scheduler(rate: float) -> None:
    ours = exponential(np.arange(60), 60, rate=rate, every=1)
    assert_equals_torch(ours, lambda sgd: lr_scheduler.ExponentialLR(sgd, rate))


@pytest.mark.parametrize("staircase", [False, True])
@pytest.mark.parametrize(("every", "decay_steps"), [(None, 60), (0.5, 30), (7, 7)])
def test_exponential_follows_keras_formula(every: float | None, decay_steps: int, staircase: bool) -> None:
    ours = exponential(np.arange(60), 60, rate=0.2, every=every, staircase=staircase)
    keras = [0.2 ** (step // decay_steps if staircase else step / decay_steps) for step in range(60)]
    assert_equals(ours, np.array(keras))


@pytest.mark.parametrize(("every", "decay_steps"), [(None, 60), (0.5, 30), (1, 1)])
def test_inverse_time_follows_keras_formula(every: float | None, decay_steps: int) -> None:
    ours = inverse_time(np.arange(60), 60, rate=0.7, every=every)
    assert_equals(ours, np.array([1 / (1 + 0.7 * step / decay_steps) for step in range(60)]))


@pytest.mark.parametrize("power", [0.5, 0.75, 2.0])
def test_inverse_time_covers_caffes_inv_and_scikit_learns_invscaling(power: float) -> None:
    caffe = [(1 + 0.01 * iteration) ** -power for iteration in range(60)]
    assert_equals(inverse_time(np.arange(60), 60, rate=0.01, every=1, power=power), np.array(caffe))
    scikit_learn = [1 / t**power for t in range(1, 61)]
    assert_equals(inverse_time(np.arange(60), 60, rate=1, every=1, power=power), np.array(scikit_learn))


@pytest.mark.parametrize("schedule", [exponential, inverse_time])
def test_exponential_and_inverse_time_end_at_a_tenth_unless_told(schedule: Any) -> None:
    assert schedule(np.array([99_999]), 100_000)[0] == pytest.approx(0.1, rel=1e-4)


@pytest.mark.parametrize(("warmup", "peak"), [(0, 1), (1, 1), (8, 8), (0.1, 6)])
def test_inverse_sqrt_is_the_papers_rate_over_its_highest(warmup: float, peak: int) -> None:
    paper = [512**-0.5 * min(count**-0.5, count * peak**-1.5) for count in range(1, 61)]
    ours = inverse_sqrt(np.arange(60), 60, warmup=warmup)
    assert_equals(ours, np.array(paper) / max(paper))
    assert ours.argmax() == peak - 1


CYCLES = [
    {"mode": "triangular", "period": 20, "low": 0.25},
    {"mode": "triangular", "period": 7, "low": 0.001},
    {"mode": "triangular2", "period": 10, "low": 0.1},
    {"mode": "exp_range", "period": 12, "low": 0.1, "gamma": 0.97},
    {"mode": "exp_range", "low": 1.0},
]


def torchs_cycle(momentum: tuple[float, float] | None, **ours: Any) -> Make:
    """Return the CyclicLR of 60 steps with the same arguments as `cyclic`."""
    high, low = momentum or (0.9, 0.9)
    return lambda sgd: lr_scheduler.CyclicLR(
        sgd,
        base_lr=ours["low"] * PEAK,
        max_lr=PEAK,
        step_size_up=ours.get("period", 15) / 2,
        mode=ours["mode"],
        gamma=ours.get("gamma", 0.999),
        cycle_momentum=momentum is not None,
        max_momentum=high,
        base_momentum=low,
    )


@pytest.mark.parametrize("ours", CYCLES)
def test_cyclic_equals_torchs_scheduler(ours: dict[str, Any]) -> None:
    assert_equals_torch(cyclic(np.arange(60), 60, **ours), torchs_cycle(None, **ours))


@pytest.mark.parametrize("ours", CYCLES)
@pytest.mark.parametrize("momentum", [(0.9, 0.8), (0.95, 0.0)])
def test_cyclic_momentum_equals_torchs_scheduler(ours: dict[str, Any], momentum: tuple[float, float]) -> None:
    lr, beta = from_torch(torchs_cycle(momentum, **ours), 60)
    assert_equals(cyclic(np.arange(60), 60, momentum=momentum, **ours), lr)
    cycled = cyclic_momentum(np.arange(60), 60, momentum=momentum, **ours)
    assert cycled is not None
    np.testing.assert_allclose(cycled, beta, rtol=1e-9, atol=1e-12)  # a momentum of 0 is rounded


ONE_CYCLES = [
    {},
    {"rise": 0.25, "start": 0.1, "end": 1e-3},
    {"rise": 0.45, "three_phase": True},
    {"rise": 0.5, "three_phase": True, "anneal": "linear"},
    {"rise": 1.0, "anneal": "linear"},
]


def torchs_one_cycle(steps: int, momentum: tuple[float, float], **ours: Any) -> Make:
    """Return the OneCycleLR with the same arguments as `one_cycle`."""
    start, end = ours.get("start", 0.04), ours.get("end", 4e-6)
    return lambda sgd: lr_scheduler.OneCycleLR(
        sgd,
        max_lr=PEAK,
        total_steps=steps,
        pct_start=ours.get("rise", 0.3),
        anneal_strategy={"cosine": "cos", "linear": "linear"}[ours.get("anneal", "cosine")],
        max_momentum=momentum[0],
        base_momentum=momentum[1],
        div_factor=1 / start,
        final_div_factor=start / end,
        three_phase=ours.get("three_phase", False),
    )


@pytest.mark.parametrize("ours", ONE_CYCLES)
@pytest.mark.parametrize("steps", [5, 8, 64, 101])
def test_one_cycle_equals_torchs_scheduler(steps: int, ours: dict[str, Any]) -> None:
    assert_equals_torch(
        one_cycle(np.arange(steps), steps, **ours), torchs_one_cycle(steps, (0.95, 0.85), **ours)
    )


@pytest.mark.parametrize("ours", ONE_CYCLES)
@pytest.mark.parametrize("momentum", [(0.95, 0.85), (0.9, 0.5)])
@pytest.mark.parametrize("steps", [5, 64])
def test_one_cycle_momentum_equals_torchs_scheduler(
    steps: int, momentum: tuple[float, float], ours: dict[str, Any]
) -> None:
    cycled = one_cycle_momentum(np.arange(steps), steps, momentum=momentum, **ours)
    assert cycled is not None
    assert_equals(cycled, from_torch(torchs_one_cycle(steps, momentum, **ours), steps)[1])


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_one_cycle_begins_at_its_start_in_runs_too_short_for_torch(steps: int) -> None:
    lr = one_cycle(np.arange(steps), steps)
    assert lr[0] == pytest.approx(0.04)
    assert steps == 1 or lr[-1] == pytest.approx(4e-6)


MOMENTUM = {"one_cycle": one_cycle_momentum, "cyclic": cyclic_momentum}


@pytest.mark.parametrize("name", sorted(MOMENTUM))
def test_a_momentum_of_none_is_left_alone(name: str) -> None:
    assert MOMENTUM[name](np.arange(5), 5, momentum=None) is None
    assert np.isfinite(SCHEDULES[name](np.arange(5), 5, momentum=None)).all()


@pytest.mark.parametrize(
    ("shape", "fall"), [("linear", lambda x: 1 - x), ("sqrt", lambda x: 1 - math.sqrt(x))]
)
@pytest.mark.parametrize("end", [0.0, 0.1])
def test_wsd_follows_the_papers_formula(shape: Any, fall: Callable[[float], float], end: float) -> None:
    steps, warm, cool = 100, 10, 30
    expected = []
    for n in range(steps):
        if n < warm:
            expected.append((n + 1) / (warm + 1))
        elif n < steps - cool:
            expected.append(1.0)
        else:
            expected.append(end + (1 - end) * fall((n - (steps - cool)) / cool))
    assert_equals(
        wsd(np.arange(steps), steps, warmup=0.1, decay=0.3, shape=shape, end=end), np.array(expected)
    )


def test_wsd_equals_torchs_schedulers_in_sequence() -> None:
    def make(sgd: SGD) -> lr_scheduler.LRScheduler:
        rise = lr_scheduler.LinearLR(sgd, 1 / 9, total_iters=8)
        stay = lr_scheduler.ConstantLR(sgd, factor=1.0)
        fall = lr_scheduler.LinearLR(sgd, 1.0, 0.0, total_iters=12)
        return lr_scheduler.SequentialLR(sgd, [rise, stay, fall], [8, 28])

    assert_equals_torch(wsd(np.arange(40), 40, warmup=8, decay=12), make)


def test_join_equals_torchs_sequential_lr() -> None:
    def make(sgd: SGD) -> lr_scheduler.LRScheduler:
        parts = [
            lr_scheduler.LinearLR(sgd, 1 / 11, total_iters=10),
            lr_scheduler.CosineAnnealingLR(sgd, 30),
            lr_scheduler.StepLR(sgd, 5, 0.5),
        ]
        return lr_scheduler.SequentialLR(sgd, parts, [10, 40])

    def stairs(step: Array, steps: int) -> Array:
        return step_decay(step, steps, every=5, factor=0.5)

    def rise(step: Array, steps: int) -> Array:
        return (step + 1) / (steps + 1)

    assert_equals_torch(join(np.arange(60), 60, parts=[rise, cosine, stairs], at=[10, 2 / 3]), make)


WARMED: dict[str, tuple[dict[str, Any], Make]] = {
    "linear": ({"end": 0.1}, lambda sgd: lr_scheduler.LinearLR(sgd, 1.0, 0.1, total_iters=40)),
    "polynomial": ({"power": 2.0}, lambda sgd: lr_scheduler.PolynomialLR(sgd, total_iters=40, power=2.0)),
    "cosine": ({"end": 0.1}, lambda sgd: lr_scheduler.CosineAnnealingLR(sgd, 40, 0.1 * PEAK)),
    "cosine_restarts": ({}, lambda sgd: lr_scheduler.CosineAnnealingWarmRestarts(sgd, 10)),
    "step_decay": ({"every": 0.25}, lambda sgd: lr_scheduler.StepLR(sgd, 10)),
    "multi_step": ({"at": [0.5, 30]}, lambda sgd: lr_scheduler.MultiStepLR(sgd, [20, 30])),
    "exponential": ({"rate": 0.9, "every": 1}, lambda sgd: lr_scheduler.ExponentialLR(sgd, 0.9)),
}


@pytest.mark.parametrize("warmup", [10, 0.2])
@pytest.mark.parametrize("name", WARMED)
def test_a_warmup_equals_torchs_sequential_lr(name: str, warmup: float) -> None:
    args, proper = WARMED[name]

    def make(sgd: SGD) -> lr_scheduler.LRScheduler:
        rise = lr_scheduler.LinearLR(sgd, 1 / 11, total_iters=10)
        return lr_scheduler.SequentialLR(sgd, [rise, proper(sgd)], [10])

    assert_equals_torch(SCHEDULES[name](np.arange(50), 50, warmup=warmup, **args), make)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_above_0_and_at_most_1(name: str, steps: int) -> None:
    multiplier = SCHEDULES[name](np.arange(steps), steps)
    assert multiplier.dtype == np.float64
    assert multiplier.shape == (steps,)
    assert ((multiplier > 0) & (multiplier <= 1)).all()
    if steps == 100 and name != "cyclic":  # a period of 25 steps has no middle one
        assert multiplier.max() > 0.999


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_answers_for_any_steps_in_any_order(name: str) -> None:
    order = np.random.default_rng(0).permutation(50)[:20]
    whole = SCHEDULES[name](np.arange(50), 50)
    np.testing.assert_array_equal(SCHEDULES[name](order.astype(np.float64), 50), whole[order])
    assert SCHEDULES[name](np.arange(0), 50).shape == (0,)


@pytest.mark.parametrize(
    ("schedule", "args", "message"),
    [
        (cosine, {"warmup": -1}, "warmup must be a whole number of steps (at least 0) or a share"),
        (cosine, {"warmup": 1.5}, "(between 0 and 1); found 1.5"),
        (cosine, {"warmup": 10}, "warmup must be shorter than the run, which has 10 steps; found 10"),
        (cosine, {"warmup": 0.99}, "shorter than the run"),
        (cosine, {"end": 1.1}, "end must be a share of the peak, from 0 to 1; found 1.1"),
        (linear, {"end": -0.1}, "end must be"),
        (polynomial, {"power": 0}, "power must be a positive number; found 0"),
        (polynomial, {"power": math.nan}, "power must be a positive number; found nan"),
        (cosine_restarts, {"period": 0}, "period must be a whole number of steps (at least 1)"),
        (cosine_restarts, {"growth": 0}, "growth must be a positive number; found 0"),
        (
            cosine_restarts,
            {"period": 4, "growth": 0.5},
            "growth must be larger, because period 4 would be shorter than one step; found 0.5",
        ),
        (step_decay, {"factor": 0.0}, "factor must be above 0 and at most 1; found 0.0"),
        (step_decay, {"every": 0}, "every must be"),
        (multi_step, {"factor": 10.0}, "factor must be above 0 and at most 1; found 10.0"),
        (multi_step, {"at": [0.5, 0]}, "at must be a whole number of steps (at least 1)"),
        (exponential, {"rate": -1.0}, "rate must be above 0 and at most 1"),
        (exponential, {"every": 1.0}, "every must be"),
        (inverse_time, {"rate": 0.0}, "rate must be a positive number"),
        (inverse_time, {"power": math.inf}, "power must be a positive number"),
        (inverse_sqrt, {"warmup": 11}, "warmup must be shorter"),
        (cyclic, {"period": 1}, "period must be a whole number of steps (at least 2)"),
        (cyclic, {"low": 0.0}, "low must be above 0"),
        (cyclic, {"gamma": 1.1}, "gamma must be"),
        (cyclic, {"mode": "triangular3"}, "unknown mode 'triangular3'; did you mean triangular"),
        (cyclic, {"momentum": [0.8, 0.9]}, "momentum must be the highest and the lowest"),
        (cyclic_momentum, {"momentum": [0.8]}, "momentum must be the highest and the lowest"),
        (one_cycle, {"momentum": [1.0, 0.9]}, "both at least 0 and below 1; found [1.0, 0.9]"),
        (one_cycle, {"rise": 0.0}, "rise must be above 0 and at most 1"),
        (one_cycle, {"rise": 0.6, "three_phase": True}, "rise must be at most 0.5 with three phases"),
        (one_cycle, {"start": 0.0}, "start must be"),
        (one_cycle, {"end": 0.0}, "end must be"),
        (one_cycle, {"anneal": "cos"}, "unknown anneal 'cos'; did you mean cosine"),
        (wsd, {"decay": 0}, "decay must be a whole number of steps (at least 1)"),
        (wsd, {"decay": 8, "warmup": 3}, "decay must be at most the 7 steps that the warmup leaves; found 8"),
        (wsd, {"shape": "cosine"}, "unknown shape 'cosine'"),
        (join, {"parts": [cosine], "at": [5]}, "found 1 entry for 1 part"),
        (
            join,
            {"parts": [cosine] * 3, "at": [5, 5]},
            "at must be increasing and below 10, the number of steps; found [5, 5]",
        ),
        (join, {"parts": [cosine] * 2, "at": [10]}, "at must be increasing"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_do(
    schedule: Any, args: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        schedule(np.arange(10), 10, **args)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"constant", "one_cycle"}))
def test_a_run_without_steps_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="steps must be at least 1; found 0"):
        SCHEDULES[name](np.arange(0), 0)
