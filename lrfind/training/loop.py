"""One lane at a time: generators of training steps, of our own and of the user's."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lrfind.analysis.curves import Array
from lrfind.errors import UsageError, as_exception, counted, text_of
from lrfind.problem.ranks import over_ranks
from lrfind.problem.rates import inner_name, innermost
from lrfind.problem.setup import Recipe, Setup
from lrfind.training.backward import Backward
from lrfind.training.evaluation import held_loss
from lrfind.training.gauge import Gauge
from lrfind.training.interrupts import stop_if_asked
from lrfind.training.update import clear_gradients, plain_step

REGULAR = 16
"""The steps of a user's own after which regular intervals between updates are no accident."""


class Step(NamedTuple):
    """The measurements of one step, all taken before the update that uses `lr`."""

    step: int
    lr: float
    loss: float
    grad_norm: float | None = None
    held_out_loss: float | None = None
    skipped: bool | None = None


def train(
    setup: Setup,
    lr: Array,
    *,
    start: int = 0,
    grad_norm: bool = False,
    momentum: Array | None = None,
    damping: Callable[[float], float] | None = None,
    gauge: Gauge | None = None,
) -> Iterator[Step]:
    """Take one optimizer step for each lr, and yield each step's measurements before its update.

    The caller decides when to stop: the update of a step is made when the next step is requested, so
    stopping at a non-finite loss leaves the weights as they were. A lane may be trained in parts, one call
    after another on the same setup.

    Args:
        setup: the lane's parts. Param groups keep the ratios of their lrs.
        lr: (T,) the lr of each step.
        start: the number of the first step.
        grad_norm: also measure the Euclidean norm of the gradient, over all parameters, before clipping.
        momentum: (T,) the momentum of each step; the optimizer's own when omitted.
        damping: a function from the norm of a step's gradient to the factor of its lr.
        gauge: the gauge that looks at the layers, at its own steps; None for no looks.

    Raises:
        UsageError: if batch, model and loss do not fit together, or the loss depends on no parameter.
    """
    with as_exception():
        if setup.own_step is not None:
            yield from own_steps(setup, lr, start, momentum)
        else:
            yield from _steps(setup, lr, start, grad_norm, momentum, damping, gauge)


