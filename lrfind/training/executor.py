"""The executor of a single lane, and what every executor has: conditions, and a record of each lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count, repeat
from typing import Any, Protocol

import numpy as np
import torch

from lrfind.analysis import divergence
from lrfind.analysis.curves import Array
from lrfind.analysis.health import LayerHealth, look_steps
from lrfind.analysis.lanes import Evaluation, Lane, LaneResult, Outcome, Watch
from lrfind.config.sections import EarlyStop
from lrfind.errors import as_exception
from lrfind.problem.problem import Problem
from lrfind.problem.setup import Setup
from lrfind.schedules.reactive import plateaued
from lrfind.training.evaluation import evaluate, evaluating, score
from lrfind.training.explanations.failures import failure_text
from lrfind.training.gauge import Gauge
from lrfind.training.interrupts import stop_if_asked
from lrfind.training.kernels import fast_kernels
from lrfind.training.loop import Step, gauge_of, train
from lrfind.training.ramp import RampBatches
from lrfind.training.stackable import traceable


@dataclass(frozen=True)
class Conditions:
    """The settings that all lanes of a run share, besides the problem.

    Attributes:
        factor: the factor of `DivergenceRule`.
        eval_every: the number of steps between evaluations; None to evaluate at the end only.
        evaluated: whether lanes are evaluated at all.
        rungs: the numbers of steps after which lanes are pruned; empty for never.
        prune_by_val_loss: whether lanes are pruned by their lowest validation loss so far, and not by their
            recent training losses; if so, every rung needs an evaluation at it or before it.
        grad_norm: whether to measure the norm of the gradient too; for single lanes only.
        early_stop: the rule that ends a lane before its last step; None for never.
        pause_every: the number of steps between further pauses, in which a lane's state may be stored; None
            for no further pauses.
        looks: the number of looks at a lane's layers, spread evenly over its steps; see
            `lrfind.analysis.health`.
        ramp: whether the lr only rises. Then a loss that rises because of harder batches is told from one
            that diverges; see `RampBatches`.
    """

    factor: float = divergence.AT_A_CONSTANT_LR
    eval_every: int | None = None
    evaluated: bool = True
    rungs: tuple[int, ...] = ()
    prune_by_val_loss: bool = False
    grad_norm: bool = False
    early_stop: EarlyStop | None = None
    pause_every: int | None = None
    looks: int = 0
    ramp: bool = False

    def stops(self, steps: int) -> list[int]:
        """Return the numbers of steps after which training pauses.

        It pauses for evaluations, for further pauses (`pause_every`), for rungs, and at the end.
        """
        every = [range(n, steps, n) for n in (self.eval_every, self.pause_every) if n]
        return sorted({*chain(*every), *self.rungs, steps})

    def evaluated_at(self, step: int, steps: int) -> bool:
        """Return whether lanes of `steps` steps are evaluated after the first `step` steps."""
        return self.evaluated and (step == steps or bool(self.eval_every and step % self.eval_every == 0))


ON_A_RAMP = Conditions(factor=divergence.ON_A_RAMP, evaluated=False, ramp=True)
"""The conditions of range tests."""


class Steps:
    """The steps of a lane so far, by columns, because millions of small objects would take memory and time.

    Attributes:
        lr, loss, grad_norm, held_out_loss, skipped: a value for each step; those that no step measures are
            empty.
    """

    def __init__(self) -> None:
        self.lr: list[float] = []
        self.loss: list[float] = []
        self.grad_norm: list[float] = []
        self.held_out_loss: list[float] = []
        self.skipped: list[bool] = []

    def __len__(self) -> int:
        return len(self.lr)

    def __iter__(self) -> Iterator[Step]:
        rest = (column or repeat(None) for column in (self.grad_norm, self.held_out_loss, self.skipped))
        return map(Step, count(), self.lr, self.loss, *rest)

    def append(self, step: Step) -> None:
        """Append a step with all that it measured."""
        self.lr.append(step.lr)
        self.loss.append(step.loss)
        if step.grad_norm is not None:
            self.grad_norm.append(step.grad_norm)
        if step.held_out_loss is not None:
            self.held_out_loss.append(step.held_out_loss)
        if step.skipped is not None:
            self.skipped.append(step.skipped)

    def extend(self, lr: Sequence[float], loss: Sequence[float]) -> None:
        """Append steps that measured nothing but their losses."""
        self.lr += lr
        self.loss += loss


@dataclass
class LaneRecord:
    """The measurements of one lane so far.

    `outcome` is None until the lane ends. `remark` says what data or number format did to a ramp's loss.
    """

    lane: Lane
    conditions: Conditions
    rule: divergence.DivergenceRule = field(init=False)
    steps: Steps = field(default_factory=Steps)
    evaluations: list[Evaluation] = field(default_factory=list)
    health: list[LayerHealth] = field(default_factory=list)
    outcome: Outcome | None = None
    rung: int | None = None
    seconds: float = 0.0
    failure: BaseException | None = None
    remark: str = ""
    _judged: int = 0  # the number of steps that the rule has seen

    def __post_init__(self) -> None:
        self.rule = divergence.DivergenceRule(self.conditions.factor)

    def take(self, step: Step) -> None:
        """Take the next step's measurements."""
        self.steps.append(step)
        for loss in self.steps.loss[self._judged :]:
            if self.rule.diverges(loss):
                self.outcome = "diverged"
        self._judged = len(self.steps)

    def take_block(self, lr: Sequence[float], losses: Sequence[float], *, suspect: bool) -> None:
        """Take the next steps up to a divergence; a lane that is not suspect is known not to diverge."""
        if not suspect:
            self.steps.extend(lr, losses)
            return
        for step in map(Step, count(len(self.steps)), lr, losses):
            self.take(step)
            if self.outcome:
                break

    def take_looks(self, rows: Sequence[LayerHealth]) -> None:
        """Take the looks up to the lane's last step; its stack may have continued for other lanes."""
        last = len(self.steps) - 1
        for row in rows:
            if row.step < last or (row.step == last and not self.outcome):
                self.health.append(row)
            elif row.step == last:  # the lane ended here, so this step's update says nothing about it
                self.health.append(row._replace(update_ratio=None))

    def take_evaluation(self, evaluation: Evaluation) -> None:
        """Take an evaluation, which may end the lane."""
        self.evaluations.append(evaluation)
        early, losses = self.conditions.early_stop, [evaluation.val_loss for evaluation in self.evaluations]
        if early and plateaued(losses, patience=early.patience, threshold=early.threshold):
            self.outcome = "finished"

    def lr(self, ahead: slice) -> Array:
        """Return the lrs of these steps, according to the evaluations so far."""
        lr, reaction = self.lane.lr[ahead], self.lane.reaction
        if reaction is None or reaction.to != "val_loss":
            return lr
        return lr * reaction.multiplier(
            [evaluation.val_loss for evaluation in self.evaluations], self.lane.peak
        )

    def momentum(self, ahead: slice) -> Array | None:
        """Return the momentum of these steps; None leaves the optimizer's own."""
        return None if self.lane.momentum is None else self.lane.momentum[ahead]

    @property
    def damping(self) -> Callable[[float], float] | None:
        """A function from a step's gradient norm to the factor of its lr; None if the lr ignores the norm."""
        reaction = self.lane.reaction
        if reaction is None or reaction.to != "grad_norm":
            return None
        multiplier = reaction.multiplier
        norms = [*self.steps.grad_norm]

        def damp(norm: float) -> float:
            norms.append(norm)
            return multiplier(norms, self.lane.peak)

        return damp

    def result(self, outcome: Outcome) -> LaneResult:
        """Return the measurements as a result; `outcome` counts only if the lane has no outcome yet."""

        def column(values: Sequence[float]) -> Array:
            return np.array(values, dtype=np.float64)

        steps = self.steps
        text = self.remark if self.failure is None else failure_text(self.failure)
        return LaneResult(
            lane=self.lane.lane,
            seed=self.lane.seed,
            planned=self.lane.lr.size,
            peak=self.lane.peak,
            outcome=self.outcome or outcome,
            lr=column(steps.lr),
            loss=column(steps.loss),
            held_out_loss=column(steps.held_out_loss) if steps.held_out_loss else None,
            grad_norm=column(steps.grad_norm) if steps.grad_norm else None,
            evaluations=tuple(self.evaluations),
            rung=self.rung,
            seconds=self.seconds,
            error=text.encode("utf-8", "replace").decode() or None,  # no file can hold lone surrogates
            variant=self.lane.variant,
            momentum=self.momentum(slice(len(steps))),
            skipped=column(steps.skipped) if steps.skipped else None,
            health=tuple(self.health),
        )


