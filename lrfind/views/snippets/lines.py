"""Lines of Python: calls, assignments and imports, and the values of a config in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lrfind.config.arguments import is_epochs

INDENT = "    "


class Code(str):
    """An expression: its `repr` is itself, so that it stays one among values."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def call(function: str, arguments: Sequence[str], *, wide: int = 100) -> list[str]:
    """The lines of a call: one where that is short enough, else one an argument.

    >>> call("f", ["a", "b=1"])
    ['f(a, b=1)']
    """
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= wide and "\n" not in line:
        return [line]
    inner = [f"{INDENT}{line}" for each in arguments for line in f"{each},".split("\n")]
    return [f"{function}(", *inner, ")"]


def assigned(name: str, function: str, arguments: Sequence[str]) -> list[str]:
    """The lines that give the result of a call a name."""
    first, *rest = call(function, arguments, wide=100 - len(name))
    return [f"{name} = {first}", *rest]


def keywords(args: Mapping[str, Any]) -> list[str]:
    """Arguments by name.

    >>> keywords({"lr": Code("peak"), "betas": (0.9, 0.99)})
    ['lr=peak', 'betas=[0.9, 0.99]']
    """
    return [f"{key}={value(given)}" for key, given in args.items()]


def value(given: Any) -> str:
    """A value of a config as Python; lengths in epochs in terms of `steps_per_epoch`.

    >>> value("a"), value("2 epochs")
    ('"a"', 'max(1, round(2 * steps_per_epoch))')
    """
    if is_epochs(given):
        return f"max(1, round({given.split()[0]} * steps_per_epoch))"
    if isinstance(given, list | tuple):
        return f"[{', '.join(map(value, given))}]"
    plain = isinstance(given, str) and not isinstance(given, Code)
    return json.dumps(given, ensure_ascii=False) if plain else repr(given)


def imported(module: str, attribute: str) -> tuple[list[str], str]:
    """The line that imports a thing, and what it is called then."""
    return [f"from {module} import {attribute.partition('.')[0]}"], attribute