def _steps(
    setup: Setup,
    lr: Array,
    start: int,
    grad_norm: bool,
    momentum: Array | None,
    damping: Callable[[float], float] | None,
    gauge: Gauge | None,
) -> Iterator[Step]:
    """Take lrfind's own steps; see `train`."""
    model, optimizer, scaler = setup.model, setup.optimizer, setup.scaler
    refuse_closures(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    named: dict[str, nn.Parameter] = {}
    backward, take_step = Backward(setup), plain_step(optimizer)
    wrapped = [inner for inner in innermost(setup.all_optimizers) if inner is not optimizer]
    for step, value in enumerate(lr.tolist(), start):
        stop_if_asked()
        held_out, held_out_loss = setup.held_out_batch, None
        if held_out is not None:
            held_out_loss = over_ranks(held_loss(model, setup.loss_fn, held_out))
        clear_gradients(optimizer, parameters)
        loss = over_ranks(backward())
        if scaler is not None:
            scaler.unscale_(optimizer)
        norm = _norm(parameters) if grad_norm or damping or scaler is not None else None
        skipped = None if scaler is None or norm is None else not math.isfinite(norm)
        if gauge is not None and step in gauge.steps:
            named = named or dict(model.named_parameters())
            gradients = {name: None if p.grad is None else p.grad[None] for name, p in named.items()}
            gauge.look(step, {name: p.detach()[None] for name, p in named.items()}, gradients)
        _change_gradients(parameters, setup.recipe)
        if damping is not None and norm is not None:
            value *= damping(norm)
        give = _giver(setup, value, None if momentum is None else float(momentum[step - start]))
        give()
        yield Step(step, value, loss, norm if grad_norm or damping else None, held_out_loss, skipped)
        with _before_updates(wrapped, give):  # a wrapper may set rates of its own
            _update(setup, take_step, skip=bool(skipped))
        if gauge is not None and gauge.awaits_update:
            gauge.updated({name: p.detach()[None] for name, p in named.items()})


def own_steps(setup: Setup, lr: Array, start: int, momentum: Array | None = None) -> Iterator[Step]:
    """Take steps with the user's own function, and yield each step's measurements after its update.

    Before every update, lr and momentum are set in each innermost optimizer, so a scheduler inside the
    function has no effect on them. The loss is that before the update, as everywhere.

    Raises:
        UsageError: if the function makes an update after another number of calls than the recipe says.
    """
    own_step, inner = setup.own_step, innermost(setup.optimizers)
    assert own_step is not None
    calls, updated = setup.recipe.accumulate, list[int]()
    for step, value in enumerate(lr.tolist(), start):
        stop_if_asked()
        give = _giver(setup, value, None if momentum is None else float(momentum[step - start]))
        give()
        losses = []
        for call in range(step * calls, (step + 1) * calls):
            with _before_updates(inner, give) as updates:
                losses.append(own_step.take(next(setup.batches)))
            updated += [call] if updates and len(updated) <= REGULAR else []
        if len(updated) <= REGULAR:  # the first updates show it
            _refuse_other_counts(updated, calls, step - start + 1)
        yield Step(step, value, over_ranks(sum(losses) / calls))


def _giver(setup: Setup, lr: float, momentum: float | None) -> Callable[[], None]:
    """Return a function that gives an lr and a momentum to a lane's optimizers; None leaves the momentum."""

    def give() -> None:
        setup.set_lr(lr)
        if momentum is not None:
            for optimizer in innermost(setup.all_optimizers):
                set_momentum(optimizer, momentum)

    return give


def _refuse_other_counts(updated: Sequence[int], calls: int, steps: int) -> None:
    """Refuse a user's function that makes its updates at other calls than lrfind was told.

    A loss scaler and a skipped batch leave out updates, too, but not at regular intervals.

    Args:
        updated: the numbers of the calls that made an update.
        calls: the number of calls that should make one.
        steps: the number of steps that were taken.

    Raises:
        UsageError: if two or more updates are all equally far apart, but not by `calls`.
    """
    gaps = {after - before for before, after in pairwise(updated)}
    gap = gaps.pop() if len(gaps) == 1 else calls
    if gap < calls or (gap > calls and steps >= REGULAR):
        raise UsageError(
            f"the step calls optimizer.step() once in {counted(gap, 'call')}, but accumulate is {calls}: give"
            f" accumulate={gap}, the number of calls, with a batch each, that make one update."
        )


@contextmanager
def _before_updates(
    optimizers: Sequence[torch.optim.Optimizer], give: Callable[[], None]
) -> Iterator[list[Any]]:
    """Call a function before each update of these optimizers, inside of whatever wraps them.

    The list that is yielded then holds the optimizer of each update.
    """
    updates: list[Any] = []

    def before(optimizer: Any, *_: Any) -> None:
        give()
        updates.append(optimizer)

    hooks = [optimizer.register_step_pre_hook(before) for optimizer in optimizers]
    try:
        yield updates
    finally:
        for hook in hooks:
            hook.remove()


def refuse_closures(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer whose step computes the loss itself.

    Raises:
        UsageError: if its step has a closure without a default, or it is LBFGS.
    """
    if takes_closures(optimizer):
        raise UsageError(_needs_a_closure(optimizer))


def takes_closures(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether the step of an optimizer computes the loss itself."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    required = closure is not None and closure.default is inspect.Parameter.empty
    return required or isinstance(optimizer, torch.optim.LBFGS)


def _needs_a_closure(optimizer: torch.optim.Optimizer) -> str:
    """Say what to do with an optimizer whose step computes the loss itself."""
    name = type(optimizer).__name__
    return (
        f"{name} evaluates the loss several times per step, so it needs a closure. In Python, give the"
        " whole step: lrfind.find(step=step, data=loader, optimizers=[optimizer], steps=...), where"
        " step(batch) calls optimizer.step(closure) and returns the loss. In a config, use another"
        " optimizer."
    )


def _change_gradients(parameters: list[Tensor], recipe: Recipe) -> None:
    """Change the gradients as the recipe says."""
    if recipe.l1:
        for parameter in parameters:
            if parameter.grad is not None and parameter.ndim > 1:
                parameter.grad.add_(parameter.detach().sign(), alpha=recipe.l1)
    if recipe.clip_value is not None:
        torch.nn.utils.clip_grad_value_(parameters, recipe.clip_value)
    if recipe.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)


def gauge_of(setup: Setup, steps: Container[int]) -> Gauge:
    """Return a gauge of a lane's layers that looks at these steps."""
    in_optimizer = {id(p) for group in setup.optimizer.param_groups for p in group["params"]}
    named = setup.model.named_parameters()
    trained = {name for name, p in named if id(p) in in_optimizer and p.requires_grad}
    return Gauge(setup.model, trained, steps, setup.recipe.clip_norm, setup.recipe.clip_value)


def set_momentum(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the momentum of every param group: `momentum`, or the first of `betas`.

    Raises:
        UsageError: if the optimizer has neither.
    """
    for group in optimizer.param_groups:
        if "momentum" in optimizer.defaults:
            group["momentum"] = value
        elif "betas" in optimizer.defaults:
            group["betas"] = (value, *group["betas"][1:])
        else:
            raise UsageError(
                f"{type(optimizer).__name__} has no momentum that a schedule could change; set the schedule's"
                " `momentum: null`, or use sgd, rmsprop or an optimizer of the Adam family."
            )


def has_momentum(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer uses a momentum that a schedule can change."""
    if "betas" in optimizer.defaults:
        return True
    return "momentum" in optimizer.defaults and all(g["momentum"] > 0 for g in optimizer.param_groups)


def _norm(parameters: list[Tensor]) -> float:
    norms = [torch.linalg.vector_norm(p.grad) for p in parameters if p.grad is not None]
    whole = [
        norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms
    ]  # of FSDP's shards
    together = [norm.to(whole[0].device) for norm in whole]  # of a model on several devices
    return float(torch.linalg.vector_norm(torch.stack(together))) if together else 0.0


def _update(setup: Setup, take_step: Callable[[], object], *, skip: bool) -> None:
    """Take the optimizer's step; with a loss scaler, skip the step if its gradient overflowed."""
    if setup.scaler is None:
        try:
            take_step()
        except Exception as error:
            if "closure" in text_of(error):
                raise UsageError(_needs_a_closure(setup.optimizer)) from error
            if not text_of(error) and (inner := inner_name(setup.optimizer)) is not None:
                raise UsageError(
                    f"{type(setup.optimizer).__name__} takes no step outside of its framework; give the"
                    f" optimizer inside it, its attribute `{inner}`."
                ) from error
            raise
        return
    if not skip:  # if the scaler skipped the first step of a fused SGD, the momentum would stay uninitialised
        setup.scaler.step(setup.optimizer)
    setup.scaler.update()
