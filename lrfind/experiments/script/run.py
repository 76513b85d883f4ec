"""`lrfind script`: find the learning rate of a training script, which is started for each probe."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.planned_training import PlannedTraining, most_cost
from lrfind.analysis.probe_search import ProbeSearch
from lrfind.analysis.probing import ProbeResult
from lrfind.catalog import optimizer_named
from lrfind.config.imports import refuse_import
from lrfind.config.sections import ScriptSection
from lrfind.config.shapes import shape_of
from lrfind.errors import NoSuggestion, counted, sentence
from lrfind.experiments.prepare import environment
from lrfind.experiments.script.prober import Limits, ScriptProber, Spent, probed_part
from lrfind.experiments.script.starts import Start, start_script
from lrfind.runs.best import conclude
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.runs.summaries.find import probing_fact
from lrfind.training.cost import StartCost
from lrfind.training.watch import Observer

USUAL_STARTS = 10  # of a script, by which the time of probing is foretold
LOG = "script.log"
"""The file of the run directory that has the output of the script."""


def run_script(run: Run, observer: Observer) -> RunResult:
    """Find the learning rate of a script, or continue an interrupted run; starts that have ended are kept.

    The fact `script` of the run has what the starts cost so far (the fields of `Spent`), and what is known of
    the script (`ScriptProber.about`).

    Args:
        run: a run directory that this process has locked.
        observer: is called as the run goes on, to show progress.
    """
    try:
        if run.facts().probing is None:
            _probe(run, observer)
    except BaseException:
        with contextlib.suppress(OSError):
            conclude(run)
        raise
    return conclude(run)


def _probe(run: Run, observer: Observer) -> None:
    """Probe, and store the lanes and the answer."""
    experiment, script = run.experiment, run.experiment.script
    assert script is not None  # `lrfind script` has put it there
    refuse_import("script", script.path)
    steps = experiment.training.steps
    assert steps is not None  # the same
    schedule = experiment.training.schedule
    mean = shape_of(schedule, steps).mean_multiplier
    prober = _prober(run, script, observer)

    # What the script trains, and whether two starts do the same.
    results, refusal = list[ProbeResult](), None
    try:
        prober.begin()
        training = _training(prober.about, steps, mean, schedule.name)
        device = environment(torch.device(prober.about["device"]))
        run.keep_facts(environment=device, planned_training=asdict(training))
        prober.check_repeats()
        run.keep_facts(script=_fact(prober))
        observer.timed(_cost(prober))
        # The search itself.
        search = ProbeSearch(prober, seed=experiment.seed, longest=min(training.longest, prober.longest))
        results = [replace(search.run(training.start), takes_budget=False)]
    except NoSuggestion as error:
        refusal = error.reason
    fact = probing_fact(results, training, prober.spent.steps, refusal)
    lanes = prober.lanes([probe for result in results for probe in result.probes.values()])
    run.add_lanes(
        lanes,
        probing=fact,
        planned=len(lanes),
        script=_fact(prober),
        notes=[*_notes(prober, steps), *prober.notes],
    )


def _prober(run: Run, script: ScriptSection, observer: Observer) -> ScriptProber:
    """Make the prober, which continues with what the run has kept."""
    steps, seed = run.experiment.training.steps or 1, run.experiment.seed
    fact = run.facts().script or {}
    costs = asdict(Spent())
    spent = Spent(**{name: value for name, value in fact.items() if name in costs})

    def start(lr: float, needed: int, most: int, ceiling: Any, watch: Callable[[int, float], None]) -> Start:
        return start_script(
            script, lr, seed, needed, most, ceiling=ceiling, log=run.folder / LOG, watch=watch
        )

    def keep(lane: LaneResult) -> None:
        run.add_lanes([lane], script=_fact(prober))

    prober = ScriptProber(
        start,
        seed,
        Limits(most_cost(steps), run.experiment.find.max_seconds),
        longest=PlannedTraining("", steps).longest,
        watch=observer.watch(None, None),
        keep=keep,
        known=run.lanes(),
        about={name: value for name, value in fact.items() if name not in costs},
        spent=spent,
    )
    return prober


def _fact(prober: ScriptProber) -> dict[str, Any]:
    """Return what is stored of the starts so far."""
    return prober.about | asdict(prober.spent)


def _training(about: Mapping[str, Any], steps: int, mean_multiplier: float, schedule: str) -> PlannedTraining:
    """Return the training that the script makes."""
    row = optimizer_named(about["optimizer"])
    momentum = about["momentum"] if row is not None and row.family == "sgd" else 0.0
    return PlannedTraining(about["optimizer"], steps, momentum, mean_multiplier, schedule=schedule)


def _cost(prober: ScriptProber) -> StartCost:
    """Return what the starts cost, as far as the first ones show."""
    spent = prober.spent
    left = max(USUAL_STARTS - spent.starts, 0)
    seconds = spent.seconds + left * spent.seconds / spent.starts
    return StartCost(spent.until_first / spent.starts, spent.pace, seconds)


def _notes(prober: ScriptProber, steps: int) -> list[str]:
    """Return what to know about the rate, in sentences."""
    about = prober.about
    notes = [f"{about['note']}."] if about["note"] else []
    if about["others"]:
        kinds = Counter(f"{name} at {ratio:.3g}x" for name, ratio in about["others"])
        others = [f"{kind} ({count} of them)" if count > 1 else kind for kind, count in kinds.items()]
        notes.append(
            f"The script has {counted(1 + len(about['others']), 'optimizer')}, which keep the ratios of their"
            f" lrs. The lr is that of {about['optimizer']}, which steps first; the others:"
            f" {', '.join(others)}."
        )
    if about.get("mixed"):
        notes.append(
            "The optimizers have losses of their own, whose mean is the loss of a step. If these losses work"
            " against each other, as in a GAN, the mean does not tell whether the training gets better. Then"
            " do not trust this rate; use lrfind.find with a score."
        )
    own = prober.steps_of_its_own
    if own is not None and own < steps:
        notes.append(
            f"{sentence(probed_part(about['others']))} ended by itself after {counted(own, 'step')}, but"
            f" the rate is for {counted(steps, 'step')}, as --steps says."
        )
    return notes
