"""From what a run directory holds to its summary, tables and best config. Nothing here trains."""

from __future__ import annotations

from typing import Any

from lrfind.config import Experiment, SweepSection, dump
from lrfind.plan import SETTLED
from lrfind.store import Run
from lrfind.summaries import range_test_summary, sweep_summary


def summarize(run: Run) -> dict[str, Any]:
    """What a run found so far, from its database; the content of summary.json."""
    facts, experiment = run.facts(), run.experiment
    command = facts["command"]
    if command == "range-test":
        method = experiment.range_test.method
        return range_test_summary(run.lanes(), str(run.path), method, facts.get("edge"))
    section = sweep_section(experiment, command)
    return sweep_summary(
        run.lanes(),
        str(run.path),
        command,
        judge=section.judge,
        tolerance=section.tolerance,
        planned=planned_lanes(run),
        engine=facts.get("engine"),
        metric=facts.get("metric"),
        notes=facts.get("notes", ()),
    )


def conclude(run: Run) -> dict[str, Any]:
    """Export tables, summary and, of a sweep that has a best lr, the config with it; returns the summary."""
    run.export()
    summary, facts = summarize(run), run.facts()
    if "environment" in facts:
        run.write_json("environment.json", facts["environment"])
    run.write_json("summary.json", summary)
    best, lanes = summary.get("best", {}).get("lr"), summary["lanes"]
    if best is not None and lanes["settled"] == lanes["planned"]:
        run.write("best.yaml", dump(with_lr(run.experiment, best)))
    return summary


def sweep_section(experiment: Experiment, command: str) -> SweepSection:
    """The section of the config that a sweep's command reads."""
    return experiment.grid if command == "grid" else experiment.search


def planned_lanes(run: Run) -> int:
    """How many lanes a run shall have, also those of a search that are not proposed yet."""
    experiment, command = run.experiment, run.facts()["command"]
    if command == "range-test":
        return experiment.range_test.seeds
    known = len(run.plan())
    return max(known, experiment.search.trials * experiment.search.seeds) if command == "search" else known


def with_lr(experiment: Experiment, lr: float) -> Experiment:
    """The same experiment with this lr in its optimizer."""
    optimizer = experiment.optimizer.model_copy(update={"lr": lr})
    return experiment.model_copy(update={"optimizer": optimizer})


def state(run: Run) -> dict[str, Any]:
    """How far a run is, and what it found so far."""
    facts, outcomes = run.facts(), list(run.outcomes().values())
    summary = summarize(run)
    answer = summary["suggestion"] if facts["command"] == "range-test" else summary["best"]
    planned = planned_lanes(run)
    settled = sum(outcome in SETTLED for outcome in outcomes)
    holder = run.holder
    return {
        "run": str(run.path),
        "name": run.experiment.name,
        "command": facts["command"],
        "state": "running" if holder else "finished" if run.concluded else "unfinished",
        "lanes": {"planned": planned, "settled": settled}
        | {kind: outcomes.count(kind) for kind in dict.fromkeys(outcomes)},
        "lr": answer["lr"],
        "holder": holder,
    }
