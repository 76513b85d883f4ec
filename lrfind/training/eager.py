"""torch without its compiler, whose import takes about half as long as that of torch itself.

torch wraps some methods of its optimizers for `torch.compile`: it does not look into them, or breaks its
graph there. At the first call the wrappers import `torch._dynamo`, with 900 modules, sympy among them,
also if nothing is ever compiled. Without the wrappers the methods do the same. In the same way,
`torch.func.grad` imports it only to switch off a part of it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import wraps
from types import SimpleNamespace
from typing import Any

import torch
from torch import optim

COMPILER = "torch._dynamo"
UNTRACED = "_disable_dynamo.<locals>.inner"
WITHOUT_GRADIENTS = "_use_grad_for_differentiable.<locals>._use_grad"
"""The wrappers, by the names that their code has."""


@contextmanager
def eager_optimizers() -> Iterator[None]:
    """Let torch's optimizers do their work inside the block without importing torch's compiler.

    Nothing changes where the compiler is imported already, or where torch wraps the methods in another way.
    """
    with ExitStack() as stack:
        if COMPILER not in sys.modules:
            for kind in {optim.Optimizer, *filter(_is_optimizer, vars(optim).values())}:
                for name, method in [*vars(kind).items()]:
                    if (eager := _eager(method)) is not None:
                        stack.callback(setattr, kind, name, _hooked(method) if name == "step" else method)
                        setattr(kind, name, eager)
        yield


@contextmanager
def eager_gradients() -> Iterator[None]:
    """Let `torch.func.grad` work inside the block without importing torch's compiler.

    Nothing changes where it is imported already. Nothing in the block may need it.
    """
    if COMPILER in sys.modules:
        yield
        return
    torch_module: Any = torch
    torch_module._dynamo = SimpleNamespace(compiled_autograd=SimpleNamespace(_disable=nullcontext))
    try:
        yield
    finally:
        del torch_module._dynamo  # the next to ask for it imports it


def _is_optimizer(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, optim.Optimizer)


def _eager(method: Any) -> Callable[..., Any] | None:
    """Return a method in a form that does not import the compiler; None if it does not import it anyway."""
    step = _inside(WITHOUT_GRADIENTS, method)
    return _inside(UNTRACED, method) if step is None else _hooked(_without_gradients(step))


def _inside(wrapper: str, function: Any) -> Callable[..., Any] | None:
    """Return the function inside a wrapper, which may be inside others; None if there is no such wrapper."""
    while inspect.isfunction(function) and hasattr(function, "__wrapped__"):
        inner: Callable[..., Any] = function.__wrapped__
        if function.__code__.co_qualname == wrapper:
            return inner
        function = inner
    return None


def _without_gradients(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a step that autograd does not record, unless the optimizer is to be differentiable."""

    @wraps(step)
    def eager(self: optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *args, **kwargs)

    return eager


def _hooked(step: Any) -> Callable[..., Any]:
    """Return a step that calls the hooks of its optimizer, as torch makes one with the first optimizer."""
    if not hasattr(step, "hooked"):
        step = optim.Optimizer.profile_hook_step(step)
        step.hooked = True
    hooked: Callable[..., Any] = step
    return hooked
