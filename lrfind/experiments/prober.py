"""The prober of one seed: it trains probes, continues them, and counts their steps and seconds."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
import torch

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import Lane, LaneResult, Watch
from lrfind.analysis.probing import FEWEST_STEPS, UNTOUCHED, Probe
from lrfind.analysis.relation import Relation
from lrfind.errors import UsageError, as_exception, counted
from lrfind.experiments.budget import Budget
from lrfind.experiments.relation import MOST_BATCHES, relation_on
from lrfind.problem.batches import batch_loss, output_and_loss
from lrfind.problem.problem import Problem
from lrfind.problem.randomness import capture, restore
from lrfind.problem.ranks import all_agree, over_ranks, rank_count
from lrfind.problem.replay import Replay
from lrfind.problem.setup import Setup
from lrfind.problem.snapshot import Snapshot
from lrfind.training.explanations.failures import raise_explained
from lrfind.training.explanations.targets import softmax_misfit
from lrfind.training.explanations.values import check_loss
from lrfind.training.interrupts import deferred, stop_if_asked
from lrfind.training.loop import train
from lrfind.training.mode import Mode
from lrfind.training.stack import Stack
from lrfind.training.watch import unwatched

MOST_BYTES = 2**31  # memory for the batches that are kept, so that all probes see the same ones
PASSES = 3  # a training step takes about as long as this many forward passes
MOST_KEPT = 4  # probes whose weights and optimizer state are kept, so that they can be continued


@dataclass
class _ProbeState:
    """The state of a probe that may be continued; without a snapshot the probe has to start again.

    Attributes:
        setup: the probe's parts.
        snapshot: its state after the last step; None if that was dropped to save memory, or if the probe
            belongs to a stack.
        losses: the loss before each update.
        stopped: whether its loss exceeded the ceiling or was not finite.
    """

    setup: Setup
    snapshot: Snapshot | None
    losses: list[float] = field(default_factory=list)
    stopped: bool = False


@dataclass
class _ProbeStack:
    """Probes that are trained as one stack.

    Attributes:
        stack: the stack.
        lrs: the lr of each of its lanes.
        random: the state of the random generators after its last step.
        steps: the number of steps that it has taken.
    """

    stack: Stack
    lrs: list[float]
    random: Any
    steps: int = 0


class LaneProber:
    """Trains the probes of one seed one by one. In a stacked mode, probes that begin together form a stack.

    Args:
        problem: what to train.
        seed: the seed of the weights (from a config), the batches and the dropout masks.
        budget: the steps and seconds that this seed and the seeds before it may take.
        mode: how probes that begin together are trained; one by one when omitted.
        watch: called after every step.
        first: the number of the first probe among the lanes of a run.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        budget: Budget,
        mode: Mode | None = None,
        watch: Watch = unwatched,
        first: int = 0,
    ) -> None:
        self._seed, self._budget, self._mode, self._watch = seed, budget, mode, watch
        self._first, self._problem = first, problem
        try:
            setup = problem.setup(seed)
            self._replay = Replay(setup.batches, problem.generators)
            self._setup = replace(setup, batches=self._replay)
            self._start = self._snapshot()
        except Exception as error:
            raise_explained(error)
        self._probes: dict[float, _ProbeState] = {}
        self._stacks: list[_ProbeStack] = []
        self._kept: list[_ProbeState] = []  # the probes that have a snapshot, the latest last
        self._continued: list[_ProbeState] = []  # the probes of this round, whose snapshots are still needed
        self._untouched: list[float] = []
        # The state from which `untouched` continues; it gives the dropout masks that the probes get.
        self._untouched_end = self._start

    @deferred()
    def untouched(self, steps: int) -> Array:
        """Return (steps,) the losses of the model before any update, on the batches that the probes see."""
        if len(self._untouched) >= steps:
            return np.array(self._untouched[:steps])
        self._untouched_end.restore()
        self._replay.at = len(self._untouched) * self._setup.recipe.accumulate
        fastest = math.inf  # the fastest pass counts, because the first one also allocates
        try:
            while len(self._untouched) < steps:
                stop_if_asked()
                began = time.monotonic()
                step = len(self._untouched)
                self._untouched.append(self._untouched_loss(step))
                self._budget.taken += self._setup.own_step is not None  # a whole step at lr 0
                self._watch((Lane(self._first, self._seed, np.zeros(steps)),), step, self._untouched[-1:])
                fastest = min(fastest, time.monotonic() - began)
            self._untouched_end = self._snapshot()
        except Exception as error:
            self._raise_explained(error, "the untouched model", len(self._untouched))
        passes = 1 if self._setup.own_step is not None else PASSES
        self._budget.expected = passes * fastest
        return np.array(self._untouched[:steps])

    @as_exception()
    def _untouched_loss(self, step: int) -> float:
        """Return the loss of the next batch without an update, with gradients on: `forward` may use them."""
        setup = self._setup
        if setup.own_step is not None:
            (only,) = train(setup, np.zeros(1), start=step)
            if self._start.moved(p for group in setup.groups for p in group["params"]):
                raise UsageError(
                    "the step changes weights although the lr of all optimizers is 0, so their lr does not"
                    " decide how far it goes; let the optimizers make the updates."
                )
            return only.loss  # the mean over ranks already
        with setup.casting():
            losses = [
                batch_loss(setup.model, setup.loss_fn, next(self._replay)).detach()
                for _ in range(setup.recipe.accumulate)
            ]
        loss = over_ranks(float(torch.stack(losses).mean()))
        check_loss(loss, setup.loss_fn)
        return loss

    @deferred()
    def probe(self, lrs: Sequence[float], steps: int, ceiling: Array) -> list[Probe]:
        """Train probes until each has `steps` steps; see `analysis.probe_search.Prober.probe`."""
        new = [lr for lr in lrs if lr not in self._probes]
        if self._mode is not None and self._mode.name == "stacked" and len(new) > 1:
            self._begin_stacks(new, self._mode)
        for probes in self._stacks:
            if any(lr in lrs for lr in probes.lrs):
                self._train_stack(probes, [lr for lr in probes.lrs if lr in lrs], steps, ceiling)
        stacked = {lr for probes in self._stacks for lr in probes.lrs}
        self._continued = [self._probes[lr] for lr in lrs if lr in self._probes]
        for lr in lrs:
            if lr not in stacked:
                self._train_single(lr, steps, ceiling)
        return [Probe(lr, np.array(self._probes[lr].losses), self._probes[lr].stopped) for lr in lrs]

    def affords(self, lrs: Sequence[float], steps: int, more: int = 0) -> bool:
        """Return whether budget and memory allow `steps` steps for each of these rates and `more` others."""
        memory = steps * self._setup.recipe.accumulate * self._replay.bytes
        fits = steps <= FEWEST_STEPS or memory <= MOST_BYTES
        left = sum(self._left(lr, steps) for lr in lrs) + more * steps
        if self._setup.own_step is not None:
            left += max(steps - len(self._untouched), 0)
        return all_agree(fits and self._budget.affords(left))

    def _left(self, lr: float, steps: int) -> int:
        """Return the number of gradient steps that a probe still needs until it has `steps` steps."""
        probe = self._probes.get(lr)
        if probe is None:
            return steps
        continues = probe.snapshot is not None or any(lr in stack.lrs for stack in self._stacks)
        return 0 if probe.stopped else steps - len(probe.losses) if continues else steps

    def relation(self, lrs: Sequence[float], steps: int) -> Relation | None:
        """Return how the output is related to the targets at the end of a probe, on the batches after it.

        Args:
            lrs: the lrs of probes; the first whose state is still kept counts. `UNTOUCHED` is always kept.
            steps: the number of steps of these probes.
        """
        kept = {lr: probe.snapshot for lr, probe in self._probes.items()} | {UNTOUCHED: self._start}
        snapshot = next((snapshot for lr in lrs if (snapshot := kept.get(lr)) is not None), None)
        at = steps * self._setup.recipe.accumulate
        if snapshot is None or rank_count() > 1 or (at + MOST_BATCHES) * self._replay.bytes > MOST_BYTES:
            return None
        snapshot.restore()
        self._replay.at = at
        return relation_on(self._setup, self._replay, self._problem.batches_per_epoch)

    def misfit(self) -> str | None:
        """Say what in the untouched model's output does not fit the loss; None if nothing is known."""
        if self._setup.own_step is not None or rank_count() > 1:
            return None
        self._start.restore()
        self._replay.at = 0
        with contextlib.suppress(Exception), as_exception(), torch.no_grad(), self._setup.casting():
            output, _ = output_and_loss(self._setup.model, self._setup.loss_fn, next(self._replay))
            return softmax_misfit(self._setup.loss_fn, output)
        return None

    def scaled(self, multipliers: Sequence[float], budget: Budget) -> LaneProber:
        """Return a prober that has probed nothing yet, and whose param groups have further multipliers.

        It starts from the same weights and sees the same batches. Its probes are trained one by one.

        Args:
            multipliers: a factor for the lr of each group of `Setup.groups`.
            budget: the steps and seconds that its probes may take.
        """
        other = copy.copy(self)
        other._setup = replace(self._setup, multipliers=tuple(multipliers))
        self._start.restore()
        assert other._setup.ratios  # they are read while the groups have the lrs that the user gave
        other._budget, other._mode = budget, None
        other._probes, other._stacks, other._kept, other._continued = {}, [], [], []
        return other

    @property
    def lanes(self) -> list[LaneResult]:
        """The untouched model as a lane at lr 0, then one lane for each probe, ascending in lr.

        The outcome of a probe that was stopped is "diverged".
        """
        untouched = _ProbeState(self._setup, self._start, self._untouched)
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

    @as_exception()
    def _snapshot(self) -> Snapshot:
        setup = self._setup
        if setup.own_step is None:
            setup.optimizer.zero_grad(set_to_none=True)
        own_step = setup.own_step is not None
        return Snapshot(setup.trained, kept=setup.kept, with_data=False, copy_grads=own_step)

    def _train_single(self, lr: float, steps: int, ceiling: Array) -> None:
        if lr not in self._probes:
            own = replace(self._setup)  # a copy has a loss scaler of its own
            self._probes[lr] = _ProbeState(own, self._start)
        probe = self._probes[lr]
        if probe.snapshot is None and not probe.stopped:  # its snapshot was dropped, so it starts again
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
        except Exception as error:
            self._raise_explained(error, f"a probe at lr {lr:.3g}", len(probe.losses))
        probe.snapshot = None if probe.stopped else self._snapshot()
        self._kept = [kept for kept in self._kept if kept is not probe]
        self._kept += [] if probe.stopped else [probe]
        spare = [kept for kept in self._kept if all(kept is not other for other in self._continued)]
        if len(self._kept) > MOST_KEPT and spare:
            spare[0].snapshot = None
            self._kept = [kept for kept in self._kept if kept is not spare[0]]

    def _raise_explained(self, error: BaseException, what: str, step: int) -> NoReturn:
        raise_explained(error, f"{what} failed at step {step}" if step or self._budget.taken else "")

    def _take(self, lr: float, loss: float, ceiling: Array) -> None:
        probe = self._probes[lr]
        check_loss(loss, self._setup.loss_fn)
        probe.stopped = not (math.isfinite(loss) and loss <= ceiling[len(probe.losses)])
        probe.losses.append(loss)
        self._budget.taken += 1

    def _begin_stacks(self, lrs: list[float], mode: Mode) -> None:
        for at in range(0, len(lrs), mode.stack_size):
            members = lrs[at : at + mode.stack_size]
            self._start.restore()
            stack = Stack(self._setup, len(members), compile=mode.compile)
            self._stacks.append(_ProbeStack(stack, members, capture()))
            self._probes |= {lr: _ProbeState(self._setup, None) for lr in members}

    def _train_stack(self, probes: _ProbeStack, lrs: list[float], steps: int, ceiling: Array) -> None:
        staying = [lr for lr in lrs if not self._probes[lr].stopped]
        if not staying or probes.steps >= steps:
            return
        if staying != probes.lrs:
            probes.stack.keep([probes.lrs.index(lr) for lr in staying])
            probes.lrs = staying
        self._start.restore()
        restore(probes.random)
        self._replay.at = probes.steps * self._setup.recipe.accumulate
        lanes = [Lane(self._first + i, self._seed, np.full(steps, lr)) for i, lr in enumerate(staying)]
        try:
            table = probes.stack.train(np.tile(staying, (steps - probes.steps, 1)), start=probes.steps)
        except Exception as error:
            what = f"the stack of {counted(len(staying), 'probe')}"
            self._raise_explained(error, what, probes.steps)
        probes.random, probes.steps = capture(), steps
        for number, row in enumerate(table.tolist()):
            for lr, loss in zip(staying, row, strict=True):
                if not self._probes[lr].stopped:
                    self._take(lr, loss, ceiling)
            self._watch(lanes, steps - len(table) + number, row)
