"""Diagnosis: it turns looks (measurements of the gradients of all layers) into findings in words.

A gradient is measured relative to the weights that it would move, and compared between layers. That gradients
shrink or grow from layer to layer comes from Hochreiter 1991, Bengio, Simard and Frasconi 1994
(doi:10.1109/72.279181), and Glorot and Bengio 2010. That clipping helps against the growth comes from
Pascanu, Mikolov and Bengio 2013 (arXiv:1211.5063). The limits are our own.
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
from lrfind.errors import listed

VANISHED = 1e-3
"""A layer's relative gradient has vanished if it is below this share of the largest in the later layers."""
STILL, EXPLODED = 1e-7, 1e2
"""Limits of the whole gradient at the start, relative to the weights.

Below the first limit nothing moves; above the second one training breaks down. Unlike the other limits, these
two depend on the scale of the loss, so they are valid for plain gradient descent only.
"""
# Times the weights of the median layer; smaller weights (a head that starts at 0) are no scale to measure by.
FAINT = 0.3
LASTING = 0.9  # share of the dead units that must stay dead at the next look; else the batches are too small
BURST = 1e3  # times the median norm of the earlier looks, while the loss was calm
DEAD = 0.5  # share of a layer's units
ALWAYS = 0.9  # share of the gradient's numbers that clipping changes, over all looks
ONLY_THE_HEAD = "only the head learns"
HEAD = 0.25  # the largest share of all weights that still counts as a head


class Finding(NamedTuple):
    """A problem of the gradients, or another fact about the gradients that users should know.

    Attributes:
        what: the kind of finding, one of "not finite", "exploding", "vanishing", "dead units", "no gradient",
            "only the head learns" and "always clipped".
        evidence: the figures, in words.
        advice: what to try.
    """

    what: str
    evidence: str
    advice: str

    @property
    def in_words(self) -> str:
        """The finding, in two sentences."""
        return f"Gradients, {self.what}: {self.evidence}. What may help: {self.advice}."


def calm_looks(result: LaneResult, *, on_a_ramp: bool) -> list[LayerHealth]:
    """Return the looks at a lane in which a problem cannot be the fault of the lr.

    On a ramp, these are the first look and the looks at lrs up to a tenth of the lr where the loss is lowest.
    Otherwise they are all looks if the lane finished, and only the first look if it did not. Steps that
    float16 skipped, and steps whose loss is not finite, are left out.
    """
    valid = np.isfinite(result.loss)
    if result.skipped is not None:
        valid &= result.skipped == 0
    rows = [row for row in result.health if valid[row.step]]
    if not rows:
        return []
    first = rows[0].step
    if on_a_ramp:
        smoothed = result.curve.smoothed[: result.curve.length]
        limit = result.lr[int(np.argmin(smoothed))] / 10 if smoothed.size else 0.0
        return [row for row in rows if row.step == first or result.lr[row.step] <= limit]
    if result.outcome == "finished":
        return rows
    return [row for row in rows if row.step == first]


def diagnose(lanes: Sequence[Sequence[LayerHealth]], *, adaptive: bool = False) -> list[Finding]:
    """Return what is wrong with the gradients of lanes.

    Args:
        lanes: the looks at each lane, in order, while its loss was calm; at lrs far above the edge
            everything explodes, and that is the fault of the lr.
        adaptive: whether the optimizer divides by the size of past gradients, as Adam's family does; the
            norm of the whole gradient then says nothing.

    Returns:
        The findings that at least half of the lanes show, with the figures of the first such lane; empty if
        all is well.
    """
    looks_of_lanes = [_looks(lane) for lane in lanes if lane]
    rules = [rule for rule in RULES if not (adaptive and rule in NORM_RULES)]
    by_kind: dict[str, list[Finding]] = {}
    for looks in looks_of_lanes:
        for finding in filter(None, (rule(looks) for rule in rules)):
            by_kind.setdefault(finding.what, []).append(finding)
    return [findings[0] for findings in by_kind.values() if 2 * len(findings) >= len(looks_of_lanes)]


_Look = Sequence[LayerHealth]
"""All layers at one step, from the input to the output."""


def _looks(rows: Iterable[LayerHealth]) -> list[_Look]:
    return [list(look) for _, look in groupby(rows, key=lambda row: row.step)]


def _not_finite(looks: Sequence[_Look]) -> Finding | None:
    nonfinite = [row for look in looks for row in look if row.nonfinite_share]
    if not nonfinite:
        return None
    first = nonfinite[0]
    return Finding(
        "not finite",
        f"{first.nonfinite_share:.0%} of the gradient of {first.layer} is not finite at step {first.step},"
        " although the loss is still finite",
        "clip_norm, a smaller lr, a warmup, or bfloat16 instead of float16; also look for sqrt(0), log(0) and"
        " divisions by 0 in the model and the loss",
    )


