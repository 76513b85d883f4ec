"""What a search for the learning rate found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lrfind.analysis.lanes import SETTLED, LaneResult
from lrfind.analysis.probing import Recorded, Search, search, tail
from lrfind.analysis.recommendation import Training, recommend
from lrfind.analysis.verification import FACTORS, VERIFY, Verdict, verdict_on, verified_lrs
from lrfind.catalog import Judge
from lrfind.errors import NoSuggestion
from lrfind.runs.summaries.parts import SCHEMA, count_lanes

METHOD = "find"


def find_summary(
    results: Sequence[LaneResult],
    run: str,
    training: Training | None,
    *,
    cost: int,
    schedule: str,
    judge: Judge,
    seeds: int,
    wide: bool,
    verified: float | None,
    verify_steps: int | None,
    verify_seeds: int,
    metric: str | None,
    refused: str | None,
    notes: Sequence[str],
) -> dict[str, Any]:
    """What a search found, read from its probes.

    Args:
        results: its lanes: probes, untouched models at lr 0 and, where it was verified, whole trainings.
        run: the run directory.
        training: that the rate is for; None before it is known.
        cost: gradient steps of the probes.
        schedule: name of the training's schedule.
        judge: the loss that verification is decided by.
        seeds: how many searches there shall be.
        wide: whether five probes began at once; see `lrfind.analysis.probing.search`.
        verified: the rate that is verified; None before that.
        verify_steps: length of the trainings that verify; None where this was not asked for.
        verify_seeds: how many of each.
        metric: what the task's metric is called.
        refused: why there is no probe at all.
        notes: what should be known of it.
    """
    probed = [lane for lane in results if lane.variant != VERIFY]
    trained = [lane for lane in results if lane.variant == VERIFY and lane.outcome in SETTLED]
    done = len({lane.seed for lane in probed}) == seeds
    suggestion: dict[str, Any] = {"lr": None, "low": None, "high": None, "confidence": None, "method": METHOD}
    searches = searches_of(probed, training, wide=wide) if training and done else []
    verdict = None
    try:
        if refused or not training or not searches:
            raise NoSuggestion(refused or "the search has not ended.")
        found = recommend(searches, training, cost)
        suggestion |= {key: value for key, value in asdict(found).items() if key != "cost"}
        verdict = _verdict(found.lr if verified is None else verified, trained, verify_seeds, judge)
        if verdict is not None and verified is not None and verdict.lr != verified:
            suggestion |= _moved(verdict, verified)
    except NoSuggestion as reason:
        suggestion["reason"] = reason.reason
    proof: dict[str, Any] = {"of": verified, "steps": verify_steps, "judge": judge, "metric": metric}
    proof |= {"trainings": [_training_row(lane) for lane in trained]}
    proof |= asdict(verdict) if verdict else {"verdict": None, "lr": None, "reason": "it has not ended"}
    to_come = len(FACTORS) * verify_seeds if verify_steps and suggestion["lr"] is not None else 0
    return {
        "schema": SCHEMA,
        "command": "find",
        "run": run,
        "suggestion": suggestion,
        "cost": cost,
        "training": None if training is None else asdict(training),
        "schedule": schedule,
        "probes": evidence(searches, probed),
        "verification": None if verify_steps is None else proof,
        "lanes": count_lanes(results, max(len(probed) + to_come, len(results), 1)),
        "warnings": [],
        "notes": [*notes],
    }


def searches_of(probed: Sequence[LaneResult], training: Training, *, wide: bool) -> list[Search]:
    """The searches that made these probes, done again on what they measured; one a seed."""
    found = []
    for seed in dict.fromkeys(lane.seed for lane in probed):
        recorded = Recorded.of([lane for lane in probed if lane.seed == seed])
        found.append(search(recorded, training.start, longest=training.longest, wide=wide))
    return found


def evidence(searches: Sequence[Search], lanes: Sequence[LaneResult]) -> list[dict[str, Any]]:
    """The probes of all searches as plain data: a row a probe; see `probe_rows`."""
    seeds = dict.fromkeys(lane.seed for lane in lanes)
    return [row for each, seed in zip(searches, seeds, strict=False) for row in probe_rows(each, seed)]


def probe_rows(found: Search, seed: int) -> list[dict[str, Any]]:
    """A row a probe, ascending in lr: how far it went and what came of it.

    Its score is the mean loss over the last half of its steps, beside what the untouched model has on the
    same batches; `weight` is its share in the lr that learns fastest, None of a probe that was left behind.
    """
    weights = found.weights
    return [
        {
            "seed": seed,
            "lr": probe.lr,
            "steps": len(probe.loss),
            "score": None if probe.stopped else tail(probe.loss),
            "untouched": tail(found.prober.untouched(len(probe.loss))),
            "stopped": probe.stopped,
            "weight": weights.get(place),
        }
        for place, probe in sorted(found.probes.items())
    ]


def _training_row(lane: LaneResult) -> dict[str, Any]:
    return {
        "lr": lane.peak,
        "seed": lane.seed,
        "outcome": lane.outcome,
        "train_loss": lane.train_loss,
        "val_loss": lane.val_loss,
        "metric": lane.metric,
    }


def _moved(verdict: Verdict, verified: float) -> dict[str, Any]:
    """What is suggested where whole trainings say another rate than the one they verify, or none."""
    if verdict.lr is None:
        return {"lr": None, "low": None, "high": None, "confidence": None, "reason": f"{verdict.reason}."}
    halfway = float(f"{math.sqrt(verified * verdict.lr):.3g}")
    return {
        "lr": verdict.lr,
        "low": min(halfway, verdict.lr),
        "high": max(halfway, verdict.lr),
        "confidence": "low",
        "reason": f"whole trainings {verdict.verdict.replace('moves', 'moved')} what the probes said:"
        f" {verdict.reason}. It is the {'lowest' if verdict.lr < verified else 'highest'} of the three rates"
        " that were trained, and what lies beyond it is not known",
    }


def _verdict(lr: float, trained: Sequence[LaneResult], seeds: int, judge: Judge) -> Verdict | None:
    """None until every training has ended."""
    return verdict_on(lr, trained, judge) if len(trained) == seeds * len(verified_lrs(lr)) else None
