"""Plots: compute what is to be seen, then draw it on an Axes. Nothing here trains, suggests or shows."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfind.conclusions import summarize, sweep_section
from lrfind.curves import Array, Curve
from lrfind.readings import Reading, judged, read_sweep
from lrfind.store import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind people can tell apart; line style and marker differ too.
BLUE, ORANGE, RED = "#0072B2", "#E69F00", "#D55E00"
SEVERAL = (BLUE, RED, "#009E73", "#CC79A7", "#56B4E9", "#000000")
LOST = {"diverged": ("X", RED), "pruned": ("v", "0.55"), "failed": ("P", "0.2"), "interrupted": ("d", "0.7")}


@dataclass(frozen=True)
class RangeTestView:
    """What a plot of a range test shows.

    Attributes:
        curves: one per lane.
        lr: (T,) the lrs that every lane reached.
        middle: (T,) median over lanes of the smoothed loss.
        low: (T,) the lowest lane.
        high: (T,) the highest lane.
        suggestion: lr, low, high, method, reason; lr None where there is none.
        edges: what to call it -> the lr where the ramp diverged, or of the edge measured by bisection.
        bottom: lower end of the loss axis.
        top: upper end; losses above it are cut off.
    """

    curves: Sequence[Curve]
    lr: Array
    middle: Array
    low: Array
    high: Array
    suggestion: dict[str, Any]
    edges: dict[str, float]
    bottom: float
    top: float


def view_range_test(
    curves: Sequence[Curve],
    suggestion: dict[str, Any],
    ramp_edge: float | None,
    measured_edge: float | None = None,
) -> RangeTestView:
    """Compute what `draw_range_test` draws."""
    curves = [curve for curve in curves if curve.length]
    shortest = min((curve.length for curve in curves), default=0)
    table = np.array([curve.smoothed[:shortest] for curve in curves]).reshape(len(curves), shortest)
    finite = np.concatenate([curve.loss[: curve.length] for curve in curves] or [np.array([0.0])])
    start = max((float(curve.loss[0]) for curve in curves), default=1.0)
    best = float(finite.min())
    drop = max(start - best, 0.01 * abs(start), 1e-12)
    edges = {"measured edge": measured_edge, "diverged (upper bound of the edge)": ramp_edge}
    return RangeTestView(
        curves=curves,
        lr=curves[0].lr[:shortest] if curves else np.array([]),
        middle=np.median(table, axis=0) if curves else np.array([]),
        low=table.min(axis=0) if curves else np.array([]),
        high=table.max(axis=0) if curves else np.array([]),
        suggestion=suggestion,
        edges={label: lr for label, lr in edges.items() if lr is not None},
        bottom=best - 0.08 * drop,
        top=min(start + 0.6 * drop, max(float(finite.max()), start) + 0.1 * drop),
    )


def draw_range_test(view: RangeTestView, ax: Axes) -> Axes:
    """Draw loss against lr: raw faint, smoothed bold, band over seeds, suggestion, interval, edge."""
    ax.set_xscale("log")
    for curve in view.curves:
        ax.plot(curve.lr, curve.loss, color=BLUE, alpha=0.25, linewidth=0.7, zorder=1)
    several = len(view.curves) > 1
    if several:
        ax.fill_between(
            view.lr, view.low, view.high, color=BLUE, alpha=0.15, linewidth=0, zorder=2,
            label=f"range of {len(view.curves)} seeds",
        )  # fmt: skip
    label = "smoothed loss (median)" if several else "smoothed loss"
    ax.plot(view.lr, view.middle, color=BLUE, linewidth=2, zorder=3, label=label)
    _draw_suggestion(view, ax)
    for (label, lr), style in zip(view.edges.items(), ("-.", "--")[-len(view.edges) :], strict=False):
        ax.axvline(lr, color=RED, linestyle=style, linewidth=1.2, zorder=3, label=f"{label}: {lr:.3g}")
    if view.curves:
        ends = [end for curve in view.curves for end in (curve.lr[0], curve.lr[-1])]
        ax.set_xlim(min(ends) / 1.5, max(*ends, *view.edges.values()) * 1.5)
    ax.set_ylim(view.bottom, view.top)
    return _finish(ax, "learning rate", "training loss")


def _draw_suggestion(view: RangeTestView, ax: Axes) -> None:
    lr, low, high = (view.suggestion[key] for key in ("lr", "low", "high"))
    if lr is None:
        words = textwrap.fill(f"no suggestion: {view.suggestion['reason']}", 60)
        ax.plot([], [], linestyle="none", label=words)
        return
    if low is not None and high > low:
        ax.axvspan(low, high, color=ORANGE, alpha=0.2, linewidth=0, zorder=0)
    label = f"suggestion: {lr:.3g}"
    if low is not None:
        label += f"  [{low:.3g}, {high:.3g}]"
    ax.axvline(lr, color=ORANGE, linewidth=1.5, zorder=3)
    height = [float(np.interp(np.log(lr), np.log(view.lr), view.middle))] if view.lr.size else []
    ax.plot(
        [lr][: len(height)], height, marker="o", markersize=7, color=ORANGE, markeredgecolor="white",
        linestyle="-", zorder=4, label=label,
    )  # fmt: skip


def range_test_figure(view: RangeTestView, title: str) -> Figure:
    """A figure of its own with one range test in it; needs no display."""
    return _figure(lambda ax: draw_range_test(view, ax), title)


@dataclass(frozen=True)
class SweepView:
    """What a plot of a sweep shows.

    Attributes:
        lr: (K,) of the rates that finished, ascending.
        middle: (K,) median over seeds of the judged loss.
        lanes: (lr, loss) of every lane that finished.
        lost: outcome -> the lrs of rates that ended otherwise.
        best: (lr, loss), or None.
        usable: (lowest, highest) lr, or None.
        edge: see `lrfind.readings.sweep_edge`.
        first_loss: at step 0.
        label: of the loss axis.
        log: whether the loss axis is logarithmic.
        seeds: lanes of a rate.
    """

    lr: Array
    middle: Array
    lanes: Sequence[tuple[float, float]]
    lost: dict[str, list[float]]
    best: tuple[float, float] | None
    usable: tuple[float, float] | None
    edge: float | None
    first_loss: float
    label: str
    log: bool
    seeds: int


def view_sweep(reading: Reading) -> SweepView:
    """Compute what `draw_sweep` draws."""
    finished = [rate for rate in reading.rates if rate.loss is not None]
    found = [
        (rate.lr, loss)
        for rate in reading.rates
        for lane in rate.lanes.values()
        if (loss := judged(lane, reading.judge)) is not None
    ]
    lost: dict[str, list[float]] = {}
    for rate in reading.rates:
        if rate.loss is None:
            lost.setdefault(rate.outcome, []).append(rate.lr)
    middle = np.array([rate.loss for rate in finished], dtype=np.float64)
    return SweepView(
        lr=np.array([rate.lr for rate in finished]),
        middle=middle,
        lanes=found,
        lost=lost,
        best=None if reading.best is None else (reading.best.lr, reading.best.loss or 0.0),
        usable=reading.usable,
        edge=reading.edge,
        first_loss=reading.first_loss,
        label="validation loss" if reading.judge == "val_loss" else "final training loss",
        log=_spans_decades(middle),
        seeds=max((len(rate.lanes) for rate in reading.rates), default=0),
    )


def draw_sweep(view: SweepView, ax: Axes) -> Axes:
    """Draw final loss against lr: median and every lane, usable range, edge, and the rates that were lost."""
    ax.set_xscale("log")
    if view.log:
        ax.set_yscale("log")
    if view.usable and view.usable[0] < view.usable[1]:
        low, high = view.usable
        ax.axvspan(
            low,
            high,
            color=ORANGE,
            alpha=0.15,
            linewidth=0,
            zorder=0,
            label=f"usable: {low:.3g} to {high:.3g}",
        )
    if view.seeds > 1:
        ax.plot(
            [lr for lr, _ in view.lanes], [loss for _, loss in view.lanes], "o", color=BLUE, alpha=0.35,
            markersize=3.5, linestyle="none", zorder=2, label="each seed",
        )  # fmt: skip
    label = f"median of {view.seeds} seeds" if view.seeds > 1 else "final loss"
    ax.plot(view.lr, view.middle, "o-", color=BLUE, markersize=5, linewidth=1.8, zorder=3, label=label)
    if math.isfinite(view.first_loss):
        ax.axhline(
            view.first_loss, color="0.6", linestyle=":", linewidth=1, zorder=1, label="loss at the start"
        )
    if view.edge is not None:
        ax.axvline(
            view.edge, color=RED, linestyle="--", linewidth=1.2, zorder=2, label=f"edge: {view.edge:.3g}"
        )
    if view.best:
        ax.plot(
            *[[value] for value in view.best], marker="*", markersize=15, color=ORANGE, linestyle="none",
            markeredgecolor="white", zorder=5, label=f"best: {view.best[0]:.3g}",
        )  # fmt: skip
    for outcome, lrs in view.lost.items():
        marker, color = LOST.get(outcome, ("s", "0.5"))
        ax.plot(
            lrs, [0.96] * len(lrs), marker=marker, color=color, markersize=7, linestyle="none", zorder=4,
            transform=ax.get_xaxis_transform(), clip_on=False, label=outcome,
        )  # fmt: skip
    return _finish(ax, "learning rate", view.label)


def sweep_figure(view: SweepView, title: str) -> Figure:
    """A figure of its own with one sweep in it; needs no display."""
    return _figure(lambda ax: draw_sweep(view, ax), title)


@dataclass(frozen=True)
class CurvesView:
    """What a plot of a sweep's training shows.

    Attributes:
        curves: lr -> (t,) smoothed training loss, the median over seeds, up to the shortest lane.
        best: the best lr, or None.
        diverged: the lrs whose curve ends in a divergence.
        bottom: lower end of the loss axis.
        top: upper end; losses above it are cut off.
        log: whether the loss axis is logarithmic.
    """

    curves: dict[float, Array]
    best: float | None
    diverged: set[float]
    bottom: float
    top: float
    log: bool


def view_curves(reading: Reading) -> CurvesView:
    """Compute what `draw_curves` draws."""
    curves = {}
    for rate in reading.rates:
        lanes = [lane.curve for lane in rate.lanes.values() if lane.curve.length]
        if lanes:
            reach = min(curve.length for curve in lanes)
            curves[rate.lr] = np.median([curve.smoothed[:reach] for curve in lanes], axis=0)
    lowest = min((float(curve.min()) for curve in curves.values()), default=0.0)
    first = reading.first_loss if math.isfinite(reading.first_loss) else lowest + 1.0
    drop = max(first - lowest, 0.01 * abs(first), 1e-12)
    log = _spans_decades(np.array([curve.min() for curve in curves.values()] or [1.0]))
    return CurvesView(
        curves=curves,
        best=reading.best.lr if reading.best else None,
        diverged={rate.lr for rate in reading.rates if rate.outcome == "diverged"},
        bottom=lowest / 1.5 if log else lowest - 0.05 * drop,
        top=first * 3 if log else first + 0.5 * drop,
        log=log,
    )


def draw_curves(view: CurvesView, ax: Axes) -> Axes:
    """Draw training loss against step, one line an lr, coloured by log lr; a cross where one diverged."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm

    lrs = sorted(view.curves)
    scale = LogNorm(min(lrs, default=1e-3) / 1.01, max(lrs, default=1.0) * 1.01)
    dark = ListedColormap(colormaps["viridis"](np.linspace(0, 0.88, 256)))  # its end is too pale for a line
    colors = ScalarMappable(scale, dark)
    if view.log:
        ax.set_yscale("log")
    ax.set_ylim(view.bottom, view.top)
    for lr in lrs:
        curve, color = view.curves[lr], dark(scale(lr))
        best = lr == view.best
        label = f"best: {lr:.3g}" if best else None
        ax.plot(curve, color=color, linewidth=2.6 if best else 1.3, zorder=3 if best else 2, label=label)
        if lr in view.diverged:
            height = float(np.clip(curve[-1], view.bottom, view.top))
            ax.plot(
                [curve.size - 1], [height], marker="x", color=color, markersize=8, clip_on=False, zorder=4
            )
    ax.figure.colorbar(colors, ax=ax, label="learning rate")
    if view.diverged:
        ax.plot([], [], marker="x", color="0.3", linestyle="none", label="diverged")
    return _finish(ax, "step", "training loss (smoothed)")


