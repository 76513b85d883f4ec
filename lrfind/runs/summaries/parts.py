"""The parts that summaries share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrfind.analysis.lanes import SETTLED, Lane, LaneResult
from lrfind.catalog import KINDS, Judge
from lrfind.errors import counted
from lrfind.runs.result import RunRecord

LOOK_FOR_NAN = "look for NaN and inf in the validation data, and for a loss that counts none of its targets"
"""What to do about a validation loss that is not finite."""
CALM = 10.0
"""A loss that stays below so many times its first value has not begun to blow up."""


def count_lanes(results: Sequence[LaneResult], planned: int | None) -> dict[str, Any]:
    """Count the lanes of a run.

    Returns:
        `planned`: how many lanes the run will have in all, or None if that is not known; `settled`: how many
        have settled; `steps`: the training steps that all lanes took (the untouched models of a find, which
        are lanes at lr 0, take none); `outcomes`: how many lanes ended in each way.
    """
    outcomes = [result.outcome for result in results]
    return {
        "planned": planned,
        "settled": sum(outcome in SETTLED for outcome in outcomes),
        "steps": sum(int(result.lr.size) for result in results if result.lr.any()),
        "outcomes": {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
    }


def lane_noun(command: str, lane: Lane | LaneResult) -> str | None:
    """Return what a lane is: a probe, a ramp or a training; None for an untouched model at lr 0.

    The lanes of a find are its probes, and then trainings, which have the name of what they are for.

    Args:
        command: the command that made the run.
        lane: the lane.
    """
    noun = KINDS[command].lanes.removesuffix("s")
    if noun != "probe":
        return noun
    return "training" if lane.variant else "probe" if lane.lr.any() else None


def count_kinds(record: RunRecord) -> dict[str, dict[str, Any]]:
    """Count the lanes of a run for each thing that they are, such as probes and trainings.

    Returns:
        "probes", "ramps" or "trainings" -> the counts of `count_lanes`; `planned` is None if it is
        not known.
    """
    lanes = {
        noun: [lane for lane in record.lanes if lane_noun(record.command, lane) == noun]
        for noun in dict.fromkeys((record.kind.lanes.removesuffix("s"), "training"))
    }
    if "probe" not in lanes:
        return {record.kind.lanes: count_lanes(record.lanes, record.known_plan)}
    facts = record.facts
    probing, refining = facts.probing is None, facts.left_budget > 0 and facts.refined is None
    counts = {"probes": count_lanes(lanes["probe"], None if probing else len(lanes["probe"]))}
    trainings = record.planned - (len(record.lanes) - len(lanes["training"]))
    if trainings > 0 and not probing:
        unknown = refining and facts.verified is None and not facts.concluded
        counts["trainings"] = count_lanes(lanes["training"], None if unknown else trainings)
    return counts


def unsettled_warning(record: RunRecord, noun: str = "lane") -> list[str]:
    """Return a warning that lanes have not ended, and what to do; an empty list if all have ended."""
    missing = record.unsettled
    if missing <= 0:
        return []
    has = "has" if missing == 1 else "have"
    return [f"{counted(missing, noun)} {has} not ended; run `{record.resume_command}` to continue."]


def judge_warning(lanes: Sequence[LaneResult], asked: Judge, in_force: Judge) -> list[str]:
    """Return a warning that another loss decides than the one that was asked for, and why."""
    if asked == in_force:
        return []
    if any(lane.evaluations for lane in lanes if lane.outcome == "finished"):
        return [
            "the validation loss is not finite after any training, so the final training loss decides;"
            f" {LOOK_FOR_NAN}."
        ]
    return ["there is no validation loss, so the final training loss decides."]


def skipped_warning(lanes: Sequence[LaneResult], where: str = " (see steps.csv)") -> list[str]:
    """Return a warning that float16 skipped steps, so that trainings were shorter than planned.

    Args:
        lanes: the trainings.
        where: where the reader finds these steps, in words.
    """
    skipped = sum(int(lane.skipped.sum()) for lane in lanes if lane.skipped is not None)
    if not skipped:
        return []
    was, steps = "was" if skipped == 1 else "were", sum(int(lane.lr.size) for lane in lanes)
    return [f"{skipped:,} of {counted(steps, 'step')} {was} skipped because float16 overflowed{where}."]


def early_stop_warning(lanes: Sequence[LaneResult]) -> list[str]:
    """Return a warning that trainings which are compared stopped early; an empty list if none did."""
    early = [lane for lane in lanes if lane.outcome == "finished" and lane.lr.size < lane.planned]
    if not early:
        return []
    ends = [int(lane.lr.size) for lane in early]
    last = f"{max(ends)}" if min(ends) == max(ends) else f"{min(ends)} to {max(ends)}"
    alike = len({int(lane.lr.size) for lane in lanes if lane.outcome == "finished"}) == 1
    lengths = "" if alike else ", so not all of them are compared after the same number of steps"
    return [
        f"early_stop ended {len(early):,} of {counted(len(lanes), 'training')} at step {last} of"
        f" {early[0].planned}{lengths}."
    ]


def data_to_blame(lanes: Sequence[LaneResult]) -> str | None:
    """Return a sentence that says that a step's data is the likely reason why no lr trains.

    None unless all lanes of each seed, two or more, end at the same step, because the loss is not finite, and
    the loss was calm until then in the lane with the lowest lr: lrs that are all far too high end so too.
    """
    ends: dict[int, list[int]] = {}
    for lane in sorted(lanes, key=lambda lane: lane.peak):
        if lane.outcome != "diverged" or math.isfinite(lane.loss[-1]):
            return None
        if lane.seed not in ends and np.abs(lane.loss[:-1]).max(initial=0.0) > CALM * abs(lane.loss[0]):
            return None
        ends.setdefault(lane.seed, []).append(lane.loss.size - 1)
    if any(len(steps) < 2 or len({*steps}) > 1 for steps in ends.values()):
        return None
    late = [(seed, steps[0]) for seed, steps in ends.items() if steps[0] > 1]
    if not late:
        return None
    seed, step = late[0]
    return (
        f"at every lr, the loss is first not finite at the same step (step {step} with seed {seed}), so the"
        " data of that step is the likely reason, and no lr helps. A range test (`range_test`, or `lrfind"
        " range-test`) names the rows."
    )


def brief_lane(result: LaneResult) -> dict[str, Any]:
    """Return a lane's number, seed, outcome and steps, and its variant if it has one."""
    return {
        "lane": result.lane,
        "seed": result.seed,
        "outcome": result.outcome,
        "steps": int(result.lr.size),
    } | ({"variant": result.variant} if result.variant else {})


def mean_and_deviation(values: Sequence[float | None]) -> dict[str, float] | None:
    """Return mean and standard deviation over seeds (0 for one seed); None without a value."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return None
    deviation = float(np.std(numbers, ddof=min(1, len(numbers) - 1)))
    return {"mean": float(np.mean(numbers)), "deviation": deviation}
