"""Lightning: the rate for a `LightningModule`, as a callback or before `trainer.fit`.

from lrfind.integrations.lightning import FindLR

trainer = Trainer(callbacks=[FindLR()])
trainer.fit(module, datamodule)
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

import lrfind
from lrfind.errors import UsageError, in_one_line
from lrfind.integrations.adapters import Grouped, expect_kind, framework, replaced, same_randomness
from lrfind.integrations.lightning_plan import Batches, planned_schedule, planned_steps
from lrfind.problem.snapshot import preserved
from lrfind.training.loop import takes_closures

GRADIENT_HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""The hooks inside a step that modules and callbacks have."""
HOOKS = (
    *GRADIENT_HOOKS,
    "on_train_batch_start",
    "on_train_batch_end",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
)
"""The hooks of a module that change a step. With one of them, Lightning itself takes the steps."""
FIRST_HOOKS = ("on_train_start", "on_train_epoch_start")
"""The hooks of a module before the first step; they freeze layers, for example."""


def find(
    trainer: Any,
    module: Any,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    datamodule: Any = None,
    **options: Any,
) -> lrfind.Recommendation:
    """Find the rate for `trainer.fit` with the same arguments; this trainer then uses it.

    Lightning prepares the training and stops before its first step. The loggers are put aside, and so are the
    callbacks that take no part in a step. Afterwards the trainer has one more callback, a `FindLR`
    that knows the rate.

    Args:
        trainer: a `lightning.pytorch.Trainer`.
        module: the module that it will train.
        train_dataloaders: see `Trainer.fit`.
        val_dataloaders: see `Trainer.fit`.
        datamodule: see `Trainer.fit`.
        options: arguments of `lrfind.find`; they go before what the trainer says.

    Raises:
        NoSuggestion: if no rate can be recommended.
        UsageError: if the trainer starts processes of its own, from which no rate could come back, or if a
            callback freezes layers when the training begins.
    """
    _lightning()
    hint = "The trainer comes first, then the module."
    expect_kind(trainer, "trainer", "Trainer", "lightning", "pytorch_lightning", hint=hint)
    launchers = _part_of(trainer, "strategies.launchers")
    if isinstance(trainer.strategy.launcher, launchers._MultiProcessingLauncher):
        raise UsageError(
            "the trainer starts a process for each device, from which no rate comes back. Let it ask there:"
            " Trainer(callbacks=[lrfind.integrations.lightning.FindLR()])."
        )
    finetuning = _part_of(trainer, "callbacks").BaseFinetuning
    if freezing := next((one for one in trainer.callbacks if isinstance(one, finetuning)), None):
        raise UsageError(
            f"the trainer has a {type(freezing).__name__}, which freezes layers when the training begins. Ask"
            " then: add lrfind.integrations.lightning.FindLR() to the callbacks of the Trainer."
        )
    callback = _callback_class()(**options)
    callback.only_asks = True
    callbacks = [callback, *_callbacks_in_steps(trainer)]
    with (
        same_randomness(),
        replaced(trainer, callbacks=callbacks, _loggers=_silent(trainer), num_sanity_val_steps=0),
    ):
        trainer.fit(module, train_dataloaders, val_dataloaders, datamodule)
    callback.only_asks = False
    trainer.callbacks.insert(0, callback)
    best: lrfind.Recommendation = callback.best
    return best


def _ask(trainer: Any, options: dict[str, Any]) -> lrfind.Recommendation:
    """Ask for the rate of a training that is about to begin."""
    optimizers, batches = trainer.optimizers, Batches(trainer)
    size, limit = _accumulated(trainer), trainer.gradient_clip_val or None
    with replaced(trainer, accumulate_grad_batches=size), _silence(trainer), _begun(trainer):
        steps = options.get("steps") or planned_steps(trainer, options)
        read: dict[str, Any] = {"steps": steps, "schedule": planned_schedule(trainer, steps, options)}
        if _steps_itself(trainer):
            data = Grouped(batches, size)
            read |= {"step": partial(_step, trainer), "optimizers": optimizers}
            return lrfind.find(data=data, **read | options)
        read |= {
            "loss": partial(_batch_loss, trainer),
            "accumulate": size,
            "clip_value" if trainer.gradient_clip_algorithm == "value" else "clip_norm": limit,
            "precision": "float16" if trainer.precision == "16-mixed" else "float32",  # or by training_step
        }
        return lrfind.find(trainer.model, optimizers[0], data=batches, **read | options)


