"""The methods that suggest a learning rate from a curve, ours and the peers'; the catalog describes them.

Every method is a pure function of the curve. If the curve has no answer, the method refuses with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from lrfind.analysis import peers
from lrfind.analysis.curves import Array, Curve
from lrfind.analysis.divergence import HUGE
from lrfind.catalog import DEFAULT_METHOD
from lrfind.catalog import METHODS as SUMMARIES
from lrfind.errors import NoSuggestion, counted, sentence, unknown

FEWEST_POINTS = 5
SIGNIFICANT = 2.5  # standard errors that a fall must exceed; the lowest of many points is low by chance


@dataclass(frozen=True)
class Suggestion:
    """A learning rate, and where it comes from.

    Attributes:
        lr: the suggested learning rate.
        method: the name of the method.
        reason: what this lr is, in words.
        index: the point of the curve from which the answer was read; None if there is no single point.
        low: the lower end of the interval, which is the lowest answer of any lane; None with one lane.
        high: the upper end of the interval, which is the highest answer of any lane; None with one lane.
        note: what else is known of the curves, in sentences, such as points that were skipped; "" if nothing.
    """

    lr: float
    method: str
    reason: str
    index: int | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    def __repr__(self) -> str:
        ends = "" if self.low is None else f", low={self.low:.3g}, high={self.high:.3g}"
        reason = f"{self.reason} {self.note}".strip()
        return f"Suggestion(lr={self.lr:.3g}{ends}, method={self.method!r}): {reason}"


@dataclass(frozen=True)
class Method:
    """One way to read a suggestion from a curve.

    Attributes:
        answer: the function from a curve to (index, lr); it may raise NoSuggestion.
        as_peer: the function that turns a raw curve into the curve that the method's own library (a peer,
            such as fastai) would have recorded, with its smoothing, up to where it would have stopped. None
            for our methods, which smooth the curve themselves.
        needs_fall: whether the method refuses a curve that never falls, and one that still falls at its end.
    """

    answer: Callable[[Curve], tuple[int | None, float]]
    as_peer: Callable[[Curve], Curve] | None = None
    needs_fall: bool = True


def steepest(curve: Curve) -> tuple[int, float]:
    """Return the lr where the smoothed loss falls fastest per decade of lr, before its minimum."""
    slope = _slope_to_minimum(curve)
    index = int(np.argmin(slope))
    return index, float(curve.lr[index])


def minimum(curve: Curve) -> tuple[int, float]:
    """Return a tenth of the lr where the smoothed loss is lowest (as fastai's `minimum`, without its lag)."""
    index = _lowest(curve)
    return index, float(curve.lr[index]) / 10


def edge(curve: Curve) -> tuple[int, float]:
    """Return the lr at which the loss diverged: on a ramp, an *upper bound* of the largest stable lr.

    A ramp passes the true edge before the loss shows it. Until the edge, every step has shrunk the directions
    that will blow up, so they must first grow back. On full-batch least squares, the loss diverges at 2 to 9
    times 2 / lambda_max. For the real edge, see `lrfind.experiments.edge`.
    """
    if curve.divergence is None:
        raise NoSuggestion(
            f"the loss never diverged, so the edge lies above {curve.lr[-1]:.3g}; raise end_lr to find it."
        )
    return curve.divergence, float(curve.lr[curve.divergence])


def consensus(curve: Curve) -> tuple[None, float]:
    """Return the middle one of `steepest`, `minimum` and a tenth of `edge`.

    Each of the three can fail in its own way: noise can make a slope steepest where nothing happens yet, a
    broad valley puts the minimum far to the right, and a ramp passes the edge before the loss shows it. The
    middle one is wrong only if two of them are. If the curve never diverged, its edge lies above the last lr,
    and the last lr is used in its place. For several lanes, see `suggest_over`.
    """
    last = curve.loss.size - 1 if curve.divergence is None else curve.divergence
    answers = (steepest(curve)[1], minimum(curve)[1], float(curve.lr[last]) / 10)
    return None, sorted(answers)[1]


def _lowest(curve: Curve) -> int:
    """Return the point with the lowest smoothed loss, up to the divergence."""
    end = curve.length if curve.divergence is None else min(curve.length, curve.divergence + 1)
    return int(np.argmin(curve.smoothed[:end]))


def _slope_to_minimum(curve: Curve) -> Array:
    end = _lowest(curve) + 1
    slope: Array = np.gradient(curve.smoothed[:end], np.log10(curve.lr[:end]))  # loss per decade
    return slope


def why_not_a_curve(curve: Curve) -> str | None:
    """Return why no method can read these points as a curve, or None if a method can."""
    finite, total = curve.length, curve.loss.size
    if curve.diverged is False and finite < total and curve.remark:
        return curve.remark
    if total == 0:
        return "the curve has no points."
    if finite == 0 and not (np.abs(curve.loss) < HUGE).any():
        if np.isfinite(curve.loss).any():
            return f"every loss is beyond {HUGE:g}, where it counts as infinite; scale the loss down."
        return "no loss is finite, at any lr; check the data and the model for NaN and inf."
    if finite < total and finite < FEWEST_POINTS:
        return (
            f"the loss is no longer finite at point {finite} (lr {curve.lr[finite]:.3g}), so it diverges from"
            f" the start; lower start_lr, for example to {curve.lr[0] / 1000:.0e}."
        )
    if total < curve.planned and curve.divergence is None:
        return f"the test ended early, after {total} of {curve.planned} points; run it to its end."
    if finite < FEWEST_POINTS:
        return f"too few points: {finite}, and at least {FEWEST_POINTS} are needed; use more steps."
    return None


def why_no_valley(curve: Curve) -> str | None:
    """Return why the loss has no lowest point inside the range, or None if it has one.

    The loss must fall by more than its noise, and it must stop falling before the end.
    """
    finite = curve.length
    smoothed, lr = curve.smoothed[:finite], curve.lr[:finite]
    first = float(np.median(smoothed[: max(1, finite // 20)]))
    lowest = _lowest(curve)
    error = float(np.hypot(curve.standard_error[0], curve.standard_error[lowest]))
    significant = max(SIGNIFICANT * error, 1e-6 * float(np.abs(smoothed).max()))
    fall = min(first - smoothed[lowest], float(curve.loss[0] - curve.loss[:finite].min()))
    if lowest == 0 or fall <= significant:
        if curve.divergence is not None and curve.divergence < finite / 4:
            return (
                f"the loss diverges from the start (at lr {lr[curve.divergence]:.3g}); lower start_lr, for"
                f" example to {lr[0] / 1000:.0e}."
            )
        if smoothed.max() - first > significant:
            return (
                "the loss rises, and it never falls below its first value by more than its noise; use more"
                " steps or a lower start_lr, and check that gradients reach the parameters."
            )
        return (
            f"the curve is flat: from lr {lr[0]:.3g} to lr {lr[-1]:.3g}, the loss falls by no more than its"
            " noise; widen the range, use more steps, or check that gradients reach the parameters."
        )
    ends_low = curve.divergence is None and lowest >= finite - max(1, finite // 33)
    if ends_low:
        advice = f"raise end_lr to {lr[-1] * 10:.3g}"
        return f"the loss is lowest at the end of the range and is still falling; {advice}."
    return None


def _at(pick: Callable[[Curve], int], factor: float = 1.0) -> Callable[[Curve], tuple[int, float]]:
    """Return a method that answers with `factor` times the lr of the point that `pick` chooses."""

    def answer(curve: Curve) -> tuple[int, float]:
        index = pick(curve)
        return index, float(curve.lr[index]) * factor

    return answer


METHODS: dict[str, Method] = {
    "consensus": Method(consensus),
    "steepest": Method(steepest),
    "minimum": Method(minimum),
    "edge": Method(edge, needs_fall=False),
    "torch-lr-finder": Method(_at(peers.torch_lr_finder_suggest), peers.as_lagging),
    "lightning": Method(_at(peers.lightning_suggest), peers.as_lightning),
    "ignite": Method(_at(peers.ignite_suggest), peers.as_lagging),
    "fastai-steep": Method(_at(peers.fastai_steep), peers.as_fastai),
    "fastai-minimum": Method(_at(peers.fastai_minimum, 0.1), peers.as_fastai),
    "fastai-valley": Method(_at(peers.fastai_valley), peers.as_fastai),
    "fastai-slide": Method(_at(peers.fastai_slide), peers.as_fastai),
}


def suggest_from(curve: Curve, name: str = DEFAULT_METHOD, *, raw: bool = False) -> Suggestion:
    """Return the suggestion of one method for one curve; skip its gaps (see `Curve.gaps`).

    Args:
        curve: lr and loss.
        name: a name from `METHODS`.
        raw: whether the loss is unsmoothed, as lrfind's own runs record it. If so, a peer's method gets the
            curve that the peer would have recorded; otherwise, it gets the curve as it is.

    Raises:
        NoSuggestion: if the curve has no answer, or if the answer lies below the range or above the edge;
            `.reason` says why.
        UsageError: if there is no such method.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise unknown("method", str(name), METHODS)
    method = METHODS[name]
    kept = np.delete(np.arange(curve.loss.size), curve.gaps)
    note, curve = " ".join(curve.notes), curve.without_gaps
    reason = why_not_a_curve(curve) or (why_no_valley(curve) if method.needs_fall else None)
    if reason:
        addition = f" {sentence(note)}" if note and note != reason else ""
        raise NoSuggestion(reason + addition)
    index, lr = method.answer(method.as_peer(curve) if raw and method.as_peer else curve)
    if lr < curve.lr[0]:
        raise NoSuggestion(
            f"the answer ({lr:.2g}) lies below the range; lower start_lr to {curve.lr[0] / 1000:.0e}."
        )
    if curve.divergence is not None and lr > curve.lr[curve.divergence]:
        raise NoSuggestion(_above_edge(name, lr, float(curve.lr[curve.divergence])))
    return Suggestion(lr, name, SUMMARIES[name], None if index is None else int(kept[index]), note=note)


def _above_edge(name: str, lr: float, edge: float) -> str:
    return (
        f"{name} answers {lr:.3g}, which lies above the edge ({edge:.3g}), where the loss diverged; use"
        " another method, more steps or more seeds."
    )


def suggest(lr: ArrayLike, loss: ArrayLike, method: str = DEFAULT_METHOD) -> Suggestion:
    """Suggest a learning rate from any curve.

    Args:
        lr: (T,) the lrs, positive and strictly increasing.
        loss: (T,) the loss at each lr; it may end in NaN or inf, and single losses may be missing (NaN). Our
            methods smooth it as strongly as its noise requires; the peers' methods take it as it is.
        method: a name from `lrfind ls methods`.

    Raises:
        NoSuggestion: if the curve has no answer; `.reason` says why and what to change.
        UsageError: if lr and loss do not fit together, or there is no such method.

    >>> import numpy as np
    >>> x = np.linspace(-4, 0, 81)
    >>> round(suggest(10**x, (x + 2) ** 2, method="minimum").lr, 6)
    0.001
    """
    return suggest_from(Curve.of(lr, loss), method)


def suggest_over(curves: Sequence[Curve], name: str = DEFAULT_METHOD, *, raw: bool = True) -> Suggestion:
    """Return the suggestion of one method for several lanes.

    It is the median in log lr of the lanes' answers, with the lowest and the highest answer as the interval.
    Lanes without an answer are left out.

    Raises:
        NoSuggestion: unless more than half of the lanes have an answer; the reason is that of the first lane
            without an answer. Also if the median lies above the edge that the lanes have together.
    """
    answers: list[Suggestion] = []
    reasons: list[str] = []
    for curve in curves:
        try:
            answers.append(suggest_from(curve, name, raw=raw))
        except NoSuggestion as refusal:
            reasons.append(refusal.reason)
    if len(answers) <= len(reasons):
        raise NoSuggestion(reasons[0] if reasons else "no lane of the run reached its end.")
    if len(answers) == 1:
        return answers[0]
    lrs = np.array([answer.lr for answer in answers])
    median = float(10 ** np.median(np.log10(lrs)))
    edge = None if name == "edge" else _edge_over(curves)
    if edge is not None and median > edge:
        raise NoSuggestion(_above_edge(name, median, edge))
    note = " ".join(dict.fromkeys(note for curve in curves for note in curve.notes))
    reason = f"{answers[0].reason}; the median of {counted(len(answers), 'seed')}"
    ends = float(lrs.min()), float(lrs.max())
    return replace(answers[0], lr=median, index=None, low=ends[0], high=ends[1], reason=reason, note=note)


def _edge_over(curves: Sequence[Curve]) -> float | None:
    """Return the edge of several lanes, as the method `edge` answers; None if it refuses."""
    try:
        return suggest_over(curves, "edge").lr
    except NoSuggestion:
        return None