def curves_figure(view: CurvesView, title: str) -> Figure:
    """A figure of its own with a sweep's training curves in it; needs no display."""
    return _figure(lambda ax: draw_curves(view, ax), title)


def plot_run(run: Run) -> list[Path]:
    """Draw a run into its directory, each plot as PNG and SVG; returns the paths of the PNGs."""
    name, command = run.experiment.name, run.facts()["command"]
    if command == "range-test":
        figures = {"range_test": range_test_figure(_range_test_view(run), name)}
    else:
        reading = _reading(run)
        figures = {
            "sweep": sweep_figure(view_sweep(reading), name),
            "curves": curves_figure(view_curves(reading), name),
        }
    for stem, figure in figures.items():
        save(figure, run.path / stem)
    return [run.path / f"{stem}.png" for stem in figures]


def plot_overlay(runs: Sequence[Run], path: Path) -> list[Path]:
    """Draw loss against lr of several runs on one axis; writes PNG and SVG and returns their paths."""
    figure = _figure(lambda ax: _draw_overlay(runs, ax), "")
    save(figure, path)
    return [path.with_suffix(".png"), path.with_suffix(".svg")]


def _draw_overlay(runs: Sequence[Run], ax: Axes) -> Axes:
    ax.set_xscale("log")
    tops, bottoms = [], []
    for run, color in zip(runs, itertools.cycle(SEVERAL), strict=False):
        command = run.facts()["command"]
        label = f"{run.path.name} ({command})"
        if command == "range-test":
            view = _range_test_view(run)
            ax.fill_between(view.lr, view.low, view.high, color=color, alpha=0.12, linewidth=0)
            ax.plot(
                view.lr, view.middle, color=color, linewidth=1.8, label=f"{label}: training loss on the ramp"
            )
            tops.append(view.top)
            bottoms.append(view.bottom)
        else:
            sweep = view_sweep(_reading(run))
            ax.plot(sweep.lr, sweep.middle, "o-", color=color, linewidth=1.8, label=f"{label}: {sweep.label}")
            lost = sweep.lost.get("diverged", [])
            ax.plot(
                lost, [0.96] * len(lost), "x", color=color, transform=ax.get_xaxis_transform(), clip_on=False
            )
            span = [*sweep.middle.tolist(), sweep.first_loss]
            tops.append(max(span) + 0.1 * (max(span) - min(span)))
            bottoms.append(min(span) - 0.05 * (max(span) - min(span)))
    ax.set_ylim(min(bottoms), max(tops))
    return _finish(ax, "learning rate", "loss")