def _steps_itself(trainer: Any) -> bool:
    """Return whether Lightning must take the steps, for the sake of the optimizer, a hook or the strategy."""
    module = trainer.lightning_module
    is_overridden = _part_of(trainer, "utilities.model_helpers").is_overridden
    return (
        not module.automatic_optimization
        or trainer.strategy.handles_gradient_accumulation
        or any(map(takes_closures, trainer.optimizers))
        or any(is_overridden(hook, module) for hook in HOOKS)
        or bool(_callbacks_in_steps(trainer))
    )


def _callbacks_in_steps(trainer: Any) -> list[Any]:
    """Return the callbacks that take part in a step: those that see its gradients or choose its batches."""
    is_overridden = _part_of(trainer, "utilities.model_helpers").is_overridden
    accumulating = _part_of(trainer, "callbacks").GradientAccumulationScheduler
    return [
        one
        for one in trainer.callbacks
        if isinstance(one, accumulating) or any(is_overridden(hook, one) for hook in GRADIENT_HOOKS)
    ]


def _accumulated(trainer: Any) -> int:
    """Return the number of batches in a step of the first epoch."""
    kind = _part_of(trainer, "callbacks").GradientAccumulationScheduler
    scheduling = [one.scheduling for one in trainer.callbacks if isinstance(one, kind)]
    return int(scheduling[0][0] if scheduling else trainer.accumulate_grad_batches)


@contextmanager
def _begun(trainer: Any) -> Iterator[None]:
    """Call the hooks of a module before the first step; afterwards the module is as it was."""
    is_overridden = _part_of(trainer, "utilities.model_helpers").is_overridden
    module = trainer.lightning_module
    hooks = [hook for hook in FIRST_HOOKS if is_overridden(hook, module)]
    with preserved([module]) if hooks else nullcontext():
        for hook in hooks:
            _call(trainer, hook)
        yield


def _call(trainer: Any, hook: str, *arguments: Any) -> None:
    """Call a hook of the module; warn if it needs what is put aside while lrfind probes."""
    try:
        _part_of(trainer, "trainer.call")._call_lightning_module_hook(trainer, hook, *arguments)
    except (AttributeError, LookupError, TypeError) as error:
        warnings.warn(
            f"the probes go on without the module's hook {hook}, which failed: {in_one_line(error)}. In the"
            " probes, nothing is logged, and most callbacks are put aside.",
            stacklevel=2,
        )


