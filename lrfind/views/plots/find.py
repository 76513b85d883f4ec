"""The plot of a search for the lr: compute what is to be seen, then draw it on an Axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfind.analysis.verification import VERDICTS
from lrfind.views.plots.drawing import BLUE, ORANGE, RED, figure_of, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORTER = "osD^vp"
"""Markers of the shorter probes, by their steps ascending."""
PALE, GREY = "#56B4E9", "0.35"
NEAR = 1.1  # times: no need to say why the answer is not where learning was fastest


@dataclass(frozen=True)
class Compared:
    """The longest probes of one seed, which decide.

    Attributes:
        lr: (K,) ascending.
        score: (K,) mean loss over the last half of a probe.
        weight: (K,) share in the lr that learns fastest.
    """

    lr: Sequence[float]
    score: Sequence[float]
    weight: Sequence[float]


@dataclass(frozen=True)
class Proof:
    """Whole trainings at a third of a rate, at it and at three times it.

    Attributes:
        ends: (lr, final loss) of those that finished.
        lost: the rates of those that did not.
        label: of the loss axis.
        said: the verdict, in words.
    """

    ends: Sequence[tuple[float, float]]
    lost: Sequence[float]
    label: str
    said: str


@dataclass(frozen=True)
class FindView:
    """What a plot of a search shows.

    Attributes:
        compared: of each seed.
        steps: of the longest probes.
        left: steps -> (lr, score) of the shorter probes.
        stopped: the rates whose loss blew up.
        untouched: the untouched model's loss on the batches of the longest probes; None without a probe.
        fastest: the lr that learns fastest, over all seeds; None where nothing learns.
        answer: lr, and the ends of its interval; None where there is none.
        note: how the answer lies to the fastest; empty where they are about the same.
        refusal: why there is no answer; empty where there is one.
        proof: None where it was not asked for, or has not begun.
        lr_ends: of the lr axis.
        score_ends: of the score axis; scores above are cut off.
        log: whether the score axis is logarithmic.
    """

    compared: Sequence[Compared]
    steps: int
    left: Mapping[int, Sequence[tuple[float, float]]]
    stopped: Sequence[float]
    untouched: float | None
    fastest: float | None
    answer: tuple[float, float, float] | None
    note: str
    refusal: str
    proof: Proof | None
    lr_ends: tuple[float, float]
    score_ends: tuple[float, float]
    log: bool


def view_find(
    probes: Sequence[Mapping[Any, Any]],
    suggestion: Mapping[str, Any],
    verification: Mapping[str, Any] | None = None,
    steps: int | None = None,
) -> FindView:
    """Compute what `draw_find` draws.

    Args:
        probes: see `lrfind.runs.summaries.find.probe_rows`.
        suggestion: lr, low, high, and the reason; lr None where there is none.
        verification: as in the summary.
        steps: of the training that the rate is for; None leaves them untold.
    """
    scored = [row for row in probes if _known(row["score"])]
    final = [row for row in scored if _known(row["weight"])]
    compared = []
    for seed in dict.fromkeys(row["seed"] for row in final):
        own = sorted((row for row in final if row["seed"] == seed), key=lambda row: row["lr"])
        table = zip(*((row["lr"], row["score"], row["weight"]) for row in own), strict=True)
        compared.append(Compared(*map(list, table)))
    left: dict[int, list[tuple[float, float]]] = {}
    for row in sorted(scored, key=lambda row: row["steps"]):
        if not _known(row["weight"]):
            left.setdefault(row["steps"], []).append((row["lr"], row["score"]))
    longest = max((row["steps"] for row in final), default=0)
    beside = [row["untouched"] for row in final if row["steps"] == longest]
    untouched = sum(beside) / len(beside) if beside else None
    answer = None
    if suggestion["lr"] is not None:
        answer = suggestion["lr"], suggestion["low"], suggestion["high"]
    fastest = _fastest(compared) if answer else None
    proof = None if verification is None else _proof(verification)
    scores = [row["score"] for row in scored]
    lowest, highest, log = _score_ends(scores, untouched)
    lrs = [row["lr"] for row in probes] + [*(answer or ())]
    lrs += [*(lr for lr, _ in proof.ends), *proof.lost] if proof else []
    return FindView(
        compared=compared,
        steps=longest,
        left=left,
        stopped=[row["lr"] for row in probes if row["stopped"]],
        untouched=untouched,
        fastest=fastest,
        answer=answer,
        note=_note(answer[0], fastest, verification, steps) if answer and fastest else "",
        refusal="" if answer else str(suggestion["reason"]),
        proof=proof,
        lr_ends=(min(lrs, default=1e-3) / 2, max(lrs, default=1.0) * 2),
        score_ends=(lowest, highest),
        log=log,
    )


def _known(value: float | None) -> bool:
    """Whether there is a number; tables have NaN where there is none."""
    return value is not None and math.isfinite(value)


def _fastest(compared: Sequence[Compared]) -> float | None:
    """The mean in log lr, by weight; over the seeds, the mean."""
    middles = [
        sum(weight * math.log10(lr) for lr, weight in zip(each.lr, each.weight, strict=True))
        / sum(each.weight)
        for each in compared
        if sum(each.weight) > 0
    ]
    return 10 ** (sum(middles) / len(middles)) if middles else None


def _note(lr: float, fastest: float, verification: Mapping[str, Any] | None, steps: int | None) -> str:
    times = lr / fastest
    if 1 / NEAR < times < NEAR:
        return ""
    if verification is not None and verification["verdict"] is not None and lr != verification["of"]:
        return f"x{times:.2g}, by verification"
    return f"x{times:.2g}" + ("" if steps is None else f" for {steps:,} steps")


def _proof(verification: Mapping[str, Any]) -> Proof | None:
    rows = verification["trainings"]
    if not rows:
        return None
    judge = "val_loss" if any(_known(row["val_loss"]) for row in rows) else "train_loss"
    ends = [(r["lr"], r[judge]) for r in rows if r["outcome"] == "finished" and _known(r[judge])]
    own = {lr for lr, _ in ends}
    verdict = verification["verdict"]
    return Proof(
        ends=ends,
        lost=sorted({row["lr"] for row in rows} - own),
        label="validation loss" if judge == "val_loss" else "training loss",
        said="verification has not ended" if verdict is None else f"verified: {VERDICTS[verdict]}",
    )


def _score_ends(scores: Sequence[float], untouched: float | None) -> tuple[float, float, bool]:
    """The ends of the score axis, and whether it is logarithmic; high scores shall not flatten low ones."""
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
    _draw_answer(view, ax)
    if view.untouched is not None:
        ax.axhline(
            view.untouched, color="0.5", linestyle="--", linewidth=1, zorder=1, label="untouched model"
        )
    for (steps, row), marker in zip(view.left.items(), SHORTER * 4, strict=False):
        ax.plot(
            [lr for lr, _ in row], [score for _, score in row], marker, color=PALE, markerfacecolor="white",
            markersize=5, linestyle="none", zorder=2, label=f"{steps} step{'' if steps == 1 else 's'}",
        )  # fmt: skip
    for number, each in enumerate(view.compared):
        seeds = f", {len(view.compared)} seeds" if len(view.compared) > 1 else ""
        label = f"{view.steps} steps{seeds}" + (" (larger: more weight)" if view.answer else "")
        ax.plot(each.lr, each.score, color=BLUE, linewidth=1.5, zorder=3)
        ax.scatter(
            each.lr, each.score, s=[18 + 110 * weight for weight in each.weight], color=BLUE,
            edgecolor="white", linewidth=0.7, zorder=4, label=None if number else label,
        )  # fmt: skip
    if view.stopped:
        ax.plot(
            view.stopped, [0.96] * len(view.stopped), marker="X", color=GREY, markersize=7, linestyle="none",
            zorder=4, transform=ax.get_xaxis_transform(), clip_on=False, label="blew up",
        )  # fmt: skip
    return _legend_below(finish(ax, "learning rate", "loss at the end of a probe"), 0.16)


def _legend_below(ax: Axes, distance: float) -> Axes:
    """Put the legend below the axes: within there is no place that a search leaves free."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            frameon=False, fontsize="small", ncols=2, loc="upper left", bbox_to_anchor=(0, -distance),
            borderaxespad=0,
        )  # fmt: skip
    return ax


