"""The Python API: `find` and `range_test` for a model, an optimizer, a loss and a loader of your own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from lrfind.analysis.curves import Array, Curve
from lrfind.analysis.diagnosis import Finding, calm_looks, diagnose
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.probing import ProbeResult, probe_rows
from lrfind.analysis.recommendation import Answer, PlannedTraining, recommend
from lrfind.analysis.suggestions import Suggestion, suggest_over
from lrfind.catalog import DEFAULT_METHOD, Spacing, optimizer_named
from lrfind.config.experiment import section_of
from lrfind.config.sections import Component, FindSection, RangeTestSection
from lrfind.config.shapes import shape_of
from lrfind.errors import UsageError
from lrfind.experiments import range_test as ramping
from lrfind.experiments.find import planned_training, probe_rates
from lrfind.problem.batches import LossFn
from lrfind.problem.problem import check_objects, from_objects
from lrfind.problem.snapshot import preserved
from lrfind.runs.summaries.methods import ask

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class RangeTest:
    """The result of a range test.

    Attributes:
        lanes: one result for each seed: lr, loss, outcome.
        adaptive: whether the optimizer divides a gradient by the size of past gradients, as Adam's family
            does.
    """

    lanes: Sequence[LaneResult]
    adaptive: bool = False

    def __repr__(self) -> str:
        lr = self.lanes[0].lr
        return (
            f"RangeTest({len(self.lanes)} lanes, {len(self.lr)} steps, lr {lr[0]:.3g} to {self.lr[-1]:.3g})"
        )

    @property
    def curves(self) -> list[Curve]:
        """The loss against lr, one curve for each seed."""
        return [lane.curve for lane in self.lanes]

    @property
    def lr(self) -> Array:
        """(T,) the lrs that the optimizer used, up to the last one that every seed reached."""
        return min((lane.lr for lane in self.lanes), key=len)

    @property
    def loss(self) -> Array:
        """(T,) the loss before the update that uses lr[t]; the median if there are several seeds."""
        reached = len(self.lr)
        median: Array = np.median([lane.loss[:reached] for lane in self.lanes], axis=0)
        return median

    def suggest(self, method: str = DEFAULT_METHOD) -> Suggestion:
        """Ask a suggestion method; with several seeds, return the median and the spread of their answers.

        Args:
            method: a name from `lrfind ls methods`.

        Raises:
            NoSuggestion: if the curves have no answer; `.reason` says why.
        """
        return suggest_over(self.curves, method)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the loss against lr with the suggestion, on `ax` or on the axes of a new figure."""
        from lrfind.views.plots.range_test import draw_range_test, view_range_test

        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
        answer = ask(self.curves, DEFAULT_METHOD, raw=True)
        edge = ask(self.curves, "edge", raw=True)["lr"]
        return draw_range_test(view_range_test(self.curves, answer, edge), ax)

    @property
    def findings(self) -> list[Finding]:
        """The problems of the gradients, and what to try; empty if there are none."""
        looks = [calm_looks(lane, on_a_ramp=True) for lane in self.lanes if lane.health]
        return diagnose(looks, adaptive=self.adaptive)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each lane and step, with the columns of steps.csv."""
        from lrfind.runs.tables import steps_frame

        return steps_frame(list(self.lanes))


def range_test(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: LossFn | None,
    loader: Iterable[Any],
    *,
    start_lr: float = 1e-6,
    end_lr: float = 10.0,
    steps: int = 100,
    spacing: Spacing = "exponential",
    seeds: int = 1,
    seed: int = 0,
    grad_norm: bool = False,
    held_out_batch: Any = None,
    looks: int = 10,
) -> RangeTest:
    """Run an lr range test; afterwards everything is as it was, bit for bit.

    These are restored, also after an exception: the model (weights, buffers, modes, hooks), the optimizer
    (state, lrs), `.grad`, the random state of Python, NumPy and torch, the loader's generator, and the thread
    count.

    Args:
        model: the model. If it is in train mode, every submodule keeps its mode; otherwise, the whole model
            is put in train mode.
        optimizer: an optimizer over the model's parameters. Several param groups keep the ratios of their
            lrs, and the reported lr is that of the first group whose lr is not zero.
        loss_fn: a function of (output, y), or of (output, batch) for dict batches; with None, the
            loss is the output's `.loss`.
        loader: yields (x, y), (x1, ..., xn, y) or dicts, and can be read again and again.
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
    check_objects(model, optimizer, loader)
    with preserved(model, optimizer, loss_fn, loader) as snapshot:
        problem = from_objects(model, optimizer, loss_fn, loader, snapshot, held_out_batch)
        row = optimizer_named(type(optimizer).__name__)
        adaptive = row is not None and row.adaptive
        return RangeTest(ramping.range_test(problem, section, seed, looks=looks), adaptive)


