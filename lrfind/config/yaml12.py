"""Scalars according to the YAML 1.2 core schema: the type of a plain word, and the texts that need quotes.

PyYAML follows YAML 1.1, in which `1e-3` is a string, `on` a boolean and `1:30` a number.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_DIGITS = 300


class CoreLoader(yaml.SafeLoader):
    """A loader that resolves plain scalars according to the YAML 1.2 core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own protocol


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(text)
    sign = -1 if text.startswith("-") else 1
    digits = text.lstrip("+-")
    base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
    return sign * int(digits if base == 10 else digits[2:], base)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def dump(value: Any, *, flow: bool = False) -> str:
    """Return a value as YAML, from which `lrfind.config.document.parse` and YAML 1.1 readers read it again.

    Args:
        value: a plain value, made of dicts, lists, texts, numbers, booleans and None.
        flow: whether to write it on one line, in braces and brackets.
    """
    wide = float("inf") if flow else None
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


class CoreDumper(yaml.SafeDumper):
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
