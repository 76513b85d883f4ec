"""What is wrong with a value, in plain words: pydantic's errors as `Mistake`s."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from lrfind.config.document import Document, Mistake
from lrfind.config.document import Path as KeyPath

_MESSAGES = {
    "missing": "'{key}' is missing",
    "int_type": "must be a whole number; found {found}",
    "float_type": "must be a number; found {found}",
    "string_type": "must be text; found {found}",
    "bool_type": "must be true or false; found {found}",
    "dict_type": "must be a mapping of keys to values; found {found}",
    "list_type": "must be a list; found {found}",
    "tuple_type": "must be a list; found {found}",
    "model_type": "must be a mapping of keys to values; found {found}",
    "greater_than": "must be greater than {gt:g}; found {found}",
    "greater_than_equal": "must be at least {ge:g}; found {found}",
    "less_than": "must be less than {lt:g}; found {found}",
    "less_than_equal": "must be at most {le:g}; found {found}",
    "finite_number": "must be a finite number; found {found}",
    "literal_error": "must be {expected}; found {found}",
    "string_pattern_mismatch": "must be letters, digits, '.', '_' or '-', starting with a letter or a"
    " digit; found {found}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "value_error": "{error}",
}


def mistake(
    document: Document, details: ErrorDetails, model: type[BaseModel] | None = None, prefix: KeyPath = ()
) -> Mistake:
    """One of pydantic's errors, in our words and with its place.

    Args:
        document: what was checked.
        details: the error.
        model: what the document was checked against, to name the keys that it knows.
        prefix: where in the document the checked value stands.
    """
    path = (*prefix, *(part for part in details["loc"]))
    kind, key = details["type"], str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        known = _keys_beside(path, model)
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}."
        if "args" in known and not close:
            hint += f" What is named has its own arguments in args: args: {{{key}: ...}}."
        return Mistake(document.place(path, of_key=True), f"unknown key '{key}'; {hint}")
    message = say(details)
    if kind == "missing":
        return Mistake(document.place(path[:-1]), message)
    dotted = ".".join(str(part) for part in path)
    return Mistake(document.place(path), f"{dotted}: {message}" if dotted else message)


def say(details: ErrorDetails) -> str:
    """One of pydantic's errors in our words, without its place."""
    text = _MESSAGES.get(details["type"], details["msg"])
    key = details["loc"][-1] if details["loc"] else ""
    return text.format(key=key, found=_show(details["input"]), **details.get("ctx", {}))


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text '{' '.join(value.split())[:60]}'"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value).lower() if isinstance(value, bool) else f"{value!r}"


def _keys_beside(path: KeyPath, model: type[BaseModel] | None) -> list[str]:
    """The keys that are known where `path` stands."""
    for part in path[:-1]:
        if model is None or part not in model.model_fields:
            return []
        model = _model_in(model.model_fields[str(part)].annotation)
    return list(model.model_fields) if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or has among its alternatives."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
