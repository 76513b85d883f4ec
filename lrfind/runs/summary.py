"""From what a run directory holds to its summary, tables and best config. Nothing here trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lrfind.analysis.diagnosis import calm_looks, diagnose
from lrfind.analysis.lanes import SETTLED, LaneResult
from lrfind.analysis.recommendation import Training
from lrfind.catalog import optimizer_named
from lrfind.config.experiment import SIDE_BY_SIDE, Experiment, dump, lanes_section
from lrfind.config.sections import GridSection, SearchSection
from lrfind.config.variants import variants_of, with_lr
from lrfind.errors import UsageError
from lrfind.experiments.rounds import next_round
from lrfind.runs.store import Run, is_run
from lrfind.runs.summaries.compare import comparison_summary
from lrfind.runs.summaries.find import METHOD, find_summary
from lrfind.runs.summaries.parts import answer
from lrfind.runs.summaries.range_test import over_summary, range_test_summary
from lrfind.runs.summaries.sweep import sweep_summary
from lrfind.runs.summaries.train import training_summary


def summarize(run: Run) -> dict[str, Any]:
    """What a run found so far, from its database; the content of summary.json."""
    facts = run.facts()
    summary = SUMMARIES[facts["command"]](run)
    return summary | {"data": facts.get("data"), "health": _health(run, summary)}


def _health(run: Run, summary: dict[str, Any]) -> dict[str, Any] | None:
    """What a run's looks at its layers mean; None where there were none.

    Returns:
        findings: see `analysis.diagnosis.Finding`; layers: of the model; looks: how many are judged, over all
        lanes that are; lane: the first of these, which is drawn; calm: how many of its looks are judged.
    """
    lanes = _telling_lanes(run.lanes(), summary)
    if not lanes:
        return None
    variants = variants_of(run.experiment, summary["command"])
    optimizers = [each.experiment.optimizer.name for each in variants if each.name == lanes[0].variant]
    own = [run.experiment.optimizer.name]  # of lanes that verify what a find found, which are no variant
    rows = [optimizer_named(name) for name in optimizers or own]
    adaptive = all(row is not None and row.adaptive for row in rows)
    calm = [calm_looks(lane, on_a_ramp=summary["command"] == "range-test") for lane in lanes]
    counts = [len({row.step for row in rows}) for rows in calm]
    return {
        "findings": [finding._asdict() for finding in diagnose(calm, adaptive=adaptive)],
        "layers": len({row.layer for row in lanes[0].health}),
        "looks": sum(counts),
        "lane": lanes[0].lane,
        "calm": counts[0],
    }


def _telling_lanes(results: Sequence[LaneResult], summary: dict[str, Any]) -> list[LaneResult]:
    """The lanes that tell how gradients are: those at the rate that a run found best.

    Of a range test and of a training all; where a sweep found none, those at its lowest rate.
    """
    known, found = [result for result in results if result.health], answer(summary)
    if "variant" in found and found["lr"] is not None:
        known = [result for result in known if result.variant == found["variant"]]
    if summary["command"] in ("range-test", "train") or not known:
        return known
    lowest = min(result.peak for result in known)
    return [result for result in known if result.peak == (lowest if found["lr"] is None else found["lr"])]


def conclude(run: Run) -> dict[str, Any]:
    """Export tables, summary and, where lrs were tried and one is best, the config with it.

    Returns:
        The summary.
    """
    run.export()
    summary, facts = summarize(run), run.facts()
    if "environment" in facts:
        run.write_json("environment.json", facts["environment"])
    run.write_json("summary.json", summary)
    best = best_experiment(run, summary)
    if best is not None:
        run.write("best.yaml", dump(best))
    return summary


def best_experiment(run: Run, summary: dict[str, Any]) -> Experiment | None:
    """The experiment with what a finished sweep or comparison found best; None where there is none."""
    lanes = summary["lanes"]
    done = summary["command"] in (*SIDE_BY_SIDE, "find") and lanes["settled"] == lanes["planned"]
    return found_experiment(run) if done and answer(summary)["lr"] is not None else None


def found_experiment(run: Run) -> Experiment:
    """A run's experiment with what the run found in it.

    Raises:
        UsageError: if it found no lr, or one that is of a part of the model.
    """
    experiment, command = run.experiment, run.facts()["command"]
    if command == "range-test" and experiment.range_test.group is not None:
        group = experiment.range_test.group
        raise UsageError(
            f"'{run.path}' tested the param group '{group}' alone; put what it found into the config, as this"
            " group's lr_multiplier."
        )
    summary = summarize(run)
    found = answer(summary)
    if found["lr"] is None:
        way = "" if run.concluded else f" `lrfind resume {run.path}` goes on with it."
        raise UsageError(f"'{run.path}' found no learning rate: {found['reason']}{way}")
    variants = variants_of(experiment, command)
    (chosen,) = [each.experiment for each in variants if each.name == found.get("variant", "")]
    return with_lr(chosen, found["lr"])


def count_planned(run: Run) -> int:
    """How many lanes a run shall have, also those of a search that are not proposed yet."""
    experiment, command = run.experiment, run.facts()["command"]
    if command == "range-test":
        return experiment.range_test.seeds * len(variants_of(experiment, command))
    if command == "train":
        return experiment.training.seeds
    if command == "find":
        return int(summarize(run)["lanes"]["planned"])
    plan = run.plan()
    if command == "search":
        return max(len(plan), experiment.search.trials * experiment.search.seeds)
    if command != "compare" or any(
        lane.seed < experiment.compare.first_tuning_seed(experiment.seed) for lane in plan
    ):
        return len(plan)
    if len(run.outcomes()) == len(plan) and "interrupted" not in run.outcomes().values():
        return len(plan) + len(next_round(experiment.compare, plan, run.lanes(), experiment.seed))
    return len(plan) + experiment.compare.seeds * len({lane.variant for lane in plan})


def _range_test(run: Run) -> dict[str, Any]:
    facts, section = run.facts(), run.experiment.range_test
    if section.over != "lr":
        names = [variant.name for variant in variants_of(run.experiment, "range-test")]
        return over_summary(
            run.lanes(), str(run.path), names, section.method, section.over, facts.get("notes", ())
        )
    group = section.group and {"name": section.group, "optimizer_lr": run.experiment.optimizer.lr}
    return range_test_summary(
        run.lanes(), str(run.path), section.method, facts.get("edge"), facts.get("notes", ()), group or None
    )


def _find(run: Run) -> dict[str, Any]:
    facts, experiment = run.facts(), run.experiment
    section, told = experiment.find, facts.get("training")
    training = None if told is None else Training(**told)
    return find_summary(
        run.lanes(),
        str(run.path),
        training,
        cost=facts.get("cost", 0),
        schedule=experiment.training.schedule.name,
        judge=section.judge,
        seeds=section.seeds,
        wide=facts.get("wide", False),
        verified=facts.get("verified"),
        verify_steps=verify_steps(experiment, training.steps) if section.verify and training else None,
        verify_seeds=section.verify_seeds,
        metric=facts.get("metric"),
        refused=facts.get("refused"),
        notes=facts.get("notes", ()),
    )


def recommended_by(source: Path, method: str) -> dict[str, Any] | None:
    """What a find's run recommends, read from its probes again; None where the source is anything else.

    Args:
        source: a run directory, or any other file or folder.
        method: what is asked: "all", or the name of a method.

    Raises:
        UsageError: if the method reads curves and the source has probes, or the other way round.
    """
    is_find = is_run(source) and Run.open(source).facts()["command"] == "find"
    if is_find and method in ("all", METHOD):
        return answer(summarize(Run.open(source)))
    if is_find:
        raise UsageError(
            f"'{source}' has probes at constant rates, and {method} reads a curve over rates; `lrfind"
            " range-test` makes one."
        )
    if method == METHOD:
        raise UsageError(
            f"'{source}' is no find's run: {METHOD} reads probes at constant rates; `lrfind find` makes them."
        )
    return None


def verify_steps(experiment: Experiment, steps: int) -> int:
    """Length of the trainings that verify what was found for so many steps."""
    return max(1, round(experiment.find.verify_share * steps))


def _sweep(run: Run) -> dict[str, Any]:
    facts = run.facts()
    section = lanes_section(run.experiment, facts["command"])
    assert isinstance(section, GridSection | SearchSection)
    return sweep_summary(
        run.lanes(),
        str(run.path),
        facts["command"],
        judge=section.judge,
        tolerance=section.tolerance,
        planned=count_planned(run),
        engine=next(iter(facts.get("engines", ())), None),
        metric=facts.get("metric"),
        notes=facts.get("notes", ()),
    )


def _comparison(run: Run) -> dict[str, Any]:
    facts, section = run.facts(), run.experiment.compare
    return comparison_summary(
        run.lanes(),
        str(run.path),
        [variant.name for variant in variants_of(run.experiment, "compare")],
        judge=section.judge,
        first_tuning_seed=section.first_tuning_seed(run.experiment.seed),
        common_peak=section.one_peak,
        planned=count_planned(run),
        engines=facts.get("engines", ()),
        metric=facts.get("metric"),
        notes=facts.get("notes", ()),
    )


def _training(run: Run) -> dict[str, Any]:
    facts, experiment = run.facts(), run.experiment
    return training_summary(
        run.lanes(),
        str(run.path),
        lr=experiment.optimizer.lr,
        schedule=experiment.training.schedule.name,
        planned=count_planned(run),
        metric=facts.get("metric"),
        notes=facts.get("notes", ()),
    )


SUMMARIES: Mapping[str, Callable[[Run], dict[str, Any]]] = {
    "find": _find,
    "range-test": _range_test,
    "grid": _sweep,
    "search": _sweep,
    "compare": _comparison,
    "train": _training,
}


def state(run: Run) -> dict[str, Any]:
    """How far a run is, and what it found so far."""
    facts, outcomes = run.facts(), list(run.outcomes().values())
    planned, found = count_planned(run), answer(summarize(run))
    settled = sum(outcome in SETTLED for outcome in outcomes)
    holder = run.holder
    return {
        "run": str(run.path),
        "name": run.experiment.name,
        "command": facts["command"],
        "state": "running" if holder else "finished" if run.concluded else "unfinished",
        "lanes": {"planned": planned, "settled": settled}
        | {kind: outcomes.count(kind) for kind in dict.fromkeys(outcomes)},
        "lr": found["lr"],
        "variant": found.get("variant"),
        "holder": holder,
    }
