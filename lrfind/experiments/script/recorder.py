"""The hooks inside a script's process: they hold the lr of its optimizers and read its losses.

A step of a script is a step of its first optimizer, the one that is stepped first after a `backward`. The
loss of a step is the mean of the losses whose `backward` belongs to it:

- Each loss belongs to the optimizer step that follows it. With gradient accumulation these are several.
- The steps of other optimizers belong to the step of the first one before them: a GAN whose discriminator
  steps first has the mean of both networks' losses.
- If the first optimizer is gone, another one that trains some of its weights takes its place, as where each
  stage of a training has a new one. If none does, or if others have taken over, the first training is over.
- Of a closure, as LBFGS calls it several times, only the first call counts: it is before the update.

This module runs in the user's process, so it imports nothing that the script does not need, besides torch.
"""

from __future__ import annotations

import functools
import gc
import math
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from lrfind.errors import UsageError
from lrfind.experiments.script.held_rates import HeldRates
from lrfind.experiments.script.readings import SCALE, sample_of, value_of, weights_of
from lrfind.problem.rates import innermost

MOST_WITHOUT_LOSS = 100  # steps in a row without any `backward`, after which a script is refused
MOST_AT_ZERO = 1000  # steps with lr 0 before any other, after which a script is refused
MOST_BETWEEN = 100  # steps of others in a row that end the first training; more if it has made more itself
CHECKED_STEP = 4  # the step at lr 0, counted from 0, that must not change the weights

NO_BACKWARD = (
    "its optimizer steps, but no `backward` is called, so there is no loss to read (gradients that come from"
    " torch.autograd.grad are not seen)"
)
SEVERAL_PROCESSES = (
    "it trains in several processes; start it so that it trains in one, for example on one device"
)
ALL_ZERO = "every param group of its optimizer has lr 0; give at least one a positive lr"
MOVES = (
    "the steps of its optimizer change weights although the lr is 0, so its lr does not decide how far a step"
    " goes"
)


