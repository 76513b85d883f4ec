"""Teams: lanes of one seed that take their steps together, one alone or a stack, and what they measure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from lrfind.analysis import curves
from lrfind.analysis.curves import AT_A_CONSTANT_LR, Array, DivergenceRule
from lrfind.analysis.health import LayerHealth, look_steps
from lrfind.analysis.lanes import Evaluation, Lane, LaneResult, Outcome
from lrfind.config.sections import EarlyStop
from lrfind.problem.problem import Problem
from lrfind.problem.setup import Setup
from lrfind.schedules.reactive import plateaued
from lrfind.training.evaluation import Metric, evaluate, evaluating, score
from lrfind.training.gauge import Gauge
from lrfind.training.loop import Step, gauge_of, train
from lrfind.training.stack import Stack
from lrfind.training.watch import Watch

BLOCK = 16  # steps of a stack between two looks at its losses


@dataclass(frozen=True)
class Conditions:
    """What all lanes of a run have in common, besides the problem.

    Attributes:
        factor: of `DivergenceRule`.
        eval_every: steps between evaluations; None evaluates at the end alone.
        evaluated: whether lanes are evaluated at all.
        rungs: after how many steps lanes are pruned; empty for never.
        grad_norm: also measure the norm of the gradient; of single lanes only.
        early_stop: when a lane ends before its last step; None for never.
        pause_every: steps between other pauses, in which a lane's state may be kept.
        looks: how often, evenly over a lane's steps, its layers are looked at; see `lrfind.analysis.health`.
    """

    factor: float = AT_A_CONSTANT_LR
    eval_every: int | None = None
    evaluated: bool = True
    rungs: tuple[int, ...] = ()
    grad_norm: bool = False
    early_stop: EarlyStop | None = None
    pause_every: int | None = None
    looks: int = 0

    def stops(self, steps: int) -> list[int]:
        """After how many steps training pauses: for evaluations, for rungs and at the end."""
        every = [range(n, steps, n) for n in (self.eval_every, self.pause_every) if n]
        return sorted({*itertools.chain(*every), *self.rungs, steps})

    def evaluated_at(self, step: int, steps: int) -> bool:
        """Whether lanes are evaluated after so many steps."""
        return self.evaluated and (step == steps or bool(self.eval_every and step % self.eval_every == 0))


ON_A_RAMP = Conditions(factor=curves.ON_A_RAMP, evaluated=False)
"""Of range tests."""


@dataclass
class Record:
    """One lane while it is measured; `outcome` is None until it ends."""

    lane: Lane
    conditions: Conditions
    rule: DivergenceRule = field(init=False)
    steps: list[Step] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    health: list[LayerHealth] = field(default_factory=list)
    outcome: Outcome | None = None
    rung: int | None = None
    seconds: float = 0.0
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self.rule = DivergenceRule(self.conditions.factor)

    def take(self, step: Step) -> None:
        """Take the next step's measurements."""
        self.steps.append(step)
        if self.rule.diverges(step.loss):
            self.outcome = "diverged"

    def saw(self, rows: Sequence[LayerHealth]) -> None:
        """Take looks at the layers, up to the last step: lanes of a stack go on while others need them."""
        last = len(self.steps) - 1
        for row in rows:
            if row.step < last or (row.step == last and not self.outcome):
                self.health.append(row)
            elif row.step == last:  # where it diverged, its last update counts for nothing
                self.health.append(row._replace(update_ratio=None))

    def evaluated(self, evaluation: Evaluation) -> None:
        """Take an evaluation, which may end the lane."""
        self.evaluations.append(evaluation)
        early, losses = self.conditions.early_stop, [each.val_loss for each in self.evaluations]
        if early and plateaued(losses, patience=early.patience, threshold=early.threshold):
            self.outcome = "finished"

    def lr(self, ahead: slice) -> Array:
        """The lrs of the next steps, as far as they follow from the evaluations so far."""
        lr, reaction = self.lane.lr[ahead], self.lane.reaction
        if reaction is None or reaction.to != "val_loss":
            return lr
        return lr * reaction.multiplier([each.val_loss for each in self.evaluations], self.lane.peak)

    def momentum(self, ahead: slice) -> Array | None:
        """The momentum of the next steps; None leaves the optimizer's own."""
        return None if self.lane.momentum is None else self.lane.momentum[ahead]

    @property
    def damping(self) -> Callable[[float], float] | None:
        """What the next step's lr is multiplied with, from the norm of its gradient."""
        reaction = self.lane.reaction
        if reaction is None or reaction.to != "grad_norm":
            return None
        multiplier = reaction.multiplier
        norms = [step.grad_norm for step in self.steps if step.grad_norm is not None]

        def damp(norm: float) -> float:
            norms.append(norm)
            return multiplier(norms, self.lane.peak)

        return damp

    def result(self, outcome: Outcome) -> LaneResult:
        """What was measured, with this outcome unless it has one."""

        def column(values: list[Any]) -> Any:
            return None if not values or values[0] is None else np.array(values, dtype=np.float64)

        return LaneResult(
            lane=self.lane.lane,
            seed=self.lane.seed,
            planned=self.lane.lr.size,
            peak=self.lane.peak,
            outcome=self.outcome or outcome,
            lr=np.array([step.lr for step in self.steps], dtype=np.float64),
            loss=np.array([step.loss for step in self.steps], dtype=np.float64),
            held_out_loss=column([step.held_out_loss for step in self.steps]),
            grad_norm=column([step.grad_norm for step in self.steps]),
            evaluations=tuple(self.evaluations),
            rung=self.rung,
            seconds=self.seconds,
            error=None if self.failure is None else _storable(self.failure),
            variant=self.lane.variant,
            momentum=self.momentum(slice(len(self.steps))),
            skipped=column([step.skipped for step in self.steps]),
            health=tuple(self.health),
        )