def _draw_answer(view: FindView, ax: Axes) -> None:
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
        label=f"learns fastest: {view.fastest:.3g}",
    )  # fmt: skip
    ax.annotate(
        "", xy=(lr, 0.55), xytext=(view.fastest, 0.55), xycoords=across, textcoords=across, zorder=5,
        arrowprops={"arrowstyle": "->", "color": RED, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip
    ax.annotate(
        view.note, xy=(max(lr, view.fastest), 0.55), xytext=(5, 0), xycoords=across,
        textcoords="offset points", color=RED, fontsize="small", va="center", zorder=5,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
    )  # fmt: skip


def draw_proof(view: FindView, ax: Axes) -> Axes:
    """Draw how the trainings ended that verify the answer."""
    proof = view.proof
    ax.set_xscale("log")
    ax.set_xlim(*view.lr_ends)
    if proof is None:
        return finish(ax, "learning rate", "")
    if view.answer is not None:
        ax.axvline(view.answer[0], color=RED, linewidth=1.6, zorder=1)
    if proof.ends:
        ax.plot(
            [lr for lr, _ in proof.ends], [loss for _, loss in proof.ends], "D", color=ORANGE, markersize=6,
            markeredgecolor="white", linestyle="none", zorder=3, label=proof.said,
        )  # fmt: skip
    else:
        ax.set_yticks([])
    if proof.lost:
        ax.plot(
            proof.lost, [0.9] * len(proof.lost), "X", color=GREY, markersize=7, linestyle="none",
            transform=ax.get_xaxis_transform(), clip_on=False, label="did not finish",
        )  # fmt: skip
    ax.margins(y=0.25)
    return finish(ax, "learning rate", f"final {proof.label}")


def find_figure(view: FindView, title: str) -> Figure:
    """A figure of its own with one search in it, and below it the proof; needs no display."""
    if view.refusal:
        title += "\n" + textwrap.fill(f"no answer: {view.refusal}", 74)
    if view.proof is None:
        figure = figure_of(lambda ax: draw_find(view, ax), title)
        figure.set_size_inches(6.4, 4.8)
        return figure
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 6.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    draw_find(view, above).set_title(title, fontsize="medium", loc="left")
    above.set_xlabel("")
    _legend_below(above, 0.06)
    draw_proof(view, below)
    return figure
