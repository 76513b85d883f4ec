"""The answer and the evidence of trainings and comparisons: lr and loss, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from lrfind.analysis.trends import spread_places
from lrfind.runs.result import RunResult
from lrfind.runs.summaries.compare import ranking_of
from lrfind.views.plots.courses import REFERENCE, Course, course_of, courses_of, view_courses, view_gaps
from lrfind.views.report.content import (
    Answer,
    Band,
    Chart,
    Dots,
    Line,
    Mark,
    Report,
    Section,
    StripRow,
    Strips,
    Table,
    finite,
    is_repeated,
    name,
    several,
)
from lrfind.views.text.compare import LOSSES_IN_WORDS, judged_by, standing_in_words
from lrfind.views.text.parts import interval_or_dash, loss_name, number, number_or_dash, numbers_apart

SHOWN_STEPS = 9  # steps of a curve in the table behind it
MOST_COURSES = 24


def training_report(result: RunResult) -> Report:
    """Return what the report of final trainings shows."""
    summary, answer = result.summary, result.answer
    facts = [("schedule", result.experiment.training.schedule.name)]
    means = {"validation loss": "val_loss", result.facts.metric: "score", "training loss": "train_loss"}
    facts += [(title, _mean(summary[key])) for title, key in means.items() if title and summary.get(key)]
    label = "Trained at learning rate" if answer["lr"] is not None else "Training"
    trained = Answer(
        label,
        answer["lr"],
        trust=_seeds(len(result.lanes)),
        reason=answer["reason"] or "",
        level="fair" if answer["lr"] is not None else "poor",
        facts=facts,
    )
    courses = [course_of(f"seed {lane.seed}", [lane]) for lane in result.lanes[:MOST_COURSES]]
    return Report(trained, [Section("Training", [], course_charts(courses))] if courses else [])


def _seeds(number: int) -> str:
    return "one seed" if number == 1 else f"{number} seeds" if number else ""


def _mean(value: Mapping[str, float]) -> str:
    deviation = f" ± {value['deviation']:.2g} between seeds" if value["deviation"] else ""
    return f"{value['mean']:.4g}{deviation}"


def comparison_report(result: RunResult) -> Report:
    """Return what the report of a comparison shows."""
    summary, answer, ranking = result.summary, result.answer, ranking_of(result)
    if answer["lr"] is None:
        found = Answer("Comparison", None, reason=answer["reason"], level="poor")
    else:
        rivals = [row["worse_beyond_noise"] for row in summary["standings"] if row["rank"] not in (None, 1)]
        sure = bool(rivals) and all(rivals)
        found = Answer(
            "Lowest loss with",
            answer["lr"],
            beside=name(answer["variant"]),
            trust="beyond the noise" if sure else "not beyond the noise",
            level="good" if sure else "fair",
            reason=summary["verdict"],
            facts=[("judged by", judged_by(summary))],
        )
    view = view_gaps(ranking)
    courses = courses_of(ranking)
    rows = [
        StripRow(
            name(variant),
            float(np.mean(gaps)) if len(gaps) else 0.0,
            interval,
            gaps.tolist(),
            words if len(gaps) else f"{words}, {REFERENCE}",
            several(place),
        )
        for place, (variant, gaps, interval, words) in enumerate(
            zip(view.names, view.gaps, view.intervals, view.standing, strict=True)
        )
    ]
    loss = loss_name(summary["judge"])
    gaps = Strips(
        title=f"How far each ends above the first: {loss}",
        note="A dot is a seed; the bar is the 95 % interval of the mean, which the tick marks.",
        x=f"{loss} above that of the first, with the same seed",
        rows=rows,
        table=_gaps_table(rows),
        zero=True,
    )
    text = (
        "All have the same budget. With each seed, all start from the same weights and see the same batches."
    )
    parts = [gaps] if rows else []
    return Report(
        found,
        [
            Section("Comparison", [text], [*parts, _standings(summary), *_peaks(summary)]),
            *([Section("Courses", [], course_charts(courses))] if courses else []),
        ],
    )


def _gaps_table(rows: Sequence[StripRow]) -> Table:
    cells = [
        [row.name, number_or_dash(row.middle), interval_or_dash(row.interval), row.words] for row in rows
    ]
    return Table("How far each ends above the first", ["variant", "mean", "95 % interval", "standing"], cells)


def _standings(summary: Mapping[str, Any]) -> Table:
    metric, judge = summary["metric"], summary["judge"]
    apart = numbers_apart([row[judge] for row in summary["standings"]])
    rows = []
    for row, judged in zip(summary["standings"], apart, strict=True):
        cells = [number_or_dash(row[key]) for key in ("lr", "early", "middle", "train_loss", "area")]
        cells += [judged, *([number_or_dash(row["metric"])] if metric else [])]
        standing = standing_in_words(row["rank"], row["worse_beyond_noise"])
        spread, rank = interval_or_dash(row["spread"]), number_or_dash(row["rank"])
        rows.append([rank, name(row["variant"]), *cells, spread, standing])
    header = ["rank", "variant", "peak lr", "early", "middle", "final", "area", loss_name(judge)]
    header += [*([metric] if metric else []), "between seeds", "standing"]
    return Table("Standings", header, rows, LOSSES_IN_WORDS)


def _peaks(summary: Mapping[str, Any]) -> list[Table]:
    rows = [
        [name(row["variant"]), number(peak["lr"]), peak["outcome"], number_or_dash(peak["loss"])]
        for row in summary["standings"]
        for peak in row["peaks"]
    ]
    note = "The best peak of each variant is chosen with other seeds than those that are compared."
    if summary["common_peak"] is not None or len(rows) <= len(summary["standings"]):
        return []
    return [
        Table(
            "Peaks that were tried",
            ["variant", "peak lr", "outcome", loss_name(summary["judge"])],
            rows,
            note,
        )
    ]


def course_charts(courses: Sequence[Course]) -> list[Chart]:
    """Return a chart of the losses and one of the lrs of trainings, step by step."""
    view = view_courses(courses)
    losses: list[Line | Band | Dots] = []
    for place, course in enumerate(courses):
        label, steps, color = name(course.name), np.arange(course.loss.size, dtype=np.float64), several(place)
        if not course.loss.size:
            continue
        if not np.array_equal(course.low, course.high):
            losses.append(Band(label, steps, course.low, course.high, color))
        losses.append(Line(label, steps, course.loss, color, dashed=is_repeated(place)))
        if len(course.val) > 1:
            losses.append(
                Dots(label, [(step, loss) for step, loss in course.val], color, sizes=[3.0] * len(course.val))
            )
    evaluated = any(isinstance(mark, Dots) for mark in losses)
    note = f"The line is the smoothed training loss{', and each dot a validation loss' * evaluated}."
    if any(course.seeds > 1 for course in courses):
        note += f" {'Both are medians' if evaluated else 'It is the median'} of the seeds; the band is their"
        note += " range. The numbers elsewhere are means of the seeds, and a final training loss is the mean"
        note += " over the last twentieth of the steps."
    rates: list[Mark] = [
        Line(
            name(course.name),
            np.arange(course.lr.size, dtype=np.float64),
            course.lr,
            several(place),
            dashed=is_repeated(place),
        )
        for place, course in enumerate(courses)
        if course.lr.size
    ]
    peaks = finite([float(course.lr.max()) for course in courses if course.lr.size]) or [1.0]
    far = max(peaks) > 10 * min(peaks)
    return [
        loss_chart("Loss, step by step", note, losses, log=view.axis.log),
        Chart(
            title="Learning rate, step by step",
            note="",
            x="step",
            y="learning rate",
            marks=rates,
            table=loss_table("The learning rates", [mark for mark in rates if isinstance(mark, Line)]),
            seen=[min(peaks) / 30 if far else 0.0, *peaks],
            log_x=False,
            log_y=far,
        ),
    ]


def loss_chart(
    title: str,
    note: str,
    marks: Sequence[Line | Band | Dots],
    *,
    log: bool | None = None,
    by_lr: bool = False,
) -> Chart:
    """Return a chart of losses against the step.

    Args:
        title: what it shows.
        note: what the reader must know to read it.
        marks: the marks.
        log: whether the loss axis is logarithmic; None to decide by how far the losses fall.
        by_lr: whether the colours go from a low to a high learning rate.
    """
    lines = [mark for mark in marks if isinstance(mark, Line)]
    values = [finite(line.y) for line in lines]
    firsts, lows = [losses[0] for losses in values if losses], [min(losses) for losses in values if losses]
    points = [loss for mark in marks if isinstance(mark, Dots) for _, loss in mark.points]
    first, lowest = median(firsts) if firsts else 1.0, min([*lows, *finite(points)], default=0.0)
    if log is None:
        log = lowest > 0 and first > 30 * lowest
    top = max((max(losses) for losses in values if losses), default=first)
    ceiling = first * 1.5 if log else first + 0.15 * (first - lowest)
    return Chart(
        title=title,
        note=note,
        x="step",
        y="loss",
        marks=marks,
        table=loss_table("The losses", lines),
        seen=[lowest, min(top, max(ceiling, first))],
        log_x=False,
        log_y=log,
        from_low_to_high=by_lr,
    )


def loss_table(caption: str, lines: Sequence[Line]) -> Table:
    """Return a table of lines at a few steps."""
    longest = max((len(line.x) for line in lines), default=0)
    steps = spread_places(longest, SHOWN_STEPS)
    rows = [
        [line.name, *(number(float(line.y[step])) if step < len(line.y) else "-" for step in steps)]
        for line in lines
    ]
    return Table(
        caption, ["at step", *map(str, steps)], rows, "A few steps; steps.csv has all." if steps else ""
    )
