"""Leave everything as it was: the state of a training, captured and put back bit for bit."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrfind.errors import UsageError
from lrfind.randomness import generators, set_state, state_of


class Snapshot:
    """The state of a model, an optimizer and all that they train with, at one moment.

    Captured: the values of all parameters, buffers and other tensors that modules and optimizer hold, their
    plain Python attributes (also in lists and dicts), `.grad` and `requires_grad`, train or eval mode, hooks,
    param groups; the random state of Python, NumPy, torch and every device; the generators of the loader;
    the thread count. `restore` may be called any number of times. Tensors and containers keep their
    identity: what the user holds a reference to is what is restored.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_fn: Any = None,
        loader: Any = None,
    ) -> None:
        roots = [module.__dict__ for module in model.modules()]
        if isinstance(loss_fn, nn.Module):
            roots += [module.__dict__ for module in loss_fn.modules()]
        roots.append(optimizer.__dict__)
        self._tensors: dict[int, tuple[Tensor, Tensor, bool, Tensor | None]] = {}
        self._containers: dict[int, tuple[Any, Any]] = {}
        for root in roots:
            self._capture(root)
        self._generators = [(found, state_of(found)) for found in generators(loader)]
        self._loader = (loader, getattr(loader, "_iterator", None))  # persistent workers live in there
        self._random = (random.getstate(), np.random.get_state(), torch.get_rng_state())
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
        self._mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        self._threads = torch.get_num_threads()

    def _capture(self, value: Any) -> None:
        """Keep a copy of every tensor and container that is reached from `value` through containers."""
        if id(value) in self._containers or id(value) in self._tensors:
            return
        if isinstance(value, Tensor):
            if torch.nn.parameter.is_lazy(value):
                raise UsageError(
                    "the model has lazy layers without a shape yet; run one batch through it first."
                )
            copy = value.detach().clone(memory_format=torch.preserve_format)
            grad = value.grad if value.is_leaf else None
            self._tensors[id(value)] = (value, copy, value.requires_grad, grad)
        elif isinstance(value, dict | list | set | deque):
            self._containers[id(value)] = (value, value.copy())
            for inner in value.values() if isinstance(value, dict) else value:
                self._capture(inner)
        elif isinstance(value, tuple):
            for inner in value:
                self._capture(inner)

    def restore(self) -> None:
        """Put everything back."""
        for container, copy in self._containers.values():
            if isinstance(container, list):
                container[:] = copy
            else:
                container.clear()
                container.extend(copy) if isinstance(container, deque) else container.update(copy)
        with torch.no_grad():
            for tensor, copy, requires_grad, grad in self._tensors.values():
                if not _overlaps_itself(tensor):
                    tensor.copy_(copy)
                if tensor.is_leaf:
                    tensor.requires_grad_(requires_grad)
                    tensor.grad = grad
        for generator, state in self._generators:
            set_state(generator, state)
        loader, iterator = self._loader
        if hasattr(loader, "_iterator"):
            loader._iterator = iterator
        random.setstate(self._random[0])
        np.random.set_state(self._random[1])
        torch.set_rng_state(self._random[2])
        if self._cuda is not None:
            torch.cuda.set_rng_state_all(self._cuda)
        if self._mps is not None:
            torch.mps.set_rng_state(self._mps)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)

    def clear_grads(self) -> None:
        """Set every `.grad` to None, so that the gradients captured here are not written into."""
        for tensor, *_ in self._tensors.values():
            if tensor.is_leaf:
                tensor.grad = None


@contextmanager
def preserved(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Any = None,
    loader: Any = None,
) -> Iterator[Snapshot]:
    """Train as you like inside; afterwards, also after an exception, everything is as it was before."""
    snapshot = Snapshot(model, optimizer, loss_fn, loader)
    snapshot.clear_grads()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield snapshot
    finally:
        snapshot.restore()


def _overlaps_itself(tensor: Tensor) -> bool:
    """Whether several elements share memory (an expanded buffer): such a tensor cannot be written to."""
    return any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
