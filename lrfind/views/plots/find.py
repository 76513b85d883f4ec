"""The plot of a run of `find`: first its values are computed, then it is drawn on an Axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfind.errors import counted
from lrfind.runs.result import RunResult
from lrfind.views.plots.axes import LossAxis, loss_axis, set_loss_axis, size_of
from lrfind.views.plots.drawing import (
    ABOVE,
    BLUE,
    GREY,
    RED,
    SMALL,
    draw_start,
    finish,
    legend_below,
    mark_border,
    titled,
)
from lrfind.views.plots.trainings import (
    Trainings,
    draw_trainings,
    is_number,
    refining_trainings,
    verifying_trainings,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vp"
"""The markers of the shorter probes, in ascending order of their steps."""
PALE = "#56B4E9"
BAND = 24  # points above all scores, for the arrow from the fastest lr to the answer
NEAR = 1.1  # The plot explains why the answer is not the fastest lr only where they differ by more than this.


@dataclass(frozen=True)
class LongestProbes:
    """The longest probes of one seed, which decide the answer.

    Attributes:
        lr: (K,) the lrs, ascending.
        score: (K,) the mean loss over the last half of each probe.
        weight: (K,) the weight of each probe in the lr that learns fastest.
    """

    lr: Sequence[float]
    score: Sequence[float]
    weight: Sequence[float]


@dataclass(frozen=True)
class FindView:
    """The values that a plot of a run of `find` shows.

    Attributes:
        longest: the longest probes, one entry per seed.
        steps: the number of steps of the longest probes.
        shorter: the shorter probes, as steps -> [(lr, score), ...].
        stopped: the rates at which the loss blew up.
        untouched: the untouched model's loss on the batches of the longest probes; None without a probe.
        fastest: the lr that learns fastest, over all seeds; None where nothing learns.
        answer: the lr and the two ends of its interval; None where there is no answer.
        note: the answer as a multiple of the lr before, and the reason; empty if they are about the same. The
            lr before is the one that verification moved, and otherwise the fastest one.
        moved_from: the rate that verification moved or refuted; None where it did not.
        refusal: the reason why there is no answer; empty if there is an answer.
        trainings: those that refine the answer, and those that verify it, as far as there are any.
        lr_ends: the two ends of the lr axis.
        axis: the score axis; higher scores are marked at its upper end.
    """

    longest: Sequence[LongestProbes]
    steps: int
    shorter: Mapping[int, Sequence[tuple[float, float]]]
    stopped: Sequence[float]
    untouched: float | None
    fastest: float | None
    answer: tuple[float, float, float] | None
    note: str
    moved_from: float | None
    refusal: str
    trainings: Sequence[Trainings]
    lr_ends: tuple[float, float]
    axis: LossAxis


def view_find(
    probes: Sequence[Mapping[Any, Any]],
    suggestion: Mapping[str, Any],
    verification: Mapping[str, Any] | None = None,
    steps: int | None = None,
    refinement: Mapping[str, Any] | None = None,
) -> FindView:
    """Compute the values that `draw_find` draws.

    Args:
        probes: the rows of the table of probes; see `lrfind.analysis.probing.probe_rows`.
        suggestion: lr, low, high and reason; lr is None where there is no answer.
        verification: the part of the summary with this name.
        steps: the number of steps of the training that the rate is for; if None, the note leaves it out.
        refinement: the part of the summary with this name.
    """
    scored = [row for row in probes if is_number(row["score"])]
    weighted = [row for row in scored if is_number(row["weight"])]
    longest = _longest(weighted)

    # The untouched model is compared on the batches of the longest probes.
    most_steps = max((row["steps"] for row in weighted), default=0)
    untouched_losses = [row["untouched"] for row in weighted if row["steps"] == most_steps]
    untouched = sum(untouched_losses) / len(untouched_losses) if untouched_losses else None

    # The answer, the fastest lr, and the trainings.
    answer = None
    if suggestion["lr"] is not None:
        answer = suggestion["lr"], suggestion["low"], suggestion["high"]
    fastest = _fastest(longest) if answer else None
    moved_from = verification["of"] if verification and _moved(verification, suggestion["lr"]) else None
    before = moved_from or fastest
    trainings = [*refining_trainings(refinement), *verifying_trainings(verification)]

    # The axes must hold all rates, and all scores that are not far too high.
    axis = loss_axis([row["score"] for row in scored], math.nan if untouched is None else untouched)
    lrs = [row["lr"] for row in probes] + [*(answer or ())]
    for group in trainings:
        lrs += [*(lr for lr, _ in group.ends), *group.lost]
    return FindView(
        longest=longest,
        steps=most_steps,
        shorter=_shorter(scored),
        stopped=[row["lr"] for row in probes if row["stopped"]],
        untouched=untouched,
        fastest=fastest,
        answer=answer,
        note=_note(answer[0], before, moved_from, steps, refinement) if answer and before else "",
        moved_from=moved_from,
        refusal="" if answer else str(suggestion["reason"]),
        trainings=trainings,
        lr_ends=(min(lrs, default=1e-3) / 2, max(lrs, default=1.0) * 2),
        axis=axis,
    )


def _longest(weighted: Sequence[Mapping[Any, Any]]) -> list[LongestProbes]:
    """Return the longest probes (those with a weight), as one curve per seed."""
    longest = []
    for seed in dict.fromkeys(row["seed"] for row in weighted):
        rows = sorted((row for row in weighted if row["seed"] == seed), key=lambda row: row["lr"])
        columns = zip(*((row["lr"], row["score"], row["weight"]) for row in rows), strict=True)
        longest.append(LongestProbes(*map(list, columns)))
    return longest


def _shorter(scored: Sequence[Mapping[Any, Any]]) -> dict[int, list[tuple[float, float]]]:
    """Return the points of the shorter probes (those without a weight), by their number of steps."""
    shorter: dict[int, list[tuple[float, float]]] = {}
    for row in sorted(scored, key=lambda row: row["steps"]):
        if not is_number(row["weight"]):
            shorter.setdefault(row["steps"], []).append((row["lr"], row["score"]))
    return shorter


def _fastest(longest: Sequence[LongestProbes]) -> float | None:
    """Return the weighted mean of the lrs in log lr, averaged over the seeds; None without any weight."""
    middles = [
        sum(weight * math.log10(lr) for lr, weight in zip(probes.lr, probes.weight, strict=True))
        / sum(probes.weight)
        for probes in longest
        if sum(probes.weight) > 0
    ]
    return 10 ** (sum(middles) / len(middles)) if middles else None


def _note(
    lr: float,
    before: float,
    moved_from: float | None,
    steps: int | None,
    refinement: Mapping[str, Any] | None,
) -> str:
    """Return the answer as a multiple of the lr before, and the reason; empty if they are about the same."""
    ratio = lr / before
    if 1 / NEAR < ratio < NEAR:
        return ""
    if moved_from is not None:
        return f"{ratio:.2g}x, by verification"
    if refinement is not None and refinement["ended"]:
        return f"{ratio:.2g}x, by trainings"
    return f"{ratio:.2g}x" + ("" if steps is None else f" for {counted(steps, 'step')}")


def _moved(verification: Mapping[str, Any], lr: float | None) -> bool:
    """Return whether verification moved the answer to this lr, or refuted it; then there may be none."""
    return verification["verdict"] is not None and verification["of"] != lr


def moved_label(lr: float) -> str:
    """Return what the legend says of a rate that verification moved or refuted."""
    return f"rate before verification: {lr:.3g}"


def draw_find(view: FindView, ax: Axes) -> Axes:
    """Draw the probes' scores against lr, and the answer with its interval."""
    ax.set_xscale("log")
    ax.set_xlim(*view.lr_ends)
    set_loss_axis(ax, view.axis)
    _draw_answer(view, ax)
    if view.untouched is not None:
        draw_start(ax, view.untouched, view.axis.top, "untouched model")

    # The shorter probes, with one marker per number of steps.
    for (steps, points), marker in zip(view.shorter.items(), MARKERS * 4, strict=False):
        ax.plot(
            [lr for lr, _ in points], [_on_axis(view, score) for _, score in points], marker, color=PALE,
            markerfacecolor="white", markersize=5, linestyle="none", zorder=2,
            label=f"probes of {counted(steps, 'step')}",
        )  # fmt: skip

    # The longest probes, one line per seed. The legend names them once.
    label = f"probes of {counted(view.steps, 'step')}"
    if len(view.longest) > 1:
        label += f", {len(view.longest)} seeds"
    if view.answer:
        label += "\n(a larger dot has more weight)"
    for number, probes in enumerate(view.longest):
        scores = [_on_axis(view, score) for score in probes.score]
        ax.plot(probes.lr, scores, color=BLUE, linewidth=1.5, zorder=3)
        ax.scatter(
            probes.lr, scores, s=[18 + 110 * weight for weight in probes.weight], color=BLUE,
            edgecolor="white", linewidth=0.7, zorder=4, label=None if number else label,
        )  # fmt: skip

    # What has no place on the axis.
    points = [point for points in view.shorter.values() for point in points]
    points += [point for probes in view.longest for point in zip(probes.lr, probes.score, strict=True)]
    mark_border(ax, [lr for lr, score in points if score > view.axis.top], f"a probe {ABOVE}", color=BLUE)
    mark_border(ax, view.stopped, "the loss blew up", "X")
    return finish(ax, "learning rate", "mean loss over the last half of a probe")


