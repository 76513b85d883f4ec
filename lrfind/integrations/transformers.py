"""Transformers: the rate for a `Trainer`, before it trains or as a callback when it begins to.

from lrfind.integrations.transformers import find

best = find(trainer)
trainer.train()
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

import lrfind
from lrfind.errors import UsageError
from lrfind.integrations.adapters import Grouped, expect_kind, framework, replaced, same_randomness
from lrfind.problem.applied import apply_lr
from lrfind.problem.data import length_of
from lrfind.problem.rates import base_lr


def find(trainer: Any, **options: Any) -> lrfind.Recommendation:
    """Find the rate for `trainer.train()`, and set it in `trainer.args.learning_rate`.

    The loss, the batches, the number of steps, the schedule, the accumulation, the clipping and the precision
    are those of the trainer. Afterwards everything but the rate is as it was: also `trainer.optimizer` is
    None again, if it was None.

    Args:
        trainer: a `transformers.Trainer`, or an object of a subclass.
        options: arguments of `lrfind.find`; they go before what the trainer says.

    Raises:
        NoSuggestion: if no rate can be recommended.
        UsageError: if the trainer shares its model among processes; `FindLR` finds the rate then.
    """
    framework("transformers", "transformers")
    hint = "A model without a Trainer needs no adapter: lrfind.find(model, optimizer, data=loader)."
    expect_kind(trainer, "trainer", "Trainer", "transformers", hint=hint)
    args = trainer.args
    if args.world_size > 1 or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise UsageError(
            "the trainer shares its model among processes, which it prepares when the training begins. Ask"
            " then: trainer.add_callback(lrfind.integrations.transformers.FindLR(trainer))."
        )
    if args.neftune_noise_alpha is not None:
        warnings.warn(
            "the rate is for a training without NEFTune, which the trainer adds when it begins. Ask then:"
            " trainer.add_callback(lrfind.integrations.transformers.FindLR(trainer)).",
            stacklevel=2,
        )
    with same_randomness(), _before_training(trainer):
        loader = trainer.get_train_dataloader()
        steps = options.get("steps") or _planned_steps(args, loader)
        optimizer, scheduler = trainer.create_optimizer(), trainer.lr_scheduler
        if scheduler is None:
            dummy = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate)
            scheduler = trainer.create_scheduler(steps, dummy)
    plan: dict[str, Any] = {"steps": steps, "schedule": scheduler}
    with replaced(trainer.state, global_step=0, epoch=0):
        best = _found(trainer, trainer.model, optimizer, loader, plan | options)
    _set(trainer, best)
    return best


def _before_training(trainer: Any) -> AbstractContextManager[Any]:
    """Allow the parts of a training to be made; afterwards the trainer is as it was."""
    stack = ExitStack()
    stack.enter_context(replaced(trainer.accelerator, _dataloaders=[]))
    stack.enter_context(
        replaced(
            trainer,
            optimizer=trainer.optimizer,
            lr_scheduler=_own_scheduler(trainer),
            _created_lr_scheduler=False,
            _signature_columns=None,
        )
    )
    return stack


def _own_scheduler(trainer: Any) -> Any:
    """Return the scheduler that the user gave to the trainer; None if the trainer makes one."""
    return None if trainer._created_lr_scheduler else trainer.lr_scheduler


def _planned_steps(args: Any, loader: Any) -> int:
    """Return the number of optimizer steps that `train` takes.

    Raises:
        UsageError: if that is not known.
    """
    if args.max_steps > 0:
        return int(args.max_steps)
    try:
        steps_per_epoch = math.ceil(len(loader) / args.gradient_accumulation_steps)
    except TypeError:
        raise UsageError("steps: the data has no length; set args.max_steps.") from None
    steps: int = math.ceil(args.num_train_epochs * steps_per_epoch)
    return steps


def _found(
    trainer: Any, model: Any, optimizer: Any, loader: Any, options: dict[str, Any]
) -> lrfind.Recommendation:
    """Ask `lrfind.find` for the rate of the parts of a training."""
    args, size = trainer.args, trainer.args.gradient_accumulation_steps
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it while the trainer trains
    callbacks, data = _callbacks_in_steps(trainer), Grouped(loader, size)
    epoch = length_of(data)
    if size > 1 or callbacks or _has_training_step(trainer):  # the loss counts the tokens of the whole step
        with _in_training(trainer, optimizer, callbacks):
            step = partial(_step, trainer, model, epoch)
            return lrfind.find(step=step, data=data, optimizers=[inner], **options)
    read: dict[str, Any] = {
        "clip_norm": args.max_grad_norm or None,
        "precision": "float16" if args.fp16 else "bfloat16" if args.bf16 else "float32",
    }
    loss = partial(_batch_loss, trainer, model, epoch)
    return lrfind.find(model, inner, data=loader, loss=loss, **read | options)


def _has_training_step(trainer: Any) -> bool:
    """Return whether the trainer's `training_step` is not that of transformers."""
    plain = framework("transformers", "transformers").Trainer.training_step
    return getattr(trainer.training_step, "__func__", None) is not plain


