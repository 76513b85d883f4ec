"""The answer and the evidence of a range test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrfind.analysis.trends import spread_places
from lrfind.runs.result import RunResult
from lrfind.views.plots.range_test import range_test_view, view_ramps
from lrfind.views.report.content import (
    Answer,
    Band,
    Chart,
    Dots,
    Line,
    Mark,
    Report,
    Rule,
    Section,
    Span,
    Table,
    finite,
    is_repeated,
    name,
    several,
)
from lrfind.views.report.courses import SHOWN_STEPS
from lrfind.views.text.parts import interval, number, number_or_dash
from lrfind.views.text.range_test import BESIDE_FIND, variant_cells

MOST_RAW = 12  # seeds whose losses are drawn one by one


def range_test_report(result: RunResult) -> Report:
    """Return what the report of a range test shows."""
    over = result.section.over != "lr"
    text = "A ramp raises the learning rate at each step, from one end to the other, and watches the loss."
    parts: list[Chart | Table] = [_variants_table(result.summary) if over else _methods_table(result.summary)]
    if any(lane.curve.length for lane in result.lanes):
        parts.insert(0, _variants_chart(result) if over else _ramp_chart(result))
    return Report(_answer(result), [Section("Ramp", [text], parts)])


def _answer(result: RunResult) -> Answer:
    summary, answer = result.summary, result.answer
    facts = [("method", answer["method"])]
    if group := summary.get("group"):
        ratio = (
            ""
            if answer["lr"] is None
            else f", an lr_multiplier of {answer['lr'] / group['optimizer_lr']:.3g}"
        )
        facts.append(("only for", f"the param group '{name(group['name'])}'{ratio}"))
    if summary.get("edge") is not None:
        facts.append(("edge", f"{number(summary['edge'])}, {summary['edge_reason']}"))
    if answer["lr"] is None:
        return Answer("Suggested learning rate", None, reason=answer["reason"], level="poor", facts=facts)
    between = None if answer["low"] is None else (answer["low"], answer["high"])
    return Answer(
        "Suggested learning rate",
        answer["lr"],
        beside=name(str(answer["variant"])) if "variant" in answer else "",
        interval=between,
        meaning="between seeds" if between else "",
        trust="a rough estimate, from a ramp",
        reason=f"{answer['method']}: {answer['reason']}. {BESIDE_FIND}",
        facts=facts,
    )


def _ramp_chart(result: RunResult) -> Chart:
    view, answer = range_test_view(result), result.answer
    marks: list[Mark] = []
    if answer["lr"] is not None and answer["low"] is not None and answer["high"] > answer["low"]:
        between = f"between seeds: {interval(answer['low'], answer['high'])}"
        marks.append(Span(between, answer["low"], answer["high"], "answer"))
    marks += [Line("each batch", c.lr, c.loss, "c4", faint=True) for c in view.curves[:MOST_RAW]]
    seeds = len(view.curves)
    if seeds > 1:
        marks.append(Band(f"range of {seeds} seeds", view.lr, view.low, view.high, "c0"))
    label = "smoothed loss" + (", median of the seeds" if seeds > 1 else "")
    marks.append(Line(label, view.lr, view.middle, "c0", bold=True))
    marks += [
        Rule(f"{label}: {number(lr)}", lr, "edge", dashed=label == "measured edge")
        for label, lr in view.edges.items()
    ]
    if answer["lr"] is not None:
        marks.append(Rule(f"suggestion: {number(answer['lr'])}", answer["lr"], "answer"))
    return Chart(
        title="Loss on the ramp against the learning rate",
        note="The loss of each batch before its update. Losses above the chart are cut off.",
        x="learning rate",
        y="training loss",
        marks=marks,
        table=_ramp_table(view.lr, {"smoothed loss": view.middle, "lowest": view.low, "highest": view.high}),
        seen=[min(finite([*view.middle, *(loss for c in view.curves for loss in c.loss)])), view.axis.top],
    )


def _ramp_table(lr: Any, columns: Mapping[str, Any]) -> Table:
    places = spread_places(len(lr), 2 * SHOWN_STEPS)
    rows = [[number(float(v[place])) for v in (lr, *columns.values())] for place in places]
    return Table("The ramp", ["lr", *columns], rows, "A few steps; steps.csv has all." if rows else "")


def _variants_chart(result: RunResult) -> Chart:
    view = view_ramps(result.lanes, result.summary)
    marks: list[Mark] = []
    for place, (variant, (lr, loss)) in enumerate(view.ramps.items()):
        label, color = name(variant), several(place)
        marks.append(Line(label, lr, loss, color, bold=variant == view.best, dashed=is_repeated(place)))
        if variant in view.suggestions and len(lr):
            chosen = view.suggestions[variant]
            height = float(np.interp(np.log(chosen), np.log(lr), loss))
            marks.append(Dots(label, [(chosen, height)], color, remarks=["suggestion"]))
    rows = [
        [name(variant), number(float(lr[p])), number(float(loss[p]))]
        for variant, (lr, loss) in view.ramps.items()
        for p in spread_places(len(lr), SHOWN_STEPS)
    ]
    return Chart(
        title=f"Loss on the ramps against the learning rate, by {result.section.over}",
        note="The smoothed loss, median of the seeds. A point is a suggestion.",
        x="learning rate",
        y="training loss",
        marks=marks,
        table=Table("The ramps", [result.section.over, "lr", "smoothed loss"], rows),
        seen=[*(min(finite(loss)) for _, loss in view.ramps.values()), view.axis.top],
    )


def _variants_table(summary: Mapping[str, Any]) -> Table:
    rows = [[name(row["variant"]), *variant_cells(row)] for row in summary["variants"]]
    header = [summary["over"], "lr", "between seeds", "diverged at", "lowest loss"]
    return Table(f"The suggestion for each {summary['over']}", header, rows)


def _methods_table(summary: Mapping[str, Any]) -> Table:
    rows = [[m, number_or_dash(row["lr"]), row["reason"] or ""] for m, row in summary["methods"].items()]
    return Table("What other methods read from the same ramp", ["method", "lr", "remark"], rows)
