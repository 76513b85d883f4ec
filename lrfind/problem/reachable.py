"""Reachable objects: everything that a training step may read or change, found from a few objects.

A step changes more than its model and its optimizer: an average of the weights in a hook, the state of an
optimizer inside another one, a queue in a loss function, the counter of a sampler, a hidden state in a
variable. `reachable` follows attributes, containers, hooks, the closures of functions, and the global
variables that a user's functions name.
"""

from __future__ import annotations

import dis
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache, partial
from pathlib import Path
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _BaseDataLoaderIter

from lrfind.problem.randomness import GENERATORS

MOST_OBJECTS = 100_000  # objects to follow; a training loop reaches some hundreds to some ten thousands
LONG = (
    1000  # entries of a container outside of modules; a longer one holds data, whose entries are not followed
)
LARGE = 2**24  # bytes of a tensor outside of modules; a larger one is taken for data, and is not copied
PLAIN = frozenset(
    (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, range)
)
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
OPAQUE = ("torch._C.", "torch.distributed.", "torch.cuda.", "torch._dynamo.", "torch.autograd.", "lrfind.")
"""The modules whose objects are not followed; those of the standard library are not followed either."""


class Role(Enum):
    """What an object is to the training.

    Attributes:
        OWNED: it belongs to a module or to an optimizer.
        KEPT: it belongs to what the user asked to keep.
        LOOSE: a function or an object of the user's refers to it.
        DATA: it belongs to the data, whose large tensors are not copied.
    """

    OWNED = 0
    KEPT = 1
    LOOSE = 2
    DATA = 3

    @property
    def whole(self) -> bool:
        """Whether even large tensors and long containers are followed."""
        return self in (Role.OWNED, Role.KEPT)

    @property
    def beyond(self) -> Role:
        """The role of what is reached through an object or a function of the user's."""
        return Role.LOOSE if self is Role.OWNED else self


@dataclass
class Reachable:
    """The objects that a training step may change, each once.

    Attributes:
        tensors: the tensors that are small, or belong to a module or an optimizer.
        large: the other tensors, which are taken for data.
        arrays: the NumPy arrays that are small, or belong to a module.
        containers: dicts (also those with the attributes of objects), lists, sets and deques.
        logs: the ids of the lists in `containers` to which a function refers directly. If such a list only
            grew by plain values, it is a log, and no state.
        slots: pairs (object, name of an attribute that is not in a dict).
        cells: the variables that functions enclose.
        variables: pairs (global variables of a module, name) that a user's function assigns.
        generators: the random generators.
        modules: the modules.
        optimizers: the optimizers.
        lost: what cannot be set back, in words: iterators, for example.
    """

    tensors: list[Tensor] = field(default_factory=list)
    large: list[Tensor] = field(default_factory=list)
    arrays: list[np.ndarray[Any, Any]] = field(default_factory=list)
    containers: list[Any] = field(default_factory=list)
    logs: set[int] = field(default_factory=set)
    slots: list[tuple[Any, str]] = field(default_factory=list)
    cells: list[CellType] = field(default_factory=list)
    variables: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    generators: list[Any] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def reachable(
    trained: Iterable[Any], data: Iterable[Any] = (), *, kept: Iterable[Any] = (), with_data: bool = True
) -> Reachable:
    """Find everything that a training may change.

    Args:
        trained: the model, the optimizers, and the functions that compute the loss or take the step.
        data: where the batches come from.
        kept: further objects that the training changes; even large tensors in them are copied.
        with_data: whether to follow the loaders, data sets and samplers to which functions refer.
    """
    return _Follower(with_data).follow(trained, data, kept)


def generators_of(data: Any) -> list[Any]:
    """Return the random generators of a loader, also those of its samplers, data set and transforms."""
    return reachable((), [data]).generators


