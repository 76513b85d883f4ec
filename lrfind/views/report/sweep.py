"""The answer and the evidence of a grid or a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lrfind.analysis.sweep_verdicts import FLAWS
from lrfind.errors import counted, sentence
from lrfind.runs.result import RunResult
from lrfind.runs.summaries.sweep import sweep_of
from lrfind.views.plots.sweep import CurvesView, SweepView, view_curves, view_sweep
from lrfind.views.report.content import (
    Answer,
    Chart,
    Dots,
    Line,
    Mark,
    Report,
    Rule,
    Section,
    Shape,
    Span,
    Table,
    finite,
    level,
)
from lrfind.views.report.courses import loss_chart
from lrfind.views.text.parts import interval, loss_name, number, number_or_dash, numbers_apart
from lrfind.views.text.sweep import (
    EDGE,
    SENSITIVITY,
    headline,
    rivals_text,
    seeds_text,
    verdicts_in_words,
)

OUTCOMES: dict[str, tuple[Shape, str]] = {"diverged": ("cross", "edge"), "pruned": ("triangle", "muted")}
"""The shape and the colour of the rates that did not finish; others are grey diamonds."""

TRUST = {"tied": "measured, but tied", "one seed": "measured, by one seed"}


def sweep_report(result: RunResult) -> Report:
    """Return what the report of a grid or a search shows."""
    sweep = sweep_of(result)
    if not sweep.rates:
        return Report(_answer(result.summary))
    unfinished = result.summary["unfinished"] is not None
    charts = [
        _sweep_chart(view_sweep(sweep, unfinished=unfinished), result.summary),
        _curves_chart(view_curves(sweep, unfinished=unfinished)),
    ]
    text = (
        "Each rate trains whole trainings, from the same weights and on the same batches. The number of seeds"
        f" at a rate is {max(len(rate.lanes) for rate in sweep.rates)}"
        + (f", of {result.section.seeds} that are planned." if unfinished else ".")
    )
    return Report(_answer(result.summary), [Section("Sweep", [text], charts)])


def _answer(summary: Mapping[str, Any]) -> Answer:
    answer, usable, facts = summary["answer"], summary["usable"], []
    if usable["low"] is not None and len(summary["rates"]) > 1:
        rates = interval(usable["low"], usable["high"])
        share = f"they reached at least {1 - usable['tolerance']:.0%} of the fall of the loss"
        facts.append(("usable", f"{rates}; {share}" if usable["low"] < usable["high"] else "only this rate"))
    if summary["edge"] is not None:
        facts.append(("edge", f"{number(summary['edge'])}, {EDGE}"))
    if summary["sensitivity"] is not None:
        facts.append(("lr sensitivity", f"{number(summary['sensitivity'])}; {SENSITIVITY}"))
    if answer["lr"] is None:
        return Answer("Best learning rate", None, reason=answer["reason"], level="poor", facts=facts)
    doubt, low, high = answer["doubt"], answer["low"], answer["high"]
    unfinished = summary["unfinished"] is not None
    trust = TRUST.get(doubt, "measured, but see the reason" if doubt else "measured by whole trainings")
    seeds = seeds_text(summary)
    if seeds is not None and (low == high or answer["seeds_outside"]):
        facts.insert(0, ("seeds", seeds))
    metric = f"; {summary['metric']} {number(answer['metric'])}" if answer["metric"] is not None else ""
    loss = f"{loss_name(summary['judge'])} {number(answer[summary['judge']])}"
    reached = f"{loss}, {rivals_text(summary)}{metric}"
    return Answer(
        ("Learning rate" if doubt in FLAWS else "Best learning rate") + (" so far" if unfinished else ""),
        answer["lr"],
        interval=None if low is None or low == high else (low, high),
        meaning="the rate with the lowest loss, depending on the seed",
        trust="measured, but not to the end" if unfinished else trust,
        level="poor" if doubt in FLAWS else "fair" if doubt or unfinished else "good",
        reason=f"{headline(doubt, answer['lr'], answer['tied'], unfinished)}. It ended with a {reached}.",
        facts=facts,
    )


def _sweep_chart(view: SweepView, summary: Mapping[str, Any]) -> Chart:
    marks: list[Mark] = []
    if view.usable and view.usable[0] < view.usable[1]:
        marks.append(Span(f"usable: {interval(*view.usable)}", *view.usable, "answer"))
    if view.edge is not None:
        marks.append(Rule(f"edge: {number(view.edge)}", view.edge, "edge", dashed=True))
    ends = finite(view.middle)
    highest = highest_shown(ends, view.first_loss)
    if math.isfinite(view.first_loss) and max(ends, default=0.0) > 0.5 * view.first_loss:
        name = f"loss at the start: {number(view.first_loss)}"
        marks.append(Rule(name, view.first_loss, "muted", dashed=True, level=True))
    if view.seeds > 1:
        marks.append(Dots("each seed", list(view.lanes), "c4", sizes=[2.6] * len(view.lanes)))
    for place, (beside, losses) in enumerate(view.beside.items()):
        marks.append(Line(beside, view.lr, losses, f"c{place + 2}", dashed=True))
    label = f"median of {view.seeds} seeds" if view.seeds > 1 else view.label
    marks.append(Line(label, view.lr, view.middle, "c0"))
    marks.append(Dots(label, list(zip(view.lr.tolist(), view.middle.tolist(), strict=True)), "c0"))
    for outcome, lrs in view.lost.items():
        shape, color = OUTCOMES.get(outcome, ("diamond", "muted"))
        marks.append(Dots(outcome, [(lr, None) for lr in lrs], color, shape))
    if view.best:
        marks.append(Dots(view.best_label, [view.best], "answer", "diamond", sizes=[7.0]))
    shown = [
        *ends,
        *(loss for _, loss in view.lanes),
        *(v for losses in view.beside.values() for v in losses),
    ]
    return Chart(
        title=f"{sentence(view.label)} against the learning rate",
        note="Points at the upper end lie above it, or have no loss because the training did not finish.",
        x="learning rate",
        y=view.label,
        marks=marks,
        table=_rates_table(summary),
        seen=[loss for loss in finite(shown) if loss <= highest],
        log_y=view.axis.log and max(ends) > 30 * min(ends) and highest > 30 * min(ends),
    )


def highest_shown(ends: Sequence[float], first: float) -> float:
    """Return the highest loss that is shown: one that ended far above the untouched model says no more."""
    highest, lowest = max(ends, default=1.0), min(ends, default=0.0)
    return min(highest, max(first + 0.3 * (first - lowest), lowest)) if math.isfinite(first) else highest


def _rates_table(summary: Mapping[str, Any]) -> Table:
    rates, metric, judge = summary["rates"], summary["metric"], summary["judge"]
    keys = {"val_loss": "val loss", "train_loss": "train loss"}
    keys |= {"best_val_loss": "lowest val loss"} if judge == "best_val_loss" else {}
    keys |= {"metric": metric} if metric else {}
    keys = {key: title for key, title in keys.items() if any(rate[key] is not None for rate in rates)}
    columns = [(numbers_apart if key == judge else _numbers)([rate[key] for rate in rates]) for key in keys]
    rows = []
    for rate, *cells in zip(rates, *columns, strict=True):
        verdict = rate["verdict"] + ("" if rate["diverged_at"] is None else f" at step {rate['diverged_at']}")
        spread = interval(*rate["spread"]) if rate["spread"] else "-"
        rows.append([number(rate["lr"]), *cells, spread, verdict])
    note = "; ".join(verdicts_in_words(summary))
    return Table("The rates", ["lr", *keys.values(), "between seeds", "verdict"], rows, note)


def _numbers(values: Sequence[float | None]) -> list[str]:
    return [number_or_dash(value) for value in values]


def _curves_chart(view: CurvesView) -> Chart:
    lrs = sorted(view.curves)
    low, high = min(lrs, default=1.0), max(lrs, default=1.0)
    marks: list[Line | Dots] = []
    for lr in lrs:
        curve, ended = view.curves[lr], " (diverged)" if lr in view.diverged else ""
        best = view.best_label if lr == view.best else ""
        label = best or f"lr {number(lr)}{ended}"
        color = "answer" if best else level(lr, low, high)
        marks.append(Line(label, np.arange(curve.size, dtype=np.float64), curve, color, bold=bool(best)))
    marks.sort(key=lambda mark: mark.color == "answer")
    of_all = f" {len(lrs)} of {counted(view.rate_count, 'rate')} are drawn."
    left_out = "" if len(lrs) >= view.rate_count else of_all
    return loss_chart(
        "Training loss, step by step",
        f"Smoothed; the median of the seeds at each rate.{left_out}",
        marks,
        log=view.axis.log,
        by_lr=True,
    )
