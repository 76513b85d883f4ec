"""The climb: simpler probing, with its own fitted factor, which `find` is compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.probe_search import Prober


class Climbed(NamedTuple):
    """The result of a climb: log10 of the lr that learns fastest, None if none learns; and gradient steps."""

    log_lr: float | None
    cost: int


PART, CLIMB_STEPS = 3, (20, 40, 80)
CLIMB_START = -2  # log10 lr of place 0
CLIMB_LOWEST, CLIMB_HIGHEST, CLIMB_PROBES = -12, 10, 9  # the ends of the places, and the most probes
CLIMB_GAIN, CLIMB_SHARPNESS = 0.1, 0.2
SHIFTS = {"sgd": -0.3, "momentum": -0.65, "adam": -0.65, "adamw": -0.65, "rmsprop": -0.05, "adagrad": 0.05}
PER_LENGTH, USUAL_LENGTH, COSINE = -0.45, 400, 0.35  # decades of lr: per decade of T / 400, and for a cosine


def climb(prober: Prober) -> Climbed:
    """Climb with probes of 20 steps to the rate that learns fastest.

    If the loss hardly falls, the climb starts again from there with twice the steps.
    """
    start, strides, cost = 0, (2, 1), 0
    for steps in CLIMB_STEPS:
        untouched = _tail(prober.untouched(steps))
        scores, taken = _climb(prober, steps, untouched, start, strides)
        cost += taken
        start, strides = min(scores, key=scores.__getitem__), (1,)
        gain = untouched - scores[start]
        if gain >= CLIMB_GAIN * abs(untouched):
            break
    if not gain > 0:
        return Climbed(None, cost)
    losses = np.array(list(scores.values()))
    weights = np.exp(-(losses - scores[start]) / (CLIMB_SHARPNESS * gain))
    return Climbed(CLIMB_START + float(np.average(list(scores), weights=weights)) / 2, cost)


def _climb(
    prober: Prober, steps: int, untouched: float, start: int, strides: Sequence[int]
) -> tuple[dict[int, float], int]:
    """Return the scores by place, where lr = 0.01 * 10^(place / 2), and the number of gradient steps."""
    first = float(prober.untouched(1)[0])
    ceiling = np.full(steps, 3 * first if first > 0 else math.inf)
    scores: dict[int, float] = {}
    cost = 0

    def probe(place: int) -> None:
        nonlocal cost
        (made,) = prober.probe([10 ** (CLIMB_START + place / 2)], steps, ceiling)
        cost += len(made.loss)
        most = 10 * abs(untouched)
        scores[place] = most if made.stopped else min(_tail(made.loss), most)

    probe(start)
    for stride in strides:
        while len(scores) < CLIMB_PROBES:
            best = min(scores, key=scores.__getitem__)
            neighbours = (
                [best + stride, best - stride] if scores[best] < untouched else [min(scores) - stride]
            )
            new = [p for p in neighbours if p not in scores and CLIMB_LOWEST <= p <= CLIMB_HIGHEST]
            if not new:
                break
            probe(new[0])
    return scores, cost


def _tail(loss: Array) -> float:
    return float(np.mean(loss[-(len(loss) // PART) :]))


def climbed_log_lr(climbed: Climbed, training: PlannedTraining, schedule: str) -> float | None:
    """Return log10 of the lr that a climb recommends for a training; None if it refuses."""
    if climbed.log_lr is None:
        return None
    shift = SHIFTS["momentum" if training.momentum > 0 else training.optimizer]
    shift += PER_LENGTH * math.log10(training.steps / USUAL_LENGTH) + COSINE * (schedule == "cosine")
    return climbed.log_lr + shift
