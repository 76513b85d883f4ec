"""Ignite: the rate for an `Engine` that trains, as a handler or before `run`.

from lrfind.integrations.ignite import FindLR

FindLR(optimizer).attach(trainer)
trainer.run(loader, max_epochs=10)
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch

import lrfind
from lrfind.errors import UsageError
from lrfind.integrations.adapters import Grouped, expect_kind, framework, replaced, same_randomness
from lrfind.problem.data import length_of


def find(
    trainer: Any,
    optimizer: Any,
    data: Any,
    max_epochs: int = 1,
    *,
    scheduler: Any = None,
    accumulate: int | None = None,
    loss_of: Callable[[Any], Any] | None = None,
    **options: Any,
) -> lrfind.Recommendation:
    """Find the rate for `trainer.run(data, max_epochs)`, and give it to the optimizer and the scheduler.

    Args:
        trainer: an `ignite.engine.Engine` whose function takes a training step.
        optimizer: the optimizer of this step, or a list of several.
        data: the batches.
        max_epochs: the number of epochs of the planned training.
        scheduler: the scheduler of torch, or ignite's `LRScheduler` around it, that takes a step per batch.
        accumulate: the number of batches whose gradients make one step; that of ignite's own function when
            omitted, or else 1.
        loss_of: a function that picks the loss from what the step returns; needed if that is no number.
        options: arguments of `lrfind.find`; they go before what the engine says.

    Raises:
        NoSuggestion: if no rate can be recommended.
        UsageError: if the step returns no loss.
    """
    framework("ignite.engine", "pytorch-ignite")
    expect_kind(trainer, "trainer", "Engine", "ignite")
    optimizers = [*optimizer] if isinstance(optimizer, list | tuple) else [optimizer]
    inner = getattr(scheduler, "lr_scheduler", scheduler)
    _warn_of_other_schedulers(trainer, inner)
    grouped = Grouped(data, accumulate or _accumulated(trainer))
    if "steps" not in options:
        options["steps"] = max_epochs * len(grouped)
    if inner is not None:
        options.setdefault("schedule", inner)
    step = partial(_step, trainer, loss_of, length_of(data))
    with same_randomness(), _silence(trainer):
        best = lrfind.find(step=step, data=grouped, optimizers=optimizers, **options)
    best.apply(optimizers, inner)
    return best


def _step(trainer: Any, loss_of: Callable[[Any], Any] | None, epoch: int | None, batches: list[Any]) -> float:
    """Take a step on its batches as the engine does; return the mean loss before it.

    Args:
        trainer: the engine.
        loss_of: see `find`.
        epoch: the number of batches in an epoch; None if it is not known.
        batches: the batches of the step.
    """
    losses = []
    for batch in batches:
        trainer.state.epoch = 1 + (trainer.state.iteration // epoch if epoch else 0)
        trainer.state.iteration += 1
        trainer.state.batch = batch
        output = trainer._process_function(trainer, batch)
        losses.append(_number(output if loss_of is None else loss_of(output)))
    return sum(losses) / len(losses)


def _number(loss: Any) -> float:
    """Return a loss as a number.

    Raises:
        UsageError: if it is none.
    """
    try:
        return float(loss.detach() if isinstance(loss, torch.Tensor) else loss)
    except (TypeError, ValueError):
        raise UsageError(
            f"the step of the engine returns a {type(loss).__name__}, not the loss; say which part of it is"
            " the loss: loss_of=lambda output: output['loss']."
        ) from None


def _accumulated(trainer: Any) -> int:
    """Return the `gradient_accumulation_steps` of `create_supervised_trainer`; 1 for other functions."""
    code = getattr(trainer._process_function, "__code__", None)
    names = () if code is None else code.co_freevars
    if "gradient_accumulation_steps" not in names:
        return 1
    cell = trainer._process_function.__closure__[names.index("gradient_accumulation_steps")]
    return int(cell.cell_contents)


def _silence(trainer: Any) -> AbstractContextManager[Any]:
    """Put aside the handlers of ignite's events, and the pass over the data that has begun."""
    known = framework("ignite.engine", "pytorch-ignite").Events.__members__
    handlers = {event: of for event, of in trainer._event_handlers.items() if event.name not in known}
    return replaced(
        trainer,
        _event_handlers=defaultdict(list, handlers),  # the step fires the user's own events
        _dataloader_iter=None,
        _internal_run_generator=None,
    )


def _warn_of_other_schedulers(trainer: Any, known: Any) -> None:
    """Warn of an attached scheduler that sets absolute rates, so that the answer would not arrive."""
    kind = framework("ignite.handlers", "pytorch-ignite").ParamScheduler
    handlers = [entry[0] for entries in trainer._event_handlers.values() for entry in entries]
    owners = [getattr(handler, "__self__", handler) for handler in handlers]
    for handler in owners:
        inner = getattr(handler, "lr_scheduler", None)
        if isinstance(handler, kind) and (inner is None or inner is not known):
            warnings.warn(
                f"the engine has a {type(handler).__name__}, which overwrites the rate; give it as scheduler="
                " if it is an LRScheduler, or else attach it after the answer, with best.lr as its peak.",
                stacklevel=3,
            )


class FindLR:
    """A handler that finds the rate when a training begins, and gives it to optimizer and scheduler.

    Args:
        optimizer: see `find`, also for `options`.
        options: arguments of `find`, and of `lrfind.find`.

    Attributes:
        best: the answer; None before the training.
    """

    def __init__(self, optimizer: Any, **options: Any) -> None:
        self.optimizer, self.options = optimizer, options
        self.best: lrfind.Recommendation | None = None

    def attach(self, trainer: Any) -> None:
        """Let an engine call this handler when it starts."""
        events = framework("ignite.engine", "pytorch-ignite").Events
        trainer.add_event_handler(events.STARTED, self)

    def __call__(self, trainer: Any) -> None:
        """Find the rate, unless the training goes on from an earlier state."""
        if trainer.state.iteration:
            return
        epoch, size = trainer.state.epoch_length, self.options.get("accumulate") or _accumulated(trainer)
        options = {"steps": trainer.state.max_epochs * -(-epoch // size)} | self.options
        self.best = find(trainer, self.optimizer, trainer.state.dataloader, **options)