def _too_long(looks: Sequence[_Look]) -> Finding | None:
    ratio = _whole(looks[0])
    if ratio is None or ratio <= EXPLODED or any(row.nonfinite_share for row in looks[0]):
        return None
    return Finding(
        "exploding",
        f"at the start, the norm of the gradient is {ratio:.1e} times the norm of the weights that it moves",
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
                f"at step {looks[i][0].step}, the norm of the gradient is {norms[i] / before:.1e} times its"
                " median at the earlier looks",
                "clip_norm, a warmup, or a smaller lr",
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
    evidence = f"at the start, the norm of the gradient is only {ratio:.1e} times the norm of the weights"
    return Finding("vanishing", f"{evidence} that it moves", KEEPS_THE_SCALE)


def _vanishing(looks: Sequence[_Look]) -> Finding | None:
    gradients = _typical([row for look in looks for row in _matrices(look)])
    measures = _typical([row for look in looks for row in _measures(look)])
    layers = [*gradients]
    for i, layer in enumerate(layers):
        later = {name: measures[name] for name in layers[i + 1 :] if name in measures}
        largest = max(later, key=later.__getitem__, default=layer)
        if 0 < gradients[layer] < VANISHED * later.get(largest, 0.0):
            ratio = f"{gradients[layer] / later[largest]:.1e}"
            evidence = (
                f"relative to its weights, the gradient of {layer} is only {ratio} times that of {largest}"
            )
            return Finding("vanishing", evidence, KEEPS_THE_SCALE)
    return None


def _matrices(look: _Look) -> _Look:
    return [row for row in look if row.matrix and row.trained]


def _measures(look: _Look) -> _Look:
    """Return the layers of a look whose weights are large enough to compare a gradient with."""
    layers = _matrices(look)
    sizes = [(row.weight_norm or 0.0) / math.sqrt(row.size) for row in layers]
    usual = median(sizes) if sizes else 0.0
    return [row for row, size in zip(layers, sizes, strict=True) if size >= FAINT * usual]


def _typical(rows: Iterable[LayerHealth]) -> dict[str, float]:
    """Return, for each layer, the median of its gradients relative to its weights."""
    by_layer: dict[str, list[float]] = {}
    for row in rows:
        if row.relative is not None:
            by_layer.setdefault(row.layer, []).append(row.relative)
    return {layer: median(values) for layer, values in by_layer.items()}


def _dead(looks: Sequence[_Look]) -> Finding | None:
    """Find units that pass no gradient at two looks or more.

    The units of the last layer do not count, because some of them may be unused.
    """
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
    others = f"; {len(dead)} layers have at least half of their units dead" if len(dead) > 1 else ""
    first = next(
        row.step
        for look in looks
        for row in look
        if row.layer == worst.layer and (row.dead_share or 0.0) >= DEAD
    )
    return Finding(
        "dead units",
        f"{worst.dead_share:.0%} of the units of {worst.layer} pass no gradient (at least half since step"
        f" {first}){others}",
        "leaky_relu, elu or gelu instead of relu, a smaller lr, a warmup, biases that start at 0, he init, or"
        " normalisation; with much dropout, larger batches",
    )


def _no_gradient(looks: Sequence[_Look]) -> Finding | None:
    """Find trained layers that get no gradient at any look, or only gradients of zeros.

    Layers whose gradient vanished on its way, or is 0 because units are dead, do not count.
    """
    if not any(map(_norm, looks)):
        return Finding(
            "no gradient",
            "the gradient is exactly 0 at every layer",
            "another loss if this one is constant (as cross_entropy over one output is), already satisfied or"
            " far inside a flat region; otherwise, find what detaches the loss from the weights",
        )
    dead = {row.layer for row in looks[-1] if (row.dead_share or 0) == 1}
    never = [
        layer
        for layer in _layers(looks)
        if layer not in dead
        and all(row.trained and not row.grad_norm for look in looks for row in look if row.layer == layer)
    ]
    zero = {row.layer for row in looks[0] if row.grad_norm == 0}  # it vanished on its way, or units are dead
    silent = [layer for layer in never if not (layer in zero and (dead or _vanishing(looks)))]
    if not silent:
        return None
    them = "this layer" if len(silent) == 1 else "these layers"
    return Finding(
        "no gradient",
        f"no gradient ever arrives at {_named(silent)}",
        f"check whether forward uses {them}, and whether anything between {them} and the loss detaches the"
        " graph (detach, item, no_grad, argmax, a round trip through numpy)",
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
    before = "the layer before is" if len(body) == 1 else f"the {len(body)} layers before are"
    return Finding(
        ONLY_THE_HEAD,
        f"the optimizer trains only {_named([row.layer for row in learning])}, with {trained:,} of {total:,}"
        f" weights; {before} frozen",
        "if you did not mean to freeze so much, unfreeze layers (param_groups without frozen, requires_grad)"
        " and give them a small lr_multiplier",
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
        f"clipping changed {sum(shares) / len(shares):.0%} of the gradient over {len(shares)} looks, so the"
        " limit, and not the gradient, sets the length of a step (the median norm of the gradient is"
        f" {median(map(_norm, looks)):.3g})",
        "a higher limit, if clipping is meant for bursts only; the best lr changes with the limit",
    )


NORM_RULES = (_too_long, _too_short)
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
    """Return the whole gradient's norm divided by that of the weights it moves; None without weights."""
    weights = math.hypot(*(row.weight_norm or 0.0 for row in look))
    return _norm(look) / weights if weights else None


def _named(layers: Sequence[str], most: int = 3) -> str:
    """List the names of layers; if there are many, list only the first few.

    >>> _named(["a"]), _named(["a", "b"]), _named(["a", "b", "c", "d", "e"])
    ('a', 'a and b', 'a, b, c and 2 more')
    """
    rest = [f"{len(layers) - most} more"] if len(layers) > most else []
    return listed([*layers[:most], *rest])
