"""The comparison of several runs on one page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lrfind.analysis.trends import spread_places
from lrfind.runs.best import plan_in_words
from lrfind.runs.result import RunResult
from lrfind.runs.summaries.sweep import sweep_of
from lrfind.views.plots.courses import course_of
from lrfind.views.plots.range_test import range_test_view
from lrfind.views.plots.sweep import view_sweep
from lrfind.views.report.content import (
    Answer,
    Band,
    Chart,
    Dots,
    Line,
    Mark,
    Section,
    StripRow,
    Strips,
    Table,
    finite,
    is_repeated,
    name,
    several,
)
from lrfind.views.report.courses import course_charts
from lrfind.views.report.sweep import highest_shown
from lrfind.views.text.parts import interval_or_dash, number, number_or_dash


def runs_section(results: Sequence[RunResult], answers: Sequence[Answer]) -> Section:
    """Return the section that compares several runs: their answers, and what can share a chart."""
    table = _answers_table(results, answers)
    strips = Strips(
        title="The answers on one axis",
        note="A tick is a learning rate, and the bar its interval; its meaning depends on the command.",
        x="learning rate",
        rows=[
            StripRow(
                title,
                answer.lr,
                answer.interval,
                (),
                "no answer" if answer.lr is None else number(answer.lr),
                several(place),
            )
            for place, (title, answer) in enumerate(zip(titles(results), answers, strict=True))
        ],
        table=table,
        log=True,
    )
    parts: list[Strips | Table] = [*([strips] if any(answer.lr for answer in answers) else []), table]
    return Section("The answers", _remarks(results), [*parts, *_charts(results)])


def titles(results: Sequence[RunResult]) -> list[str]:
    """Return a short name for each run: that of its directory, with a number where two are the same."""
    names = [name(result.path.absolute().name) for result in results]
    return [
        title if names.count(title) == 1 else f"{title} ({place + 1})" for place, title in enumerate(names)
    ]


def _answers_table(results: Sequence[RunResult], answers: Sequence[Answer]) -> Table:
    rows = []
    for title, result, answer in zip(titles(results), results, answers, strict=True):
        lanes = result.summary["lanes"]
        rows.append(
            [
                title,
                result.command,
                name(result.experiment.name),
                number_or_dash(answer.lr),
                interval_or_dash(answer.interval),
                answer.beside or "-",
                answer.trust or "no answer",
                f"{lanes['settled']} of {lanes['planned'] or '?'}",
                f"{lanes['steps']:,}",
            ]
        )
    header = ["run", "command", "experiment", "lr", "interval", "variant", "trust", "lanes", "steps"]
    shown = [k for k in range(len(header)) if {row[k] for row in rows} != {"-"}]
    return Table("The runs", [header[k] for k in shown], [[row[k] for k in shown] for row in rows])


def _remarks(results: Sequence[RunResult]) -> list[str]:
    """Return what differs between the experiments, as far as it decides whether they can be compared."""
    parts: dict[str, list[Any]] = {
        "model": [result.experiment.model for result in results],
        "data": [result.experiment.data for result in results],
        "loss": [result.experiment.loss for result in results],
        "optimizer": [result.experiment.optimizer.name for result in results],
    }
    different = [part for part, values in parts.items() if any(value != values[0] for value in values)]
    if different:
        remark = (
            f"The runs differ in: {', '.join(different)}. Losses of different problems cannot be compared."
        )
    else:
        remark = "All runs have the same model, data, loss and optimizer."
    return [remark, *_plans_remark(results)]


def _plans_remark(results: Sequence[RunResult]) -> list[str]:
    """Say which runs plan another number of steps or another schedule; range tests are left out."""
    plans: dict[str, list[str]] = {}
    for title, result in zip(titles(results), results, strict=True):
        if result.kind.lanes != "ramps":
            plans.setdefault(plan_in_words(result.experiment), []).append(title)
    if len(plans) < 2:
        return []
    shown = "; ".join(f"{plan} ({', '.join(names)})" for plan, names in plans.items())
    return [
        f"They plan different trainings: {shown}. A rate is for its own plan, and longer trainings usually"
        " end lower."
    ]


def _charts(results: Sequence[RunResult]) -> list[Chart]:
    """Return a chart of the ramps, one of the sweeps and those of the trainings, each of two runs or more."""
    named = list(zip(titles(results), results, strict=True))
    ramps = [(t, r) for t, r in named if r.kind.lanes == "ramps" and not r.summary.get("over") and r.lanes]
    sweeps = [(t, r) for t, r in named if r.command in ("grid", "search") and r.summary["rates"]]
    trained = [(t, r) for t, r in named if r.command == "train" and r.lanes]
    charts = []
    if len(ramps) > 1:
        charts.append(_ramps_chart(ramps))
    if len(sweeps) > 1:
        charts.append(_sweeps_chart(sweeps))
    if len(trained) > 1:
        charts += course_charts([course_of(title, result.lanes) for title, result in trained])
    return charts


def _ramps_chart(ramps: Sequence[tuple[str, RunResult]]) -> Chart:
    marks: list[Mark] = []
    seen: list[float] = []
    rows = []
    for place, (title, result) in enumerate(ramps):
        view, color = range_test_view(result), several(place)
        if not len(view.lr):
            continue
        marks.append(Band(title, view.lr, view.low, view.high, color))
        marks.append(Line(title, view.lr, view.middle, color, dashed=is_repeated(place)))
        seen += [min(finite(view.low)), view.axis.top]
        rows += [
            [title, number(float(view.lr[p])), number(float(view.middle[p]))]
            for p in spread_places(len(view.lr), 9)
        ]
    return Chart(
        title="Ramps: training loss against the learning rate",
        note="The smoothed loss: the median of the seeds, and their range.",
        x="learning rate",
        y="training loss on the ramp",
        marks=marks,
        table=Table("The ramps", ["run", "lr", "smoothed loss"], rows),
        seen=finite(seen),
    )


def _sweeps_chart(sweeps: Sequence[tuple[str, RunResult]]) -> Chart:
    marks: list[Mark] = []
    seen: list[float] = []
    rows = []
    labels = set()
    for place, (title, result) in enumerate(sweeps):
        view, color = view_sweep(sweep_of(result)), several(place)
        points = list(zip(view.lr.tolist(), view.middle.tolist(), strict=True))
        marks.append(Line(title, np.asarray(view.lr), view.middle, color, dashed=is_repeated(place)))
        marks.append(Dots(title, points, color))
        diverged = [(lr, None) for lr in view.lost.get("diverged", [])]
        if diverged:
            marks.append(Dots(f"{title}, diverged", diverged, color, "cross"))
        ends = finite(view.middle)
        highest = highest_shown(ends, view.first_loss)
        seen += [loss for loss in ends if loss <= highest]
        labels.add(view.label)
        rows += [[title, number(lr), number(loss)] for lr, loss in points]
    label = labels.pop() if len(labels) == 1 else "final loss"
    return Chart(
        title=f"Sweeps: {label} against the learning rate",
        note="Whole trainings; the median of the seeds at each rate. Points at the upper end lie above it.",
        x="learning rate",
        y=label,
        marks=marks,
        table=Table("The rates", ["run", "lr", label], rows),
        seen=seen,
    )
