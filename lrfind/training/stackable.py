"""What may be stacked: whose lanes one stack can train, and whose step may be recorded and replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from types import BuiltinFunctionType, FunctionType, NoneType
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
    if setup.optimizer._optimizer_step_pre_hooks or setup.optimizer._optimizer_step_post_hooks:
        return "the optimizer has hooks, which a stack would not call"
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

    This is safe if all modules are torch's or lrfind's, which change no Python state of theirs; `PythonState`
    tells whether others did. A user's `forward` may count its calls, draw from Python's random, or branch on
    values. So may a function that a module of torch is given, as an activation, or in the place of its
    `forward`.
    """
    modules, functions = _modules_of(setup), list[Any]()
    if setup.loss_fn is not None and not isinstance(setup.loss_fn, nn.Module):
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


def _modules_of(setup: Setup) -> list[nn.Module]:
    """Return the modules of the model, and of the loss if it is a module."""
    loss = setup.loss_fn
    return [*setup.model.modules(), *(loss.modules() if isinstance(loss, nn.Module) else ())]


class PythonState:
    """What a recording of a step does not see if the user's code changes it between two steps.

    That is the rate of a dropout, the mode of a batch norm, the smoothing of a loss, or another tensor in the
    place of its weights. It is looked at before every step, so a look may take only microseconds.

    Args:
        setup: the parts of a lane, whose step is traceable.

    Attributes:
        values: the plain attributes of all modules; they can be hashed.
    """

    def __init__(self, setup: Setup) -> None:
        attributes = [vars(part) for part in _modules_of(setup)]
        self._attributes = [(itemgetter(*_plain_names(part)), part) for part in attributes]
        parts = [part.get(name) for part in attributes for name in ("_parameters", "_buffers", "_modules")]
        self._parts = [part for part in parts if part]
        self.values, self._ids = self._values_now(), self._ids_now()

    @property
    def changed(self) -> bool:
        """Whether anything is different from what it was when this object was made."""
        try:
            return self._ids_now() != self._ids or self._values_now() != self.values
        except Exception:  # an attribute is gone, or is something now that cannot be compared
            return True

    def _values_now(self) -> tuple[Any, ...]:
        return tuple([get(attributes) for get, attributes in self._attributes])

    def _ids_now(self) -> list[int]:
        return [id(value) for part in self._parts for value in part.values()]


def _plain_names(attributes: Mapping[str, Any]) -> Iterable[str]:
    """Return the names of the attributes whose values cannot change without being replaced."""
    return [name for name, value in attributes.items() if _is_plain(value)]


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str | NoneType | FunctionType | BuiltinFunctionType)
