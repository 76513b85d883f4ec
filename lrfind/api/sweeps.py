"""`grid` and `compare` in Python: whole trainings of a user's own objects, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lrfind.api.arguments import checked_interval, checked_looks, checked_seed, recipe_from, without_trace
from lrfind.api.comparisons import ComparisonResult
from lrfind.api.grids import GridResult
from lrfind.api.lanes import (
    conditions_of_lanes,
    notes_on_lanes,
    refuse_without_any,
    seeds_are_alike,
    shape_of_lanes,
)
from lrfind.api.origin import named_or_described, origin_of, schedule_name
from lrfind.catalog import Judge, Precision
from lrfind.config.experiment import section_of
from lrfind.config.sections import CompareSection, GridSection
from lrfind.config.variants import labels
from lrfind.errors import UsageError, listed
from lrfind.experiments.planned import planned_steps, planned_training
from lrfind.experiments.prepare import evaluate_once
from lrfind.experiments.rounds import CompareRounds, GridRounds
from lrfind.experiments.sweep import train_rounds
from lrfind.problem.batches import LossFn
from lrfind.problem.objects import objects_of
from lrfind.problem.problem import Problem
from lrfind.problem.ranks import is_first_rank
from lrfind.problem.rates import base_lr
from lrfind.views.progress import call_progress


def grid(
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    loss_fn: LossFn | None = None,
    data: Iterable[Any] | Callable[[], Any] | None = None,
    *,
    loss: Callable[[Any], Any] | None = None,
    step: Callable[[Any], Any] | None = None,
    optimizers: Sequence[torch.optim.Optimizer] = (),
    keep: Sequence[Any] = (),
    score: Callable[[Any], Any] | None = None,
    lrs: Sequence[float] | None = None,
    low: float = 1e-4,
    high: float = 1.0,
    points: int = 9,
    extend: bool = False,
    steps: int | None = None,
    schedule: Any = None,
    seeds: int = 3,
    seed: int = 0,
    val: Iterable[Any] | None = None,
    judge: Judge = "val_loss",
    eval_every: int | None = None,
    tolerance: float = 0.05,
    looks: int = 10,
    accumulate: int = 1,
    precision: Precision = "float32",
    clip_norm: float | None = None,
    clip_value: float | None = None,
    progress: bool = True,
) -> GridResult:
    """Train at each of a few rates, whole trainings, and compare them; afterwards everything is as it was.

    All trainings start from the model's weights. Those of one seed see the same batches with the same dropout
    masks, one after another. A training that diverges, or whose code raises an exception later than at its
    first step, is a result too. `range_test` lists what is restored.

    Args:
        model: see `range_test`, also for the arguments up to `score`.
        optimizer: an optimizer over the model's parameters. Several param groups keep the ratios of their
            lrs, and the rates are those of the first group whose lr is not zero.
        loss_fn: see `range_test`.
        data: see `range_test`.
        loss: see `range_test`.
        step: see `range_test`.
        optimizers: see `range_test`.
        keep: see `range_test`.
        score: see `range_test`.
        lrs: the rates, in place of `low`, `high` and `points`.
        low: the lowest rate.
        high: the highest rate.
        points: the number of rates from `low` to `high`, evenly spaced in log lr.
        extend: whether further rates outward are tried while the best one is the lowest or the highest.
        steps: T, the number of optimizer steps of each training; an epoch when omitted.
        schedule: the schedule of the trainings, in one of the forms that `find` takes; a constant lr when
            omitted. The rates are its peaks.
        seeds: the number of trainings at each rate. Each seed has its own batch order (if the loader
            shuffles) and dropout masks.
        seed: the first seed.
        val: a loader, or a list of batches, of validation data. Without it the trainings are judged by their
            final training loss, the mean over the last twentieth of the steps.
        judge: the loss that decides, if there is validation data: the final "val_loss" or "train_loss", or
            "best_val_loss", the lowest of all evaluations.
        eval_every: the number of steps between evaluations; None to evaluate at the end only.
        tolerance: how far the loss of a usable rate may lie above the best one, as a share of the fall of the
            loss.
        looks: see `range_test`.
        accumulate: see `find`.
        precision: see `range_test`.
        clip_norm: see `range_test`.
        clip_value: see `range_test`.
        progress: see `range_test`.

    Returns:
        The result, also if there is no best rate; then its `lr` raises `NoSuggestion`, and `reason` says why.

    Raises:
        UsageError: if an argument is out of range, or batches, model and loss do not fit together.
    """
    given = {"lrs": lrs} if lrs is not None else {"low": low, "high": high, "points": points}
    section = section_of(GridSection, **given, extend=extend, seeds=seeds, judge=judge, tolerance=tolerance)
    recipe = recipe_from(accumulate, precision, clip_norm, clip_value)
    objects = objects_of(
        model,
        optimizer,
        loss_fn,
        data,
        loss=loss,
        step=step,
        optimizers=optimizers,
        keep=keep,
        score=score,
        recipe=recipe,
        validation=val,
    )
    seed, looks, eval_every = checked_seed(seed), checked_looks(looks), checked_interval(eval_every)
    length = planned_steps(steps, data, accumulate)
    shape = shape_of_lanes(objects, "constant" if schedule is None else schedule, length, eval_every)
    conditions = conditions_of_lanes(objects, judge, eval_every, looks, length)
    name = schedule_name(schedule)
    training = planned_training(objects.optimizers, length, shape.mean_multiplier, schedule=name)
    lr, origin = base_lr(objects.optimizers), origin_of(objects, seed)

    def train(problem: Problem) -> GridResult:
        metric, _ = evaluate_once(problem, seed)
        alike = seeds > 1 and seeds_are_alike(problem, seed, lr)
        rounds = GridRounds(section.model_copy(update={"seeds": 1}) if alike else section, seed)
        with call_progress(progress and is_first_rank(), "grid") as watch:
            lanes = train_rounds(problem, rounds, {"": 1.0}, {"": shape}, conditions, watch=watch)
        refuse_without_any(lanes)
        notes = notes_on_lanes(objects, lanes, section.judge, alike)
        return GridResult(
            lanes, training, section.judge, section.tolerance, notes, metric, shape.of_scheduler, origin
        )

    return without_trace(objects, train, seed=seed)


def compare(
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    loss_fn: LossFn | None = None,
    data: Iterable[Any] | Callable[[], Any] | None = None,
    *,
    schedules: Sequence[Any] | Mapping[str, Any] = ("constant", "linear", "cosine", "one_cycle"),
    loss: Callable[[Any], Any] | None = None,
    step: Callable[[Any], Any] | None = None,
    optimizers: Sequence[torch.optim.Optimizer] = (),
    keep: Sequence[Any] = (),
    score: Callable[[Any], Any] | None = None,
    peaks: Sequence[float] | None = None,
    common_peak: float | None = None,
    steps: int | None = None,
    seeds: int = 5,
    tuning_seeds: int = 2,
    seed: int = 0,
    val: Iterable[Any] | None = None,
    judge: Judge = "val_loss",
    eval_every: int | None = None,
    accumulate: int = 1,
    precision: Precision = "float32",
    clip_norm: float | None = None,
    clip_value: float | None = None,
    progress: bool = True,
) -> ComparisonResult:
    """Compare schedules, each at its own best peak, by whole trainings; afterwards everything is as it was.

    A few seeds choose the peak of each schedule, and the schedules are then compared on other seeds. With one
    seed, all trainings start from the same weights and see the same batches. `range_test` lists what is
    restored.

    Optimizers are not compared here: an optimizer belongs to the parameters of one model, and brings a state
    and arguments of its own. Call `grid` once with each, and compare the losses of the results; or use
    `lrfind compare --optimizers` with a config.

    Args:
        model: see `range_test`, also for the arguments up to `score`.
        optimizer: see `grid`.
        loss_fn: see `range_test`.
        data: see `range_test`.
        schedules: two or more schedules, each in one of the forms that `find` takes; or a dict that gives
            each its name.
        loss: see `range_test`.
        step: see `range_test`.
        optimizers: see `range_test`; they are the optimizers of the step.
        keep: see `range_test`.
        score: see `range_test`.
        peaks: the peaks to try. When omitted: the lr of the optimizer, half a decade below and above it, and
            further peaks outward while that helps.
        common_peak: one peak for all, in place of `peaks`. It favours the schedules that it suits.
        steps: T, the number of optimizer steps of each training; an epoch when omitted.
        seeds: the number of compared trainings of each schedule.
        tuning_seeds: the number of other seeds, which choose the peaks.
        seed: the first seed.
        val: see `grid`.
        judge: see `grid`.
        eval_every: see `grid`.
        accumulate: see `find`.
        precision: see `range_test`.
        clip_norm: see `range_test`.
        clip_value: see `range_test`.
        progress: see `range_test`.

    Returns:
        The result, also if no schedule finished; then its `lr` raises `NoSuggestion`, and `reason` says why.

    Raises:
        UsageError: if an argument is out of range, or batches, model and loss do not fit together.
    """
    section = section_of(
        CompareSection,
        peaks=peaks,
        common_peak=common_peak,
        seeds=seeds,
        tuning_seeds=tuning_seeds,
        judge=judge,
    )
    recipe = recipe_from(accumulate, precision, clip_norm, clip_value)
    objects = objects_of(
        model,
        optimizer,
        loss_fn,
        data,
        loss=loss,
        step=step,
        optimizers=optimizers,
        keep=keep,
        score=score,
        recipe=recipe,
        validation=val,
    )
    seed, eval_every = checked_seed(seed), checked_interval(eval_every)
    length = planned_steps(steps, data, accumulate)
    shapes = {
        name: shape_of_lanes(objects, schedule, length, eval_every)
        for name, schedule in _named(schedules).items()
    }
    conditions = conditions_of_lanes(objects, judge, eval_every, 0, length)
    lr, origin = base_lr(objects.optimizers), origin_of(objects, seed)

    def train(problem: Problem) -> ComparisonResult:
        metric, _ = evaluate_once(problem, seed)
        alike = seeds_are_alike(problem, seed, lr)
        used = section.model_copy(update={"seeds": 1, "tuning_seeds": 1}) if alike else section
        rounds = CompareRounds(used, seed)
        with call_progress(progress and is_first_rank(), "compare") as watch:
            lanes = train_rounds(problem, rounds, dict.fromkeys(shapes, lr), shapes, conditions, watch=watch)
        refuse_without_any(lanes)
        notes = notes_on_lanes(objects, lanes, section.judge, alike)
        made = [name for name, shape in shapes.items() if shape.of_scheduler]
        first = used.first_tuning_seed(seed)
        return ComparisonResult(lanes, [*shapes], length, section.judge, first, notes, metric, made, origin)

    return without_trace(objects, train, seed=seed)


def _named(schedules: Any) -> dict[str, Any]:
    """Return schedules by their names; those given by name are called as in the CLI.

    Raises:
        UsageError: if there are fewer than two, or if two have the same name.
    """
    if isinstance(schedules, Mapping):
        named = {str(name): schedule for name, schedule in schedules.items()}
    else:
        if isinstance(schedules, str) or not isinstance(schedules, Sequence):
            raise UsageError(f"schedules: must be a list of schedules, or a dict; found {schedules!r:.80}.")
        plans = [named_or_described(schedule) for schedule in schedules]
        by_name = iter(labels([component for component, words in plans if not words]))
        names = [
            _own_name(schedule, number) if words else next(by_name)
            for number, (schedule, (_, words)) in enumerate(zip(schedules, plans, strict=True), 1)
        ]
        repeated = list(dict.fromkeys(f"'{name}'" for name in names if names.count(name) > 1))
        if repeated:
            raise UsageError(
                f"schedules: {listed(repeated)} stands there twice; list each schedule once, or give their"
                " names: schedules={'name': schedule, ...}."
            )
        named = dict(zip(names, schedules, strict=True))
    if len(named) < 2:
        raise UsageError("schedules: give at least two that differ.")
    return named


def _own_name(schedule: Any, number: int) -> str:
    """Return the name of a schedule that was given as an object."""
    name: str = getattr(schedule, "__name__", type(schedule).__name__)
    return name if name.isidentifier() else f"schedule {number}"