def _storable(error: BaseException) -> str:
    """An exception's type and text, without what no file can hold (lone surrogates)."""
    return f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode()


class Team(Protocol):
    """Lanes of one seed that take their steps together: one alone, or a stack of them."""

    records: list[Record]

    def advance(self, until: int) -> None:
        """Train every lane that has not ended up to step `until`, or to its divergence."""

    def evaluate(self, step: int) -> None:
        """Evaluate every lane that has not ended."""


class Alone:
    """A team of one lane. An exception ends the lane as failed."""

    def __init__(self, problem: Problem, lane: Lane, conditions: Conditions, watch: Watch) -> None:
        self.records = [Record(lane, conditions)]
        self._problem, self._watch, self._grad_norm = problem, watch, conditions.grad_norm
        self._setup: Setup | None = None
        self._gauge: Gauge | None = None

    @property
    def record(self) -> Record:
        """Of its lane."""
        return self.records[0]

    @property
    def setup(self) -> Setup:
        """The parts of its lane; made when first asked for."""
        if self._setup is None:
            self._setup = self._problem.setup(self.record.lane.seed)
        return self._setup

    @property
    def gauge(self) -> Gauge:
        """Looks at its layers."""
        if self._gauge is None:
            record = self.record
            looks = look_steps(record.lane.lr.size, record.conditions.looks)
            self._gauge = gauge_of(self.setup, looks)
        return self._gauge

    def advance(self, until: int) -> None:
        """Train up to step `until`."""
        record = self.record
        at = len(record.steps)
        with self._failure_noted():
            setup = self.setup
            lr, momentum = record.lr(slice(at, until)), record.momentum(slice(at, until))
            steps = train(
                setup,
                lr,
                start=at,
                grad_norm=self._grad_norm,
                momentum=momentum,
                damping=record.damping,
                gauge=self.gauge,
            )
            try:
                for step in steps:
                    record.take(step)
                    self._watch((record.lane,), step.step, (step.loss,))
                    if record.outcome:
                        break
            finally:
                for rows in self.gauge.take():
                    record.saw(rows)

    def evaluate(self, step: int) -> None:
        """Evaluate the lane."""
        if self._setup is None or self._problem.validation is None or self.records[0].outcome:
            return
        model, loss_fn = self._setup.model, self._setup.loss_fn
        with self._failure_noted(), evaluating(model), torch.no_grad():
            found = evaluate(partial(score, model, loss_fn), self._problem.validation())
            _note_evaluations(self.records, step, *found)

    @contextmanager
    def _failure_noted(self) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:
            self.record.outcome, self.record.failure = "failed", error


class Stacked:
    """A team whose lanes are one stack. An exception is raised: it may be one lane's or the stack's."""

    def __init__(
        self, problem: Problem, lanes: Sequence[Lane], conditions: Conditions, watch: Watch, *, compile: bool
    ) -> None:
        self.records = [Record(lane, conditions) for lane in lanes]
        self._problem, self._watch, self._compile = problem, watch, compile
        self._stack: Stack | None = None
        self._gauge: Gauge | None = None
        self._inside = self.records  # the records of the stack's lanes, some of which may have ended

    def advance(self, until: int) -> None:
        """Train up to step `until`, and leave lanes that have ended out where that pays."""
        if self._stack is None:
            setup = self._problem.setup(self.records[0].lane.seed)
            graphs = self._problem.graphs
            self._stack = Stack(setup, len(self.records), compile=self._compile, graphs=graphs)
            record = self.records[0]
            self._gauge = gauge_of(setup, look_steps(record.lane.lr.size, record.conditions.looks))
        assert self._gauge is not None  # it came with the stack
        while live := [record for record in self._inside if not record.outcome]:
            at = len(live[0].steps)
            if at >= until:
                break
            if len(live) <= len(self._inside) // 2:  # a smaller stack is recorded anew, which takes a while
                self._take_looks()
                staying = [i for i, record in enumerate(self._inside) if not record.outcome]
                self._stack.keep(staying)
                self._gauge.keep(staying)
                self._inside = live
            ahead = slice(at, min(at + BLOCK, until))
            lr = np.stack([record.lr(ahead) for record in self._inside], axis=1)  # (T, K)
            momentum = self._inside[0].momentum(ahead)  # lanes of a stack have it in common
            table = self._stack.train(lr, momentum, start=at, gauge=self._gauge)
            for i, losses in enumerate(table.tolist()):
                taken: list[tuple[Lane, float]] = []
                for record, loss, lane_lr in zip(self._inside, losses, lr[i].tolist(), strict=True):
                    if not record.outcome:
                        record.take(Step(at + i, lane_lr, loss))
                        taken.append((record.lane, loss))
                if taken:
                    self._watch([lane for lane, _ in taken], at + i, [loss for _, loss in taken])
        self._take_looks()

    def _take_looks(self) -> None:
        assert self._gauge is not None
        for record, rows in zip(self._inside, self._gauge.take(), strict=False):
            record.saw(rows)

    def evaluate(self, step: int) -> None:
        """Evaluate the stack."""
        if self._stack is not None and self._problem.validation is not None:
            _note_evaluations(self._inside, step, *self._stack.evaluate(self._problem.validation()))


def _note_evaluations(
    records: Sequence[Record], step: int, val_loss: Array, metric: Array | None, name: Metric | None
) -> None:
    metrics = [None] * len(records) if metric is None else metric.tolist()
    for record, loss, value in zip(records, val_loss.tolist(), metrics, strict=True):
        if not record.outcome:
            record.evaluated(Evaluation(step, loss, value))
