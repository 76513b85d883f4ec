"""Diagnosis: what the looks at a run's layers mean, in words.

Each rule compares numbers without units, so that it holds at any scale of loss and weights: a gradient is
told as a share of the weights that it would move. That gradients shrink or grow layer by layer is Hochreiter
1991, Bengio, Simard and Frasconi 1994 (doi:10.1109/72.279181), and Glorot and Bengio 2010; that clipping
answers the growth is Pascanu, Mikolov and Bengio 2013 (arXiv:1211.5063). The limits are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from statistics import median
from typing import NamedTuple

import numpy as np

from lrfind.health import LayerHealth
from lrfind.plan import LaneResult

VANISHED = 3e-3
"""A layer's relative gradient has vanished if it is this share of the largest of a later layer."""
STILL, EXPLODED = 1e-7, 1e2
"""The whole gradient at the start, relative to the weights: below, nothing moves; above, all is lost."""
BURST = 1e3  # times the median of the looks before, while the loss was calm
DEAD = 0.5  # share of a layer's units
ALWAYS = 0.9  # share of the numbers of the gradient that clipping changes, over all looks
HEAD = 0.25  # the most of all weights that still are a head alone


class Finding(NamedTuple):
    """Something that is wrong with gradients, or should be known of them.

    Attributes:
        what: not finite, exploding, vanishing, dead units, no gradient, only the head learns, always clipped.
        evidence: the figures, in words.
        advice: what to try.
    """

    what: str
    evidence: str
    advice: str


def calm_looks(result: LaneResult, *, on_a_ramp: bool) -> list[LayerHealth]:
    """The looks at a lane before its rate is to blame.

    On a ramp, those up to a tenth of the rate where the loss is lowest; of a lane that did not finish, the
    first one; else all.
    """
    first = result.health[0].step
    if on_a_ramp:
        smoothed = result.curve.smoothed[: result.curve.length]
        limit = result.lr[int(np.argmin(smoothed))] / 10 if smoothed.size else 0.0
        return [row for row in result.health if row.step == first or result.lr[row.step] <= limit]
    if result.outcome == "finished":
        return list(result.health)
    return [row for row in result.health if row.step == first]


def diagnose(lanes: Sequence[Sequence[LayerHealth]]) -> list[Finding]:
    """Say what is wrong with the gradients of lanes.

    Args:
        lanes: the looks at each, in order, while its loss was calm: at rates far above the edge everything
            explodes, which is the rate's fault.

    Returns:
        What at least half of the lanes show, with the figures of the first that does; empty if all is well.
    """
    known = [_looks(lane) for lane in lanes if lane]
    found: dict[str, list[Finding]] = {}
    for looks in known:
        for finding in filter(None, (rule(looks) for rule in RULES)):
            found.setdefault(finding.what, []).append(finding)
    return [findings[0] for findings in found.values() if 2 * len(findings) >= len(known)]


_Look = Sequence[LayerHealth]
"""All layers at one step, from the input to the output."""


def _looks(rows: Iterable[LayerHealth]) -> list[_Look]:
    return [list(of_step) for _, of_step in groupby(rows, key=lambda row: row.step)]


def _not_finite(looks: Sequence[_Look]) -> Finding | None:
    wild = [row for look in looks for row in look if row.nonfinite_share]
    if not wild:
        return None
    worst = wild[0]
    return Finding(
        "not finite",
        f"{worst.nonfinite_share:.0%} of the gradient of {worst.layer} is not finite at step {worst.step},"
        " while the loss still is",
        "clip_norm, a smaller rate or a warmup; bfloat16 instead of float16; and look for sqrt(0), log(0) and"
        " divisions by 0 in the model and the loss",
    )


def _exploding(looks: Sequence[_Look]) -> Finding | None:
    ratio = _whole(looks[0])
    if ratio is not None and ratio > EXPLODED:
        return Finding(
            "exploding",
            f"at the start the gradient is {ratio:.1e} times as long as the weights that it moves",
            "standardised inputs and targets, an init that keeps the scale (he for relu, xavier for tanh),"
            " normalisation, or clip_norm",
        )
    norms = [_norm(look) for look in looks]
    for i in range(1, len(norms)):
        before = median(norms[:i])
        if before > 0 and norms[i] > BURST * before:
            return Finding(
                "exploding",
                f"at step {looks[i][0].step} the gradient is {norms[i] / before:.1e} times as long as it was"
                " before",
                "clip_norm, a warmup, or a smaller rate",
            )
    return None


