"""Lines of Python: calls, assignments and imports, and the values of a config as Python."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lrfind.config.arguments import is_epochs

INDENT = "    "


class Code(str):
    """An expression as text. Its `repr` has no quotes, so it can stand unquoted among other values."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def call(function: str, arguments: Sequence[str], *, wide: int = 100) -> list[str]:
    """Return the lines of a call: a single line if it is short enough, else one line per argument.

    Args:
        function: the name of the function.
        arguments: the arguments as Python.
        wide: the largest length of a single line, in characters.

    >>> call("f", ["a", "b=1"])
    ['f(a, b=1)']
    """
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= wide and "\n" not in line:
        return [line]
    inner = [f"{INDENT}{line}" for argument in arguments for line in f"{argument},".split("\n")]
    return [f"{function}(", *inner, ")"]


def assigned(name: str, function: str, arguments: Sequence[str]) -> list[str]:
    """Return the lines that assign the result of a call to a name."""
    first, *rest = call(function, arguments, wide=100 - len(name))
    return [f"{name} = {first}", *rest]


def keywords(args: Mapping[str, Any]) -> list[str]:
    """Return arguments as Python, each with its name.

    >>> keywords({"lr": Code("peak"), "betas": (0.9, 0.99)})
    ['lr=peak', 'betas=[0.9, 0.99]']
    """
    return [f"{name}={value(argument)}" for name, argument in args.items()]


def value(setting: Any) -> str:
    """Return a value of a config as Python; a length in epochs becomes an expression of `steps_per_epoch`.

    >>> value("a"), value("2 epochs"), value(math.inf)
    ('"a"', 'max(1, round(2 * steps_per_epoch))', 'float("inf")')
    """
    if is_epochs(setting):
        return f"max(1, round({setting.split()[0]} * steps_per_epoch))"
    if isinstance(setting, list | tuple):
        return f"[{', '.join(map(value, setting))}]"
    if isinstance(setting, float) and not math.isfinite(setting):
        return f'float("{setting}")'
    is_text = isinstance(setting, str) and not isinstance(setting, Code)
    return json.dumps(setting, ensure_ascii=False) if is_text else repr(setting)


def import_lines(module: str, attribute: str) -> tuple[list[str], str]:
    """Return the line that imports an attribute of a module, and the attribute's name after that import."""
    return [f"from {module} import {attribute.partition('.')[0]}"], attribute
