"""What may be stacked: whose lanes one stack can train, and whose step may be recorded and replayed."""

from __future__ import annotations

from typing import Any

from torch import nn
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
    count its calls, draw from Python's random, or branch on values.
    """
    parts: list[Any] = [*setup.model.modules()]
    if isinstance(setup.loss_fn, nn.Module):
        parts += setup.loss_fn.modules()
    elif setup.loss_fn is not None:
        parts.append(setup.loss_fn)
    hooked = any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
        for part in parts
        if isinstance(part, nn.Module)
    )
    if hooked or _has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    module_names = {(type(part) if isinstance(part, nn.Module) else part).__module__ for part in parts}
    return all(
        name.startswith(("torch.nn.", "lrfind.models.")) and not name.startswith("torch.nn.parallel.")
        for name in module_names
    )