def _range_test_view(run: Run) -> RangeTestView:
    summary, facts = summarize(run), run.facts()
    return view_range_test(
        [lane.curve for lane in run.lanes()],
        summary["suggestion"],
        ramp_edge=summary["methods"]["edge"]["lr"],
        measured_edge=facts["edge"]["lr"] if "edge" in facts else None,
    )


def _reading(run: Run) -> Reading:
    section = sweep_section(run.experiment, run.facts()["command"])
    return read_sweep(run.lanes(), section.judge, section.tolerance)


def _spans_decades(losses: Array) -> bool:
    """Whether losses are positive and so far apart that a linear axis would hide the good ones."""
    return bool(losses.size and (losses > 0).all() and losses.max() > 30 * losses.min())


def _finish(ax: Axes, x: str, y: str) -> Axes:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.grid(True, which="major", color="0.9", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small", loc="best")
    return ax


def _figure(draw: Callable[[Axes], Axes], title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    draw(figure.add_subplot()).set_title(title, fontsize="medium", loc="left")
    return figure


def save(figure: Figure, stem: Path) -> None:
    """Write a figure as stem.png, at print resolution, and stem.svg; the same figure gives the same bytes."""
    from matplotlib import rc_context

    figure.savefig(stem.with_suffix(".png"), dpi=200)
    with rc_context({"svg.hashsalt": "lrfind"}):
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