def _prepared(trainer: Any, batch: Any) -> Any:
    """Return the next batch as the trainer prepares it, and count it."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
    if progress.current.ready >= trainer.num_training_batches:
        progress.reset_on_run()  # Lightning counts from 0 in each epoch
        trainer.fit_loop.epoch_progress.increment_by(1)
    progress.increment_ready()
    return batch


def _arguments(trainer: Any, batch: Any) -> OrderedDict[str, Any]:
    """Return the arguments of `training_step` for a prepared batch."""
    loop = trainer.fit_loop.epoch_loop
    arguments: OrderedDict[str, Any] = loop._build_kwargs(OrderedDict(), batch, loop.batch_idx)
    return arguments


def _batch_loss(trainer: Any, batch: Any) -> Any:
    """Return the loss that `training_step` computes of a batch, and count the step that the batch ends."""
    loop, arguments = trainer.fit_loop.epoch_loop, _arguments(trainer, _prepared(trainer, batch))
    output = trainer.strategy.training_step(*arguments.values())
    if loop.batch_progress.total.ready % trainer.accumulate_grad_batches == 0:
        loop.automatic_optimization.optim_progress.optimizer.step.increment_completed()
    return output.get("loss") if isinstance(output, Mapping) else output


def _step(trainer: Any, batches: list[Any]) -> Any:
    """Let Lightning take a step on its batches; return the loss before it, None if there is none."""
    loop, losses = trainer.fit_loop.epoch_loop, []
    for batch in batches:
        ready = _prepared(trainer, batch)
        _call(trainer, "on_train_batch_start", ready, loop.batch_idx)
        arguments = _arguments(trainer, ready)
        if trainer.lightning_module.automatic_optimization:
            output = loop.automatic_optimization.run(trainer.optimizers[0], loop.batch_idx, arguments)
        else:
            output = loop.manual_optimization.run(arguments)
        _call(trainer, "on_train_batch_end", output, ready, loop.batch_idx)
        losses.append(output.get("loss"))
    if any(loss is None for loss in losses):
        return None
    total = torch.stack([torch.as_tensor(loss) for loss in losses]).sum()
    # Lightning divides each loss by the size of a full step, also in the shorter one at the end of an epoch
    return total * (trainer.accumulate_grad_batches / len(batches))


def _silence(trainer: Any) -> AbstractContextManager[Any]:
    """Put aside what only notices steps: loggers, callbacks, and the pass over the data that has begun."""
    loop, stack = trainer.fit_loop, ExitStack()
    nothing = {"log": _nothing, "log_dict": _nothing}
    stack.enter_context(replaced(trainer, callbacks=_callbacks_in_steps(trainer), _loggers=_silent(trainer)))
    stack.enter_context(replaced(trainer.lightning_module, **nothing))
    stack.enter_context(replaced(loop, _data_fetcher=None))
    for loader in (loop._combined_loader, *loop._combined_loader.flattened):
        if getattr(loader, "_iterator", None) is not None:  # of workers that stay for all epochs
            stack.enter_context(replaced(loader, _iterator=None))
    return stack


def _silent(trainer: Any) -> list[Any]:
    """Return loggers that log nothing, one for each of the trainer's."""
    logger = _part_of(trainer, "loggers.logger").DummyLogger
    return [logger() for _ in trainer.loggers]


def _nothing(*args: Any, **options: Any) -> None:
    """Take the place of a method whose effect would be noticed."""


def _lightning() -> Any:
    """Import Lightning, under one of its two names."""
    try:
        return framework("lightning.pytorch", "lightning")
    except UsageError:
        return framework("pytorch_lightning", "lightning")


def _part_of(trainer: Any, name: str) -> Any:
    """Import a module of the Lightning that a trainer belongs to."""
    homes = [
        kind.__module__ for kind in type(trainer).__mro__ if kind.__module__.endswith(".trainer.trainer")
    ]
    return framework(f"{homes[0].removesuffix('.trainer.trainer')}.{name}", "lightning")


def _callback_class() -> Any:
    """Return the class of the callback; it is made once, because its base class belongs to Lightning."""
    if "FindLR" in globals():
        return globals()["FindLR"]
    base = _lightning().Callback

    class FindLR(base):  # type: ignore[misc, valid-type]
        """A callback that finds the rate when a training begins, and gives it to optimizers and schedulers.

        It asks once: the next `fit` of its trainer gets the same rate. A training that goes on from a
        checkpoint keeps the rates that it had.

        Args:
            options: arguments of `lrfind.find`; they go before what the trainer says.

        Attributes:
            best: the answer; None before the first training.
            only_asks: whether the training stops when the answer is known.
        """

        def __init__(self, **options: Any) -> None:
            self.options, self.only_asks = options, False
            self.best: lrfind.Recommendation | None = None

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """Find the rate, and set it."""
            if trainer.ckpt_path is not None or trainer.fast_dev_run:
                return
            self.best = self.best or _ask(trainer, self.options)
            if self.only_asks:
                raise _part_of(trainer, "utilities.exceptions")._TunerExitException
            schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
            self.best.apply(trainer.optimizers, schedulers or None)

    FindLR.__qualname__ = "FindLR"
    globals()["FindLR"] = FindLR
    return FindLR


def __getattr__(name: str) -> Any:
    """Make the callback when it is first used."""
    if name != "FindLR":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return _callback_class()
