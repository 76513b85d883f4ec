"""What a search for the learning rate found, in words."""

from __future__ import annotations

import textwrap
from typing import Any

from lrfind.analysis.verification import VERDICTS
from lrfind.runs.summaries.parts import mean_and_deviation
from lrfind.views.text.parts import closing_lines, number, table_text


def recommendation_text(found: dict[str, Any]) -> str:
    """What a search's probes recommend: the lr, its interval, the confidence in it and why, or why none."""
    return "\n".join(_answer_lines(found, f"confidence: {found['confidence']}"))


def find_text(summary: dict[str, Any]) -> str:
    """What a search for the lr found: the lr, why, the probes, what they took, and the proof."""
    found, proof = summary["suggestion"], summary["verification"]
    if found["lr"] is None:
        lines = [*_answer_lines(found, ""), *_way_on(summary)]
    else:
        lines = _answer_lines(found, _trust(summary), f"  for {_training_of(summary)}")
    if summary["probes"]:
        lines += ["", *(f"  {line}" for line in _probes_text(summary).splitlines()), ""]
    if summary["cost"]:
        lines.append(
            f"  cost: {summary['cost']:,} gradient steps, {_counted(len(summary['probes']), 'probe')}"
        )
    if proof is not None and (proof["trainings"] or found["lr"] is not None):
        lines += ["", *_proof_lines(summary)]
    return "\n".join([*lines, *closing_lines(summary)])


def _answer_lines(found: dict[str, Any], trust: str, *told: str) -> list[str]:
    """The rate, its interval, how far to trust it, what is told beside it, and why; or why there is none."""
    if found["lr"] is None:
        return _wrapped(f"No learning rate: {found['reason']}", "")
    between = f"[{number(found['low'])} to {number(found['high'])}]"
    return [
        f"Learning rate: {number(found['lr'])}   {between}   {trust}",
        *told,
        *_wrapped(f"{found['reason']}."),
    ]


def _trust(summary: dict[str, Any]) -> str:
    """How far to trust what was found, the proof included."""
    proof = summary["verification"]
    said = f"confidence: {summary['suggestion']['confidence']}"
    if proof is None or proof["verdict"] is None:
        return said
    if proof["lr"] != proof["of"]:
        return f"{said}, from verification; the probes said {number(proof['of'])}"
    steps = summary["training"]["steps"]
    share = "" if proof["steps"] == steps else f" on {proof['steps']:,} of {steps:,} steps"
    return f"{said}, verified{share}"


def _training_of(summary: dict[str, Any]) -> str:
    training = summary["training"]
    momentum = f" with momentum {training['momentum']:g}" if training["momentum"] else ""
    what = f"{_counted(training['steps'], 'step')} of {training['optimizer']}{momentum}"
    return f"{what}, {summary['schedule']} schedule"


def _way_on(summary: dict[str, Any]) -> list[str]:
    """What to do where there is no lr."""
    reason = summary["suggestion"]["reason"]
    if "has not ended" in reason:
        return [f"  `lrfind resume {summary['run']}` goes on with it"]
    if "check --batch" in reason or not summary["probes"]:
        return []
    return ["  try: `lrfind check --batch`, which looks at model, data and loss"]


def _probes_text(summary: dict[str, Any]) -> str:
    """A table of probes: a row a probe; weights where there is an answer that they make."""
    probes, answered = summary["probes"], summary["suggestion"]["lr"] is not None
    several = len({row["seed"] for row in probes}) > 1
    rows = []
    for row in probes:
        loss, beside = "-", "-"
        if row["score"] is not None:
            loss, beside = f"{row['score']:.4g}", _beside(row["score"], row["untouched"])
        fate = f"weight {row['weight']:.2f}" if row["weight"] is not None and answered else ""
        fate = "left behind" if row["weight"] is None else fate
        fate = f"stopped: the loss blew up at step {row['steps'] - 1}" if row["stopped"] else fate
        own = [number(row["lr"]), str(row["steps"]), loss, beside, fate]
        rows.append([str(row["seed"]), *own] if several else own)
    header = ["lr", "steps", "loss", "beside the untouched model", ""]
    return table_text(["seed", *header] if several else header, rows)


def _beside(loss: float, other: float) -> str:
    """How a loss compares with another; by their difference where they are not both positive.

    >>> _beside(0.379, 1.0), _beside(1.0001, 1.0), _beside(-3.9, -2.0)
    ('62% lower', 'the same', '1.9 lower')
    >>> _beside(0.002, 1.0), _beside(41.0, 1.0)
    ('0.002 times as high', '41 times as high')
    """
    if loss < 0 or other <= 0:
        apart = loss - other
        return f"{abs(apart):.3g} {'lower' if apart < 0 else 'higher'}" if apart else "the same"
    share = (loss - other) / other
    if -1 < share < -0.99:
        return f"{1 + share:.2g} times as high"
    if share >= 2:
        return f"{1 + share:.3g} times as high"
    if abs(share) < 0.0005:
        return "the same"
    shown = f"{abs(share):.0%}" if abs(share) >= 0.0995 else f"{abs(share):.1%}"
    return f"{shown} {'lower' if share < 0 else 'higher'}"


def _proof_lines(summary: dict[str, Any]) -> list[str]:
    """The trainings that verify, a row a rate, and the verdict."""
    proof = summary["verification"]
    if not proof["trainings"]:
        return [f"  verification: no training has ended; `lrfind resume {summary['run']}` goes on"]
    rates = sorted({row["lr"] for row in proof["trainings"]})
    kinds = [
        ("train loss", "train_loss"),
        ("val loss", "val_loss"),
        (summary["verification"]["metric"] or "metric", "metric"),
    ]
    kinds = [kind for kind in kinds if any(row[kind[1]] is not None for row in proof["trainings"])]
    rows = []
    for lr in rates:
        own = [row for row in proof["trainings"] if row["lr"] == lr]
        ended = [row["outcome"] for row in own]
        outcome = ", ".join(f"{ended.count(kind)} {kind}" for kind in dict.fromkeys(ended))
        means = [
            mean_and_deviation([row[key] for row in own if row["outcome"] == "finished"]) for _, key in kinds
        ]
        mark = "use this" if lr == proof["lr"] else ""
        shown = ["-" if found is None else _brief_mean(found) for found in means]
        rows.append([number(lr), outcome, *shown, mark])
    header = ["lr", f"{proof['steps']:,} steps each", *(name for name, _ in kinds), ""]
    if proof["verdict"] is None:
        done = _counted(len(proof["trainings"]), "training")
        told = [f"  verification has not ended: {done} so far; `lrfind resume {summary['run']}` goes on"]
    else:
        several = len({row["seed"] for row in proof["trainings"]}) > 1
        which = " These are medians, and means below." if several else ""
        told = _wrapped(f"Verified, and {VERDICTS[proof['verdict']]}: {proof['reason']}.{which}")
    return [*told, "", *(f"  {line}" for line in table_text(header, rows).splitlines()), ""]


def _brief_mean(found: dict[str, float]) -> str:
    mean, deviation = found["mean"], found["deviation"]
    return f"{mean:.4g} +- {deviation:.2g}" if deviation > 1e-9 * abs(mean) else f"{mean:.4g}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    """Lines of at most 100 characters; what follows the first is indented."""
    return textwrap.wrap(
        text,
        100,
        initial_indent=indent,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
