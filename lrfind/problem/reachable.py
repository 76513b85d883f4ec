"""Reachable objects: everything that a training step may read or change, found from a few objects.

A step changes more than its model and its optimizer: an average of the weights in a hook, the state of an
optimizer inside another one, a queue in a loss function, the counter of a sampler, a hidden state in a
variable. `reachable` follows attributes, containers, hooks, the closures of functions, and the global
variables that a user's functions name.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache, partial
from io import IOBase
from types import BuiltinFunctionType, CellType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.data.dataloader import _BaseDataLoaderIter

from lrfind.errors import in_one_line
from lrfind.problem.randomness import GENERATORS
from lrfind.problem.references import (
    Names,
    class_variables_of,
    in_library,
    methods_of,
    names_in,
    scripted_names,
    slots_of,
)

MOST_OBJECTS = 100_000  # objects to follow; a training loop reaches some hundreds to some ten thousands
LONG = 1000  # entries of a container outside of modules; those of a longer one, which holds data, are left
LARGE = 2**24  # bytes of a tensor outside of modules; a larger one is taken for data, and is not copied
PLAIN = frozenset(
    (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, range)
)
OPAQUE = ("torch._C.", "torch.distributed.", "torch.cuda.", "torch._dynamo.", "torch.autograd.", "lrfind.")
"""The modules whose objects are not followed, besides those of the standard library."""
FOLLOWED = ("torch.cuda.amp.", "collections.", "argparse.", "types.", "lrfind.integrations.")
"""The exceptions from this: objects of these modules that hold state of the user's."""