class _Follower:
    """Visits objects one after another, each once."""

    def __init__(self, with_data: bool) -> None:
        self._with_data, self._result = with_data, Reachable()
        self._seen: dict[int, Any] = {}  # with the objects, so that no id is used again
        self._waiting: deque[tuple[Any, Role]] = deque()

    def follow(self, trained: Iterable[Any], data: Iterable[Any], kept: Iterable[Any]) -> Reachable:
        self._wait(kept, Role.KEPT)
        self._drain()
        self._wait(trained, Role.OWNED)
        self._drain()
        for source in data:
            self._wait([source], Role.LOOSE if isinstance(source, FunctionType | MethodType) else Role.DATA)
        self._drain()
        return self._result

    def _drain(self) -> None:
        while self._waiting:
            if len(self._seen) > MOST_OBJECTS:
                self._result.lost.append(f"more than {MOST_OBJECTS:,} objects, which the training refers to")
                self._waiting.clear()
                return
            value, role = self._waiting.popleft()
            if id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            try:
                getattr(self, _visit_of(_class_of(value)))(value, role)
            except (AttributeError, ValueError, RuntimeError, ReferenceError):  # an object may refuse
                continue

    def _wait(self, values: Iterable[Any], role: Role) -> None:
        self._waiting += [(value, role) for value in values if type(value) not in PLAIN]

    def _module(self, module: nn.Module, role: Role) -> None:
        self._result.modules.append(module)
        self._wait([module.__dict__, *_methods(_class_of(module))], Role.OWNED)

    def _optimizer(self, optimizer: torch.optim.Optimizer, role: Role) -> None:
        self._result.optimizers.append(optimizer)
        self._wait([optimizer.__dict__, *_methods(_class_of(optimizer))], Role.OWNED)

    def _array(self, array: np.ndarray[Any, Any], role: Role) -> None:
        small = role.whole or array.nbytes <= LARGE
        if small and array.flags.owndata and not isinstance(array, np.memmap):
            self._result.arrays.append(array)

    def _generator(self, generator: Any, role: Role) -> None:
        self._result.generators.append(generator)

    def _method(self, method: MethodType, role: Role) -> None:
        self._wait([method.__self__, method.__func__], role)

    def _builtin(self, function: BuiltinFunctionType, role: Role) -> None:
        self._wait([function.__self__], role)

    def _partial(self, function: partial[Any], role: Role) -> None:
        self._wait([function.func, *function.args, *function.keywords.values()], role)

    def _cell(self, cell: CellType, role: Role) -> None:
        contents = cell.cell_contents  # an empty cell raises a ValueError
        self._result.cells.append(cell)
        self._from_function(contents, role)

    def _nothing(self, value: Any, role: Role) -> None:
        """Follow a module of Python or a class no further."""

    def _tensor(self, tensor: Tensor, role: Role) -> None:
        large = not role.whole and not tensor.requires_grad and _bytes(tensor) > LARGE
        (self._result.large if large else self._result.tensors).append(tensor)
        hooks = (tensor._backward_hooks, getattr(tensor, "_post_accumulate_grad_hooks", None))
        self._wait([hook for hook in hooks if hook is not None], Role.LOOSE)

    def _container(self, container: Any, role: Role) -> None:
        if not isinstance(container, tuple):
            self._result.containers.append(container)
        if role.whole or len(container) <= LONG:
            self._wait(container.values() if isinstance(container, dict) else container, role)

    def _function(self, function: FunctionType, role: Role) -> None:
        role = role.beyond
        if (function.__module__ or "").split(".")[0] == "lrfind":
            return
        self._wait([*(function.__closure__ or ()), *([function.__dict__] if function.__dict__ else [])], role)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._from_function(value, role)
        if hasattr(function, "__wrapped__"):
            self._wait([function.__wrapped__], role)
        if not _in_library(function.__code__.co_filename):
            names, assigned = _global_names(function.__code__)
            variables = function.__globals__
            for name in names & variables.keys():
                self._from_function(variables[name], role)
            self._result.variables += [(variables, name) for name in assigned & variables.keys()]

    def _from_function(self, value: Any, role: Role) -> None:
        """Wait for a value to which a function refers directly."""
        if isinstance(value, list):
            self._result.logs.add(id(value))
        self._wait([value], role)

    def _object(self, value: Any, role: Role) -> None:
        kind = _class_of(value)
        home = getattr(kind, "__module__", "") or ""
        standard = home.split(".")[0] in sys.stdlib_module_names and not isinstance(value, SimpleNamespace)
        if isinstance(value, DataLoader | Dataset | Sampler) and role is not Role.DATA:
            if not self._with_data:
                return
            role = Role.DATA
        attributes = getattr(value, "__dict__", None)
        if isinstance(value, Iterator) and attributes is None:
            self._lost(value, role)
        elif not standard and not f"{home}.".startswith(OPAQUE):
            inner = role.beyond
            self._wait(_methods(kind), inner)
            if isinstance(attributes, dict):
                self._wait([attributes], inner)
            for slot in _slots(kind):
                if hasattr(value, slot):
                    self._result.slots.append((value, slot))
                    self._wait([getattr(value, slot)], inner)

    def _lost(self, value: Any, role: Role) -> None:
        if role is not Role.DATA or isinstance(value, GeneratorType):
            self._result.lost.append(f"an iterator ({type(value).__name__})")


def _class_of(value: Any) -> Any:
    """Return the class of an object, which type checkers would not take for hashable."""
    return type(value)


@lru_cache(maxsize=4096)
def _visit_of(kind: Any) -> str:
    """Return the name of the method of `_Follower` that visits objects of a class."""
    return next(name for classes, name in _VISITS if issubclass(kind, classes))


_VISITS: Sequence[tuple[Any, str]] = (
    (Tensor, "_tensor"),
    (nn.Module, "_module"),
    (torch.optim.Optimizer, "_optimizer"),
    ((dict, list, set, deque, tuple), "_container"),
    (np.ndarray, "_array"),
    (GENERATORS, "_generator"),
    (FunctionType, "_function"),
    (MethodType, "_method"),
    (BuiltinFunctionType, "_builtin"),
    (partial, "_partial"),
    (CellType, "_cell"),
    ((ModuleType, type), "_nothing"),
    ((GeneratorType, _BaseDataLoaderIter), "_lost"),
    (object, "_object"),
)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _in_library(file: str) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in LIBRARIES)


@lru_cache(maxsize=4096)
def _global_names(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of global variables that a function may read, and those that it assigns."""
    names, assigned = set[str](), set[str]()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(str(instruction.argval))
        elif instruction.opname == "STORE_GLOBAL":
            assigned.add(str(instruction.argval))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner_names, inner_assigned = _global_names(constant)
            names |= inner_names
            assigned |= inner_assigned
    return frozenset(names), frozenset(assigned)


def _in_a_library(kind: type) -> bool:
    """Return whether a class belongs to the standard library or to an installed package."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return kind.__module__ == "builtins" or (file is not None and _in_library(file))


@lru_cache(maxsize=4096)
def _methods(kind: Any) -> tuple[FunctionType, ...]:
    """Return the methods of a user's class, which may refer to further objects."""
    own = [base for base in kind.__mro__ if not _in_a_library(base)]
    return tuple(value for base in own for value in vars(base).values() if isinstance(value, FunctionType))


@lru_cache(maxsize=4096)
def _slots(kind: Any) -> tuple[str, ...]:
    """Return the names of the attributes that a class keeps outside of a dict."""
    result = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        result += [slots] if isinstance(slots, str) else [*slots]
    return tuple(name for name in result if name not in ("__dict__", "__weakref__"))
