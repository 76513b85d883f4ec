"""Finding the learning rate of a training: search, keep, recommend, and on request prove it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from lrfind.analysis.lanes import SETTLED, LaneResult, planned_lanes
from lrfind.analysis.probing import FIRST_STEPS, MOST_COST, TYPICAL_COST, WIDE, Recorded, Search, search
from lrfind.analysis.recommendation import Training
from lrfind.analysis.verification import VERIFY, verified_lrs
from lrfind.config.sections import FindSection
from lrfind.config.variants import Variant
from lrfind.errors import NoGradient, NoSuggestion
from lrfind.experiments.prepare import (
    environment,
    evaluate_once,
    training_conditions,
    training_steps,
    variant_shape,
)
from lrfind.experiments.prober import PASSES, Budget, LaneProber
from lrfind.problem.batches import batch_loss
from lrfind.problem.problem import Problem, from_config
from lrfind.runs.store import Run
from lrfind.runs.summaries.parts import answer
from lrfind.runs.summary import conclude, summarize, verify_steps
from lrfind.training.calibration import Engine, calibrate, computing_with
from lrfind.training.run import run_lanes
from lrfind.training.watch import Watch, WatchFor, unwatched

WORTH_CALIBRATING = 20.0  # seconds of probing; below this, to measure which way is faster takes too long


@dataclass(frozen=True)
class Found:
    """What searching came to.

    Attributes:
        searches: one a seed.
        lanes: the probes of all of them, and the untouched models.
        cost: gradient steps.
        wide: whether five probes began at once.
    """

    searches: Sequence[Search]
    lanes: Sequence[LaneResult]
    cost: int
    wide: bool


def find(
    problem: Problem,
    section: FindSection,
    seed: int,
    training: Training,
    *,
    watch: Watch = unwatched,
) -> Found:
    """Search for the lr that learns fastest, once for each seed.

    Args:
        problem: what to train.
        section: budget, seeds, and how probes that begin together are trained.
        seed: the first one.
        training: that the rate is for.
        watch: told of every step.

    Raises:
        LrfindError: if the first step cannot be taken; says what does not fit.
        NoSuggestion: if the loss has no gradient.
    """
    most = section.budget if section.budget is not None else MOST_COST * section.seeds
    spent = Budget(most, section.max_seconds)
    searches, lanes = [], list[LaneResult]()
    try:
        engine = _engine(problem, section, seed, training.start)
        wide = engine is not None and most // section.seeds >= WIDE * FIRST_STEPS
        threads = engine.threads if engine else section.threads or torch.get_num_threads()
        with computing_with(threads):
            for number in range(1, section.seeds + 1):
                seconds = section.max_seconds and section.max_seconds * number / section.seeds
                spent = replace(spent, steps=most * number // section.seeds, seconds=seconds)
                prober = LaneProber(problem, seed + number - 1, spent, engine, watch, first=len(lanes))
                made = search(prober, training.start, longest=training.longest, wide=wide)
                searches.append(replace(made, prober=Recorded.of(prober.lanes)))  # which touches nothing more
                lanes += prober.lanes
    except NoGradient as error:
        raise NoSuggestion(str(error), spent.taken) from error
    return Found(searches, lanes, spent.taken, wide)


def _engine(problem: Problem, section: FindSection, seed: int, lr: float) -> Engine | None:
    """How probes that begin together are stacked; None where they are trained one after another.

    Unless stacks are asked for, they are measured only where there is time to win, and no budget to spend.
    """
    if section.lanes == "single":
        return None
    if section.lanes == "auto":
        if section.budget is not None or section.max_seconds is not None:
            return None
        if TYPICAL_COST * PASSES * _seconds_of_a_pass(problem, seed) < WORTH_CALIBRATING:
            return None
    engine = calibrate(problem, section, WIDE, lr / 100, seed)
    return engine if engine.lanes == "stacked" else None


def _seconds_of_a_pass(problem: Problem, seed: int) -> float:
    """Of a second forward pass, as the first one also allocates; 0 where it fails, as probing says why."""
    with contextlib.suppress(Exception, SystemExit), torch.no_grad():
        setup = problem.setup(seed)
        for _ in range(2):
            began = time.perf_counter()
            batch_loss(setup.model, setup.loss_fn, next(setup.batches))
        return setup.recipe.accumulate * (time.perf_counter() - began)
    return 0.0


def run_find(run: Run, *, watch: WatchFor = lambda lanes, steps: unwatched) -> dict[str, Any]:
    """Find a learning rate, or go on with that: what has ended is kept, the search or the proof.

    Args:
        run: a run directory, held by this process.
        watch: makes what is told of every step.

    Returns:
        The summary, as in summary.json.
    """
    experiment = run.experiment
    problem = from_config(experiment)
    try:
        if not run.outcomes():
            _search(run, problem, watch)
        lr = answer(summarize(run))["lr"]
        if experiment.find.verify and lr is not None:
            _verify(run, problem, lr, watch)
    except BaseException:
        with contextlib.suppress(OSError):
            conclude(run)
        raise
    return conclude(run)


def _search(run: Run, problem: Problem, watch: WatchFor) -> None:
    experiment, section = run.experiment, run.experiment.find
    steps = training_steps(experiment.training, problem)
    shape = variant_shape(Variant("", experiment), problem, steps)
    setup = problem.setup(experiment.seed)
    training = training_of(setup.optimizer, steps, float(shape.multiplier.mean()))
    if section.verify:  # what is refused of its schedule should be before the search, not after it
        variant_shape(Variant("", experiment), problem, verify_steps(experiment, steps))
    run.set_fact("environment", environment(problem.device))
    run.set_fact("data", problem.data)
    run.set_fact("training", asdict(training))
    told = watch(None, None)
    try:
        found = find(problem, section, experiment.seed, training, watch=told)
    except NoSuggestion as refused:
        found = Found((), (), refused.cost, wide=False)
        run.set_fact("refused", refused.reason)
    run.set_fact("notes", [*problem.notes])
    run.set_fact("wide", found.wide)
    run.set_fact("cost", found.cost)
    run.add_lanes(found.lanes)  # last: with these, the search is done


def training_of(optimizer: torch.optim.Optimizer, steps: int, mean_multiplier: float) -> Training:
    """What a rate is wanted for, read off the optimizer."""
    groups = optimizer.param_groups
    moved = next((group for group in groups if group.get("initial_lr", group["lr"]) > 0), groups[0])
    name = type(optimizer).__name__.lower()
    momentum = float(moved.get("momentum", 0.0)) if name == "sgd" else 0.0
    return Training(name, steps, momentum, mean_multiplier)


def _verify(run: Run, problem: Problem, lr: float, watch: WatchFor) -> None:
    """Train at a third of a rate, at it and at three times it; a seed has its weights and batches."""
    experiment, section = run.experiment, run.experiment.find
    steps = verify_steps(experiment, run.facts()["training"]["steps"])
    shape = variant_shape(Variant("", experiment), problem, steps)
    known = run.lanes()
    first = sum(lane.variant != VERIFY for lane in known)
    lrs = verified_lrs(run.facts().get("verified", lr))
    run.set_fact("verified", lrs[1])
    planned = planned_lanes({VERIFY: lrs}, experiment.seed, section.verify_seeds, first)
    settled = {number for number, outcome in run.outcomes().items() if outcome in SETTLED}
    lanes = [lane.shaped(shape) for lane in planned if lane.lane not in settled]
    if not lanes:
        return
    if "metric" not in run.facts():
        run.set_fact("metric", evaluate_once(problem, experiment.seed)[0])
    engine = calibrate(problem, section, len(lrs), lrs[0], experiment.seed)
    told = watch(first + len(planned), steps)
    with computing_with(engine.threads):
        run_lanes(problem, lanes, training_conditions(experiment), engine, keep=run.add_lanes, watch=told)
