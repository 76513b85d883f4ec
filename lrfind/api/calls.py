"""`find` and `range_test` in Python, for a model and a loss, or for a whole training step, of your own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from lrfind.analysis.recommendation import recommend
from lrfind.analysis.refinement import unspent_budget
from lrfind.api.arguments import checked_looks, checked_seed, notes_on, recipe_from, without_trace
from lrfind.api.origin import origin_of, schedule_name
from lrfind.api.range_tests import RangeTest
from lrfind.api.results import Recommendation
from lrfind.api.trainings import provisional, refined, verified
from lrfind.catalog import Precision, Spacing, is_adaptive
from lrfind.config.experiment import section_of
from lrfind.config.sections import FindSection, RangeTestSection
from lrfind.errors import NoSuggestion, UsageError, counted, sentence
from lrfind.experiments import range_test as ramping
from lrfind.experiments.find import probe_rates
from lrfind.experiments.groups import confirmed, with_groups
from lrfind.experiments.planned import (
    early_end,
    fitting_shape,
    planned_steps,
    planned_training,
    steps_per_epoch,
)
from lrfind.experiments.refine import left_budget, left_steps
from lrfind.problem.batches import LossFn
from lrfind.problem.objects import objects_of
from lrfind.problem.problem import Problem
from lrfind.problem.ranks import is_first_rank
from lrfind.problem.rates import innermost
from lrfind.views.progress import call_progress


def range_test(
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
    start_lr: float = 1e-6,
    end_lr: float = 10.0,
    steps: int = 100,
    spacing: Spacing = "exponential",
    seeds: int = 1,
    seed: int = 0,
    grad_norm: bool = False,
    held_out_batch: Any = None,
    looks: int = 10,
    accumulate: int = 1,
    precision: Precision = "float32",
    clip_norm: float | None = None,
    clip_value: float | None = None,
    progress: bool = True,
) -> RangeTest:
    """Run an lr range test; afterwards everything is as it was, bit for bit.

    These are restored, also after an exception: the model (weights, buffers, modes, hooks), the optimizer
    (state, lrs), `.grad`, the random state of Python, NumPy and torch, the state of the loader, whatever the
    loss, the step and the hooks refer to, and the thread count; see `problem.snapshot.Snapshot`.

    Args:
        model: the model. If it is in train mode, every submodule keeps its mode; otherwise, the whole model
            is put in train mode.
        optimizer: an optimizer over the model's parameters. Several param groups keep the ratios of their
            lrs, and the reported lr is that of the first group whose lr is not zero.
        loss_fn: a function of (output, y), or of (output, batch) for dict batches; with None, the
            loss is the output's `.loss`. See `problem.batches.output_and_loss` for all forms of a batch.
        data: a loader or another iterable of batches that can be read again and again, or a function that
            returns the next batch.
        loss: a function of a batch that returns the loss, in place of `loss_fn`.
        step: a function of a batch that takes a whole training step and returns the loss before it, in place
            of `model`, `optimizer` and `loss_fn`.
        optimizers: the optimizers that `step` uses.
        keep: further objects that the training changes, if its functions and hooks do not refer to them.
        score: a function of a batch that returns the number to lower, where the loss of `step` does not tell.
        start_lr: the lr of the first step.
        end_lr: the lr of the last step, unless the loss diverges before.
        steps: T, the number of optimizer steps of a lane.
        spacing: the spacing of the lrs, "exponential" or "linear".
        seeds: the number of lanes. Each lane has its own batch order (if the loader shuffles) and dropout
            masks; all of them start from the model's weights.
        seed: the seed of the first lane.
        grad_norm: whether to record the Euclidean norm of the gradient too.
        held_out_batch: a batch whose loss, in evaluation mode, is recorded at every step too.
        looks: the number of looks at the gradient of every layer in a lane, at least 40 steps apart; 0 for
            none. A look needs memory for three copies of the trained weights.
        accumulate: the number of batches whose gradients make one step; of calls, if `step` takes one batch
            and makes an update only at every fourth call, for example.
        precision: the precision of forward and backward passes; "float16" comes with a `GradScaler`.
        clip_norm: the largest norm of the gradient; None for no limit.
        clip_value: the largest absolute value of a number in the gradient; None for no limit.
        progress: whether to show progress on stderr when the call takes more than a second.

    Raises:
        UsageError: if an argument is out of range, or batches, model and loss do not fit together.
    """
    section = section_of(
        RangeTestSection,
        start_lr=start_lr,
        end_lr=end_lr,
        steps=steps,
        seeds=seeds,
        spacing=spacing,
        grad_norm=grad_norm,
    )
    looks = checked_looks(looks)
    seed = checked_seed(seed)
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
        held_out_batch=held_out_batch,
    )
    if objects.own_step is not None or objects.sharded:
        looks = 0
    if objects.own_step is not None and (grad_norm or held_out_batch is not None):
        raise UsageError("grad_norm and held_out_batch: lrfind measures neither in a step of your own.")
    adaptive = any(is_adaptive(type(inner).__name__) for inner in innermost(objects.optimizers))

    origin = origin_of(objects, seed)

    def ramp(problem: Problem) -> RangeTest:
        with call_progress(progress and is_first_rank(), "range-test") as watch:
            lanes = ramping.range_test(problem, section, seed, looks=looks, watch=watch)
        return RangeTest(lanes, adaptive, notes_on(objects), origin)

    return without_trace(objects, ramp, seed=seed)


def find(
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
    steps: int | None = None,
    schedule: Any = None,
    budget: int | str | None = None,
    max_seconds: float | None = None,
    groups: bool = False,
    seeds: int = 1,
    seed: int = 0,
    accumulate: int = 1,
    precision: Precision = "float32",
    clip_norm: float | None = None,
    clip_value: float | None = None,
    verify: bool | float = False,
    verify_seeds: int = 3,
    progress: bool = True,
) -> Recommendation:
    """Find the learning rate to train with; afterwards everything is as it was, bit for bit.

    Short probes train at constant rates, all from the model's weights and on the same batches; see
    `analysis.probe_search.ProbeSearch` and `analysis.recommendation.recommend`. `range_test` lists what is
    restored.

    Under `torch.distributed`, all ranks call `find` and get the same answer, which is for the global batch.

    The result holds the model and the optimizers only weakly, so that it can `verify` the rate later without
    keeping them in memory.

    Args:
        model: see `range_test`.
        optimizer: an optimizer over the model's parameters. Several param groups keep the ratios of their
            lrs, and the recommended lr is that of the first group whose lr is not zero.
        loss_fn: see `range_test`.
        data: see `range_test`.
        loss: see `range_test`.
        step: see `range_test`. The lr is set before each optimizer step; a scheduler in it has no effect.
        optimizers: see `range_test`.
        keep: see `range_test`.
        score: see `range_test`.
        steps: T, the number of optimizer steps of the planned training; an epoch when omitted.
        schedule: the schedule of the planned training; a constant lr when omitted. The recommended lr is its
            peak. One of these: a name
            from `lrfind ls schedules`, or that of transformers; (name, args), for example
            ("cosine", {"warmup": 0.05}); a function of the step that returns the lr or a multiple of it; a
            scheduler of torch, or a function that makes one from an optimizer. A scheduler takes one step
            per optimizer step.
        budget: how much to spend: a number of gradient steps, or of trainings such as "4x". Short probes come
            first, with at most T steps for each seed (at least 95, at most 800). What is left goes to
            trainings with the planned schedule, compressed or whole, which refine the answer and are judged
            by their last training losses. When omitted, there are only probes, with at most T steps for each
            seed (at least 16, or 24 for a step of your own), or 4 T where a short training learns slowly.
        max_seconds: how many seconds to spend in the same way, roughly.
        groups: whether to find one rate for each param group too; see `Recommendation.group_lrs`.
        seeds: the number of times to probe. Each seed has its own batch order (if the loader shuffles) and
            dropout masks.
        seed: the first seed.
        accumulate: see `range_test`.
        precision: see `range_test`.
        clip_norm: see `range_test`.
        clip_value: see `range_test`.
        verify: whether whole trainings at a third of the rate, at the rate and at three times the rate then
            verify it. With a number above 3, for example 5, they also run at so many times the rate, to show
            how near instability is.
        verify_seeds: the number of these trainings at each rate.
        progress: see `range_test`.

    Raises:
        NoSuggestion: if no rate can be recommended; the exception has `.reason` and `.cost`.
        UsageError: if an argument is out of range, or batches, model and loss do not fit together.
    """
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
    )
    section = section_of(
        FindSection,
        seeds=seeds,
        budget=budget,
        max_seconds=max_seconds,
        groups=groups,
        verify=bool(verify),
        verify_beyond=None if isinstance(verify, bool) else verify,
        verify_seeds=verify_seeds,
        lanes="auto" if objects.stackable else "single",
    )
    seed = checked_seed(seed)
    length = planned_steps(steps, data, accumulate)
    assumed = []
    if steps is None:
        assumed = [
            f"`steps` was not given, so the rate is for one epoch, which has {counted(length, 'step')}."
        ]
    course = "constant" if schedule is None else schedule
    epoch = steps_per_epoch(data, accumulate)
    shape = fitting_shape(course, length, epoch, objects.optimizers)
    if (early := early_end(shape, epoch)) is not None:
        assumed.append(early)
    name = schedule_name(schedule)
    training = planned_training(objects.optimizers, length, shape.mean_multiplier, epoch, name)
    origin = origin_of(objects, seed, steps=length, schedule=schedule, shape=shape)

    def probe(problem: Problem) -> Recommendation:
        with call_progress(progress and is_first_rank(), "find") as watch:
            probing = probe_rates(problem, section, seed, training, watch=watch)
            refusal: NoSuggestion | None = None
            try:
                answer = recommend(probing.results, training, probing.cost, probing.findings)
            except NoSuggestion as refused:
                answer, refusal = provisional(refused), refused
            rates = probing.groups
            if rates is not None and refusal is None:
                before = rates.cost
                most = left_steps(section, length, probing.cost, probing.began)
                rates = confirmed(problem, rates, answer.lr, shape, seed, most=most, watch=watch)
                answer = replace(answer, cost=answer.cost + rates.cost - before)
            best = Recommendation(
                **vars(answer),
                training=training,
                results=probing.results,
                lanes=probing.lanes,
                notes=[*assumed, *notes_on(objects, scheduled=schedule is not None, shared=not groups)],
                optimizer_count=len(objects.optimizers),
                groups=rates,
                origin=origin,
            )
            left = left_budget(section, length, best.cost, probing.began)
            problem = with_groups(problem, rates)
            longest = max(result.steps for result in best.results)
            spendable = None if rates is not None and rates.wants_budget else section.budget_steps(length)
            unspent = unspent_budget(training, longest, seeds, best.cost, spendable)
            changes = refined(best, training, longest, problem, left, seed, shape, watch, refusal)
            best = replace(best, notes=[*best.notes, *map(sentence, unspent)], **changes)
            if not verify:
                return best
            return replace(best, **verified(best, problem, section, seed, shape, watch))

    return without_trace(objects, probe, seed=seed)
