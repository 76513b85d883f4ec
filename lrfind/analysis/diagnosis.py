"""Diagnosis: what the looks at a run's layers mean, in words.

A gradient is told as a share of the weights that it would move, and compared between layers. That gradients
shrink or grow layer by layer is Hochreiter 1991, Bengio, Simard and Frasconi 1994 (doi:10.1109/72.279181),
and Glorot and Bengio 2010; that clipping answers the growth is Pascanu, Mikolov and Bengio 2013
(arXiv:1211.5063). The limits are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from statistics import median
from typing import NamedTuple

import numpy as np

from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import LaneResult

VANISHED = 1e-3
"""A layer's relative gradient has vanished if it is this share of the largest of a later layer."""
STILL, EXPLODED = 1e-7, 1e2
"""The whole gradient at the start, relative to the weights: below, nothing moves; above, all is lost.

Unlike the other limits they hang on the scale of the loss, so they are of plain gradient descent alone.
"""
FAINT = 0.3  # of the median layer's: smaller weights, as of a head that starts at 0, make no measure
LASTING = 0.9  # share of the units dead at a look that must still be at the next: else batches are too small
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
    first one; else all. Steps that float16 skipped, and those whose loss is not finite, are left out.
    """
    counted = np.isfinite(result.loss)
    if result.skipped is not None:
        counted &= result.skipped == 0
    taken = [row for row in result.health if counted[row.step]]
    if not taken:
        return []
    first = taken[0].step
    if on_a_ramp:
        smoothed = result.curve.smoothed[: result.curve.length]
        limit = result.lr[int(np.argmin(smoothed))] / 10 if smoothed.size else 0.0
        return [row for row in taken if row.step == first or result.lr[row.step] <= limit]
    if result.outcome == "finished":
        return taken
    return [row for row in taken if row.step == first]


def diagnose(lanes: Sequence[Sequence[LayerHealth]], *, adaptive: bool = False) -> list[Finding]:
    """Say what is wrong with the gradients of lanes.

    Args:
        lanes: the looks at each, in order, while its loss was calm: at rates far above the edge everything
            explodes, which is the rate's fault.
        adaptive: whether the optimizer divides by the size of past gradients, as Adam's family does: then
            the length of the whole gradient tells nothing.

    Returns:
        What at least half of the lanes show, with the figures of the first that does; empty if all is well.
    """
    known = [_looks(lane) for lane in lanes if lane]
    found: dict[str, list[Finding]] = {}
    for looks in known:
        for finding in filter(None, (rule(looks) for rule in RULES if not (adaptive and rule in OF_LENGTH))):
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


def _too_long(looks: Sequence[_Look]) -> Finding | None:
    ratio = _whole(looks[0])
    if ratio is None or ratio <= EXPLODED or any(row.nonfinite_share for row in looks[0]):
        return None
    return Finding(
        "exploding",
        f"at the start the gradient is {ratio:.1e} times as long as the weights that it moves",
        "standardised inputs and targets, an init that keeps the scale (he for relu, xavier for tanh),"
        " normalisation, or clip_norm",
    )


def _burst(looks: Sequence[_Look]) -> Finding | None:
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


KEEPS_THE_SCALE = (
    "an init that keeps the scale (he for relu, xavier for tanh, orthogonal for deep or recurrent ones),"
    " normalisation, residual connections, or relu instead of sigmoid"
)


def _too_short(looks: Sequence[_Look]) -> Finding | None:
    ratio = _whole(looks[0])
    if ratio is None or not 0 < ratio < STILL:
        return None
    told = f"at the start the gradient is {ratio:.1e} of the weights that it shall move"
    return Finding("vanishing", told, KEEPS_THE_SCALE)


def _vanishing(looks: Sequence[_Look]) -> Finding | None:
    known = _typical([row for look in looks for row in _matrices(look)])
    measures = _typical([row for look in looks for row in _measures(look)])
    layers = [*known]
    for i, layer in enumerate(layers):
        later = {each: measures[each] for each in layers[i + 1 :] if each in measures}
        largest = max(later, key=later.__getitem__, default=layer)
        if 0 < known[layer] < VANISHED * later.get(largest, 0.0):
            share = f"{known[layer] / later[largest]:.1e}"
            told = f"relative to its weights, the gradient of {layer} is {share} of that of {largest}"
            return Finding("vanishing", told, KEEPS_THE_SCALE)
    return None


def _matrices(look: _Look) -> _Look:
    return [row for row in look if row.matrix and row.trained]


def _measures(look: _Look) -> _Look:
    """The layers of a look whose weights are large enough to measure a gradient by."""
    known = _matrices(look)
    sizes = [(row.weight_norm or 0.0) / math.sqrt(row.size) for row in known]
    usual = median(sizes) if sizes else 0.0
    return [row for row, size in zip(known, sizes, strict=True) if size >= FAINT * usual]


def _typical(rows: Iterable[LayerHealth]) -> dict[str, float]:
    """By layer, the median of its gradients relative to its weights."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.relative is not None:
            found.setdefault(row.layer, []).append(row.relative)
    return {layer: median(values) for layer, values in found.items()}


def _dead(looks: Sequence[_Look]) -> Finding | None:
    """Units that pass no gradient at two looks or more; not those of the last layer, which may go unused."""
    if len(looks) < 2 or not any(map(_norm, looks)):
        return None
    with_units = [row.layer for row in looks[-1] if row.dead_share is not None][:-1]
    before = {row.layer: row.dead_share or 0.0 for row in looks[-2]}
    dead = [
        row
        for row in looks[-1]
        if row.layer in with_units and (row.dead_share or 0.0) >= max(DEAD, LASTING * before[row.layer])
    ]
    if not dead:
        return None
    worst = max(dead, key=lambda row: row.dead_share or 0.0)
    others = f" ({len(dead)} layers have half or more)" if len(dead) > 1 else ""
    first = next(
        row.step
        for look in looks
        for row in look
        if row.layer == worst.layer and (row.dead_share or 0.0) >= DEAD
    )
    return Finding(
        "dead units",
        f"{worst.dead_share:.0%} of the units of {worst.layer} pass no gradient{others}, since step {first}",
        "leaky_relu, elu or gelu instead of relu, a smaller rate or a warmup, biases that start at 0, he"
        " init, or normalisation; with much dropout, larger batches",
    )


def _no_gradient(looks: Sequence[_Look]) -> Finding | None:
    """Trained layers at which none ever arrives, or only zeros, and not since units after them are dead."""
    if not any(map(_norm, looks)):
        return Finding(
            "no gradient",
            "it is exactly 0 at every layer",
            "another loss: this one is constant (cross_entropy over one output is), satisfied, or far in a"
            " flat part; or look what cuts it off from the weights",
        )
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


OF_LENGTH = (_too_long, _too_short)
RULES: Sequence[Callable[[Sequence[_Look]], Finding | None]] = (
    _not_finite,
    _too_long,
    _burst,
    _no_gradient,
    _too_short,
    _vanishing,
    _dead,
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


def _named(layers: Sequence[str], most: int = 3) -> str:
    """Layers in words, the first few of them.

    >>> _named(["a"]), _named(["a", "b", "c", "d", "e"])
    ('a', 'a, b, c and 2 more')
    """
    shown = ", ".join(layers[:most])
    return f"{shown} and {len(layers) - most} more" if len(layers) > most else shown