class Recorder:
    """Holds the lr of all optimizers in this process, and tells the loss of each step.

    Args:
        lr: the lr of the first optimizer's first param group whose lr is not 0. All other groups and
            optimizers keep the ratios that they had when they were first stepped.
        steps: the number of steps after which the script is ended.
        tell: is called with what was seen: `optimizer`, `momentum`, `lr`, `device`, `note` and
            `before_updates` (the mean loss before any optimizer has stepped, if it is finite) once, `raised`
            if the script itself raises the lr after the first step, `other` for each further optimizer,
            `mixed` if these have losses of their own, `loss` for each step, `refusal` if nothing can be read,
            with why.
        end: ends the process; it never returns. It is called with "finished" if the first training is over.
    """

    def __init__(self, lr: float, steps: int, tell: Callable[..., None], end: Callable[..., Any]) -> None:
        self._rates, self._steps, self._tell, self._end = HeldRates(lr), steps, tell, end
        self._process = os.getpid()
        self._told: set[str] = set()  # what was told already, and is told only once
        self._first: weakref.ref[Optimizer] | None = None
        self._weights: list[weakref.ref[Tensor]] = []  # those of the first optimizer
        self._introduced: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._active: Optimizer | None = None  # the optimizer whose step is under way
        self._depth = 0  # the steps of this optimizer inside of its step: `super().step()`
        self._pending: list[float] = []  # the losses since the last step of any optimizer
        self._step: list[float] | None = None  # the losses of the step that is under way
        self._between: list[float] = []  # the losses of the other optimizers after it
        self._steps_between = 0
        self._count = 0
        self._without_loss = 0
        self._deaf = False  # inside a `backward`, and after the first call of a closure
        self._before_step: Tensor | None = None  # weights before the step that is checked at lr 0

    def install(self) -> None:
        """Install the hooks, for as long as the process lives."""
        register_optimizer_step_pre_hook(self._before)
        register_optimizer_step_post_hook(self._after)
        backward = torch.autograd.backward

        @functools.wraps(backward)
        def read_backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> None:
            if self._deaf or os.getpid() != self._process:
                return backward(tensors, grad_tensors, *args, **kwargs)
            self._pending.append(value_of(tensors, grad_tensors))
            self._deaf = True  # checkpointing calls `backward` inside of `backward`
            try:
                return backward(tensors, grad_tensors, *args, **kwargs)
            finally:
                self._deaf = False

        torch.autograd.backward = read_backward
        scaler_class: Any = torch.amp.GradScaler
        scale = scaler_class.scale

        @functools.wraps(scale)
        def remembered_scale(scaler: Any, outputs: Any) -> Any:
            scaled = scale(scaler, outputs)
            if isinstance(scaled, Tensor):
                setattr(scaled, SCALE, scaler.get_scale())
            return scaled

        scaler_class.scale = remembered_scale
        self._watch_for_processes()

    def finish(self) -> None:
        """Tell the loss of the last step, if the script has come to its own end."""
        if self._step:
            self._tell_loss()
        if self._rates.base is None and self._rates.at_zero:
            self._refuse(ALL_ZERO)

    def _watch_for_processes(self) -> None:
        """Refuse a script that trains in processes of `torch.multiprocessing`, where nothing can be read."""

        def refuse(*args: Any, **kwargs: Any) -> None:
            self._refuse(SEVERAL_PROCESSES)

        package: Any = sys.modules["torch.multiprocessing"]
        launcher: Any = sys.modules["torch.multiprocessing.spawn"]
        package.spawn = package.start_processes = launcher.start_processes = refuse

    def _refuse(self, reason: str) -> None:
        if os.getpid() == self._process:
            self._tell(refusal=reason)
            self._end()

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Set the lr before a step, and end the step before it; a closure is replaced by one that is read."""
        if self._active is not None or os.getpid() != self._process:
            if optimizer is self._active:
                self._depth += 1
            return None  # a step inside of a step belongs to it: an optimizer that wraps another
        if not self._hold(optimizer):
            self._pending.clear()
            return None
        self._active = optimizer
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._stepped(optimizer)
            return None
        closure = self._read(closure, optimizer)
        if "closure" in kwargs:
            return args, {**kwargs, "closure": closure}
        return (args[0], closure, *args[2:]), kwargs

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Give the script's own lrs back after a step, so that its schedulers compute what they always do."""
        if optimizer is not self._active:
            return
        if self._depth:
            self._depth -= 1
        else:
            self._release()
            self._check_unmoved(optimizer)

    def _release(self) -> None:
        self._rates.release()
        self._active, self._depth, self._deaf = None, 0, False

    def _read(self, closure: Callable[..., Any], optimizer: Optimizer) -> Callable[..., Any]:
        """Return a closure whose first call counts as the step's loss."""
        called = False

        @functools.wraps(closure)
        def read_closure(*args: Any, **kwargs: Any) -> Any:
            nonlocal called
            try:
                value = closure(*args, **kwargs)
            except BaseException:  # the script may go on, and the hook after this step is never called
                self._release()
                raise
            if not called:
                called = self._deaf = True
                self._stepped(optimizer)
            return value

        return read_closure

    def _hold(self, optimizer: Optimizer) -> bool:
        """Hold the lrs of an optimizer; return False for a step that is left as it is."""
        try:
            held = self._rates.hold(optimizer)
        except UsageError as error:
            self._refuse(str(error).rstrip("."))
            return False
        if not held and self._rates.at_zero == MOST_AT_ZERO:
            self._refuse(ALL_ZERO)
        if self._rates.raised:
            self._tell_once("raised")
        return held

    def _stepped(self, optimizer: Optimizer) -> None:
        """Assign the losses before an optimizer's step to a step of the script; end the script in time."""
        losses, self._pending = self._pending, []
        self._without_loss = 0 if losses else self._without_loss + 1
        if losses and not self._is_first(optimizer):
            if self._first is None:
                self._introduce(optimizer, losses)
            elif self._is_gone(optimizer):
                self._follow(optimizer)
        if not losses and self._without_loss == MOST_WITHOUT_LOSS and self._step is None:
            self._refuse(NO_BACKWARD)
        if not self._is_first(optimizer):
            self._introduce_other(optimizer)
            self._count_between(losses)
        elif losses:
            if self._step is not None:
                self._tell_loss()
            self._step = losses
            if self._rates.lr == 0 and self._count == CHECKED_STEP:
                self._before_step = sample_of(optimizer)
            if self._count >= self._steps:
                self._end()

    def _is_first(self, optimizer: Optimizer) -> bool:
        return self._first is not None and self._first() is optimizer

    def _is_gone(self, new: Optimizer) -> bool:
        """Return whether the first optimizer does not exist any more, now that another one steps."""
        assert self._first is not None  # it has stepped
        if self._count and new not in self._introduced:
            gc.collect()  # an optimizer is often a part of a reference cycle, with its scheduler for example
        return self._first() is None

    def _follow(self, optimizer: Optimizer) -> None:
        """Let an optimizer take the place of the first one, if it trains some of the same weights."""
        old = {id(weight) for reference in self._weights if (weight := reference()) is not None}
        if old.isdisjoint(map(id, weights_of(optimizer))):
            self._introduce_other(optimizer)
            self._leave()
        self._lead(optimizer)

    def _lead(self, optimizer: Optimizer) -> None:
        self._first = weakref.ref(optimizer)
        self._weights = [weakref.ref(weight) for weight in weights_of(optimizer)]
        self._introduced.add(optimizer)

    def _count_between(self, losses: Sequence[float]) -> None:
        """Keep the losses before the step of another optimizer; see whether the first training is over."""
        if self._step is not None and losses:
            self._between += losses
            self._steps_between += 1
            if self._steps_between > max(MOST_BETWEEN, self._count):
                self._leave()

    def _leave(self) -> None:
        """End the script, because another training has begun."""
        self._between.clear()  # the losses of that training
        self.finish()
        self._end("finished")

    def _tell_once(self, fact: str) -> None:
        if fact not in self._told:
            self._told.add(fact)
            self._tell(**{fact: True})

    def _tell_loss(self) -> None:
        if self._between:
            self._tell_once("mixed")
        losses = [*(self._step or ()), *self._between]
        self._tell(loss=sum(losses) / len(losses))
        self._count += 1
        self._between, self._steps_between = [], 0

    def _introduce(self, optimizer: Optimizer, losses: Sequence[float]) -> None:
        """Tell what the first optimizer is, and the first losses; refuse a training in several processes."""
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            self._refuse(SEVERAL_PROCESSES)
        kind = innermost([optimizer])[0]
        momentum = kind.param_groups[0].get("momentum", 0.0)
        self._tell(
            optimizer=type(kind).__name__.lower(),
            momentum=float(momentum) if isinstance(momentum, int | float) else 0.0,
            lr=self._rates.base,
            device=str(kind.param_groups[0]["params"][0].device),
            note=self._rates.words,
            before_updates=mean if math.isfinite(mean := sum(losses) / len(losses)) else None,
        )
        self._lead(optimizer)

    def _introduce_other(self, optimizer: Optimizer) -> None:
        """Tell of a further optimizer once, with its lr as a multiple of the first one's."""
        if self._first is not None and optimizer not in self._introduced:
            self._introduced.add(optimizer)
            self._tell(other=type(optimizer).__name__, ratio=self._rates.ratio(optimizer))

    def _check_unmoved(self, optimizer: Optimizer) -> None:
        """Refuse a script whose optimizer changes weights at lr 0; other parts of the script may do so."""
        before, self._before_step = self._before_step, None
        if before is not None and not torch.allclose(before, sample_of(optimizer), equal_nan=True):
            self._refuse(MOVES)