def _on_axis(view: FindView, score: float) -> float:
    """Return a score that the axis holds, or else NaN: a mark at the border stands for it."""
    return score if score <= view.axis.top else math.nan


def _draw_answer(view: FindView, ax: Axes) -> None:
    """Draw the answer with its interval.

    If the lr before it differs, an arrow goes from there to the answer, in a band above all scores.
    """
    top = 1.0 if not view.note else 1 - _add_band(view, ax)
    if view.moved_from is not None:
        ax.axvline(
            view.moved_from, ymax=top, color=RED, linestyle=":", linewidth=1.2, zorder=1,
            label=moved_label(view.moved_from),
        )  # fmt: skip
    if view.answer is None:
        return
    lr, low, high = view.answer
    ax.axvspan(
        low, high, ymax=top, color=RED, alpha=0.13, linewidth=0, zorder=0,
        label=f"interval: {low:.3g} to {high:.3g}",
    )  # fmt: skip
    ax.axvline(lr, ymax=top, color=RED, linewidth=1.6, zorder=3, label=f"answer: {lr:.3g}")
    before = view.moved_from or view.fastest
    if not view.note or before is None:
        return
    if view.fastest is not None:
        ax.axvline(
            view.fastest, ymax=top, color=GREY, linestyle=":", linewidth=1.2, zorder=1,
            label=f"estimated best of the probes: {view.fastest:.3g}",
        )  # fmt: skip
    across = ax.get_xaxis_transform()
    ax.annotate(
        "", xy=(lr, top), xytext=(before, top), xycoords=across, textcoords=across, zorder=5,
        arrowprops={"arrowstyle": "->", "color": RED, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip

    # The note lies above the arrow, and within the axes.
    left, right = (math.log(end) for end in view.lr_ends)
    middle = ((math.log(lr) + math.log(before)) / 2 - left) / (right - left)
    half = min(0.5, 0.29 * SMALL * len(view.note) / size_of(ax)[0])
    ax.annotate(
        view.note, xy=(float(np.clip(middle, half, 1 - half)), top), xytext=(0, 3), xycoords="axes fraction",
        textcoords="offset points", color=RED, fontsize=SMALL, ha="center", va="bottom", zorder=5,
    )  # fmt: skip


def _add_band(view: FindView, ax: Axes) -> float:
    """Add an empty band above the scores of an axis that has its ends; return its share of the axis."""
    share = float(np.clip(BAND / (size_of(ax)[1] - 70), 0.12, 0.35))  # the legend takes about 70 points
    low, high = view.axis.bottom, view.axis.top
    more = share / (1 - share)
    decades = math.log10(high) - math.log10(low) if view.axis.log else 0.0
    ax.set_ylim(low, high * 10 ** (decades * more) if view.axis.log else high + (high - low) * more)
    return share


def find_figure(view: FindView, title: str, figure: Figure | None = None) -> Figure:
    """Return a figure of the probes, with the trainings below them; a new one if none is given."""
    from matplotlib.figure import Figure

    count = len(view.trainings)
    figure = figure or Figure(layout="constrained")
    figure.set_size_inches(6.4, 4.6 + 2.2 * count if count else 4.8)
    axes = figure.subplots(1 + count, 1, sharex=True, height_ratios=[2] + [1] * count, squeeze=False)
    above, *below = axes[:, 0]
    titled(draw_find(view, above), title, f"no answer: {view.refusal}" if view.refusal else "")
    for trainings, ax in zip(view.trainings, below, strict=True):
        draw_trainings(trainings, view.answer and view.answer[0], view.lr_ends, ax)
    for ax in (above, *below[:-1]) if below else ():
        ax.set_xlabel("")
        legend_below(ax)
    return figure


def find_view(result: RunResult) -> FindView:
    """Compute the values that the figure and the report of a `find` draw."""
    summary = result.summary
    steps = summary["training"] and summary["training"]["steps"]
    return view_find(
        summary["probes"], summary["answer"], summary["verification"], steps, summary["refinement"]
    )


def find_figures(result: RunResult) -> dict[str, Figure]:
    """Return the figure of a `find`, by its file name."""
    return {"find": find_figure(find_view(result), result.experiment.name)}
