"""The answer and the evidence of a `find`, or of the probes of a script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.refinement import REFINE
from lrfind.analysis.verification import VERDICTS, VERIFY
from lrfind.errors import counted, sentence
from lrfind.runs.result import RunResult
from lrfind.views.plots.find import FindView, find_view, moved_label
from lrfind.views.plots.trainings import Trainings, refining_trainings, verifying_trainings
from lrfind.views.report.content import (
    SHAPES,
    Answer,
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
    level,
    name,
)
from lrfind.views.report.courses import loss_chart
from lrfind.views.text.find import GROUP_PROBES, cost_in_words, group_probes_text, training_in_words
from lrfind.views.text.parts import confidence_in_words, interval, number, number_or_dash, numbers_apart

LEVELS: dict[str, Literal["good", "fair"]] = {"high": "good", "moderate": "fair"}
"""The colour of a confidence; a low one has the poor one."""


def find_report(result: RunResult) -> Report:
    """Return what the report of a `find` shows."""
    summary = result.summary
    sections = [_probes(find_view(result), result)] if summary["probes"] else []
    if refining := refining_trainings(summary["refinement"]):
        title = "Refinement: the rate of the probes, and trainings around it"
        sections.append(_trainings(title, "", refining[0], summary["refinement"], REFINE, result))
    if verifying := verifying_trainings(summary["verification"]):
        part = summary["verification"]
        verdict = "not ended" if part["verdict"] is None else VERDICTS[part["verdict"]]
        title = f"Verification: {verdict}"
        sections.append(_trainings(title, part["reason"], verifying[0], part, VERIFY, result))
    if summary["groups"] is not None:
        sections.append(_groups(summary["groups"]))
    return Report(_answer(summary), sections)


def _answer(summary: Mapping[str, Any]) -> Answer:
    answer, verification, facts = summary["answer"], summary["verification"], []
    if summary["training"] is not None:
        facts.append(("for", training_in_words(summary)))
    if summary["cost"]:
        facts.append(("cost", cost_in_words(summary)))
    if script := summary.get("script"):
        facts.append(("script", " ".join([script["path"], *script["args"]])))
        facts += [("the script's own lr", number(script["lr"]))] if script["lr"] else []
    if answer["lr"] is None:
        return Answer("Learning rate", None, reason=answer["reason"], level="poor", facts=facts)
    trust = confidence_in_words(answer["confidence"], answer.get("risk"))
    if verification is not None and verification["verdict"] is not None:
        facts.append(("verification", f"{VERDICTS[verification['verdict']]}: {verification['reason']}"))
        trust += ", verified" if verification["lr"] == verification["of"] else ", from verification"
    return Answer(
        "Learning rate",
        answer["lr"],
        interval=(answer["low"], answer["high"]),
        meaning="rates in this interval should train about as well",
        trust=trust,
        level=LEVELS.get(answer["confidence"], "poor"),
        reason=answer["reason"],
        facts=facts,
    )


def _probes(view: FindView, result: RunResult) -> Section:
    of_seed = " of one seed" if len(view.longest) > 1 else ""
    text = (
        f"A probe is a short training at a constant rate. All probes{of_seed} start from the same weights and"
        " see the same batches. A whole training needs another rate than a probe: the answer allows for that."
    )
    lanes = [lane for lane in result.lanes if not lane.variant and lane.peak > 0]
    parts = [_probes_chart(view, result.summary)]
    if lanes:
        title = "Loss of each probe, step by step"
        curves = [(lane, lane.loss) for lane in lanes]
        parts.append(_losses(title, "The loss of each batch, not smoothed.", curves))
    return Section("Probes", [text], parts)


def _probes_chart(view: FindView, summary: Mapping[str, Any]) -> Chart:
    marks: list[Mark] = [*_answer_marks(view.answer)]
    if view.answer and view.note and view.fastest is not None:
        marks.append(Rule(f"estimated best of the probes: {view.fastest:.3g}", view.fastest, "muted", True))
    if view.moved_from is not None:
        marks.append(Rule(moved_label(view.moved_from), view.moved_from, "answer", dashed=True))
    if view.untouched is not None:
        label = f"loss of the untouched model: {number(view.untouched)}"
        marks.append(Rule(label, view.untouched, "muted", dashed=True, level=True))
    for place, (steps, points) in enumerate(view.shorter.items()):
        shape = SHAPES[(place + 1) % len(SHAPES)]
        marks.append(Dots(f"probes of {counted(steps, 'step')}", points, "c4", shape))
    longest = f"probes of {counted(view.steps, 'step')}"
    for probes in view.longest:
        lr, score = np.array(probes.lr), np.array(probes.score)
        marks.append(Line(longest, lr, score, "c0"))
        marks.append(
            Dots(
                longest,
                list(zip(probes.lr, probes.score, strict=True)),
                "c0",
                sizes=[3.5 + 5 * math.sqrt(weight) for weight in probes.weight],
                remarks=[f"weight {weight:.2f}" if view.answer else "" for weight in probes.weight],
            )
        )
    if view.stopped:
        marks.append(Dots("the loss blew up", [(lr, None) for lr in view.stopped], "edge", "cross"))
    scores = [score for probes in view.longest for score in probes.score]
    scores += [score for points in view.shorter.values() for _, score in points]
    note = "Each point is a probe: the mean loss over the last half of its steps."
    if view.answer and view.longest:
        note += " A larger point has more weight in the estimated best rate."
    low, high = view.axis.bottom, view.axis.top
    if max(finite(scores), default=high) > high:
        note += " Points at the upper edge have a higher loss than the chart shows."
    return Chart(
        title="Loss of the probes against their learning rate",
        note=note,
        x="learning rate",
        y="mean loss over the last half of a probe",
        marks=marks,
        table=_probes_table(summary),
        seen=[score for score in finite([*scores, view.untouched]) if low <= score <= high],
        log_y=view.axis.log,
    )


def _answer_marks(answer: tuple[float, float, float] | None) -> list[Mark]:
    if answer is None:
        return []
    lr, low, high = answer
    return [
        Span(f"interval: {interval(low, high)}", low, high, "answer"),
        Rule(f"answer: {number(lr)}", lr, "answer"),
    ]


def _probes_table(summary: Mapping[str, Any]) -> Table:
    rows = []
    for row in summary["probes"]:
        remark = "not continued" if row["weight"] is None else ""
        if row["stopped"]:
            remark = f"stopped: the loss blew up at step {row['steps'] - 1}"
        weight = "-" if row["weight"] is None else f"{row['weight']:.2f}"
        losses = [number_or_dash(row[key]) for key in ("score", "untouched")]
        rows.append([str(row["seed"]), number(row["lr"]), str(row["steps"]), *losses, weight, remark])
    header = ["seed", "lr", "steps", "loss", "untouched model", "weight", "remark"]
    return Table("The probes", header, rows)


def _trainings(
    title: str, reason: str, trainings: Trainings, part: Mapping[str, Any], variant: str, result: RunResult
) -> Section:
    """Return the section on trainings that refine or verify the answer.

    Args:
        title: its title.
        reason: what came of them, a clause; empty if there is nothing to say.
        trainings: their final losses.
        part: the part of the summary about them.
        variant: the variant of their lanes.
        result: the run.
    """
    answer, lanes = result.answer, [lane for lane in result.lanes if lane.variant == variant]
    ends = (answer["lr"], answer["low"], answer["high"]) if answer["lr"] is not None else None
    count, steps = counted(len(part["trainings"]), "training"), counted(part["steps"], "step")
    text = f"{count} of {steps}" + (f": {reason}." if reason else ".")
    marks: list[Mark] = [
        *_answer_marks(ends),
        Dots(f"{trainings.loss} of a training", trainings.ends, "c0", "diamond"),
    ]
    if trainings.lost:
        marks.append(Dots("no training finished", [(lr, None) for lr in trainings.lost], "edge", "cross"))
    chart = Chart(
        title=f"{sentence(trainings.loss)} against the learning rate",
        note=f"Each point is a training of {steps} with the planned schedule.",
        x="learning rate",
        y=trainings.loss,
        marks=marks,
        table=_trainings_table(part),
        seen=[loss for _, loss in trainings.ends],
    )
    curves = [(lane, lane.curve.smoothed) for lane in lanes]
    note = "Smoothed; one line for each training."
    return Section(title, [text], [chart, _losses("Training loss, step by step", note, curves)])


def _losses(title: str, note: str, curves: Sequence[tuple[LaneResult, Array]]) -> Chart:
    """Return the chart of the losses of lanes, step by step, each in the colour of its rate."""
    curves = sorted(curves, key=lambda curve: curve[0].peak)
    low, high = curves[0][0].peak, curves[-1][0].peak
    lines = [
        Line(
            f"lr {number(lane.peak)}",
            np.arange(losses.size, dtype=np.float64),
            losses,
            level(lane.peak, low, high),
        )
        for lane, losses in curves
    ]
    return loss_chart(title, note, lines, by_lr=True)


def _trainings_table(part: Mapping[str, Any]) -> Table:
    keys = [("train loss", "train_loss"), ("val loss", "val_loss"), (part["metric"] or "metric", "metric")]
    keys = [key for key in keys if any(row[key[1]] is not None for row in part["trainings"])]
    columns = [numbers_apart([row[key] for row in part["trainings"]]) for _, key in keys]
    rows = [
        [number(row["lr"]), str(row["seed"]), row["outcome"], str(row["steps"]), *cells]
        for row, *cells in zip(part["trainings"], *columns, strict=True)
    ]
    return Table("The trainings", ["lr", "seed", "outcome", "steps", *(title for title, _ in keys)], rows)


def _groups(groups: Mapping[str, Any]) -> Section:
    rows = [
        [
            name(rate["name"]),
            number(rate["lr"]),
            f"{rate['ratio'] * rate['multiplier']:.3g}",
            *map(number_or_dash, rate["losses"]),
        ]
        for rate in groups["rates"]
    ]
    header = ["param group", "lr", "multiplier", *GROUP_PROBES]
    texts = [*filter(None, (groups["reason"], group_probes_text(groups)))]
    return Section("Param groups", texts, [Table("A rate for each param group", header, rows)])
