"""The prober of one seed: trains probes, goes on with them, and counts what they take."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import Lane, LaneResult
from lrfind.analysis.probing import FEWEST_STEPS, UNTOUCHED, Probe
from lrfind.errors import LrfindError
from lrfind.problem.batches import batch_loss
from lrfind.problem.problem import Problem
from lrfind.problem.randomness import capture, restore
from lrfind.problem.replay import Replay
from lrfind.problem.setup import Setup
from lrfind.problem.snapshot import Snapshot
from lrfind.training.calibration import Engine
from lrfind.training.explanations.failures import first_steps_failed
from lrfind.training.loop import train
from lrfind.training.stack import Stack
from lrfind.training.watch import Watch, unwatched

MOST_BYTES = 2**31  # of batches that are kept, so that all probes see the same
PASSES = 3  # forward passes that a step takes as long as
MOST_KEPT = 4  # probes whose weights and optimizer state are kept, so that they can go on


@dataclass
class Budget:
    """What probing may take.

    Attributes:
        steps: gradient steps.
        seconds: of wall clock, from when this was made; None for any.
        taken: gradient steps so far.
        expected: seconds that a step will take, before any was taken.
    """

    steps: float
    seconds: float | None = None
    taken: int = 0
    expected: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def affords(self, steps: int) -> bool:
        """Whether so many more steps are within it, at the pace so far."""
        if self.seconds is None:
            return self.taken + steps <= self.steps
        passed = time.monotonic() - self.began
        pace = passed / self.taken if self.taken else self.expected
        return self.taken + steps <= self.steps and passed + steps * pace <= self.seconds


@dataclass
class _Single:
    """A probe between two legs of it; without a snapshot it cannot go on by itself."""

    setup: Setup
    snapshot: Snapshot | None
    losses: list[float] = field(default_factory=list)
    stopped: bool = False


@dataclass
class _Pack:
    """Probes that are trained as one stack."""

    stack: Stack
    lrs: list[float]
    random: Any
    steps: int = 0


class LaneProber:
    """Trains the probes of one seed, alone or, where it pays, those that begin together as a stack.

    Args:
        problem: what to train.
        seed: of the weights (from a config), the batches and the dropout masks.
        budget: of this and of other seeds' probers.
        engine: how probes that begin together are trained; alone when omitted.
        watch: told of every step.
        first: number of the first probe among the lanes of a run.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        budget: Budget,
        engine: Engine | None = None,
        watch: Watch = unwatched,
        first: int = 0,
    ) -> None:
        self._seed, self._budget, self._engine, self._watch = seed, budget, engine, watch
        self._first, self._problem = first, problem
        try:
            made = problem.setup(seed)
            self._replay = Replay(made.batches, problem.generators)
            self._setup = replace(made, batches=self._replay)
            self._start = self._snapshot()
        except (Exception, SystemExit) as error:
            raise first_steps_failed(error) from error
        self._probes: dict[float, _Single] = {}
        self._packs: list[_Pack] = []
        self._kept: list[_Single] = []  # those that have a snapshot, the latest last
        self._untouched: list[float] = []
        self._untouched_end = self._start  # where these go on, with the dropout masks that the probes have

    def untouched(self, steps: int) -> Array:
        """(steps,) the losses of the model before any update, on the batches that the probes see."""
        if len(self._untouched) >= steps:
            return np.array(self._untouched[:steps])
        self._untouched_end.restore()
        accumulate, setup = self._setup.recipe.accumulate, self._setup
        self._replay.at = len(self._untouched) * accumulate
        fastest = math.inf  # as the first pass also allocates
        try:
            while len(self._untouched) < steps:
                began = time.monotonic()
                with torch.no_grad(), setup.casting():
                    losses = [
                        batch_loss(setup.model, setup.loss_fn, next(self._replay)) for _ in range(accumulate)
                    ]
                self._untouched.append(float(torch.stack([loss.detach() for loss in losses]).mean()))
                fastest = min(fastest, time.monotonic() - began)
        except (Exception, SystemExit) as error:
            raise first_steps_failed(error) from error
        self._untouched_end, self._budget.expected = self._snapshot(), PASSES * fastest
        return np.array(self._untouched[:steps])

    def probe(self, lrs: Sequence[float], steps: int, ceiling: Array) -> list[Probe]:
        """Bring probes to so many steps, new ones or old; a loss above the ceiling (steps,) ends one."""
        new = [lr for lr in lrs if lr not in self._probes]
        if self._engine is not None and self._engine.lanes == "stacked" and len(new) > 1:
            self._begin_pack(new)
        for pack in self._packs:
            if any(lr in lrs for lr in pack.lrs):
                self._train_pack(pack, [lr for lr in pack.lrs if lr in lrs], steps, ceiling)
        packed = {lr for pack in self._packs for lr in pack.lrs}
        for lr in lrs:
            if lr not in packed:
                self._train_single(lr, steps, ceiling)
        return [self._told(lr) for lr in lrs]

    def affords(self, lrs: Sequence[float], steps: int, more: int = 0) -> bool:
        """Whether the budget, and the memory for batches, allow these, and more rates, so many steps."""
        if steps > FEWEST_STEPS and steps * self._setup.recipe.accumulate * self._replay.bytes > MOST_BYTES:
            return False
        return self._budget.affords(sum(self._left(lr, steps) for lr in lrs) + more * steps)

    def _left(self, lr: float, steps: int) -> int:
        """The gradient steps that it takes to bring a probe to so many."""
        probe = self._probes.get(lr)
        if probe is None:
            return steps
        goes_on = probe.snapshot is not None or any(lr in pack.lrs for pack in self._packs)
        return 0 if probe.stopped else steps - len(probe.losses) if goes_on else steps

    @property
    def lanes(self) -> list[LaneResult]:
        """A result a probe, ascending in lr, after that of the untouched model at lr 0.

        A probe that was stopped has diverged.
        """
        untouched = _Single(self._setup, self._start, self._untouched)
        every = [(UNTOUCHED, untouched), *sorted(self._probes.items())]
        return [
            LaneResult(
                lane=self._first + number,
                seed=self._seed,
                planned=len(probe.losses),
                peak=lr,
                outcome="diverged" if probe.stopped else "finished",
                lr=np.full(len(probe.losses), lr),
                loss=np.array(probe.losses),
            )
            for number, (lr, probe) in enumerate(every)
        ]

    def _told(self, lr: float) -> Probe:
        probe = self._probes[lr]
        return Probe(lr, np.array(probe.losses), probe.stopped)

    def _snapshot(self) -> Snapshot:
        setup = self._setup
        setup.optimizer.zero_grad(set_to_none=True)
        return Snapshot(setup.model, setup.optimizer, setup.loss_fn)

    def _train_single(self, lr: float, steps: int, ceiling: Array) -> None:
        if lr not in self._probes:
            self._probes[lr] = _Single(replace(self._setup), self._start)  # with its own scale of the loss
        probe = self._probes[lr]
        if probe.snapshot is None and not probe.stopped:  # let go of: it starts again
            probe.setup, probe.snapshot, probe.losses = replace(self._setup), self._start, []
        done = len(probe.losses)
        if probe.stopped or done >= steps or probe.snapshot is None:
            return
        probe.snapshot.restore()
        self._replay.at = done * self._setup.recipe.accumulate
        lane = Lane(self._first + [*self._probes].index(lr), self._seed, np.full(steps, lr))
        try:
            for step in train(probe.setup, lane.lr[done:], start=done):
                self._take(lr, step.loss, ceiling)
                self._watch((lane,), step.step, (step.loss,))
                if probe.stopped:
                    break
        except (Exception, SystemExit) as error:
            raise self._explained(error, f"a probe at lr {lr:.3g}", len(probe.losses)) from error
        probe.snapshot = None if probe.stopped else self._snapshot()
        self._kept = [each for each in self._kept if each is not probe]
        self._kept += [] if probe.stopped else [probe]
        if len(self._kept) > MOST_KEPT:
            self._kept.pop(0).snapshot = None

    def _explained(self, error: BaseException, what: str, step: int) -> LrfindError:
        if self._budget.taken == 0 or isinstance(error, LrfindError):
            return first_steps_failed(error)
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return LrfindError(f"{what} failed at step {step}: {told}")

    def _take(self, lr: float, loss: float, ceiling: Array) -> None:
        probe = self._probes[lr]
        probe.stopped = not (math.isfinite(loss) and loss <= ceiling[len(probe.losses)])
        probe.losses.append(loss)
        self._budget.taken += 1

    def _begin_pack(self, lrs: list[float]) -> None:
        assert self._engine is not None
        for at in range(0, len(lrs), self._engine.chunk):
            chunk = lrs[at : at + self._engine.chunk]
            self._start.restore()
            stack = Stack(self._setup, len(chunk), compile=self._engine.compile, graphs=self._problem.graphs)
            self._packs.append(_Pack(stack, chunk, capture()))
            self._probes |= {lr: _Single(self._setup, None) for lr in chunk}

    def _train_pack(self, pack: _Pack, lrs: list[float], steps: int, ceiling: Array) -> None:
        staying = [lr for lr in lrs if not self._probes[lr].stopped]
        if not staying or pack.steps >= steps:
            return
        if staying != pack.lrs:
            pack.stack.keep([pack.lrs.index(lr) for lr in staying])
            pack.lrs = staying
        self._start.restore()
        restore(pack.random)
        self._replay.at = pack.steps * self._setup.recipe.accumulate
        lanes = [Lane(self._first + i, self._seed, np.full(steps, lr)) for i, lr in enumerate(staying)]
        try:
            table = pack.stack.train(np.tile(staying, (steps - pack.steps, 1)), start=pack.steps)
        except (Exception, SystemExit) as error:
            raise self._explained(error, f"{len(staying)} stacked probes", pack.steps) from error
        pack.random, pack.steps = capture(), steps
        for number, row in enumerate(table.tolist()):
            for lr, loss in zip(staying, row, strict=True):
                if not self._probes[lr].stopped:
                    self._take(lr, loss, ceiling)
            self._watch(lanes, steps - len(table) + number, row)
