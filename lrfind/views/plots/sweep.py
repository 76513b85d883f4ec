"""The plots of a sweep: first their values are computed, then they are drawn on an Axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.sweep_verdicts import FLAWS, NO_ANSWER, doubt_about
from lrfind.analysis.sweeps import RateResult, SweepResult, judged
from lrfind.analysis.trends import spread_places, trend
from lrfind.runs.result import RunResult
from lrfind.runs.summaries.sweep import sweep_of
from lrfind.views.plots.axes import LossAxis, loss_axis, set_loss_axis, tidy_ticks
from lrfind.views.plots.drawing import (
    ABOVE,
    BLUE,
    GREY,
    ORANGE,
    RED,
    draw_start,
    figure_of,
    finish,
    mark_border,
    mark_exits,
)
from lrfind.views.text.parts import loss_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOST = {"diverged": ("X", RED), "pruned": ("v", "0.55"), "failed": ("P", "0.2"), "interrupted": ("d", "0.7")}
MOST_CURVES = 64  # More lines cannot be told apart.
FEW_RATES = 8  # Up to here, the colour bar has a tick at each rate.


@dataclass(frozen=True)
class SweepView:
    """The values that a plot of a sweep shows.

    Attributes:
        lr: (K,) the lrs that finished, ascending.
        middle: (K,) the judged loss at each of them, the median over seeds.
        lanes: (lr, judged loss) of every lane that finished.
        lost: the lrs that did not finish, as outcome -> lrs.
        best: (lr, loss) of the answered lr; None where no lr finished.
        best_label: the name of the answered lr in the legend: the best one, or why it is not called that.
        beside: name -> (K,) other losses at each of the lrs, which show overfitting; empty where none is.
        usable: (lowest, highest) usable lr; None where there is no usable range.
        edge: the lr where training breaks down; see `lrfind.analysis.sweeps.sweep_edge`.
        first_loss: the loss at step 0.
        label: the label of the loss axis.
        seeds: the largest number of lanes at any lr.
        low: the left end of the lr axis.
        high: the right end of the lr axis.
        axis: the loss axis; higher losses are marked at its upper end.
    """

    lr: Array
    middle: Array
    lanes: Sequence[tuple[float, float]]
    lost: dict[str, list[float]]
    best: tuple[float, float] | None
    best_label: str
    beside: dict[str, Array]
    usable: tuple[float, float] | None
    edge: float | None
    first_loss: float
    label: str
    seeds: int
    low: float
    high: float
    axis: LossAxis


def view_sweep(sweep: SweepResult, *, unfinished: bool = False) -> SweepView:
    """Compute the values that `draw_sweep` draws; `unfinished` says that trainings are still missing."""
    finished = [rate for rate in sweep.rates if rate.loss is not None]
    lanes = [
        (rate.lr, loss)
        for rate in sweep.rates
        for lane in rate.lanes.values()
        if (loss := judged(lane, sweep.judge)) is not None
    ]
    lost: dict[str, list[float]] = {}
    for rate in sweep.rates:
        if rate.loss is None:
            lost.setdefault(rate.outcome, []).append(rate.lr)
    middle = np.array([rate.loss for rate in finished], dtype=np.float64)
    beside = _beside(sweep, finished)
    shown = np.concatenate([middle, *beside.values(), [loss for _, loss in lanes]])
    axis = loss_axis(shown, sweep.first_loss)
    return SweepView(
        lr=np.array([rate.lr for rate in finished]),
        middle=middle,
        lanes=lanes,
        lost=lost,
        best=None if sweep.best is None else (sweep.best.lr, sweep.best.loss or 0.0),
        best_label=_best_label(sweep, unfinished),
        beside=beside,
        usable=sweep.usable,
        edge=sweep.edge,
        first_loss=sweep.first_loss,
        label=loss_name(sweep.judge) + " of all evaluations" * (sweep.judge == "best_val_loss"),
        seeds=max((len(rate.lanes) for rate in sweep.rates), default=0),
        low=min((rate.lr for rate in sweep.rates), default=1e-3) / 1.5,
        high=max((rate.lr for rate in sweep.rates), default=1.0) * 1.5,
        axis=axis,
    )


def _beside(sweep: SweepResult, finished: Sequence[RateResult]) -> dict[str, Array]:
    """Return the losses that show overfitting beside the one that decides."""
    if not sweep.overfitting:
        return {}
    judges = ("train_loss", "val_loss", "best_val_loss")
    losses = {loss_name(judge): [getattr(rate, judge) for rate in finished] for judge in judges}
    judged_by = [rate.loss for rate in finished]
    return {
        name: np.array(values, dtype=np.float64) for name, values in losses.items() if values != judged_by
    }


def _best_label(sweep: SweepResult, unfinished: bool) -> str:
    if sweep.best is None:
        return ""
    doubt, lr = doubt_about(sweep), f"{sweep.best.lr:.3g}"
    if doubt in NO_ANSWER:
        return f"lowest at {lr}, but {doubt}"
    if doubt == "learned less":
        return f"lowest at {lr}, but learned less"
    if doubt in FLAWS:
        return f"lowest at {lr}, but overfits"
    return f"best lr{' so far' if unfinished else ''}: {lr}" + (" (tied)" if doubt == "tied" else "")


def draw_sweep(view: SweepView, ax: Axes) -> Axes:
    """Draw the final loss against lr: median, lanes, usable range, edge, and the lrs that did not finish."""
    ax.set_xscale("log")
    ax.set_xlim(view.low, view.high)
    set_loss_axis(ax, view.axis)
    top = view.axis.top
    if view.usable and view.usable[0] < view.usable[1]:
        low, high = view.usable
        ax.axvspan(
            low, high, color=ORANGE, alpha=0.15, linewidth=0, zorder=0,
            label=f"usable: {low:.3g} to {high:.3g}",
        )  # fmt: skip

    # The losses: of each seed, the one that decides, and others beside it.
    if view.seeds > 1 and view.lanes:
        ax.plot(
            [lr for lr, _ in view.lanes], up_to(top, np.array([loss for _, loss in view.lanes])), "o",
            color=BLUE, alpha=0.35, markersize=3.5, linestyle="none", zorder=2, label="each seed",
        )  # fmt: skip
    for (name, losses), style in zip(view.beside.items(), ("s:", "D:", "^:"), strict=False):
        ax.plot(
            *with_gaps(view, up_to(top, losses)), style, color="0.45", markersize=4, linewidth=1.2,
            markerfacecolor="white", zorder=2, label=name,
        )  # fmt: skip
    if view.lr.size:
        label = f"median of {view.seeds} seeds" if view.seeds > 1 else view.label
        ax.plot(
            *with_gaps(view, up_to(top, view.middle)), "o-", color=BLUE, markersize=5, linewidth=1.8,
            zorder=3, label=label,
        )  # fmt: skip

    # What is known of them: the start, the edge and the answer.
    if math.isfinite(view.first_loss):
        draw_start(ax, view.first_loss, top, "loss at the start")
    if view.edge is not None:
        ax.axvline(
            view.edge, color=RED, linestyle="--", linewidth=1.2, zorder=2, label=f"edge: {view.edge:.3g}"
        )
    if view.best:
        ax.plot(
            *[[value] for value in view.best], "o", markersize=12, color=RED, markerfacecolor="none",
            markeredgewidth=1.8, linestyle="none", zorder=5, label=view.best_label,
        )  # fmt: skip

    # What has no place on the axis.
    points = [*view.lanes] if view.seeds > 1 else []
    for losses in (view.middle, *view.beside.values()):
        points += zip(view.lr, losses, strict=True)
    mark_border(ax, sorted({lr for lr, loss in points if loss > top}), f"a loss {ABOVE}", color=BLUE)
    for outcome, lrs in view.lost.items():
        marker, color = LOST.get(outcome, ("s", "0.5"))
        mark_border(ax, lrs, outcome, marker, color)
    finish(ax, "learning rate", view.label)
    if not view.lr.size:
        ax.set_yticks([])
        ax.text(0.5, 0.7, "no rate finished", transform=ax.transAxes, ha="center", va="center", color=GREY)
    return ax


def with_gaps(view: SweepView, losses: Array) -> tuple[Array, Array]:
    """Return rates and losses for a line that does not cross a rate that did not finish: NaN divides it."""
    lost = [lr for lrs in view.lost.values() for lr in lrs]
    lr = np.concatenate([view.lr, lost])
    order = np.argsort(lr)
    return lr[order], np.concatenate([losses, np.full(len(lost), np.nan)])[order]


def up_to(top: float, losses: Array) -> Array:
    """Return losses with NaN for those that are higher: marks at the border stand for them."""
    return np.where(losses <= top, losses, np.nan)


def sweep_figure(view: SweepView, title: str) -> Figure:
    """Return a new figure of a sweep; it needs no display."""
    return figure_of(lambda ax: draw_sweep(view, ax), title)


@dataclass(frozen=True)
class CurvesView:
    """The values that a plot of a sweep's training losses shows.

    Attributes:
        curves: lr -> (t,) the smoothed training loss, the median over seeds, up to the end of the shortest
            lane; of many rates, `MOST_CURVES` that are spread evenly, and the answered one.
        rate_count: the number of rates that were measured.
        best: the answered lr; None where no lr finished.
        best_label: its name in the legend.
        diverged: the lrs whose curve ends in a divergence.
        axis: the loss axis; higher losses are marked at its upper end.
    """

    curves: dict[float, Array]
    rate_count: int
    best: float | None
    best_label: str
    diverged: set[float]
    axis: LossAxis


def view_curves(sweep: SweepResult, *, unfinished: bool = False) -> CurvesView:
    """Compute the values that `draw_curves` draws; see `view_sweep`."""
    measured = {
        rate.lr: lanes
        for rate in sweep.rates
        if (lanes := [lane.curve for lane in rate.lanes.values() if lane.curve.length])
    }
    places = spread_places(len(measured), MOST_CURVES)
    shown = {[*measured][place] for place in places} | ({sweep.best.lr} if sweep.best else set())
    curves = {}
    for lr in sorted(shown):
        lanes = measured[lr]
        shortest = min(curve.length for curve in lanes)
        trends = [trend(curve.loss[: curve.length])[:shortest] for curve in lanes]
        curves[lr] = np.median(trends, axis=0)
    return CurvesView(
        curves=curves,
        rate_count=len(measured),
        best=sweep.best.lr if sweep.best else None,
        best_label=_best_label(sweep, unfinished),
        diverged={rate.lr for rate in sweep.rates if rate.outcome == "diverged"},
        axis=_curves_axis(sweep, curves),
    )


def _curves_axis(sweep: SweepResult, curves: Mapping[float, Array]) -> LossAxis:
    """Return the loss axis of the curves: ruled by the rates that finished, if there are any."""
    finished = {rate.lr for rate in sweep.rates if rate.loss is not None}
    ruling = [curve for lr, curve in curves.items() if lr in finished] or [*curves.values()]
    return loss_axis(np.concatenate([np.empty(0), *ruling]), sweep.first_loss)


def draw_curves(view: CurvesView, ax: Axes) -> Axes:
    """Draw the training loss against step: one line per lr, coloured by log lr; a cross if it diverged."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm

    lrs = sorted(view.curves)
    scale = LogNorm(min(lrs, default=1e-3) / 1.01, max(lrs, default=1.0) * 1.01)
    # The end of viridis is too pale for a line.
    dark = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))
    set_loss_axis(ax, view.axis)
    for lr in lrs:
        curve, color = view.curves[lr], dark(scale(lr))
        best = lr == view.best
        label = view.best_label if best else None
        ax.plot(curve, color=color, linewidth=2.8 if best else 1.3, zorder=3 if best else 2, label=label)
        if lr in view.diverged:
            height = float(np.clip(curve[-1], view.axis.bottom, view.axis.top))
            ax.plot(
                [curve.size - 1], [height], "X", color=color, markersize=8, markeredgecolor="white",
                markeredgewidth=0.6, clip_on=False, zorder=7,
            )  # fmt: skip
    ax.set_xlim(0, max([1, *(curve.size - 1 for curve in view.curves.values())]) * 1.02)
    for lr in lrs:
        if lr not in view.diverged:
            mark_exits(ax, np.arange(view.curves[lr].size), view.curves[lr], color=GREY)
    if view.diverged:
        ax.plot([], [], "X", color=GREY, markersize=8, linestyle="none", label="diverged")
    left_out = "" if len(lrs) >= view.rate_count else f" ({len(lrs)} of {view.rate_count:,} rates are drawn)"
    bar = ax.figure.colorbar(ScalarMappable(scale, dark), ax=ax, label=f"learning rate{left_out}")
    tidy_ticks(bar.ax.yaxis)
    bar.ax.minorticks_off()
    gaps = np.diff(np.log(lrs))
    if len(lrs) <= FEW_RATES and gaps.min(initial=1) > gaps.sum() / 16:  # so their labels do not overlap
        bar.set_ticks(lrs, labels=[f"{lr:.3g}" for lr in lrs])
    return finish(ax, "step", "training loss (smoothed)")


def curves_figure(view: CurvesView, title: str) -> Figure:
    """Return a new figure of a sweep's training losses; it needs no display."""
    return figure_of(lambda ax: draw_curves(view, ax), title)


def sweep_figures(result: RunResult) -> dict[str, Figure]:
    """Return the figures of a grid or a search, by their file names."""
    name, sweep, unfinished = (
        result.experiment.name,
        sweep_of(result),
        result.summary["unfinished"] is not None,
    )
    return {
        "sweep": sweep_figure(view_sweep(sweep, unfinished=unfinished), name),
        "curves": curves_figure(view_curves(sweep, unfinished=unfinished), name),
    }
