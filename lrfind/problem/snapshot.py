"""Snapshots: the state of a training, captured and restored bit for bit."""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrfind.errors import LrfindError, UsageError, counted, in_one_line
from lrfind.problem.randomness import GENERATORS, capture, generators, restore, set_state, state_of

MOST_VISITED = 1000  # objects to visit in search of the modules that a loss function holds


class Snapshot:
    """The state of a model, an optimizer and everything that they train with, at one moment.

    A snapshot captures:

    - of the modules and the optimizer: the values of all parameters, buffers and other tensors and arrays,
      plain Python attributes (also in lists and dicts), `.grad` and `requires_grad`, train or eval mode,
      hooks, param groups and random generators;
    - the random state of Python, NumPy, torch and every device;
    - the generators of the loader;
    - the thread count.

    `restore` may be called any number of times. Tensors and containers keep their identity: the objects that
    the user holds references to are restored in place.

    A snapshot does not look into objects of other classes, such as an optimizer inside another optimizer.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_fn: Any = None,
        loader: Any = None,
    ) -> None:
        self._tensors: dict[int, tuple[Tensor, Tensor, bool, Tensor | None]] = {}
        self._containers: dict[int, tuple[Any, Any]] = {}
        self._arrays: dict[int, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
        self._generators = {id(rng): (rng, state_of(rng)) for rng in generators(loader)}
        for module in [*model.modules(), *(m for part in _modules_of(loss_fn) for m in part.modules())]:
            self._capture(module.__dict__)
        self._capture(optimizer.__dict__)
        # The iterator of a loader holds its persistent workers.
        self._loader = (loader, getattr(loader, "_iterator", None))
        self._random = capture()
        self._threads = torch.get_num_threads()

    def _capture(self, value: Any) -> None:
        """Copy every tensor and container that can be reached from `value` through containers."""
        key = id(value)
        if key in self._containers or key in self._tensors:
            return
        if isinstance(value, Tensor):
            if torch.nn.parameter.is_lazy(value):
                raise UsageError(
                    "the model has lazy layers without a shape; run one batch through the model first."
                )
            copy = value.detach().clone()  # with the same strides, if elements do not overlap
            grad = value.grad if value.is_leaf else None
            self._tensors[key] = (value, copy, value.requires_grad, grad)
        elif isinstance(value, dict | list | set | deque):
            self._containers[key] = (value, _plain_copy(value))
            for part in value.values() if isinstance(value, dict) else value:
                self._capture(part)
        elif isinstance(value, tuple):
            for part in value:
                self._capture(part)
        elif isinstance(value, np.ndarray):
            self._arrays[key] = (value, value.copy())
        elif isinstance(value, GENERATORS):
            self._generators[key] = (value, state_of(value))

    def restore(self) -> None:
        """Restore everything; leave alone whatever has not changed.

        Raises:
            LrfindError: if some part cannot be restored; all others have been restored by then.
        """
        failures: list[str] = []
        steps: list[Callable[[], None]] = [
            *(partial(_restore_container, *entry) for entry in self._containers.values()),
            *(partial(_restore_tensor, *entry) for entry in self._tensors.values()),
            *(partial(_restore_array, *entry) for entry in self._arrays.values()),
            *(partial(set_state, *entry) for entry in self._generators.values()),
            self._restore_surroundings,
        ]
        for restore_part in steps:
            try:
                restore_part()
            except Exception as error:
                failures.append(in_one_line(error))
        if failures:
            raise LrfindError(
                f"{counted(len(failures), 'part')} of the model's state could not be restored after the test;"
                f" the first error is {failures[0]}"
            )

    def _restore_surroundings(self) -> None:
        loader, iterator = self._loader
        if hasattr(loader, "_iterator"):
            loader._iterator = iterator
        restore(self._random)
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)

    def clear_grads(self) -> None:
        """Set every `.grad` to None, so that nothing is written into the captured gradients."""
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
    """Allow any training inside the block; restore everything afterwards, also after an exception."""
    snapshot = Snapshot(model, optimizer, loss_fn, loader)
    snapshot.clear_grads()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield snapshot
    finally:
        snapshot.restore()


def _plain_copy(container: Any) -> Any:
    """Make a shallow copy with the base class's methods.

    A subclass may refuse to be copied or changed.
    """
    if isinstance(container, dict):
        return dict(dict.items(container))
    return set(container) if isinstance(container, set) else list(container)


def _restore_container(container: Any, copy: Any) -> None:
    if isinstance(container, dict):
        # An OrderedDict stores its order itself.
        base: Any = OrderedDict if isinstance(container, OrderedDict) else dict
        items = list(base.items(container))
        if len(items) != len(copy) or any(
            key is not old_key or value is not old
            for (key, value), (old_key, old) in zip(items, copy.items(), strict=True)
        ):
            base.clear(container)
            base.update(container, copy)
    elif isinstance(container, list):
        list.__setitem__(container, slice(None), copy)
    elif isinstance(container, set):
        set.clear(container)
        set.update(container, copy)
    else:
        deque.clear(container)
        deque.extend(container, copy)


def _restore_array(array: np.ndarray[Any, Any], copy: np.ndarray[Any, Any]) -> None:
    if array.shape != copy.shape:
        array.resize(copy.shape, refcheck=False)
    if array.tobytes() != copy.tobytes():
        np.copyto(array, copy)


@torch.no_grad()
def _restore_tensor(tensor: Tensor, copy: Tensor, requires_grad: bool, grad: Tensor | None) -> None:
    if (tensor.shape, tensor.dtype) != (copy.shape, copy.dtype):  # resized or replaced in place
        tensor.data = copy.clone()
    elif not _overlaps_itself(tensor):
        tensor.copy_(copy)
    if tensor.is_leaf:
        tensor.requires_grad_(requires_grad)
        tensor.grad = grad


def _overlaps_itself(tensor: Tensor) -> bool:
    """Return whether elements share memory, as in an expanded buffer, which cannot be written to."""
    if tensor.layout is not torch.strided:
        return False
    return any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _modules_of(loss_fn: Any) -> list[nn.Module]:
    """Return the modules of a loss function: itself, or those that it is bound to, encloses or contains."""
    modules: list[nn.Module] = []
    seen: set[int] = set()
    to_visit = [loss_fn]
    while to_visit:
        value = to_visit.pop()
        if id(value) in seen or len(seen) > MOST_VISITED:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            modules.append(value)
        elif isinstance(value, partial):
            to_visit += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, MethodType):
            to_visit.append(value.__self__)
        elif isinstance(value, FunctionType):
            to_visit += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
            to_visit += [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
        elif isinstance(value, list | tuple):
            to_visit += value
        elif isinstance(value, dict):
            to_visit += value.values()
        elif callable(value) and not isinstance(value, type):
            with contextlib.suppress(Exception):  # a user's object may refuse access to its attributes
                to_visit += object.__getattribute__(value, "__dict__").values()
    return modules