def _callbacks_in_steps(trainer: Any) -> list[Any]:
    """Return the callbacks of the user's that are called between the backward pass and the update."""
    plain = framework("transformers", "transformers").TrainerCallback.on_pre_optimizer_step
    return [
        callback
        for callback in trainer.callback_handler.callbacks
        if type(callback).on_pre_optimizer_step is not plain
        and not type(callback).__module__.startswith("transformers.")
    ]


@contextmanager
def _in_training(trainer: Any, optimizer: Any, callbacks: list[Any]) -> Iterator[None]:
    """Allow the trainer's own steps with an optimizer; of its callbacks, only these are called."""
    with (
        replaced(trainer.accelerator, _optimizers=[]),
        replaced(trainer, optimizer=trainer.accelerator.prepare_optimizer(optimizer)),
        replaced(trainer.callback_handler, callbacks=callbacks, optimizer=optimizer),
    ):
        yield


def _count_step(trainer: Any, epoch: int | None) -> None:
    """Count a step as `train` does, because a loss may depend on it; `epoch` is the steps in an epoch."""
    trainer.state.global_step += 1
    trainer.state.epoch = trainer.state.global_step / (epoch or trainer.args.max_steps)


def _step(trainer: Any, model: Any, epoch: int | None, batches: list[Any]) -> Any:
    """Take a step on its batches as `train` does; return the loss before it."""
    args, accelerator = trainer.args, trainer.accelerator
    samples, items = trainer.get_batch_samples(iter(batches), len(batches), args.device)
    autocast = torch.autocast(args.device.type, torch.bfloat16 if args.bf16 else torch.float16)
    with (
        replaced(trainer, current_gradient_accumulation_steps=len(samples)),
        autocast if args.bf16 or args.fp16 else nullcontext(),
    ):
        losses = [trainer.training_step(model, inputs, items) for inputs in samples]
    if args.max_grad_norm:
        accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
    trainer.callback_handler.on_pre_optimizer_step(args, trainer.state, trainer.control)
    trainer.optimizer.step()
    model.zero_grad()
    _count_step(trainer, epoch)
    return torch.stack(losses).sum()


def _batch_loss(trainer: Any, model: Any, epoch: int | None, batch: Any) -> Any:
    """Return the loss of a batch as the trainer computes it, and count its step."""
    (inputs,), items = trainer.get_batch_samples(iter([batch]), 1, trainer.args.device)
    inputs = trainer._prepare_inputs(inputs)
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(model, inputs, num_items_in_batch=items)
    _count_step(trainer, epoch)
    return loss


def _set(trainer: Any, best: lrfind.Recommendation) -> None:
    """Set the rate so that the next `train` uses it; warn if it does not."""
    args = trainer.args
    if trainer.optimizer is not None:
        args.learning_rate = best.lr
        if (scheduler := _own_scheduler(trainer)) is not None:
            best.apply(trainer.optimizer, scheduler)
        else:  # the trainer makes a scheduler of its own
            apply_lr(best.lr, [trainer.optimizer])
        return
    args.learning_rate = best.lr * (args.learning_rate / _lr_at_start(trainer))
    if not math.isclose(lr := _lr_at_start(trainer), best.lr, rel_tol=1e-6):
        warnings.warn(
            f"the rate {best.lr:.3g} does not reach the training: `create_optimizer` of the"
            f" {type(trainer).__name__} makes an optimizer with lr {lr:.3g}, whatever args.learning_rate"
            " says. Change it there, or use the callback FindLR.",
            stacklevel=3,
        )


def _lr_at_start(trainer: Any) -> float:
    """Return the lr of the optimizer that the trainer makes when it begins to train."""
    with same_randomness(), replaced(trainer, optimizer=None):
        return base_lr([trainer.create_optimizer()])


def __getattr__(name: str) -> Any:
    """Make the callback when it is first used, because its base class belongs to the framework."""
    if name != "FindLR":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    base = framework("transformers", "transformers").TrainerCallback

    class FindLR(base):  # type: ignore[misc, valid-type]
        """A callback that finds the rate when a training begins, and gives it to the optimizer.

        Args:
            trainer: the trainer that gets this callback.
            options: arguments of `lrfind.find`; they go before what the trainer says.

        Attributes:
            best: the answer; None before the training.
        """

        def __init__(self, trainer: Any, **options: Any) -> None:
            self.trainer, self.options = trainer, options
            self.best: lrfind.Recommendation | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            """Find the rate, unless the training goes on from a checkpoint."""
            if state.global_step:
                return
            trainer, loader = self.trainer, parts["train_dataloader"]
            optimizer, scheduler = trainer.optimizer, trainer.lr_scheduler
            options = {"steps": state.max_steps, "schedule": scheduler} | self.options
            best = _found(trainer, trainer.model_wrapped, optimizer, loader, options)
            best.apply(optimizer, scheduler)
            args.learning_rate = best.lr
            self.best = best

    FindLR.__qualname__ = "FindLR"
    globals()["FindLR"] = FindLR
    return FindLR
