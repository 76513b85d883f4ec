"""`find` and `range_test` in Python, for a model and a loss, or for a whole training step, of your own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import nn

from lrfind.analysis.recommendation import recommend
from lrfind.api.results import RangeTest, Recommendation
from lrfind.api.trainings import refined, verified
from lrfind.catalog import Precision, Spacing, optimizer_named
from lrfind.config.experiment import section_of
from lrfind.config.sections import FindSection, RangeTestSection, TrainingSection
from lrfind.errors import UsageError
from lrfind.experiments import range_test as ramping
from lrfind.experiments.find import probe_rates
from lrfind.experiments.groups import confirmed, with_groups
from lrfind.experiments.planned import planned_shape, planned_steps, planned_training, steps_per_epoch
from lrfind.experiments.refine import left_budget, left_steps
from lrfind.problem.batches import LossFn
from lrfind.problem.objects import Objects, from_objects, limits_of, objects_of
from lrfind.problem.problem import Problem, recipe_of
from lrfind.problem.ranks import is_first_rank, rank_count, together
from lrfind.problem.rates import groups_of, innermost, ratios_in_words
from lrfind.problem.setup import Recipe
from lrfind.problem.snapshot import Snapshot, preserved
from lrfind.views.progress import call_progress

T = TypeVar("T")


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
        accumulate: the number of batches whose gradients make one step.
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
    if type(looks) is not int or looks < 0:
        raise UsageError(f"looks: must be a whole number, 0 or more; found {looks!r}.")
    _check_seed(seed)
    recipe = _recipe(accumulate, precision, clip_norm, clip_value)
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
    kinds = [optimizer_named(type(inner).__name__) for inner in innermost(objects.optimizers)]
    adaptive = any(row is not None and row.adaptive for row in kinds)

    def ramp(problem: Problem) -> RangeTest:
        with call_progress(progress and is_first_rank()) as watch:
            lanes = ramping.range_test(problem, section, seed, looks=looks, watch=watch)
        return RangeTest(lanes, adaptive, _notes(objects))

    return _on_all_ranks(objects, ramp)


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
            from `lrfind ls schedules`, or that of transformers ("cosine" has a warmup of 5 %, at least 10
            steps); (name, args); a function of the step that returns the lr or a multiple of it; a scheduler
            of torch, or a function that makes one from an optimizer.
        budget: how much to spend: a number of gradient steps, or of trainings such as "4x". Short probes come
            first, with at most 800 steps for each seed. What is left goes to trainings with the planned
            schedule, compressed or whole, which refine the answer and are judged by their last training
            losses. When omitted, there are only probes, with at most T steps for each seed, but at least 16
            (24 for a step of your own).
        max_seconds: how many seconds to spend in the same way, roughly.
        groups: whether to find one rate for each param group too; see `Recommendation.group_lrs`.
        seeds: the number of times to probe. Each seed has its own batch order (if the loader shuffles) and
            dropout masks.
        seed: the first seed.
        accumulate: the number of batches whose gradients make one step.
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
    recipe = _recipe(accumulate, precision, clip_norm, clip_value)
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
    _check_seed(seed)
    length = planned_steps(steps, data, accumulate)
    course = "constant" if schedule is None else schedule
    epoch = steps_per_epoch(data, accumulate)
    shape = planned_shape(course, length, epoch)
    training = planned_training(objects.optimizers, length, float(shape.multiplier.mean()), epoch)

    def probe(problem: Problem) -> Recommendation:
        with call_progress(progress and is_first_rank()) as watch:
            probing = probe_rates(problem, section, seed, training, watch=watch)
            answer = recommend(probing.results, training, probing.cost, probing.findings)
            rates = probing.groups
            if rates is not None:
                before = rates.cost
                most = left_steps(section, length, probing.cost)
                rates = confirmed(problem, rates, answer.lr, shape, seed, most=most, watch=watch)
                answer = replace(answer, cost=answer.cost + rates.cost - before)
            best = Recommendation(
                **vars(answer),
                training=training,
                results=probing.results,
                lanes=probing.lanes,
                notes=_notes(objects, scheduled=schedule is not None, shared=not groups),
                optimizer_count=len(objects.optimizers),
                groups=rates,
            )
            left = left_budget(section, length, best.cost, probing.seconds)
            problem = with_groups(problem, rates)
            best = refined(best, problem, left, seed, shape, watch)
            return verified(best, problem, section, seed, shape, watch) if verify else best

    return _on_all_ranks(objects, probe)


def _recipe(accumulate: Any, precision: Any, clip_norm: Any, clip_value: Any) -> Recipe:
    """Return how a step is made of batches.

    Raises:
        UsageError: if one of the arguments is out of range.
    """
    return recipe_of(
        section_of(
            TrainingSection,
            steps=1,
            accumulate=accumulate,
            precision=precision,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
    )


def _on_all_ranks(objects: Objects, work: Callable[[Problem], T]) -> T:
    """Do some work on a user's problem, on all ranks, and restore everything afterwards."""
    snapshots: list[Snapshot] = []

    def on_this_rank() -> T:
        with preserved(objects.trained, [objects.data], kept=objects.kept) as snapshot:
            snapshots.append(snapshot)
            for limit in limits_of(objects, snapshot):
                warnings.warn(limit, stacklevel=5)  # at the line that called `find` or `range_test`
            return work(from_objects(objects, snapshot))

    def undo() -> None:
        for snapshot in snapshots:
            snapshot.restore()

    return together(on_this_rank, undo)


def _notes(objects: Objects, *, scheduled: bool = True, shared: bool = True) -> list[str]:
    """Return what to know about a rate: the param group it is for, the batch that it is for, its schedule.

    Args:
        objects: the user's objects.
        scheduled: whether the schedule is known for which the rate is.
        shared: whether all param groups share one rate, in the ratios that they have.
    """
    notes = []
    ratios = ratios_in_words(groups_of(objects.optimizers)) if shared else None
    if ratios is not None:
        notes.append(f"{ratios}.")
    groups = groups_of(innermost(objects.optimizers))
    if not scheduled and any("initial_lr" in group for group in groups):
        notes.append(
            "The optimizer has a scheduler, but `schedule` was not given, so the rate is for a constant lr;"
            " give schedule=scheduler."
        )
    if (count := rank_count()) > 1:
        notes.append(f"The rate is for the batches of all {count} ranks together.")
    return notes


def _check_seed(seed: int) -> None:
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise UsageError(f"seed: must be a whole number from 0 to {2**32 - 1}; found {seed!r}.")
