"""What may be stacked: whose lanes one stack can train, and whose step may be recorded and replayed."""

from __future__ import annotations

from types import BuiltinFunctionType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from lrfind.catalog import optimizer_of
from lrfind.problem.setup import Setup


def why_not_stackable(setup: Setup) -> str | None:
    """Say why a lane's parts cannot be stacked; None if they may be."""
    kind = type(setup.optimizer)
    row = optimizer_of(kind)
    if row is None or not row.stackable:
        return f"{kind.__name__} is not an optimizer whose update is linear in the lr"
    defaults = setup.optimizer.defaults
    option = next((key for key in ("differentiable", "capturable") if defaults.get(key)), None)
    if option is not None:
        return f"the optimizer is {option}"
    step_counts = [state.get("step", 1) for state in setup.optimizer.state.values()]  # 0 for a new Adagrad
    if any(steps > 0 for steps in step_counts):
        return "the optimizer has state from earlier training"
    if setup.recipe.precision == "float16":
        return "float16 scales the loss of each lane by itself"
    if setup.group is not None:
        return "only one param group moves"
    if any(isinstance(module, nn.RNNBase) for module in setup.model.modules()):
        return "torch cannot evaluate recurrent layers of several lanes at once"
    model_parameters = {id(p) for p in setup.model.parameters()}
    if any(id(p) not in model_parameters for group in setup.optimizer.param_groups for p in group["params"]):
        return "the optimizer trains parameters that do not belong to the model"
    return None


def traceable(setup: Setup) -> bool:
    """Return whether a step may be recorded once and replayed.

    This is safe if all modules are torch's or lrfind's, which keep no Python state. A user's `forward` may
    count its calls, draw from Python's random, or branch on values. So may a function that a module of torch
    is given, as an activation, or in the place of its `forward`.
    """
    modules, functions = [*setup.model.modules()], list[Any]()
    if isinstance(setup.loss_fn, nn.Module):
        modules += setup.loss_fn.modules()
    elif setup.loss_fn is not None:
        functions.append(setup.loss_fn)
    hooked = any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in modules
    )
    if hooked or _has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    functions += (value for part in modules for value in vars(part).values() if _is_function(value))
    kinds = {kind for part in modules for kind in type(part).__mro__}  # also those that a kind is made of
    return all(map(_is_of_torch_or_lrfind, [*functions, *(kinds - {object})]))


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type | Tensor | BuiltinFunctionType)


def _is_of_torch_or_lrfind(value: Any) -> bool:
    """Return whether a class or a function is of torch.nn or of lrfind's models."""
    if isinstance(value, type):
        name = value.__module__
    else:  # functools.wraps copies the name of a function's module, but not what it really belongs to
        name = getattr(value, "__globals__", {}).get("__name__") or type(value).__module__
    return name.startswith(("torch.nn.", "lrfind.models.")) and not name.startswith("torch.nn.parallel.")
