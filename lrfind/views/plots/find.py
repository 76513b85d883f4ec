"""The plot of a run of `find`: first its values are computed, then it is drawn on an Axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfind.errors import counted
from lrfind.runs.result import RunResult
from lrfind.views.plots.drawing import BLUE, GREY, RED, finish, legend_below, titled
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
        note: the answer as a multiple of the fastest lr, and the reason; empty if they are about the same.
        refusal: the reason why there is no answer; empty if there is an answer.
        trainings: those that refine the answer, and those that verify it, as far as there are any.
        lr_ends: the two ends of the lr axis.
        score_ends: the two ends of the score axis; higher scores are cut off.
        log: whether the score axis is logarithmic.
    """

    longest: Sequence[LongestProbes]
    steps: int
    shorter: Mapping[int, Sequence[tuple[float, float]]]
    stopped: Sequence[float]
    untouched: float | None
    fastest: float | None
    answer: tuple[float, float, float] | None
    note: str
    refusal: str
    trainings: Sequence[Trainings]
    lr_ends: tuple[float, float]
    score_ends: tuple[float, float]
    log: bool


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
    trainings = [*refining_trainings(refinement), *verifying_trainings(verification)]

    # The axes must hold all rates, and all scores that are not far too high.
    scores = [row["score"] for row in scored]
    lowest, highest, log = _score_ends(scores, untouched)
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
        note=_note(answer[0], fastest, verification, steps, refinement) if answer and fastest else "",
        refusal="" if answer else str(suggestion["reason"]),
        trainings=trainings,
        lr_ends=(min(lrs, default=1e-3) / 2, max(lrs, default=1.0) * 2),
        score_ends=(lowest, highest),
        log=log,
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
    fastest: float,
    verification: Mapping[str, Any] | None,
    steps: int | None,
    refinement: Mapping[str, Any] | None,
) -> str:
    """Return the answer as a multiple of the fastest lr, and the reason; empty if they are about the same."""
    ratio = lr / fastest
    if 1 / NEAR < ratio < NEAR:
        return ""
    if verification is not None and verification["verdict"] is not None and lr != verification["of"]:
        return f"{ratio:.2g}x, by verification"
    if refinement is not None and refinement["ended"]:
        return f"{ratio:.2g}x, by trainings"
    return f"{ratio:.2g}x" + ("" if steps is None else f" for {counted(steps, 'step')}")


def _score_ends(scores: Sequence[float], untouched: float | None) -> tuple[float, float, bool]:
    """Return the two ends of the score axis and whether it is logarithmic.

    Very high scores are cut off, so that they do not flatten the low ones.
    """
    first = untouched if untouched is not None else max(scores, default=1.0)
    lowest, highest = min([first, *scores]), max([first, *scores])
    if lowest > 0 and first > 100 * lowest:
        room = (first / lowest) ** 0.06
        return lowest / room, first * room**2, True
    drop = max(first - lowest, 0.02 * abs(first), 1e-12)
    top = first + max(0.6 * drop, 0.1 * abs(first))
    return lowest - 0.1 * drop, min(top, highest + 0.35 * drop), False


def draw_find(view: FindView, ax: Axes) -> Axes:
    """Draw the probes' scores against lr, and the answer with its interval."""
    ax.set_xscale("log")
    ax.set_xlim(*view.lr_ends)
    if view.log:
        ax.set_yscale("log")
    ax.set_ylim(*view.score_ends)

    # The answer, and the loss that the untouched model has.
    _draw_answer(view, ax)
    if view.untouched is not None:
        ax.axhline(
            view.untouched, color="0.5", linestyle="--", linewidth=1, zorder=1,
            label="loss of the untouched model",
        )  # fmt: skip

    # The shorter probes, with one marker per number of steps.
    for (steps, points), marker in zip(view.shorter.items(), MARKERS * 4, strict=False):
        ax.plot(
            [lr for lr, _ in points], [score for _, score in points], marker, color=PALE,
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
        ax.plot(probes.lr, probes.score, color=BLUE, linewidth=1.5, zorder=3)
        ax.scatter(
            probes.lr, probes.score, s=[18 + 110 * weight for weight in probes.weight], color=BLUE,
            edgecolor="white", linewidth=0.7, zorder=4, label=None if number else label,
        )  # fmt: skip

    # The rates whose loss blew up have no score, so their markers are at the top.
    if view.stopped:
        ax.plot(
            view.stopped, [0.96] * len(view.stopped), marker="X", color=GREY, markersize=7, linestyle="none",
            zorder=4, transform=ax.get_xaxis_transform(), clip_on=False, label="the loss blew up",
        )  # fmt: skip
    return legend_below(finish(ax, "learning rate", "mean loss over the last half of a probe"), 0.16)


def _draw_answer(view: FindView, ax: Axes) -> None:
    """Draw the answer with its interval and, if the fastest lr differs, an arrow from it to the answer."""
    if view.answer is None:
        return
    lr, low, high = view.answer
    ax.axvspan(low, high, color=RED, alpha=0.13, linewidth=0, zorder=0)
    ax.axvline(lr, color=RED, linewidth=1.6, zorder=3, label=f"answer: {lr:.3g}  [{low:.3g}, {high:.3g}]")
    if not view.note or view.fastest is None:
        return
    across = ax.get_xaxis_transform()
    ax.plot(
        [view.fastest] * 2, [0, 1], color=GREY, linestyle=":", linewidth=1, zorder=1, transform=across,
        label=f"estimated best of the probes: {view.fastest:.3g}",
    )  # fmt: skip
    ax.annotate(
        "", xy=(lr, 0.95), xytext=(view.fastest, 0.95), xycoords=across, textcoords=across, zorder=5,
        arrowprops={"arrowstyle": "->", "color": RED, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip
    ax.annotate(
        view.note, xy=(max(lr, view.fastest), 0.95), xytext=(5, 0), xycoords=across,
        textcoords="offset points", color=RED, fontsize="small", va="center", zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
    )  # fmt: skip


def find_figure(view: FindView, title: str, figure: Figure | None = None) -> Figure:
    """Return a figure of the probes, with the trainings below them; a new one if none is given."""
    if view.refusal:
        title += "\n" + textwrap.fill(f"no answer: {view.refusal}", 74)
    from matplotlib.figure import Figure

    count = len(view.trainings)
    figure = figure or Figure(layout="constrained")
    figure.set_size_inches(6.4, 4.6 + 2.4 * count if count else 4.8)
    axes = figure.subplots(1 + count, 1, sharex=True, height_ratios=[2] + [1] * count, squeeze=False)
    above, *below = axes[:, 0]
    titled(draw_find(view, above), title)
    for trainings, ax in zip(view.trainings, below, strict=True):
        draw_trainings(trainings, view.answer and view.answer[0], view.lr_ends, ax)
    for ax in (above, *below[:-1]) if below else ():
        ax.set_xlabel("")
        legend_below(ax, 0.06 if ax is above else 0.12)
    return figure


def find_figures(result: RunResult) -> dict[str, Figure]:
    """Return the figure of a `find`, by its file name."""
    summary = result.summary
    steps = summary["training"] and summary["training"]["steps"]
    view = view_find(
        summary["probes"], summary["answer"], summary["verification"], steps, summary["refinement"]
    )
    return {"find": find_figure(view, result.experiment.name)}
