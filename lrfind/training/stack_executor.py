"""The executor of a stack of lanes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.divergence import Suspicion
from lrfind.analysis.health import look_steps
from lrfind.analysis.lanes import Lane, Watch
from lrfind.problem.problem import Problem
from lrfind.training.executor import Conditions, LaneRecord, record_evaluations
from lrfind.training.gauge import Gauge
from lrfind.training.loop import gauge_of
from lrfind.training.stack import Stack

BLOCK = 16  # the number of steps that a stack takes before its losses are read


class StackExecutor:
    """Trains lanes as one stack.

    It does not record an exception but raises it, because one lane or the whole stack may have caused it.
    """

    def __init__(
        self, problem: Problem, lanes: Sequence[Lane], conditions: Conditions, watch: Watch, *, compile: bool
    ) -> None:
        self.records = [LaneRecord(lane, conditions) for lane in lanes]
        self._problem, self._watch, self._compile = problem, watch, compile
        self._stack: Stack | None = None
        self._gauge: Gauge | None = None
        self._inside = self.records  # the records of the stack's lanes, some of which may have ended
        self._suspicion = Suspicion(conditions.factor, len(lanes))

    def advance(self, until: int) -> None:
        """Train up to step `until`; leave out the lanes that have ended, where that saves time."""
        stack, gauge = self._begun()
        while live := [record for record in self._inside if not record.outcome]:
            at = len(live[0].steps)
            if at >= until:
                break
            if len(live) <= len(self._inside) // 2:  # a smaller stack is recorded anew, which takes a while
                self._take_looks(gauge)
                staying = [i for i, record in enumerate(self._inside) if not record.outcome]
                stack.keep(staying)
                gauge.keep(staying)
                self._suspicion.keep(staying)
                self._inside = live
            ahead = slice(at, min(at + BLOCK, until))
            lr = np.stack([record.lr(ahead) for record in self._inside], axis=1)  # (T, K)
            momentum = self._inside[0].momentum(ahead)  # all lanes of a stack have the same momentum
            self._take(at, lr, stack.train(lr, momentum, start=at, gauge=gauge))
        self._take_looks(gauge)

    def _begun(self) -> tuple[Stack, Gauge]:
        """Return the stack and its gauge; they are made when first asked for."""
        if self._stack is None or self._gauge is None:
            lane, looks = self.records[0].lane, self.records[0].conditions.looks
            setup = self._problem.setup(lane.seed)
            self._stack = Stack(setup, len(self.records), compile=self._compile)
            self._gauge = gauge_of(setup, look_steps(lane.lr.size, looks))
        return self._stack, self._gauge

    def _take(self, at: int, lr: Array, losses: Array) -> None:
        """Record the steps from `at` on, (T, K), of every lane that has not ended."""
        steps, suspects = range(at, at + len(losses)), self._suspicion.suspects(losses)
        places = [place for place, record in enumerate(self._inside) if not record.outcome]
        live = [self._inside[place] for place in places]
        columns = (table.T[places].tolist() for table in (lr, losses))
        for record, suspect, *column in zip(live, suspects[places].tolist(), *columns, strict=True):
            record.take_block(*column, suspect=suspect)
        ended = any(record.outcome for record in live)
        lanes = [record.lane for record in live]
        for step, row in zip(steps, losses[:, places].tolist(), strict=True):
            if ended:
                taking = [len(record.steps) > step for record in live]
                if not any(taking):
                    break
                self._watch([*compress(lanes, taking)], step, [*compress(row, taking)])
            else:
                self._watch(lanes, step, row)

    def _take_looks(self, gauge: Gauge) -> None:
        for record, rows in zip(self._inside, gauge.take(), strict=False):
            record.take_looks(rows)

    def evaluate(self, step: int) -> None:
        """Evaluate the stack."""
        if self._stack is not None and self._problem.validation is not None:
            val_loss, metric, _ = self._stack.evaluate(self._problem.validation())
            record_evaluations(self._inside, step, val_loss, metric)
