"""Finding the learning rate of a planned training: probe, refine the answer, and on request verify it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice

import numpy as np
import torch

from lrfind.analysis.curves import Array
from lrfind.analysis.diagnosis import ONLY_THE_HEAD, diagnose
from lrfind.analysis.group_rates import GroupRates
from lrfind.analysis.lanes import LaneResult, Watch
from lrfind.analysis.planned_training import PlannedTraining, most_cost
from lrfind.analysis.probe_search import WIDE, ProbeSearch
from lrfind.analysis.probing import (
    FIRST_STEPS,
    MOST_TRAININGS,
    TYPICAL_COST,
    UNTOUCHED,
    ProbeResult,
)
from lrfind.analysis.refinement import WHOLE_RATES
from lrfind.analysis.verification import verify_count
from lrfind.catalog import is_adaptive
from lrfind.config.experiment import Experiment
from lrfind.config.resolved import resolved_text
from lrfind.config.sections import FindSection
from lrfind.config.variants import with_multipliers
from lrfind.errors import NoGradient, NoSuggestion, first_few, sentence
from lrfind.experiments.budget import Budget
from lrfind.experiments.groups import GroupProber, confirmed, most_group_steps
from lrfind.experiments.planned import planned_training
from lrfind.experiments.prepare import (
    environment,
    epoch_steps,
    schedule_shape,
    seconds_of_a_pass,
    training_steps,
)
from lrfind.experiments.prober import PASSES, LaneProber
from lrfind.experiments.refine import left_budget, left_steps, refine_run
from lrfind.experiments.verify import verify_run
from lrfind.problem.param_groups import multipliers_in_words
from lrfind.problem.problem import Problem, from_config
from lrfind.problem.ranks import rank_count
from lrfind.runs.best import conclude
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.runs.summaries.find import group_multipliers, probing_fact
from lrfind.runs.summary import read_result
from lrfind.training.calibration import Plan, calibrate, computing_with
from lrfind.training.cost import FindCost
from lrfind.training.explanations.values import nonfinite_parts, why_not_float16
from lrfind.training.loop import gauge_of, train
from lrfind.training.mode import Mode
from lrfind.training.team import Team
from lrfind.training.watch import Observer, unwatched

HARMLESS_LR = 1e-8  # at which steps show the gradients of the untouched model
LOOKS = 4  # at these gradients; in one batch units may be dead, or gradients 0, by chance
WORTH_CALIBRATING = 20.0  # seconds of probing; for less, timing both modes takes longer than it saves


@dataclass(frozen=True)
class Probing:
    """The measurements of probing, with one or more seeds.

    Attributes:
        results: one result for each seed.
        lanes: the probes of all seeds, and the untouched models at lr 0.
        cost: the number of gradient steps.
        findings: what is wrong with the loss or with the gradients, in sentences. The gradients are looked at
            only if the probes hardly learned.
        groups: one rate for each param group; None if that was not requested.
        began: when it began, by the monotonic clock; now by default.
    """

    results: Sequence[ProbeResult]
    lanes: Sequence[LaneResult]
    cost: int
    findings: Sequence[str] = ()
    groups: GroupRates | None = None
    began: float = field(default_factory=time.monotonic)


def probe_rates(
    problem: Problem,
    section: FindSection,
    seed: int,
    training: PlannedTraining,
    *,
    watch: Watch = unwatched,
) -> Probing:
    """Look for the lr that learns fastest, once for each seed.

    Args:
        problem: what to train.
        section: the budget, the number of seeds, and the mode of probes that begin together.
        seed: the first seed.
        training: the planned training.
        watch: called after every step.

    Raises:
        LrfindError: if the first step cannot be taken; the message says which parts do not match.
        NoSuggestion: if the loss has no gradient.
    """
    most, patient = probing_steps(section, training.steps)
    more = (patient - most) // section.seeds
    budget = Budget(0, section.max_seconds)
    results, lanes = list[ProbeResult](), list[LaneResult]()
    group_prober = GroupProber(problem, section, seed, training) if section.groups else None
    misfit: str | None = None
    try:
        mode = _stacked_mode(problem, section, seed, training.start)
        wide = mode is not None and most // section.seeds >= WIDE * FIRST_STEPS
        threads = mode.threads if mode else section.threads or torch.get_num_threads()
        with computing_with(threads, usual_digits=section.lanes != "auto"):
            for number in range(section.seeds):
                seconds = section.max_seconds and section.max_seconds * (number + 1) / section.seeds
                share = most * (number + 1) // section.seeds - most * number // section.seeds
                budget = replace(budget, steps=budget.steps + share, seconds=seconds)
                prober = LaneProber(problem, seed + number, budget, mode, watch, first=len(lanes))
                search = ProbeSearch(prober, seed=seed + number, longest=training.longest)
                results.append(_related(_searched(search, training, budget, more, wide=wide), prober))
                lanes += prober.lanes
                misfit = misfit or prober.misfit()
                if group_prober:
                    group_prober.add(prober, results[-1], budget)
            groups = group_prober.rates(budget) if group_prober else None
    except NoGradient as error:
        raise NoSuggestion(str(error), budget.taken) from error
    if all(probe.stopped for result in results for probe in result.probes.values()):
        optimizers = problem.setup(seed).all_optimizers
        reason = next(filter(None, map(why_not_float16, optimizers)), None)
        if reason is not None:
            raise NoSuggestion(reason, budget.taken)
    finite = all(np.isfinite(result.untouched_loss).all() for result in results)
    doubtful = finite and any(result.doubtful for result in results)
    findings = gradient_findings(problem, seed) if doubtful else []
    if not finite:
        for number, result in enumerate(results):
            findings = findings or data_findings(problem, seed + number, result.untouched_loss)
    if misfit is not None:
        findings = [f"{sentence(misfit)}.", *findings]
    return Probing(results, lanes, budget.taken, findings, groups, budget.began)


def probing_steps(section: FindSection, steps: int) -> tuple[int, int]:
    """Return the gradient steps that all probes together may take for a training of so many steps.

    Each seed takes at most as many steps as the training, but always as many as probing usually takes. What
    that leaves of a budget pays for refinement, which tells more.

    Returns:
        The most steps, and the most where some seed learns slowly: then probes of a short training go on for
        more steps than the training has, if that continues them to at least twice their steps, and if the
        budget does not pay for whole trainings, which would tell more.
    """
    usual, patient = (most_cost(n * steps) * section.seeds for n in (1, MOST_TRAININGS))
    budget = section.budget_steps(steps)
    if budget is not None:
        patient = min(patient, budget) if budget < WHOLE_RATES * steps else usual
        usual = min(usual, budget)
    return usual, patient if patient >= 2 * usual else usual


def _searched(
    search: ProbeSearch, training: PlannedTraining, budget: Budget, more: int, *, wide: bool
) -> ProbeResult:
    """Return what a search measures; where the training learns slowly, its budget grows by `more` steps."""
    result = search.run(training.start, wide=wide)
    if more and result.cut and result.scores and result.steps >= FIRST_STEPS:
        budget.steps += more
        search.result = replace(result, cut=False)
        result = search.go_on()
    return result


def _related(result: ProbeResult, prober: LaneProber) -> ProbeResult:
    """Return a result that also says whether the model predicts targets, before probing and at its end."""
    scores = {place: score for place, score in result.scores.items() if np.isfinite(score)}
    if not scores:
        return result
    best = [result.probes[place].lr for place in sorted(scores, key=scores.__getitem__)]
    result = replace(result, after=prober.relation(best, result.steps))
    if result.doubtful:
        result = replace(result, before=prober.relation([UNTOUCHED], result.steps))
    return result


def gradient_findings(problem: Problem, seed: int) -> list[str]:
    """Say what is wrong with the gradients of the untouched model, at all layers and on `LOOKS` batches.

    There is no look inside a step of the user's own. If a look fails, there is nothing to say. That only the
    head of a model is trained is a choice, and nothing wrong.
    """
    if problem.own_step:
        return []
    try:
        setup = problem.setup(seed)
        gauge = gauge_of(setup, range(LOOKS))
        for _ in train(setup, np.full(LOOKS, HARMLESS_LR), gauge=gauge):
            pass
    except Exception:
        return []
    findings = diagnose(gauge.take(), adaptive=is_adaptive(type(setup.optimizer).__name__))
    return [finding.in_words for finding in findings if finding.what != ONLY_THE_HEAD]


def data_findings(problem: Problem, seed: int, untouched: Array) -> list[str]:
    """Say which values of a batch make the loss of the untouched model NaN or inf; empty if none does.

    Args:
        problem: what to train.
        seed: the seed of the batches.
        untouched: (steps,) the losses of the untouched model.
    """
    setup = problem.setup(seed)
    for step, loss in enumerate(untouched.tolist()):
        batches = list(islice(setup.batches, setup.recipe.accumulate))
        for number, batch in enumerate(batches, step * len(batches) + 1):
            if not math.isfinite(loss) and (parts := nonfinite_parts(batch)):
                return [
                    "The data holds values that are not finite (NaN or inf), which give a loss that is not"
                    f" finite at any lr. The first are in batch {number}: {first_few(parts)}. Leave such rows"
                    " out of the data set, or fill in numbers."
                ]
    return []


def _stacked_mode(problem: Problem, section: FindSection, seed: int, lr: float) -> Mode | None:
    """Return how probes that begin together are stacked; None if they are trained one after another.

    With `lanes: auto`, stacks are timed only if probing takes long enough and no budget limits it.
    """
    if section.lanes == "single" or rank_count() > 1:
        return None
    if section.lanes == "auto":
        if section.budget is not None or section.max_seconds is not None:
            return None
        if TYPICAL_COST * PASSES * seconds_of_a_pass(problem, seed) < WORTH_CALIBRATING:
            return None
    mode = calibrate(problem, section, Plan(WIDE, TYPICAL_COST // WIDE, 1, lr / 100), seed)
    return mode if mode.name == "stacked" else None


def run_find(run: Run, observer: Observer, team: Team | None = None) -> RunResult:
    """Find a learning rate, or continue an interrupted run; probing and trainings that have ended are kept.

    Probes give an answer, a larger budget refines it, and on request trainings verify it.

    Args:
        run: a run directory that this process has locked.
        observer: is called as the run goes on, to show progress.
        team: the workers that do the verifying trainings; None to do them in this process. Probing is done
            in this process, because each probe depends on the one before.
    """
    problem = from_config(run.experiment)
    try:
        if run.facts().probing is None:
            _probe(run, problem, observer)
        with_groups = run.experiment
        if run.experiment.find.groups:
            with_groups = with_multipliers(run.experiment, group_multipliers(read_result(run).summary))
            problem = from_config(with_groups)
        refine_run(run, problem, observer)
        result = read_result(run)
        if run.experiment.find.verify and result.answer["lr"] is not None:
            verify_run(run, result, problem, resolved_text(with_groups), observer, team)
            result = read_result(run)
    except BaseException:
        with contextlib.suppress(OSError):
            conclude(run)
        raise
    return conclude(run, result)


@dataclass(frozen=True)
class FindPlan:
    """The plan of a `find`: the training that it is for, and what it may cost.

    Attributes:
        training: the planned training.
        cost: the most that probing, refinement and verification cost.
    """

    training: PlannedTraining
    cost: FindCost


def plan_find(problem: Problem, experiment: Experiment) -> FindPlan:
    """Plan a `find`; nothing is trained.

    Raises:
        UsageError: if the schedule does not fit the planned training or the trainings that verify its rate.
    """
    section = experiment.find
    steps = training_steps(experiment.training, problem)
    shape = schedule_shape(experiment, problem, steps)
    setup = problem.setup(experiment.seed)
    epoch = epoch_steps(experiment.training, problem)
    schedule = experiment.training.schedule.name
    training = planned_training([setup.optimizer], steps, shape.mean_multiplier, epoch, schedule)
    verified = section.verify_steps(steps)
    if section.verify:
        schedule_shape(experiment, problem, verified)
    trainings = verify_count(section.verify_beyond, section.verify_seeds) if section.verify else 0
    budget = section.budget_steps(steps)
    _, probing = probing_steps(section, steps)
    groups = most_group_steps(setup, section, steps) if section.groups else 0
    return FindPlan(training, FindCost(probing, trainings, verified, groups, budget, section.max_seconds))


def _probe(run: Run, problem: Problem, observer: Observer) -> None:
    """Probe, and store the lanes and the answer."""
    experiment, section = run.experiment, run.experiment.find
    plan = plan_find(problem, experiment)
    run.keep_facts(
        environment=environment(problem.device), data=problem.data, planned_training=asdict(plan.training)
    )
    observer.expected(plan.cost)
    refusal = None
    watch = observer.watch(None, None)
    try:
        probing = probe_rates(problem, section, experiment.seed, plan.training, watch=watch)
    except NoSuggestion as error:
        probing, refusal = Probing((), (), error.cost), error.reason
    fact = probing_fact(probing.results, plan.training, probing.cost, refusal, probing.findings)
    answered = fact["answer"]["lr"] is not None
    if probing.groups is not None:
        rates = probing.groups
        if answered:
            shape, lr = schedule_shape(experiment, problem, plan.training.steps), fact["answer"]["lr"]
            most = left_steps(section, plan.training.steps, probing.cost, probing.began)
            rates = confirmed(problem, rates, lr, shape, experiment.seed, most=most, watch=watch)
        fact["groups"] = asdict(rates)
        fact["cost"] += rates.cost - probing.groups.cost
    budget = left_budget(section, plan.training.steps, fact["cost"], probing.began)
    planned = len(probing.lanes) + (plan.cost.trainings if answered else 0)
    groups = problem.setup(experiment.seed).optimizer.param_groups
    ratios = None if section.groups else multipliers_in_words(groups)  # the rates of groups stand in a table
    notes = [*run.facts().notes, *problem.notes, *filter(None, [ratios])]
    run.add_lanes(probing.lanes, probing=fact, notes=notes, planned=planned, left_budget=budget)