@dataclass(frozen=True)
class Recommendation(Answer):
    """The learning rate to train with, and the probes that recommend it.

    Attributes:
        training: the planned training.
        results: the results of probing, one for each seed.
        lanes: the probes of all seeds, and the untouched models at lr 0.
    """

    training: PlannedTraining
    results: Sequence[ProbeResult]
    lanes: Sequence[LaneResult]

    def __repr__(self) -> str:
        return (
            f"Recommendation(lr={self.lr:.3g}, low={self.low:.3g}, high={self.high:.3g},"
            f" confidence={self.confidence!r}, cost={self.cost}): {self.reason}"
        )

    @property
    def evidence(self) -> pd.DataFrame:
        """One row for each probe: seed, lr, steps, score, untouched, stopped, weight; see `probe_rows`."""
        import pandas as pd

        return pd.DataFrame(probe_rows(self.results))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the probes' scores against lr, the answer and its interval, on `ax` or on a new figure."""
        from lrfind.views.plots.find import draw_find, view_find

        rows = probe_rows(self.results)
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
        return draw_find(view_find(rows, vars(self), steps=self.training.steps), ax)


def find(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: LossFn | None,
    loader: Iterable[Any],
    *,
    steps: int | None = None,
    schedule: str = "constant",
    budget: int | None = None,
    max_seconds: float | None = None,
    seeds: int = 1,
    seed: int = 0,
    accumulate: int = 1,
) -> Recommendation:
    """Find the learning rate to train with; afterwards everything is as it was, bit for bit.

    Short probes train at constant rates, all from the model's weights and on the same batches; see
    `analysis.probe_search.ProbeSearch` and `analysis.recommendation.recommend`. `range_test` lists what is
    restored.

    Args:
        model: see `range_test`.
        optimizer: an optimizer over the model's parameters. Several param groups keep the ratios of their
            lrs, and the recommended lr is that of the first group whose lr is not zero.
        loss_fn: see `range_test`.
        loader: see `range_test`.
        steps: T, the number of optimizer steps of the planned training; an epoch when omitted.
        schedule: the schedule of the planned training: "constant", "cosine" (with a warmup of 5 %, at least
            10 steps), or another of `lrfind ls schedules`. The recommended lr is its peak.
        budget: the largest number of gradient steps for all probes together.
        max_seconds: roughly the largest number of seconds for all probes together.
        seeds: the number of times to probe. Each seed has its own batch order (if the loader shuffles) and
            dropout masks.
        seed: the first seed.
        accumulate: the number of batches whose gradients make one step.

    Raises:
        NoSuggestion: if no rate can be recommended; the exception has `.reason` and `.cost`.
        UsageError: if an argument is out of range, or batches, model and loss do not fit together.
    """
    section = section_of(FindSection, seeds=seeds, budget=budget, max_seconds=max_seconds)
    _check_seed(seed)
    check_objects(model, optimizer, loader)
    if type(accumulate) is not int or accumulate < 1:
        raise UsageError(f"accumulate: must be a whole number, 1 or more; found {accumulate!r}.")
    length = _planned_steps(steps, loader, accumulate)
    multiplier = shape_of(_schedule_of(schedule, length), length, None).multiplier
    training = planned_training(optimizer, length, float(multiplier.mean()))
    with preserved(model, optimizer, loss_fn, loader) as snapshot:
        problem = from_objects(model, optimizer, loss_fn, loader, snapshot, accumulate=accumulate)
        probing = probe_rates(problem, section, seed, training)
    answer = recommend(probing.results, training, probing.cost)
    return Recommendation(**vars(answer), training=training, results=probing.results, lanes=probing.lanes)


def _schedule_of(name: str, steps: int) -> Component:
    """Return a schedule by its name; a cosine has a warmup of 5 % of the steps, at least 10, at most half."""
    if not isinstance(name, str):
        raise UsageError(f"schedule: must be a name from `lrfind ls schedules`; found {name!r}.")
    warmup = min(max(10, round(0.05 * steps)), steps // 2)
    return Component(name=name, args={"warmup": warmup} if name == "cosine" else {})


def _check_seed(seed: int) -> None:
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise UsageError(f"seed: must be a whole number from 0 to {2**32 - 1}; found {seed!r}.")


def _planned_steps(steps: int | None, loader: Iterable[Any], accumulate: int) -> int:
    """Return `steps`, or if it is None the number of steps of an epoch."""
    if steps is None:
        try:
            return max(1, len(loader) // accumulate)  # type: ignore[arg-type]
        except TypeError:
            raise UsageError(
                "steps: the loader has no length; give the number of steps of the training that you plan."
            ) from None
    if type(steps) is not int or steps < 1:
        raise UsageError(f"steps: must be a whole number, 1 or more; found {steps!r}.")
    return steps
