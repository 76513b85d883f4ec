"""The experiment with a run's answer in it, and the files that conclude a run."""

from __future__ import annotations

from lrfind.config.experiment import Experiment, dump
from lrfind.config.variants import with_lr
from lrfind.errors import UsageError
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result


def conclude(run: Run, result: RunResult | None = None) -> RunResult:
    """Write tables, summary and, where the run chose a rate among several, the config with that rate.

    Args:
        run: the run.
        result: the record and summary of the run; they are read from the run when omitted.

    Returns:
        The result.
    """
    result = result or read_result(run)
    run.export(result.lanes)
    if result.facts.environment is not None:
        run.write_json("environment.json", result.facts.environment)
    run.write_json("summary.json", result.summary)
    best = best_experiment(result)
    if best is not None:
        run.write("best.yaml", dump(best))
    return result


def best_experiment(result: RunResult) -> Experiment | None:
    """Return the experiment with the answer of a finished run that chose a rate; None if there is none."""
    lanes = result.summary["lanes"]
    finished = result.kind.writes_best and lanes["settled"] == lanes["planned"]
    return answered_experiment(result) if finished and result.answer["lr"] is not None else None


def answered_experiment(result: RunResult) -> Experiment:
    """Return a run's experiment with the run's answer in it.

    Raises:
        UsageError: if the run has no answer, or its answer is for a part of the model.
    """
    answer, group = result.answer, result.summary.get("group")
    if group is not None:
        raise UsageError(
            f"'{result.path}' tested only the param group '{group['name']}'; write its answer into the"
            " config yourself, as the lr_multiplier of this group."
        )
    if answer["lr"] is None:
        way = "" if result.facts.concluded else f" Run `lrfind resume {result.path}` to continue it."
        raise UsageError(f"'{result.path}' has no learning rate to give: {answer['reason']}{way}")
    name = answer.get("variant") or ""
    (chosen,) = [variant.experiment for variant in result.variants if variant.name == name]
    return with_lr(chosen, answer["lr"])
