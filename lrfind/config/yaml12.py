"""Scalars according to the YAML 1.2 core schema: the type of a plain word, and the texts that need quotes.

PyYAML follows YAML 1.1, in which `1e-3` is a string, `on` a boolean and `1:30` a number. Where libyaml is
installed, it writes, and reads what was written, several times as fast. It does not read what users write: it
takes tabs for blanks, and counts columns in another way.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

MAX_DIGITS = 100  # of a whole number that is read at all: 64 bits take 20, and Python refuses thousands


class CoreLoader(yaml.SafeLoader):
    """A loader that resolves plain scalars according to the YAML 1.2 core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own protocol


class UnfitNumberError(ValueError):
    """A number that would not be read as it is written. The text says what is wrong with it."""


def _integer(text: str) -> int:
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
    number = sign * int(digits if base == 10 else digits[2:], base) if len(text) <= MAX_DIGITS else None
    if number is None or not -(2**63) <= number < 2**64:
        raise UnfitNumberError("is a whole number of more than 64 bits; write a smaller one")
    return number


def _float(text: str) -> float:
    number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    mantissa = text.lower().partition("e")[0]
    if math.isinf(number) and "inf" not in text.lower():
        raise UnfitNumberError(
            "is larger than the largest number of 64 bits, 1.8e308; for infinity write .inf"
        )
    if number == 0 and any(digit in mantissa for digit in "123456789"):
        raise UnfitNumberError("is closer to 0 than the smallest number of 64 bits, 5e-324; write 0 for zero")
    return number


def dump(value: Any, *, flow: bool = False) -> str:
    """Return a value as YAML, from which `lrfind.config.document.parse` and YAML 1.1 readers read it again.

    Args:
        value: a plain value, made of dicts, lists, texts, numbers, booleans and None.
        flow: whether to write it on one line, in braces and brackets.
    """
    wide = 10**9 if flow else None
    return yaml.dump(value, Dumper=CoreDumper, sort_keys=False, default_flow_style=flow, width=wide)


CONSTRUCTORS: dict[str, Any] = {
    "tag:yaml.org,2002:null": {"": None, "~": None, "null": None, "Null": None, "NULL": None}.__getitem__,
    "tag:yaml.org,2002:bool": {
        "true": True,
        "True": True,
        "TRUE": True,
        "false": False,
        "False": False,
        "FALSE": False,
    }.__getitem__,
    "tag:yaml.org,2002:int": _integer,
    "tag:yaml.org,2002:float": _float,
    "tag:yaml.org,2002:str": str,
}
for _tag, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _starts)


class DumpLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The loader for what `dump` returned."""

    yaml_implicit_resolvers = CoreLoader.yaml_implicit_resolvers


class CoreDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """A dumper that quotes every text that the core schema or YAML 1.1 would read as something else."""

    yaml_implicit_resolvers = {
        start: [*yaml.SafeDumper.yaml_implicit_resolvers.get(start, ()), *resolvers]
        for start, resolvers in CoreLoader.yaml_implicit_resolvers.items()
    } | {
        start: resolvers
        for start, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
        if start not in CoreLoader.yaml_implicit_resolvers
    }

    def ignore_aliases(self, data: Any) -> bool:
        """Return True, so that every value is written in full."""
        return True
