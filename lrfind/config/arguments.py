"""Check the names in a config against the catalog, and their arguments against the signatures in the code.

Nothing is imported: signatures are read from the source.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lrfind.catalog import Activation, Init, Norm
from lrfind.config.document import Document, KeyPath, Mistake
from lrfind.config.mistakes import NUMBER, WHOLE, merge_unions, mistake_at
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

_EPOCHS = "a length such as '2 epochs'"


def is_epochs(value: Any) -> bool:
    """Return whether a value is a length in epochs.

    >>> is_epochs("2 epochs"), is_epochs("0.5 epochs"), is_epochs(2)
    (True, True, False)
    """
    return isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)? epochs?", value) is not None


def length_in_epochs(value: Any) -> str | None:
    """Return the first length in epochs in args, also in those of joined schedules; None if there is none.

    >>> length_in_epochs({"at": [10, "2 epochs"]}), length_in_epochs({"warmup": 10})
    ('2 epochs', None)
    """
    if isinstance(value, Mapping | list | tuple):
        inner = value.values() if isinstance(value, Mapping) else value
        return next(filter(None, map(length_in_epochs, inner)), None)
    return value if is_epochs(value) else None


def _in_steps(value: Any) -> Any:
    """Replace every length in epochs with 1, so that the type of the value can be checked."""
    if isinstance(value, list):
        return [_in_steps(item) for item in value]
    return 1 if is_epochs(value) else value


def name_mistakes(document: Document) -> list[Mistake]:
    """Return a mistake for each unknown name, and for each argument that does not fit the signature."""
    mistakes: list[Mistake] = []
    for kind, at, value in _named_parts(document.value):
        if isinstance(value, dict):
            key = "step" if kind == "loss" and "step" in value else "name"
            name, args, name_at = value.get(key), value.get("args", {}), (*at, key)
        else:
            name, args, name_at = value, {}, at
        if not isinstance(name, str) or not isinstance(args, dict):
            continue  # pydantic reports a value of the wrong type
        try:
            path = import_path(kind, name)
        except UsageError as error:
            where = f"{'.'.join(map(str, name_at))}: " if ":" in name else ""
            mistakes.append(Mistake(document.place(name_at), f"{where}{error}"))
            continue
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", path):
            mistakes.append(Mistake(document.place(name_at), f"'{name}' is not of the form pkg.module:attr"))
            continue
        mistakes += _argument_mistakes(document, kind, at, name, path, args)
        groups = value.get("param_groups") if kind == "optimizer" and isinstance(value, dict) else None
        for i, group in enumerate(groups if isinstance(groups, list) else ()):
            group_args = group.get("args") if isinstance(group, dict) else None
            if isinstance(group_args, dict):
                group_at = (*at, "param_groups", i)
                mistakes += _argument_mistakes(document, kind, group_at, name, path, group_args)
    return mistakes


def _named_parts(config: Mapping[str, Any]) -> Iterator[tuple[str, KeyPath, Any]]:
    """Yield every part of a config that names something: the kind of thing, the path, and the part."""
    for kind in ("model", "data", "loss", "optimizer"):
        yield kind, (kind,), config.get(kind)
    training, comparison, search = (config.get(key) for key in ("training", "compare", "search"))
    sinks = config.get("sinks")
    for i, value in enumerate(sinks if isinstance(sinks, list) else ()):
        yield "sink", ("sinks", i), value
    if isinstance(search, dict) and isinstance(search.get("sampler"), str):
        yield "sampler", ("search", "sampler"), search["sampler"]
    if isinstance(training, dict):
        yield from _schedules(("training", "schedule"), training.get("schedule"))
    if isinstance(comparison, dict):
        for key, kind in (("schedules", "schedule"), ("optimizers", "optimizer")):
            values = comparison.get(key)
            for i, value in enumerate(values if isinstance(values, list) else ()):
                at = ("compare", key, i)
                yield from _schedules(at, value) if kind == "schedule" else [(kind, at, value)]


def _schedules(at: KeyPath, value: Any) -> Iterator[tuple[str, KeyPath, Any]]:
    """Yield a schedule and, if it is a join, the schedules that it joins."""
    yield "schedule", at, value
    args = value.get("args") if isinstance(value, dict) else None
    parts = args.get("parts") if isinstance(args, dict) else None
    for i, part in enumerate(parts if isinstance(parts, list) else ()):
        yield from _schedules((*at, "args", "parts", i), part)


def _argument_mistakes(
    document: Document, kind: str, at: KeyPath, name: str, path: str, args: Mapping[str, Any]
) -> list[Mistake]:
    """Return a mistake for each argument that is unknown, missing or of the wrong type.

    Args:
        document: the config.
        kind: the kind of thing that is named, such as "optimizer".
        at: the path to the part of the config that holds `args`.
        name: the name in the config, for messages.
        path: the import path of the named function or class.
        args: the arguments.
    """
    mistakes: list[Mistake] = []
    if kind == "optimizer" and "lr" in args:
        place = document.place((*at, "args", "lr"), of_key=True)
        where = "optimizer.lr only; move it there"
        if "param_groups" in at:
            where = "optimizer.lr and each group's lr_multiplier; give it there"
        mistakes.append(Mistake(place, f"the learning rate belongs in {where}"))
        args = {key: value for key, value in args.items() if key != "lr"}
    code = definition(path)
    if code is None or code.signature is None:
        return mistakes
    parameters = list(code.signature.parameters.values())
    if kind == "optimizer":
        parameters = [p for p in parameters[1:] if p.name != "lr"]
    elif kind == "sampler":
        parameters = parameters[5:]  # a function of (low, high, history, count, seed)
    elif kind == "schedule" or (kind == "loss" and not code.is_class):
        parameters = parameters[2:]  # a function of (step, steps, ...), or of (output, target, ...)
    by_name = {p.name: p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key, value in args.items():
        if key not in by_name:
            if not takes_any:
                place = document.place((*at, "args", key), of_key=True)
                mistakes.append(Mistake(place, f"{name}: {unknown('argument', key, by_name)}"))
        else:
            mistakes += _type_mistakes(document, (*at, "args", key), by_name[key], value, kind, name)
    for parameter in by_name.values():
        has_value = parameter.name in args or (kind == "model" and parameter.name in SIZES)
        if parameter.default is parameter.empty and not has_value:
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
    document: Document, at: KeyPath, parameter: inspect.Parameter, value: Any, kind: str, name: str
) -> list[Mistake]:
    """Return the mistakes in a value, according to its annotation.

    Only annotations that consist of plain types are checked.
    """
    if not _is_plain(parameter.annotation):
        return []
    numbers, checked = [NUMBER], value
    if kind == "schedule":
        checked = _in_steps(value)
        built_in = ":" not in name  # In a built-in schedule, a number with a fraction is a share.
        numbers = [WHOLE, "a share such as 0.05", _EPOCHS] if built_in else [NUMBER, _EPOCHS]
    annotation = eval(parameter.annotation, {"__builtins__": {}}, _PLAIN_TYPES)  # safe: only plain types
    try:
        # The value is checked as JSON, because there a list may stand for a tuple.
        adapter = TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
        adapter.validate_json(json.dumps(checked, default=str), strict=True)
    except ValidationError as error:
        errors = merge_unions(error.errors(), annotation, value, numbers)
        return [mistake_at(document, details, prefix=at) for details in errors]
    return []


def _is_plain(annotation: Any) -> bool:
    """Return whether an annotation (source text) consists of plain types, their unions and containers."""
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