class Role(Enum):
    """What an object is to the training.

    Attributes:
        OWNED: it belongs to a module or to an optimizer.
        KEPT: it belongs to what the user asked to keep.
        LOOSE: a function or an object of the user's refers to it.
        DATA: it belongs to the data, whose large tensors are not copied.
        whole: whether even large tensors and long containers are followed.
    """

    OWNED = 0
    KEPT = 1
    LOOSE = 2
    DATA = 3

    def __init__(self, number: int) -> None:
        self.whole = number <= 1  # an attribute, because it is asked for once for each object

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
        in_data: the ids of those in `tensors` that belong to the data.
        arrays: the NumPy arrays that are small, or belong to a module.
        containers: dicts (also those with the attributes of objects), lists, sets and deques.
        logs: the ids of the lists in `containers` to which a function refers directly. If such a list only
            grew by plain values, it is a log, and no state.
        attributes: pairs (object or class, name of an attribute that is not in the dict of an object).
        cells: the variables that functions enclose.
        variables: pairs (global variables of a module, name) that a user's function assigns.
        generators: the random generators.
        data_generators: those that the data refers to.
        files: the files that are open for reading only, and know their position.
        modules: the modules.
        optimizers: the optimizers.
        lost: what cannot be set back, in words: iterators, for example.
    """

    tensors: list[Tensor] = field(default_factory=list)
    large: list[Tensor] = field(default_factory=list)
    in_data: set[int] = field(default_factory=set)
    arrays: list[np.ndarray[Any, Any]] = field(default_factory=list)
    containers: list[Any] = field(default_factory=list)
    logs: set[int] = field(default_factory=set)
    attributes: list[tuple[Any, str]] = field(default_factory=list)
    cells: list[CellType] = field(default_factory=list)
    variables: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    generators: list[Any] = field(default_factory=list)
    data_generators: list[Any] = field(default_factory=list)
    files: list[IO[Any]] = field(default_factory=list)
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
        data, seen_before = [*data], bool(self._result.generators)
        for source in data:
            self._wait([source], Role.LOOSE if isinstance(source, FunctionType | MethodType) else Role.DATA)
        self._drain()
        self._result.data_generators = generators_of(data) if seen_before else self._result.generators
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
            except Exception as error:  # a user's object may refuse to be looked at
                kind = type(value).__name__
                self._result.lost.append(f"an object that cannot be looked at ({kind}: {in_one_line(error)})")

    def _wait(self, values: Iterable[Any], role: Role) -> None:
        self._waiting += [(value, role) for value in values if type(value) not in PLAIN]

    def _module(self, module: nn.Module, role: Role) -> None:
        self._result.modules.append(module)
        self._wait([module.__dict__], Role.OWNED)
        self._class(_class_of(module), Role.OWNED)
        for name in scripted_names(module):
            self._result.attributes.append((module, name))
            self._wait([getattr(module, name)], Role.OWNED)

    def _optimizer(self, optimizer: torch.optim.Optimizer, role: Role) -> None:
        self._result.optimizers.append(optimizer)
        self._wait([optimizer.__dict__], Role.OWNED)
        self._class(_class_of(optimizer), Role.OWNED)

    def _array(self, values: np.ndarray[Any, Any], role: Role) -> None:
        small = role.whole or values.nbytes <= LARGE
        if small and not isinstance(values, np.memmap):
            self._result.arrays.append(values)

    def _generator(self, generator: Any, role: Role) -> None:
        self._result.generators.append(generator)

    def _method(self, method: MethodType, role: Role) -> None:
        self._wait([method.__self__, method.__func__], role)

    def _builtin(self, function: BuiltinFunctionType, role: Role) -> None:
        self._wait([function.__self__], role)

    def _file(self, file: IO[Any], role: Role) -> None:
        """Note a file that is read. What is written, such as a log, stays as it is."""
        if not file.closed and file.readable() and not file.writable():
            try:
                file.tell()
                self._result.files.append(file)
            except OSError:  # of a pipe, or of a text of which `next` has read a line
                self._result.lost.append(f"a file that does not tell its position ({type(file).__name__})")
        self._object(file, role)

    def _partial(self, function: partial[Any], role: Role) -> None:
        self._wait([function.func, *function.args, *function.keywords.values()], role)

    def _cell(self, cell: CellType, role: Role) -> None:
        self._result.cells.append(cell)
        with suppress(ValueError):  # an empty cell
            self._from_function(cell.cell_contents, role)

    def _class(self, kind: Any, role: Role) -> None:
        """Follow the methods and variables of a user's class; other classes hold no state of the training."""
        self._wait(methods_of(kind), role)
        for base, name in class_variables_of(kind):
            self._result.attributes.append((base, name))
            self._wait([vars(base)[name]], role.beyond)

    def _nothing(self, value: Any, role: Role) -> None:
        """Follow a module of Python no further; functions follow what they use of it."""

    def _tensor(self, tensor: Tensor, role: Role) -> None:
        large = not role.whole and not tensor.requires_grad and _bytes(tensor) > LARGE
        (self._result.large if large else self._result.tensors).append(tensor)
        if role is Role.DATA:
            self._result.in_data.add(id(tensor))
        if tensor.requires_grad and tensor.is_leaf:
            for name in ("_backward_hooks", "_post_accumulate_grad_hooks"):
                self._result.attributes.append((tensor, name))
                self._wait([getattr(tensor, name, None)], Role.LOOSE)
        if tensor.__dict__:
            self._wait([tensor.__dict__], role)

    def _container(self, container: Any, role: Role) -> None:
        if not isinstance(container, tuple):
            self._result.containers.append(container)
        if role.whole or len(container) <= LONG:
            self._wait(container.values() if isinstance(container, dict) else container, role)
        if getattr(container, "__dict__", None):  # of a subclass
            self._wait([container.__dict__], role)

    def _bytes(self, value: Any, role: Role) -> None:
        self._result.containers.append(value)

    def _function(self, function: FunctionType, role: Role) -> None:
        role = role.beyond
        if (function.__module__ or "").split(".")[0] == "lrfind":
            return
        self._wait([*(function.__closure__ or ()), function.__dict__], role)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._from_function(value, role)
        if hasattr(function, "__wrapped__"):
            self._wait([function.__wrapped__], role)
        if not in_library(function.__code__.co_filename):
            names, variables = names_in(function.__code__), function.__globals__
            for name in names.read & variables.keys():
                self._from_function(variables[name], role)
                if isinstance(variables[name], ModuleType):
                    self._used_of(variables[name], names, role)
            self._result.variables += [(variables, name) for name in names.assigned]

    def _used_of(self, module: ModuleType, names: Names, role: Role) -> None:
        """Follow what a function uses of a module of the user's."""
        file = getattr(module, "__file__", None)
        if module.__name__.split(".")[0] in sys.stdlib_module_names or (file and in_library(file)):
            return
        for name in names.attributes & vars(module).keys():
            self._from_function(vars(module)[name], role)
        self._result.variables += [(vars(module), n) for n in names.set_attributes & vars(module).keys()]

    def _from_function(self, value: Any, role: Role) -> None:
        """Wait for a value to which a function refers directly."""
        if isinstance(value, list):
            self._result.logs.add(id(value))
        self._wait([value], role)

    def _object(self, value: Any, role: Role) -> None:
        kind = _class_of(value)
        home = f"{getattr(kind, '__module__', '') or ''}."
        closed = home.split(".")[0] in sys.stdlib_module_names or home.startswith(OPAQUE)
        if isinstance(value, DataLoader | Dataset | Sampler) and role not in (Role.DATA, Role.KEPT):
            if not self._with_data:
                return
            role = Role.DATA
        if isinstance(value, DataLoader):  # its own iterator is put back with its attributes
            self._seen[id(value._iterator)] = value._iterator
        attributes = getattr(value, "__dict__", None)
        if isinstance(value, Iterator) and attributes is None:
            self._lost(value, role)
        elif not closed or home.startswith(FOLLOWED):
            self._class(kind, role.beyond)
            if isinstance(attributes, dict):
                self._wait([attributes], role.beyond)
            for name in slots_of(kind):
                self._result.attributes.append((value, name))
                self._wait([getattr(value, name, None)], role.beyond)

    def _lost(self, value: Any, role: Role) -> None:
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
    (ModuleType, "_nothing"),
    (type, "_class"),
    ((bytearray, array), "_bytes"),
    (IOBase, "_file"),
    ((GeneratorType, _BaseDataLoaderIter), "_lost"),
    (object, "_object"),
)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
