"""Signatures: the arguments that a model's `forward` takes, also inside a wrapper that passes on any."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

WRAPPED = ("_orig_mod", "module")
"""Where `torch.compile` and the wrappers for several devices keep the model inside."""
ANYTHING = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def accepts(model: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether a model's `forward` can be called with these arguments; True if that is not known."""
    try:
        inspect.signature(_forward_of(model)).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def takes_one_object(model: Callable[..., Any]) -> bool:
    """Return whether a model's `forward` has one argument, and does not declare that it is a tensor."""
    try:
        parameters = [*inspect.signature(_forward_of(model)).parameters.values()]
    except ValueError:
        return False
    return len(parameters) == 1 and parameters[0].annotation not in (Tensor, "Tensor", "torch.Tensor")


def _forward_of(model: Any) -> Callable[..., Any]:
    """Return a model's `forward`, or that of the model inside a wrapper that takes any arguments.

    Raises:
        ValueError: if a `forward` has no signature that is known.
    """
    forward: Callable[..., Any] = getattr(model, "forward", model)
    parts = (getattr(model, name, None) for name in WRAPPED)
    inner = next((part for part in parts if isinstance(part, nn.Module)), None)
    kinds = {parameter.kind for parameter in inspect.signature(forward).parameters.values()}
    return forward if inner is None or kinds != ANYTHING else _forward_of(inner)
