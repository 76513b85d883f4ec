"""Names in a config, and the arguments beside them, held against the catalog and the code's signatures.

Nothing is imported: signatures are read from the source.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from lrfind.catalog import Activation, Init, Norm
from lrfind.config.document import Document, Mistake
from lrfind.config.document import Path as KeyPath
from lrfind.config.mistakes import mistake
from lrfind.config.registry import definition, import_path
from lrfind.errors import UsageError, unknown

SIZES = (
    "in_features",
    "out_features",
    "in_channels",
    "image_size",
    "step_features",
    "sequence_length",
    "vocabulary",
)
"""Arguments of a model that come from the data when `args` omit them."""


def is_epochs(value: Any) -> bool:
    """Whether a value is a length in epochs.

    >>> is_epochs("2 epochs"), is_epochs("0.5 epochs"), is_epochs(2)
    (True, True, False)
    """
    return isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)? epochs?", value) is not None


def _steps_for(value: Any) -> Any:
    """The value with every length in epochs as one in steps, for a check of types."""
    if isinstance(value, list):
        return [_steps_for(each) for each in value]
    return 1 if is_epochs(value) else value


def name_mistakes(document: Document) -> list[Mistake]:
    """Names that are not known, and args that do not fit the signature in the source."""
    mistakes: list[Mistake] = []
    for kind, at, value in _named(document.value):
        if isinstance(value, dict):
            name, args, name_at = value.get("name"), value.get("args", {}), (*at, "name")
        else:
            name, args, name_at = value, {}, at
        if not isinstance(name, str) or not isinstance(args, dict):
            continue  # of the wrong type: pydantic says so
        try:
            path = import_path(kind, name)
        except UsageError as error:
            mistakes.append(Mistake(document.place(name_at), str(error)))
            continue
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", path):
            mistakes.append(Mistake(document.place(name_at), f"'{name}' is not of the form pkg.module:attr"))
            continue
        mistakes += _argument_mistakes(document, kind, at, name, path, args)
        groups = value.get("param_groups") if kind == "optimizer" and isinstance(value, dict) else None
        for i, group in enumerate(groups if isinstance(groups, list) else ()):
            settings = group.get("args") if isinstance(group, dict) else None
            if isinstance(settings, dict):
                of_it = (*at, "param_groups", i)
                mistakes += _argument_mistakes(document, kind, of_it, name, path, settings)
    return mistakes


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, KeyPath, Any]]:
    """Every place of a config that names something: what it names, where, and what stands there."""
    for kind in ("model", "data", "loss", "optimizer"):
        yield kind, (kind,), config.get(kind)
    training, comparison = config.get("training"), config.get("compare")
    if isinstance(training, dict):
        yield from _schedules(("training", "schedule"), training.get("schedule"))
    if isinstance(comparison, dict):
        for key, kind in (("schedules", "schedule"), ("optimizers", "optimizer")):
            listed = comparison.get(key)
            for i, value in enumerate(listed if isinstance(listed, list) else ()):
                at = ("compare", key, i)
                yield from _schedules(at, value) if kind == "schedule" else [(kind, at, value)]


def _schedules(at: KeyPath, value: Any) -> Iterator[tuple[str, KeyPath, Any]]:
    """A schedule, and those that it joins."""
    yield "schedule", at, value
    args = value.get("args") if isinstance(value, dict) else None
    parts = args.get("parts") if isinstance(args, dict) else None
    for i, part in enumerate(parts if isinstance(parts, list) else ()):
        yield from _schedules((*at, "args", "parts", i), part)


def _argument_mistakes(
    document: Document, kind: str, at: KeyPath, name: str, path: str, args: Mapping[str, Any]
) -> list[Mistake]:
    mistakes: list[Mistake] = []
    if kind == "optimizer" and "lr" in args:
        place = document.place((*at, "args", "lr"), of_key=True)
        home = "optimizer.lr alone; move it there"
        if "param_groups" in at:
            home = "optimizer.lr and each group's lr_multiplier; say it there"
        mistakes.append(Mistake(place, f"the learning rate lives in {home}"))
        args = {key: value for key, value in args.items() if key != "lr"}
    found = definition(path)
    if found is None or found.signature is None:
        return mistakes
    parameters = list(found.signature.parameters.values())
    if kind == "optimizer":
        parameters = [p for p in parameters[1:] if p.name != "lr"]
    elif kind == "schedule" or (kind == "loss" and not found.is_class):
        parameters = parameters[2:]  # a function of (step, steps, ...), or of (output, target, ...)
    named = {p.name: p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key, value in args.items():
        if key not in named:
            if not takes_any:
                place = document.place((*at, "args", key), of_key=True)
                mistakes.append(Mistake(place, f"{name}: {unknown('argument', key, named)}"))
        else:
            checked = _steps_for(value) if kind == "schedule" else value
            mistakes += _type_mistakes(document, (*at, "args", key), named[key], checked)
    for parameter in named.values():
        given = parameter.name in args or (kind == "model" and parameter.name in SIZES)
        if parameter.default is parameter.empty and not given:
            place = document.place((*at, "args") if args else at)
            mistakes.append(Mistake(place, f"{name} needs the argument '{parameter.name}'"))
    return mistakes


_PLAIN_TYPES: dict[str, Any] = {
    **{kind.__name__: kind for kind in (bool, dict, float, int, list, str, tuple)},
    "Literal": Literal,
    "Sequence": Sequence,
    "Activation": Activation,
    "Init": Init,
    "Norm": Norm,
}


def _type_mistakes(
    document: Document, path: KeyPath, parameter: inspect.Parameter, value: Any
) -> list[Mistake]:
    """Hold a value against an annotation, where that is made of plain types only."""
    if not _is_plain(parameter.annotation):
        return []
    annotation = eval(parameter.annotation, {"__builtins__": {}}, _PLAIN_TYPES)  # plain: checked above
    try:
        TypeAdapter(annotation).validate_json(
            json.dumps(value, default=str), strict=True
        )  # a list is a tuple
    except ValidationError as error:
        return [mistake(document, error.errors()[0] | {"loc": ()}, prefix=path)]
    return []


def _is_plain(annotation: Any) -> bool:
    """Whether an annotation, as source text, is plain types, their unions and their items, and no more."""
    if not isinstance(annotation, str):
        return False

    def plain(node: ast.expr) -> bool:
        match node:
            case ast.Name(id=name):
                return name in _PLAIN_TYPES and name != "Literal"
            case ast.Constant(value=value):
                return value is None or value is ...
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return plain(left) and plain(right)
            case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
                items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                return all(isinstance(item, ast.Constant) for item in items)
            case ast.Subscript(value=ast.Name(id=name), slice=inner):
                items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                return name in ("dict", "list", "tuple", "Sequence") and all(map(plain, items))
        return False

    tree = ast.parse(annotation, mode="eval").body
    return plain(tree) and not isinstance(tree, ast.Constant)
