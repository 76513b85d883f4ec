"""The answer of `find`, in words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from lrfind.analysis.probing import TYPICAL_COST
from lrfind.analysis.verification import VERDICTS
from lrfind.errors import counted, listed
from lrfind.views.text.parts import (
    closing_lines,
    interval,
    number,
    resume_line,
    table_block,
    table_text,
    wrapped,
)


def recommendation_text(answer: dict[str, Any]) -> str:
    """Return the recommendation of the probes: lr, interval, confidence, reason; or why there is no lr."""
    return "\n".join(_answer_lines(answer, f"confidence: {answer['confidence']}"))


def find_text(summary: dict[str, Any]) -> str:
    """Return the summary of a `find`: the lr and its reason, the probes, their cost, and the verification."""
    answer, verification = summary["answer"], summary["verification"]
    if answer["lr"] is None:
        lines = _answer_lines(answer, "")
        if not summary["probing_ended"]:
            lines.append(f"  {resume_line(summary)}")
    else:
        lines = _answer_lines(answer, _trust(summary), f"  for {_training(summary)}")
    if summary["probes"]:
        lines += ["", *(f"  {line}" for line in _probes_table(summary).splitlines()), ""]
        if answer["lr"] is not None:
            lines.append(
                "  weight: how much each rate counts in the estimated best rate, the weighted mean in log lr"
            )
    if summary["groups"] is not None:
        lines += groups_lines(summary["groups"])
    if summary["cost"]:
        steps, probes = counted(summary["cost"], "gradient step"), counted(len(summary["probes"]), "probe")
        cost = f"  cost: {steps} in {probes}"
        if summary["groups"] is not None:
            cost += f" and {counted(summary['groups']['probes'], 'probe')} of param groups"
        for part in filter(None, (summary["refinement"], verification)):
            if part["trainings"]:
                trained = counted(sum(row["steps"] for row in part["trainings"]), "step")
                cost += f", and {trained} in {counted(len(part['trainings']), 'training')}"
        lines.append(cost)
    if summary["refinement"] is not None:
        lines += ["", *_refinement_lines(summary)]
    if verification is not None and (verification["trainings"] or answer["lr"] is not None):
        lines += ["", *_verification_lines(summary)]
    elif verification is not None and summary["probing_ended"]:
        lines.append("  verification: none, because there is no rate to verify")
    return "\n".join([*lines, *closing_lines(summary)])


def find_plan_text(plan: dict[str, Any]) -> str:
    """Return what a `find` would do: the training that it is for, and the most that it costs.

    Args:
        plan: `training`, `schedule` and `cost`, a mapping of the fields of `training.mode.FindCost`.
    """
    lines = [f"find would look for the learning rate of {_training(plan)}:", find_cost_text(**plan["cost"])]
    return "\n".join([*lines, "Nothing was trained."])


def find_cost_text(
    probing: int,
    trainings: int,
    steps: int,
    groups: int = 0,
    budget: int | None = None,
    seconds: float | None = None,
) -> str:
    """Return the most that a `find` costs.

    >>> find_cost_text(300, 0, 300)
    'plan: at most 300 gradient steps of probing (about 100 are usual)'
    >>> find_cost_text(60, 9, 60)
    'plan: at most 60 gradient steps of probing, then 9 trainings of 60 steps; at most 600 steps in all'
    >>> find_cost_text(60, 0, 60, 288)
    'plan: at most 60 gradient steps of probing, then at most 288 of probing param groups'
    >>> find_cost_text(400, 0, 400, budget=1600)
    'plan: at most 1,600 gradient steps: probes (about 100 are usual), then trainings that refine the rate'
    """
    usual = f" (about {round(TYPICAL_COST, -2)} are usual)" if probing > 1.5 * TYPICAL_COST else ""
    text = f"plan: at most {counted(probing, 'gradient step')} of probing{usual}"
    if groups:
        text += f", then at most {groups:,} of probing param groups"
    if budget is not None or seconds is not None:
        limits = [f"{counted(budget, 'gradient step')}"] if budget is not None else []
        limits += [f"about {seconds:g} s"] if seconds is not None else []
        of_groups = ", then probes of param groups" if groups else ""
        text = (
            f"plan: at most {listed(limits)}: probes{usual}{of_groups}, then trainings that refine the rate"
        )
    if not trainings:
        return text
    most = counted((budget or probing + groups) + trainings * steps, "step")
    trained = f"{counted(trainings, 'training')} of {counted(steps, 'step')}"
    return f"{text}, then {trained}; at most {most} in all"


def _answer_lines(answer: dict[str, Any], trust: str, *beside: str) -> list[str]:
    """Return the lr, its interval, the trust in it, its purpose, and the reason; or why there is no lr."""
    if answer["lr"] is None:
        return wrapped(f"No learning rate: {answer['reason']}", "")
    between = f"[{interval(answer['low'], answer['high'])}]"
    return [
        f"Learning rate: {number(answer['lr'])}   {between}   {trust}",
        *beside,
        *wrapped(answer["reason"]),
    ]


def _trust(summary: dict[str, Any]) -> str:
    """Return the confidence in the answer, and the result of its verification."""
    verification = summary["verification"]
    confidence = f"confidence: {summary['answer']['confidence']}"
    if verification is None or verification["verdict"] is None:
        return confidence
    if verification["lr"] != verification["of"]:
        return f"{confidence}, from verification; the probes recommended {number(verification['of'])}"
    steps = summary["training"]["steps"]
    share = "" if verification["steps"] == steps else f" on {verification['steps']:,} of {steps:,} steps"
    return f"{confidence}, verified{share}"


def _training(summary: dict[str, Any]) -> str:
    training = summary["training"]
    momentum = f" with momentum {training['momentum']:g}" if training["momentum"] else ""
    steps = counted(training["steps"], "step")
    return f"{steps} of {training['optimizer']}{momentum}, {summary['schedule']} schedule"


def _probes_table(summary: dict[str, Any]) -> str:
    """Return a table with one row per probe. If there is an lr, it also has the weights that give this lr."""
    probes, answered = summary["probes"], summary["answer"]["lr"] is not None
    several = len({row["seed"] for row in probes}) > 1
    rows = []
    for row in probes:
        loss, beside = "-", "-"
        if row["score"] is not None:
            loss, beside = f"{row['score']:.4g}", _beside(row["score"], row["untouched"])
        remark = "not continued"
        if row["weight"] is not None:
            remark = f"weight {row['weight']:.2f}" if answered else ""
        remark = f"stopped: the loss blew up at step {row['steps'] - 1}" if row["stopped"] else remark
        cells = [number(row["lr"]), str(row["steps"]), loss, beside, remark]
        rows.append([str(row["seed"]), *cells] if several else cells)
    header = ["lr", "steps", "loss", "against the untouched model", ""]
    return table_text(["seed", *header] if several else header, rows)


def groups_lines(groups: dict[str, Any]) -> list[str]:
    """Return a table with the rate of each param group, and the reason for these rates.

    Args:
        groups: the fields of `analysis.group_rates.GroupRates`; each of the `rates` has an `lr` too.
    """
    rows = []
    for rate in groups["rates"]:
        falls = ["-" if loss is None else _beside(loss, groups["untouched"]) for loss in rate["losses"]]
        rows.append([rate["name"], number(rate["lr"]), f"{rate['multiplier']:.3g}x", *falls])
    header = ["param group", "lr", "multiplier", "loss at a third", "at this lr", "at three times"]
    return [*table_block(header, rows), *wrapped(groups["reason"]), ""]


def _beside(loss: float, other: float) -> str:
    """Compare a loss with another: by their ratio, or by their difference if one of them is not positive.

    >>> _beside(0.379, 1.0), _beside(1.0001, 1.0), _beside(-3.9, -2.0)
    ('62% lower', 'the same', '1.9 lower')
    >>> _beside(0.002, 1.0), _beside(41.0, 1.0)
    ('0.002 times as high', '41 times as high')
    """
    if loss < 0 or other <= 0:
        gap = loss - other
        return f"{abs(gap):.3g} {'lower' if gap < 0 else 'higher'}" if gap else "the same"
    share = (loss - other) / other
    if -1 < share < -0.99:
        return f"{1 + share:.2g} times as high"
    if share >= 2:
        return f"{1 + share:.3g} times as high"
    if abs(share) < 0.0005:
        return "the same"
    percent = f"{abs(share):.0%}" if abs(share) >= 0.0995 else f"{abs(share):.1%}"
    return f"{percent} {'lower' if share < 0 else 'higher'}"


def _refinement_lines(summary: dict[str, Any]) -> list[str]:
    """Return a table of the trainings that refine the answer, with one row per rate."""
    refinement = summary["refinement"]
    done = f"{counted(len(refinement['trainings']), 'training')} of {counted(refinement['steps'], 'step')}"
    if not refinement["ended"]:
        resume = resume_line(summary)
        return wrapped(f"Refinement has not ended: {done} so far. {resume}")
    probed = f"the rate of the probes, {number(refinement['of'])}"
    return [*wrapped(f"Refined with {done}, which began with {probed}:"), *_trainings_table(refinement)]


def _verification_lines(summary: dict[str, Any]) -> list[str]:
    """Return the verdict of the trainings that verify the answer, and a table with one row per rate."""
    verification = summary["verification"]
    trainings, resume = verification["trainings"], resume_line(summary)
    if not trainings:
        return [f"  Verification: no training has ended. {resume}"]
    if verification["verdict"] is None:
        done = counted(len(trainings), "training")
        verdict = wrapped(f"Verification has not ended: {done} so far. {resume}")
    else:
        words = VERDICTS[verification["verdict"]]
        steps = counted(verification["steps"], "step")
        moved = verification["lr"] != verification["of"]
        verdict = wrapped(f"Verified with trainings of {steps}, and {words}: {verification['reason']}.")
        if moved:
            verdict = wrapped(f"Verified with trainings of {steps}: {words}, for the reason above.")
    return [*verdict, *_trainings_table(verification, verification["lr"])]


def _trainings_table(trained: dict[str, Any], chosen: float | None = None) -> list[str]:
    """Return a table of trainings, with one row per rate.

    Args:
        trained: `trainings`, `metric` and `judge`.
        chosen: the rate to mark as the one to use; None to mark none.
    """
    trainings = trained["trainings"]
    columns = [
        (name, key)
        for name, key in (
            ("train loss", "train_loss"),
            ("val loss", "val_loss"),
            (trained["metric"] or "metric", "metric"),
        )
        if any(row[key] is not None for row in trainings)
    ]
    rows = []
    for lr in sorted({row["lr"] for row in trainings}):
        lanes = [row for row in trainings if row["lr"] == lr]
        outcomes = [row["outcome"] for row in lanes]
        ended = listed(f"{outcomes.count(kind)} {kind}" for kind in dict.fromkeys(outcomes))
        finished = [row for row in lanes if row["outcome"] == "finished"]
        cells = [
            _median([row[key] for row in finished if row[key] is not None], key == trained["judge"])
            for _, key in columns
        ]
        rows.append([number(lr), ended, *cells, "use this" if lr == chosen else ""])
    several = len({row["seed"] for row in trainings}) > 1
    lines = ["  in the table: medians over seeds (lowest to highest)"] if several else []
    table = table_block(["lr", "trainings", *(name for name, _ in columns), ""], rows)
    return [*table[:-1], *lines, ""]


def _median(values: Sequence[float], ends: bool = False) -> str:
    """Return the median of a measurement over seeds, on request with its lowest and its highest value.

    >>> _median([0.12, 0.1, 0.31]), _median([0.12, 0.1, 0.31], ends=True), _median([])
    ('0.12', '0.12 (0.1 to 0.31)', '-')
    """
    if not values:
        return "-"
    middle, low, high = (f"{value:.4g}" for value in (median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})" if ends and low != high else middle
