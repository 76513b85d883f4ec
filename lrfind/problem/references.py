"""References: the names that functions and classes of the user's use, read from their code."""

from __future__ import annotations

import dis
import sys
import sysconfig
from functools import lru_cache
from inspect import getattr_static, ismemberdescriptor
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import torch

LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
INSTALLED = {"site-packages", "dist-packages"}
"""The names of folders of installed packages, also of those that another environment lends to this one."""


class Names(NamedTuple):
    """The names in the code of a function, and of the functions inside it.

    Attributes:
        read: the names of global variables that it may read.
        assigned: the names of global variables that it assigns.
        attributes: the names of attributes that it reads, of whatever object.
        set_attributes: the names of attributes that it assigns.
    """

    read: frozenset[str]
    assigned: frozenset[str]
    attributes: frozenset[str]
    set_attributes: frozenset[str]


_KINDS = (
    ("LOAD_GLOBAL", "LOAD_NAME"),
    ("STORE_GLOBAL",),
    ("LOAD_ATTR", "LOAD_METHOD"),
    ("STORE_ATTR",),
)


@lru_cache(maxsize=4096)
def names_in(code: CodeType) -> Names:
    """Return the names in a function's code."""
    sets = tuple(set[str]() for _ in _KINDS)
    for instruction in dis.get_instructions(code):
        for names, operations in zip(sets, _KINDS, strict=True):
            if instruction.opname in operations:
                names.add(str(instruction.argval))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            for names, inner in zip(sets, names_in(constant), strict=True):
                names |= inner
    return Names(*map(frozenset, sets))


def in_library(file: str) -> bool:
    """Return whether a file belongs to the standard library or to an installed package."""
    path = Path(file)
    return not INSTALLED.isdisjoint(path.parts) or any(path.is_relative_to(folder) for folder in LIBRARIES)


@lru_cache(maxsize=4096)
def is_users_class(kind: Any) -> bool:
    """Return whether a class was written by the user: not in a library, and not built in."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return kind.__module__ != "builtins" and (file is None or not in_library(file))


@lru_cache(maxsize=4096)
def methods_of(kind: Any) -> tuple[FunctionType, ...]:
    """Return the functions of the user's classes among a class and its bases; they may refer to objects."""
    return tuple(
        function
        for base in kind.__mro__
        if is_users_class(base)
        for value in vars(base).values()
        for function in _functions_in(value)
    )


def _functions_in(value: Any) -> list[FunctionType]:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    parts = [value.fget, value.fset, value.fdel] if isinstance(value, property) else [value]
    return [part for part in parts if isinstance(part, FunctionType)]


def class_variables_of(kind: Any) -> list[tuple[Any, str]]:
    """Return pairs (class, name) of the variables of the user's classes among a class and its bases."""
    return [
        (base, name)
        for base in kind.__mro__
        if is_users_class(base)
        for name, value in vars(base).items()
        if not name.startswith("__") and not callable(value) and not hasattr(value, "__get__")
    ]


@lru_cache(maxsize=4096)
def slots_of(kind: Any) -> tuple[str, ...]:
    """Return the names of the attributes that objects of a class keep outside of a dict."""
    result = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else [*slots]:
            private = name.startswith("__") and not name.endswith("__")
            result.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    kept = (name for name in result if name not in ("__dict__", "__weakref__"))
    return tuple(name for name in kept if ismemberdescriptor(getattr_static(kind, name, None)))


def scripted_names(module: Any) -> list[str]:
    """Return the names of the attributes that a module of TorchScript keeps outside of Python."""
    kind = getattr(module, "_concrete_type", None) if isinstance(module, torch.jit.ScriptModule) else None
    return [] if kind is None else [*kind.get_attributes()]  # a frozen module has no state