class Executor(Protocol):
    """Trains lanes of one seed, in one mode."""

    records: list[LaneRecord]

    def advance(self, until: int) -> None:
        """Train every lane that has not ended up to step `until`, or to its divergence."""

    def evaluate(self, step: int) -> None:
        """Evaluate every lane that has not ended."""


class SingleExecutor:
    """Trains one lane. An exception ends the lane as failed."""

    def __init__(self, problem: Problem, lane: Lane, conditions: Conditions, watch: Watch) -> None:
        self.records = [LaneRecord(lane, conditions)]
        self._problem, self._watch, self._grad_norm = problem, watch, conditions.grad_norm
        self._setup: Setup | None = None
        self._batches: RampBatches | None = None
        self._gauge: Gauge | None = None

    @property
    def record(self) -> LaneRecord:
        """The record of the lane."""
        return self.records[0]

    @property
    def setup(self) -> Setup:
        """The parts of the lane; they are made when first asked for."""
        if self._setup is None:
            self._setup = self._problem.setup(self.record.lane.seed)
            if self.record.conditions.ramp:
                self._batches = RampBatches(self._setup)
                self._setup = replace(self._setup, batches=self._batches)
        return self._setup

    @property
    def generators(self) -> Sequence[Any]:
        """The random generators that the data draws from besides the global ones."""
        return self._problem.generators

    @property
    def gauge(self) -> Gauge:
        """The gauge that looks at the lane's layers."""
        if self._gauge is None:
            lane, looks = self.record.lane, self.record.conditions.looks
            self._gauge = gauge_of(self.setup, look_steps(lane.lr.size, looks))
        return self._gauge

    def advance(self, until: int) -> None:
        """Train the lane up to step `until`."""
        record, at = self.record, len(self.record.steps)
        with self._failure_recorded():
            steps = train(
                self.setup,
                record.lr(slice(at, until)),
                start=at,
                grad_norm=self._grad_norm,
                momentum=record.momentum(slice(at, until)),
                damping=record.damping,
                gauge=self.gauge,
            )
            try:
                for step in steps:
                    record.take(step)
                    if self._batches is not None:
                        record.outcome = self._batches.judge(step.loss, record.rule, record.outcome)
                        record.remark = self._batches.remark
                    self._watch((record.lane,), step.step, (step.loss,))
                    if record.outcome:
                        break
            finally:
                for rows in self.gauge.take():
                    record.take_looks(rows)

    def evaluate(self, step: int) -> None:
        """Evaluate the lane."""
        if self._setup is None or self._problem.validation is None or self.record.outcome:
            return
        model, loss_fn = self._setup.model, self._setup.loss_fn
        fast = fast_kernels(traceable(self._setup))
        with self._failure_recorded(), as_exception(), evaluating(model), torch.no_grad(), fast:
            scored = partial(score, model, loss_fn)
            val_loss, metric, _ = evaluate(scored, self._problem.validation(), loss_fn)
            record_evaluations(self.records, step, val_loss, metric)

    @contextmanager
    def _failure_recorded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            stop_if_asked()  # the worker of a loader may have got the signal too, and ended
            self.record.outcome, self.record.failure = "failed", error


def record_evaluations(
    records: Sequence[LaneRecord], step: int, val_loss: Array, metric: Array | None
) -> None:
    """Record an evaluation of every lane that has not ended."""
    metrics = [None] * len(records) if metric is None else metric.tolist()
    for record, loss, value in zip(records, val_loss.tolist(), metrics, strict=True):
        if not record.outcome:
            record.take_evaluation(Evaluation(step, loss, value))
