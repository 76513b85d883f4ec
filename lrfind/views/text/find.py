"""The answer of `find`, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from lrfind.analysis.probing import TYPICAL_COST
from lrfind.analysis.verification import VERDICTS
from lrfind.errors import counted, listed, times
from lrfind.views.text.layout import beside, table_block, wrapped
from lrfind.views.text.parts import (
    closing_lines,
    confidence_in_words,
    interval,
    number,
    number_or_dash,
    numbers_apart,
    resume_line,
)


def recommendation_text(answer: dict[str, Any]) -> str:
    """Return the recommendation of the probes: lr, interval, confidence, reason; or why there is no lr."""
    return "\n".join(answer_lines(answer, confidence_in_words(answer["confidence"], answer.get("risk"))))


def find_text(summary: dict[str, Any]) -> str:
    """Return the summary of a `find`: the lr and its reason, the probes, their cost, and the verification."""
    answer, verification = summary["answer"], summary["verification"]
    if answer["lr"] is None:
        lines = answer_lines(answer, "")
        if not summary["probing_ended"]:
            lines += wrapped(resume_line(summary))
    else:
        lines = answer_lines(answer, _trust(summary), *wrapped(f"for {training_in_words(summary)}"))
    if summary["probes"]:
        lines += ["", *_probes_lines(summary)]
    if summary["groups"] is not None:
        lines += groups_lines(summary["groups"])
    if summary["cost"]:
        lines += wrapped(f"cost: {cost_in_words(summary)}")
    if summary["refinement"] is not None:
        lines += ["", *_refinement_lines(summary)]
    if verification is not None and (verification["trainings"] or answer["lr"] is not None):
        lines += ["", *_verification_lines(summary)]
    elif verification is not None and summary["probing_ended"]:
        lines += wrapped("verification: none, because there is no rate to verify")
    return "\n".join([*lines, *closing_lines(summary)])


def cost_in_words(summary: Mapping[str, Any]) -> str:
    """Return how many steps the probes of a `find` took, and its trainings."""
    steps, probes = counted(summary["cost"], "gradient step"), counted(len(summary["probes"]), "probe")
    cost = f"{steps} in {probes}"
    if summary["groups"] is not None:
        cost += f" and {counted(summary['groups']['probes'], 'probe')} of param groups"
    for part, purpose in (("refinement", "refine"), ("verification", "verify")):
        if trainings := (summary[part] or {}).get("trainings"):
            trained = counted(sum(row["steps"] for row in trainings), "step")
            cost += f", and {trained} in {counted(len(trainings), 'training')} to {purpose} the rate"
    return cost


def find_plan_text(plan: dict[str, Any]) -> str:
    """Return what a `find` would do: the training that it is for, and the most that it costs.

    Args:
        plan: `training`, `schedule` and `cost`, a mapping of the fields of `training.cost.FindCost`.
    """
    lines = wrapped(f"find would look for the learning rate of {training_in_words(plan)}:", "")
    return "\n".join([*lines, *wrapped(find_cost_text(**plan["cost"]), ""), "Nothing was trained."])


def find_cost_text(
    probing: int,
    trainings: int,
    training_steps: int,
    groups: int = 0,
    budget: int | None = None,
    seconds: float | None = None,
) -> str:
    """Return the most that a `find` costs.

    >>> find_cost_text(300, 0, 300)
    'plan: at most 300 gradient steps of probing (usually about 100)'
    >>> find_cost_text(60, 9, 60)
    'plan: at most 60 gradient steps of probing, then 9 trainings of 60 steps; at most 600 steps in all'
    >>> find_cost_text(60, 0, 60, 288)
    'plan: at most 60 gradient steps of probing, then at most 288 for the rates of param groups'
    >>> find_cost_text(400, 0, 400, budget=1600).partition("probes ")[2]
    '(usually about 100 steps together), then trainings that refine the rate'
    >>> find_cost_text(60, 9, 60, seconds=20).partition("then ")[2]
    'trainings that refine the rate, then 9 trainings of 60 steps'
    """
    usual = f"usually about {round(TYPICAL_COST, -2)}" if probing > 1.5 * TYPICAL_COST else ""
    text = f"plan: at most {counted(probing, 'gradient step')} of probing" + (f" ({usual})" if usual else "")
    if groups:
        text += f", then at most {groups:,} for the rates of param groups"
    if budget is not None or seconds is not None:
        limits = [f"{counted(budget, 'gradient step')}"] if budget is not None else []
        limits += [f"about {seconds:g} s"] if seconds is not None else []
        of_groups = ", then probes of param groups" if groups else ""
        probes = "probes" + (f" ({usual} steps together)" if usual else "")
        text = f"plan: at most {listed(limits)}: {probes}{of_groups}, then trainings that refine the rate"
    if not trainings:
        return text
    text += f", then {counted(trainings, 'training')} of {counted(training_steps, 'step')}"
    if seconds is not None and budget is None:
        return text  # seconds do not tell how many steps the rate is refined with
    most = counted((budget or probing + groups) + trainings * training_steps, "step")
    return f"{text}; at most {most} in all"


def answer_lines(answer: dict[str, Any], trust: str, *purpose: str) -> list[str]:
    """Return the lr, rates about as good, the trust in it, its purpose and reason; or why there is none."""
    if answer["lr"] is None:
        return wrapped(f"No learning rate: {answer['reason']}", "")
    rates = f"about as good: {interval(answer['low'], answer['high'])}"
    return [
        *beside(f"Learning rate: {number(answer['lr'])}", rates, trust),
        *purpose,
        *wrapped(answer["reason"]),
    ]


def _trust(summary: dict[str, Any]) -> str:
    """Return the confidence in the answer, and the result of its verification."""
    verification = summary["verification"]
    confidence = confidence_in_words(summary["answer"]["confidence"], summary["answer"].get("risk"))
    if verification is None or verification["verdict"] is None:
        return confidence
    if verification["lr"] != verification["of"]:
        before = "the probes recommended" if summary["refinement"] is None else "the rate before it was"
        return f"{confidence}, from verification; {before} {number(verification['of'])}"
    steps = summary["training"]["steps"]
    share = "" if verification["steps"] == steps else f" on {verification['steps']:,} of {steps:,} steps"
    return f"{confidence}, verified{share}"


def training_in_words(summary: Mapping[str, Any]) -> str:
    """Return the planned training of a `find`, with its schedule."""
    training = summary["training"]
    momentum = f" with momentum {training['momentum']:g}" if training["momentum"] else ""
    steps = counted(training["steps"], "step")
    return f"{steps} of {training['optimizer']}{momentum}, {summary['schedule']} schedule"


def _probes_lines(summary: dict[str, Any]) -> list[str]:
    """Return a table with one row per probe. If they recommend an lr, it says how much each rate counts."""
    probes, refinement = summary["probes"], summary["refinement"]
    answered = (summary["answer"] if refinement is None else {"lr": refinement["of"]})["lr"] is not None
    several = len({row["seed"] for row in probes}) > 1
    rows = []
    beside_untouched = _beside([(row["score"], row["untouched"]) for row in probes])
    for row, comparison in zip(probes, beside_untouched, strict=True):
        remark = "not continued"
        if row["weight"] is not None:
            remark = f"counts {row['weight']:.0%}" if answered else ""
        remark = f"loss blew up at step {row['steps'] - 1}" if row["stopped"] else remark
        cells = [number(row["lr"]), str(row["steps"]), number_or_dash(row["score"]), comparison, remark]
        rows.append([str(row["seed"]), *cells] if several else cells)
    header = ["lr", "steps", "loss", "against untouched model", ""]
    keys = ["seed", *header] if several else header
    what = "Each probe is a short training at a constant rate. Its loss is the mean over the last half of it."
    if answered:
        what += f" The best rate of the probes is a mean in log lr, in which {_what_counts(probes)}."
    return [*wrapped(what), *table_block(keys, rows, keys=1 + several)]


def _what_counts(probes: Sequence[Mapping[str, Any]]) -> str:
    """Return the rule by which rates count, which is another one on a plateau; see `ProbeResult.weights`."""
    weights: dict[int, list[float]] = {}
    for row in probes:
        if row["weight"] is not None:
            weights.setdefault(row["seed"], []).append(row["weight"])
    plateaus = [0.0 in of_seed or of_seed.count(max(of_seed)) > 1 for of_seed in weights.values()]
    lower = "a rate counts more if its loss is lower"
    highest = "the highest rates that do no harm count"
    if not any(plateaus):
        return lower
    if all(plateaus):
        return f"only {highest}, because none lowered the loss by more than its noise"
    return f"{lower}; with a seed with which none lowered it by more than its noise, {highest}"


def groups_lines(groups: dict[str, Any]) -> list[str]:
    """Return a table with the rate of each param group, and the reason for these rates.

    Args:
        groups: the fields of `analysis.group_rates.GroupRates`; each of the `rates` has an `lr` too.
    """
    rows = []
    columns = zip(*(rate["losses"] for rate in groups["rates"]), strict=True)
    compared = [_beside([(loss, groups["untouched"]) for loss in losses]) for losses in columns]
    for rate, *falls in zip(groups["rates"], *compared, strict=True):
        rows.append([rate["name"], number(rate["lr"]), f"{rate['ratio'] * rate['multiplier']:.3g}x", *falls])
    header = ["param group", "lr", "multiplier", *GROUP_PROBES]
    texts = filter(None, (groups["reason"], group_probes_text(groups)))
    return [*table_block(header, rows), *(line for text in texts for line in wrapped(text)), ""]


GROUP_PROBES = ("probe loss at 1/3x", "probe loss", "probe loss at 3x")
"""The headers of the losses that the probes of param groups had."""


def group_probes_text(groups: Mapping[str, Any]) -> str:
    """Return at which rates the probes of param groups were trained; "" if there are none.

    Args:
        groups: as for `groups_lines`.
    """
    if not groups["probes"]:
        return ""
    return (
        f"These probes have {counted(groups['steps'], 'step')}. Their rates lie around the one that learns"
        " fastest in so few steps. The lr in the table is for the whole training."
    )


def _beside(losses: Sequence[tuple[float | None, float]]) -> list[str]:
    """Compare losses with others, for one table, in one form: in percent, or in times if one is far away.

    Where a loss is not positive, there is no ratio, and the difference is given.

    Args:
        losses: pairs of a loss and the one beside it; a loss of None gives a dash.

    >>> _beside([(0.379, 1.0), (1.0001, 1.0), (1.062, 1.0), (None, 1.0)])
    ['62% lower', 'the same', '6.2% higher', '-']
    >>> _beside([(0.002, 1.0), (0.02, 1.0), (41.0, 1.0), (-3.9, -2.0)])
    ['500 times lower', '50 times lower', '41 times as high', '1.9 lower']
    """
    ratios = [loss / other for loss, other in losses if loss is not None and loss > 0 and other > 0]
    far = any(not 0.01 <= ratio < 3 for ratio in ratios)
    return ["-" if loss is None else _comparison(loss, other, far) for loss, other in losses]


def _comparison(loss: float, other: float, far: bool) -> str:
    """Compare a loss with another; see `_beside`."""
    if loss <= 0 or other <= 0:
        gap = loss - other
        return f"{abs(gap):.3g} {'lower' if gap < 0 else 'higher'}" if gap else "the same"
    share = (loss - other) / other
    if abs(share) < 0.0005:
        return "the same"
    if far:
        return f"{times(1 + share)} as high" if share > 0 else f"{times(other / loss)} lower"
    percent = f"{abs(share):.0%}" if abs(share) >= 0.0995 else f"{abs(share):.1%}"
    return f"{percent} {'lower' if share < 0 else 'higher'}"


def _refinement_lines(summary: dict[str, Any]) -> list[str]:
    """Return a table of the trainings that refine the answer, with one row per rate."""
    refinement = summary["refinement"]
    done = f"{counted(len(refinement['trainings']), 'training')} of {counted(refinement['steps'], 'step')}"
    if not refinement["ended"]:
        resume = resume_line(summary)
        return wrapped(f"Refinement has not ended: {done} so far. {resume}")
    what = f"Trained further, because the probes recommend no rate: {done}:"
    if refinement["of"] is not None:
        what = f"Refined with {done}, which began with the rate of the probes, {number(refinement['of'])}:"
    return [*wrapped(what), *_trainings_table(refinement)]


def _verification_lines(summary: dict[str, Any]) -> list[str]:
    """Return the verdict of the trainings that verify the answer, and a table with one row per rate."""
    verification = summary["verification"]
    trainings, resume = verification["trainings"], resume_line(summary)
    if not trainings:
        return wrapped(f"Verification: no training has ended. {resume}")
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
    lrs = sorted({row["lr"] for row in trainings})
    cells = [[number(lr) for lr in lrs], [_outcomes(trainings, lr) for lr in lrs]]
    for _, key in columns:
        values = [_finished(trainings, lr, key) for lr in lrs]
        cells.append(_medians(values, ends=key == trained["judge"]))
    cells.append(["use this" if lr == chosen else "" for lr in lrs])
    several = len({row["seed"] for row in trainings}) > 1
    lines = wrapped("in the table: medians over seeds (lowest to highest)") if several else []
    header = ["lr", "trainings", *(name for name, _ in columns), ""]
    return [*table_block(header, zip(*cells, strict=True))[:-1], *lines, ""]


def _outcomes(trainings: Sequence[dict[str, Any]], lr: float) -> str:
    """Return how the trainings at a rate ended."""
    outcomes = [row["outcome"] for row in trainings if row["lr"] == lr]
    return listed(f"{outcomes.count(kind)} {kind}" for kind in dict.fromkeys(outcomes))


def _finished(trainings: Sequence[dict[str, Any]], lr: float, key: str) -> list[float]:
    """Return a measurement of the trainings at a rate that finished."""
    finished = [row for row in trainings if row["lr"] == lr and row["outcome"] == "finished"]
    return [row[key] for row in finished if row[key] is not None]


def _medians(values: Sequence[Sequence[float]], ends: bool = False) -> list[str]:
    """Return, for each rate, the median over seeds; on request with the lowest and the highest value.

    >>> _medians([[0.12, 0.1, 0.31], []], ends=True), _medians([[0.12, 0.1, 0.31], [0.5]])
    (['0.12 (0.1 to 0.31)', '-'], ['0.12', '0.5'])
    """
    middles = [median(at) if at else None for at in values]
    if not ends:
        return [*map(number_or_dash, middles)]
    return [
        f"{middle} ({interval(min(at), max(at))})" if at and number(min(at)) != number(max(at)) else middle
        for middle, at in zip(numbers_apart(middles), values, strict=True)
    ]
