"""Losses that are all known are judged as the rule judges them step by step."""

from __future__ import annotations

import numpy as np
import pytest

from lrfind.analysis.curves import Array, Curve, without_blow_up
from lrfind.analysis.divergence import (
    AT_A_CONSTANT_LR,
    ON_A_RAMP,
    DivergenceRule,
    Suspicion,
    first_divergence,
)

DRAW = np.random.default_rng(0)
COURSES = {
    "noise": lambda x: DRAW.standard_normal(x.size),
    "fall": lambda x: np.exp(-3 * x) + 0.01 * DRAW.standard_normal(x.size),
    "valley": lambda x: (
        np.exp(-5 * x) + 30 * np.maximum(x - 0.7, 0) ** 2 + 0.02 * DRAW.standard_normal(x.size)
    ),
    "walk": lambda x: np.cumsum(DRAW.standard_normal(x.size)),
    "ties": lambda x: DRAW.integers(0, 4, x.size).astype(np.float64),
    "wild": lambda x: 2 - x + 0.01 * DRAW.standard_cauchy(x.size),
    "end": lambda x: np.where(x > 0.8, np.inf, np.exp(-x)),
}


def step_by_step(loss: Array, factor: float) -> tuple[int | None, float]:
    """Return the first step at which the rule says that the loss diverges, and the ceiling then."""
    rule = DivergenceRule(factor)
    return next((t for t, value in enumerate(loss) if rule.diverges(float(value))), None), rule.ceiling


def for_good(curve: Curve) -> int | None:
    """Return the first step at which the rule says so and after which no median is as low as before."""
    rule, loss = DivergenceRule(), curve.loss
    for t, value in enumerate(loss):
        medians = [np.median(loss[s - 2 : s + 1]) for s in range(max(t + 1, 2), curve.length)]
        if rule.diverges(float(value)) and not (
            t < curve.length and min(medians, default=np.inf) <= rule.best
        ):
            return t
    return None


@pytest.mark.parametrize("name", COURSES)
def test_all_losses_at_once_diverge_where_the_rule_says_so(name: str) -> None:
    for size in [11, 12, 40, 90, 300, 300, 700]:
        loss = COURSES[name](np.linspace(0, 1, size))
        finite = loss[np.isfinite(loss)]
        for factor in (ON_A_RAMP, AT_A_CONSTANT_LR):
            step, ceiling = step_by_step(finite, factor)
            if finite.size > 10:
                assert first_divergence(finite, factor) == step
        if finite.size > 10:
            np.testing.assert_array_equal(without_blow_up(finite), np.minimum(finite, ceiling))
        curve = Curve(np.arange(1.0, size + 1), loss, size)
        if size < 100:
            assert curve.divergence == for_good(curve)


@pytest.mark.parametrize("factor", [ON_A_RAMP, AT_A_CONSTANT_LR])
@pytest.mark.parametrize("most", [1, 2, 16, 40])
def test_a_lane_that_diverges_in_a_block_is_suspected(most: int, factor: float) -> None:
    suspected = blocks = 0
    for size in [1, 5, 12, 60, 200]:
        courses = [make(np.linspace(0, 1, size)) for make in COURSES.values()]
        courses.append(np.where(np.arange(size) == size // 2, np.nan, courses[1]))
        losses = np.stack(courses, axis=1)
        rules = [DivergenceRule(factor) for _ in courses]
        ends = [
            next((t for t, value in enumerate(loss.tolist()) if rule.diverges(value)), None)
            for rule, loss in zip(rules, courses, strict=True)
        ]
        suspicion, inside, at = Suspicion(factor, len(courses)), [*range(len(courses))], 0
        while at < size:
            end = min(size, at + int(DRAW.integers(1, most + 1)))
            suspects = suspicion.suspects(losses[at:end, inside])
            for lane, suspect in zip(inside, suspects.tolist(), strict=True):
                last = ends[lane]
                assert suspect or last is None or not at <= last < end
                if last is None or last >= end:
                    suspected, blocks = suspected + suspect, blocks + 1
            if DRAW.random() < 0.1:
                staying = sorted(DRAW.permutation(len(inside))[1:].tolist() or [0])
                suspicion.keep(staying)
                inside = [inside[place] for place in staying]
            at = end
    assert suspected < 0.1 * blocks
