"""The summary of a `find`: the recommended rate, the probes behind it, and what trainings say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lrfind.analysis.group_rates import GroupRate
from lrfind.analysis.lanes import SETTLED, LaneResult
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.probing import METHOD_VERSION, ProbeResult, probe_rows
from lrfind.analysis.recommendation import no_answer, recommend
from lrfind.analysis.refinement import REFINE, unspent_budget
from lrfind.analysis.sweeps import judge_in_force
from lrfind.analysis.verification import (
    VERIFY,
    Verdict,
    moved_answer,
    verdict_on,
    verified_lrs,
    verify_count,
)
from lrfind.errors import NoSuggestion
from lrfind.runs.result import RunRecord
from lrfind.runs.summaries.parts import early_stop_warning

METHOD = "find"


def probing_fact(
    results: Sequence[ProbeResult],
    training: PlannedTraining,
    cost: int,
    refusal: str | None = None,
    findings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the result of probing, to be stored, so that a later version of the method cannot change it.

    Args:
        results: one result for each seed; empty if not even the first step could be taken.
        training: the planned training.
        cost: the number of gradient steps that probing took.
        refusal: the reason why there is no probe at all; None if there are probes.
        findings: what is wrong with the gradients, in sentences.

    Returns:
        `answer`: `lr`, `low`, `high`, `confidence`, `risk`, `reason`, `method` and `method_version`; `start`:
        the lr at which trainings that refine the answer begin, None if they would tell no more; `probes`:
        see `analysis.probing.probe_rows`; `cost`.
    """
    try:
        if refusal is not None:
            raise NoSuggestion(refusal)
        answer = asdict(recommend(results, training, cost, findings))
        del answer["cost"]
        start = answer["lr"]
    except NoSuggestion as error:
        answer, start = no_answer(error.reason), error.start
    answer |= {"method": METHOD, "method_version": METHOD_VERSION}
    return {"answer": answer, "start": start, "probes": probe_rows(results), "cost": cost}


NOTHING_YET: dict[str, Any] = {
    "answer": no_answer("probing has not ended.") | {"method": METHOD, "method_version": METHOD_VERSION},
    "probes": [],
    "cost": 0,
}
"""The result of probing until it has ended."""


def find_summary(record: RunRecord) -> dict[str, Any]:
    """Summarize a `find`.

    Returns:
        A mapping with these keys, and `warnings`.

        - `answer`: the answer of probing or of the trainings that refine it, as stored, or the one that whole
          trainings moved it to.
        - `cost`: the number of gradient steps of the probes.
        - `training`: the planned training.
        - `schedule`: the name of its schedule.
        - `probes`: one row for each probe.
        - `groups`: the rates of the param groups (see `analysis.group_rates.GroupRates`), each with its `lr`;
          None if they were not requested.
        - `refinement`: the trainings that refine the answer of the probes; None if there are none.
        - `verification`: the whole trainings and their verdict; None if they were not requested.
    """
    facts, section = record.facts, record.experiment.find
    probing = NOTHING_YET if facts.probing is None else facts.probing
    answer = dict(probing["answer"]) | (facts.refined or {}).get("answer", {})
    verification = None
    if section.verify and facts.planned_training is not None:
        steps = section.verify_steps(facts.planned_training["steps"])
        verification, verdict = _verification(record, answer, steps)
        if verdict is not None and verdict.lr != verification["of"]:
            lrs = verified_lrs(verification["of"], section.verify_beyond)
            answer |= moved_answer(verdict, verification["of"], lrs)
    return {
        "answer": answer,
        "probing_ended": facts.probing is not None,
        "cost": probing["cost"],
        "training": facts.planned_training,
        "schedule": record.experiment.training.schedule.name,
        "probes": [*probing["probes"]],
        "groups": _groups(probing.get("groups"), answer["lr"]),
        "refinement": _refinement(record),
        "verification": verification,
        "warnings": [
            *_unspent_budget(record, answer),
            *early_stop_warning([lane for lane in record.lanes if lane.variant]),
        ],
    }


def _unspent_budget(record: RunRecord, answer: Mapping[str, Any]) -> list[str]:
    """Say that the budget was too small to refine the answer of the probes, where that is so."""
    facts = record.facts
    if answer["lr"] is None or facts.probing is None or facts.planned_training is None:
        return []
    training, probing = PlannedTraining(**facts.planned_training), facts.probing
    if (probing.get("groups") or {}).get("wants_budget"):  # a larger budget would first go to the groups
        return []
    longest = max(row["steps"] for row in probing["probes"])
    section = record.experiment.find
    budget = section.budget_steps(training.steps)
    return unspent_budget(training, longest, section.seeds, probing["cost"], budget)


def _refinement(record: RunRecord) -> dict[str, Any] | None:
    """Return the trainings that refine the answer, and the rate of the probes that they began with."""
    trained = [lane for lane in record.lanes if lane.variant == REFINE and lane.outcome in SETTLED]
    if not trained or record.facts.probing is None:
        return None
    return {
        "of": record.facts.probing["answer"]["lr"],
        "steps": trained[0].planned,
        "metric": record.facts.metric,
        "judge": judge_in_force(trained, record.experiment.find.judge),
        "ended": record.facts.refined is not None,
        "trainings": [*map(training_row, trained)],
    }


def _groups(groups: Mapping[str, Any] | None, lr: float | None) -> dict[str, Any] | None:
    """Return the rates of param groups for a common lr."""
    if groups is None or lr is None:
        return None
    rates = [{**rate, "lr": GroupRate(**rate).lr(lr)} for rate in groups["rates"]]
    return {**groups, "rates": rates}


def group_multipliers(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the multipliers of param groups by their names; empty if a run did not look for them."""
    groups = summary.get("groups")
    return {} if groups is None else {rate["name"]: rate["multiplier"] for rate in groups["rates"]}


def _verification(
    record: RunRecord, answer: dict[str, Any], steps: int
) -> tuple[dict[str, Any], Verdict | None]:
    """Return the trainings that verify the answer, and their verdict once all of them have settled."""
    section, verified = record.experiment.find, record.facts.verified
    trained = [lane for lane in record.lanes if lane.variant == VERIFY and lane.outcome in SETTLED]
    verdict: Verdict | None = None
    if answer["lr"] is not None and len(trained) == verify_count(section.verify_beyond, section.verify_seeds):
        verdict = verdict_on(answer["lr"] if verified is None else verified, trained, section.judge)
    judge = judge_in_force(trained, section.judge)
    unended = {
        "verdict": None,
        "lr": None,
        "reason": "it has not ended",
        "judge": judge,
        "within_noise": None,
    }
    verification = {
        "of": verified,
        "steps": steps,
        "metric": record.facts.metric,
        "trainings": [*map(training_row, trained)],
        **(asdict(verdict) if verdict else unended),
    }
    return verification, verdict


def training_row(lane: LaneResult) -> dict[str, Any]:
    """Return the row of a training in the table of those that refine or verify an answer."""
    return {
        "lr": lane.peak,
        "seed": lane.seed,
        "outcome": lane.outcome,
        "steps": lane.lr.size,
        "train_loss": lane.train_loss,
        "val_loss": lane.val_loss,
        "metric": lane.metric,
    }