def _vanishing(looks: Sequence[_Look]) -> Finding | None:
    advice = (
        "an init that keeps the scale (he for relu, xavier for tanh, orthogonal for deep or recurrent ones),"
        " normalisation, residual connections, or relu instead of sigmoid"
    )
    ratio = _whole(looks[0])
    if ratio is not None and 0 < ratio < STILL:
        return Finding(
            "vanishing",
            f"at the start the gradient is {ratio:.1e} of the weights that it shall move",
            advice,
        )
    typical = {
        layer: _typical([row.relative for look in looks for row in look if row.layer == layer and row.matrix])
        for layer in _layers(looks)
    }
    known = [(layer, value) for layer, value in typical.items() if value is not None]
    for i, (layer, value) in enumerate(known[:-1]):
        later, largest = max(known[i + 1 :], key=lambda each: each[1])
        if 0 < value < VANISHED * largest:
            return Finding(
                "vanishing",
                f"relative to its weights, the gradient of {layer} is {value / largest:.1e} of that of"
                f" {later}",
                advice,
            )
    return None


def _dead(looks: Sequence[_Look]) -> Finding | None:
    dead = [row for row in looks[-1] if row.dead_share is not None and row.dead_share >= DEAD]
    if not dead or len(looks) < 2:  # one batch may just not wake them
        return None
    worst = max(dead, key=lambda row: row.dead_share or 0)
    others = f" ({len(dead)} layers have half or more)" if len(dead) > 1 else ""
    first = next(
        look[0].step
        for look in looks
        for row in look
        if row.layer == worst.layer and (row.dead_share or 0) >= DEAD
    )
    return Finding(
        "dead units",
        f"{worst.dead_share:.0%} of the units of {worst.layer} pass no gradient{others}, since step {first}",
        "leaky_relu, elu or gelu instead of relu, a smaller rate or a warmup, biases that start at 0, he"
        " init, or normalisation",
    )


def _no_gradient(looks: Sequence[_Look]) -> Finding | None:
    """Trained layers at which none ever arrives, or only zeros, and not since units after them are dead."""
    dead = {row.layer for row in looks[-1] if (row.dead_share or 0) == 1}
    never = [
        layer
        for layer in _layers(looks)
        if layer not in dead
        and all(row.trained and not row.grad_norm for look in looks for row in look if row.layer == layer)
    ]
    zero = {row.layer for row in looks[0] if row.grad_norm == 0}  # it shrank to nothing on its way, or died
    silent = [layer for layer in never if not (layer in zero and (dead or _vanishing(looks)))]
    if not silent:
        return None
    return Finding(
        "no gradient",
        f"none ever arrives at {_named(silent)}",
        "look whether forward uses them, and whether something between them and the loss detaches the graph"
        " (detach, item, no_grad, argmax, a round trip through numpy)",
    )


def _only_the_head(looks: Sequence[_Look]) -> Finding | None:
    first = looks[0]
    frozen = [row for row in first if not row.trained]
    learning = [row for row in first if row.trained]
    total = sum(row.size for row in first)
    trained = sum(row.size for row in learning)
    body = [row for row in frozen if row.matrix]
    last_frozen = max((first.index(row) for row in body), default=-1)
    only_after = all(first.index(row) > last_frozen for row in learning if row.matrix)
    if not (body and learning and only_after and trained <= HEAD * total):
        return None
    return Finding(
        "only the head learns",
        f"{_named([row.layer for row in learning])} with {trained:,} of {total:,} weights; the"
        f" {len(body)} layers before are frozen",
        "if that is not meant, unfreeze them (param_groups without frozen, requires_grad), with a small"
        " lr_multiplier",
    )


def _clipped(looks: Sequence[_Look]) -> Finding | None:
    shares = []
    for look in looks:
        rows = [row for row in look if row.clipped_share is not None]
        if rows:
            weights = sum(row.size for row in rows)
            shares.append(sum((row.clipped_share or 0) * row.size for row in rows) / weights)
    if len(shares) < 2 or sum(shares) < ALWAYS * len(shares):
        return None
    return Finding(
        "always clipped",
        f"clipping changed {sum(shares) / len(shares):.0%} of the gradient over {len(shares)} looks, so that"
        " the limit makes the length of a step, not the gradient (whose median norm is"
        f" {median(map(_norm, looks)):.3g})",
        "a higher limit, if the clipping is meant for bursts alone; the best rate moves with it",
    )


RULES: Sequence[Callable[[Sequence[_Look]], Finding | None]] = (
    _not_finite,
    _exploding,
    _dead,
    _no_gradient,
    _vanishing,
    _only_the_head,
    _clipped,
)


def _layers(looks: Sequence[_Look]) -> list[str]:
    return [row.layer for row in looks[0]]


def _norm(look: _Look) -> float:
    return math.hypot(*(row.grad_norm or 0.0 for row in look))


def _whole(look: _Look) -> float | None:
    """The whole gradient's norm over that of the weights that it moves; None where there is none."""
    weights = math.hypot(*(row.weight_norm or 0.0 for row in look))
    return _norm(look) / weights if weights else None


def _typical(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _named(layers: Sequence[str], most: int = 3) -> str:
    """Layers in words, the first few of them.

    >>> _named(["a"]), _named(["a", "b", "c", "d", "e"])
    ('a', 'a, b, c and 2 more')
    """
    shown = ", ".join(layers[:most])
    return f"{shown} and {len(layers) - most} more" if len(layers) > most else shown
