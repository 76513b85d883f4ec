"""From pydantic's errors to `Mistake`s: messages in plain words, each with its place."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic_core import ErrorDetails

from lrfind.config.document import Document, KeyPath, Mistake
from lrfind.config.sections import SHORT_FORMS
from lrfind.errors import listed

WHOLE, NUMBER = "a whole number", "a number"

_KINDS = {
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_from_float": WHOLE,
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "list_type": "a list",
    "tuple_type": "a list",
    "literal_error": "{expected}",
    "none_required": "null",
    "wrong_form": "{forms}",  # `merge_unions` makes this error; pydantic does not have it
}
"""For each error of a value of the wrong kind: the kind that the value must have."""

_BOUNDS = {
    "greater_than": "greater than {gt:.12g}",
    "greater_than_equal": "at least {ge:.12g}",
    "less_than": "less than {lt:.12g}",
    "less_than_equal": "at most {le:.12g}",
}
"""For each error of a number that is out of range: the range that it must be in."""

_MESSAGES = {
    **{error: f"must be {form}; found {{found}}" for error, form in (_KINDS | _BOUNDS).items()},
    "missing": "'{key}' is missing",
    "finite_number": "must be a finite number; found {found}",
    "string_pattern_mismatch": "must be letters, digits, '.', '_' or '-', starting with a letter or a"
    " digit; found {found}",
    "too_short": "must not be empty",
    "too_long": "must be a list of at most {max_length}; found a list of {actual_length}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters; found {found}",
    "value_error": "{error}",
}

_FORMS: dict[Any, tuple[str, ...]] = {
    int: (WHOLE,),
    float: (NUMBER,),
    str: ("text",),
    bool: ("true", "false"),
    NoneType: ("null",),
    dict: ("a mapping of keys to values",),
}
"""For each plain type: the names of its values in a message that lists the forms that a union allows."""

_PLURALS = {WHOLE: "whole numbers", NUMBER: "numbers", "text": "texts"}
"""The plurals of these names, for the items of a list."""


def merge_unions(
    errors: Sequence[ErrorDetails], annotation: Any, value: Any, numbers: Sequence[str] = (NUMBER,)
) -> list[ErrorDetails]:
    """Merge the errors of a union's branches into one error that names every form that is allowed.

    If the value has the right kind for exactly one branch, and only a part of the value is wrong (an item of
    a list, a key of a mapping), only the errors of that branch are returned.

    Args:
        errors: pydantic's errors of the value.
        annotation: the type that the value was checked against.
        value: the value as the user wrote it. Messages quote it.
        numbers: the forms that `int | float` allows.

    Returns:
        The errors. The `loc` of each is a path in the value, without the names of branches.
    """
    merged = _merged(errors, annotation, numbers)
    return [error | {"input": _at(value, error["loc"], error["input"])} for error in merged]


def _merged(errors: Sequence[ErrorDetails], annotation: Any, numbers: Sequence[str]) -> list[ErrorDetails]:
    """Merge as `merge_unions` does, but quote the values as pydantic saw them."""
    here = [error for error in errors if not error["loc"]]
    below: dict[int | str, list[ErrorDetails]] = {}
    for error in errors:
        if error["loc"]:
            first, *rest = error["loc"]
            below.setdefault(first, []).append(error | {"loc": tuple(rest)})
    if below:  # pydantic does not count wrong items
        here = [error for error in here if error["type"] != "too_short"]
    branches, has_other_forms = _branches(annotation)
    if len(branches) > 1:  # `below` has an entry for each branch, in their order
        return here or _merged_branches(branches, list(below.values()), annotation, numbers)
    if has_other_forms:
        forms = _forms(annotation, numbers)
        here = [_wrong_form(error, forms) if error["type"] in _KINDS else error for error in here]
    for part, errors_inside in below.items():
        for error in _merged(errors_inside, _type_inside(branches[0], part), numbers):
            here.append(error | {"loc": (part, *error["loc"])})
    return here


def _merged_branches(
    branches: Sequence[Any], errors: Sequence[list[ErrorDetails]], annotation: Any, numbers: Sequence[str]
) -> list[ErrorDetails]:
    """Merge the errors of a value that no branch of a union accepts.

    Args:
        branches: the types of the union.
        errors: the errors of each branch, in the same order.
        annotation: the union, with all its forms.
        numbers: the forms that `int | float` allows.
    """
    types = branches if len(branches) == len(errors) else [None] * len(errors)
    by_branch = [_merged(inner, type_, numbers) for inner, type_ in zip(errors, types, strict=True)]
    fitting = [
        inner for inner in by_branch if all(e["loc"] or e["type"] not in _KINDS | _BOUNDS for e in inner)
    ]
    if len(fitting) == 1:
        return fitting[0]
    forms = _forms(annotation, numbers)
    for type_, inner in zip(types, by_branch, strict=True):
        # A number that is out of range is of the right kind, so its form is named with the range.
        bounds = [
            _BOUNDS[e["type"]].format(**e["ctx"]) for e in inner if e["type"] in _BOUNDS and not e["loc"]
        ]
        if bounds:
            bounded = _forms(type_, numbers)
            forms = [f"{form} {listed(bounds)}" if form in bounded else form for form in forms]
    return [_wrong_form(errors[0][0], forms)]


def _wrong_form(error: ErrorDetails, forms: Sequence[str]) -> ErrorDetails:
    words = listed(dict.fromkeys(forms), "or")
    message = f"must be {words}"
    return {
        "type": "wrong_form",
        "loc": (),
        "msg": message,
        "input": error["input"],
        "ctx": {"forms": words},
    }


def _branches(annotation: Any) -> tuple[list[Any], bool]:
    """Split a type into the branches of a union.

    Returns:
        The branches (if there are several, pydantic names them in its errors), and whether the type also
        allows other forms: null, or the short form of a mapping or a list.
    """
    bare, short_forms = _without_metadata(annotation)
    if get_origin(bare) not in (Union, UnionType):
        or_null = get_origin(bare) is Literal and None in get_args(bare)
        return [bare], or_null or bool(short_forms)
    branches = [branch for branch in get_args(bare) if branch is not NoneType]
    has_other_forms = bool(short_forms) or len(branches) < len(get_args(bare))
    if len(branches) > 1:
        return branches, has_other_forms
    branches, has_more_forms = _branches(branches[0])
    return branches, has_other_forms or has_more_forms


def _without_metadata(annotation: Any) -> tuple[Any, list[str]]:
    """Return the type in an `Annotated`, and the short forms that its validators allow."""
    if get_origin(annotation) is not Annotated:
        return annotation, []
    bare, *metadata = get_args(annotation)
    validators = [item.func for item in metadata if isinstance(item, BeforeValidator)]
    return bare, [form for validator, form in SHORT_FORMS.items() if validator in validators]


def _forms(annotation: Any, numbers: Sequence[str] = (NUMBER,)) -> list[str]:
    """Return the names of the values of a type, one phrase for each form.

    >>> _forms(int | Literal["full"] | None), _forms(list[int] | bool)
    (['a whole number', "'full'", 'null'], ['a list of whole numbers', 'true', 'false'])
    >>> _forms(int | float | None), _forms(int | float, ["a whole number", "a share"])
    (['a number', 'null'], ['a whole number', 'a share'])
    """
    bare, short_forms = _without_metadata(annotation)
    origin, arguments = get_origin(bare) or bare, get_args(bare)
    if origin in (Union, UnionType):
        forms = [form for branch in arguments for form in _forms(branch, numbers)]
        if WHOLE in forms and NUMBER in forms:
            at = min(forms.index(WHOLE), forms.index(NUMBER))
            forms = [form for form in forms if form not in (WHOLE, NUMBER)]
            forms[at:at] = numbers
        forms.sort(key=lambda form: form == "null")
    elif origin is Literal:
        forms = ["null" if value is None else repr(value) for value in arguments]
    elif origin in (list, tuple, Sequence):
        items = {form for item in arguments if item is not ... for form in _forms(item)}
        kind = _PLURALS.get(items.pop()) if len(items) == 1 else None
        number = f"{len(arguments)} " if origin is tuple and ... not in arguments else ""
        forms = [f"a list of {number}{kind}" if kind else "a list"]
    elif inspect.isclass(origin) and issubclass(origin, BaseModel):
        forms = [*_FORMS[dict]]
    else:
        forms = [*_FORMS.get(origin, (getattr(origin, "__name__", str(origin)),))]
    return [*short_forms, *forms]


def _type_inside(annotation: Any, part: int | str) -> Any:
    """Return the type of a list's item or of the value at a key; None if the annotation does not give it."""
    bare, _ = _without_metadata(annotation)
    origin, arguments = get_origin(bare), get_args(bare)
    if inspect.isclass(bare) and issubclass(bare, BaseModel):
        field = bare.model_fields.get(str(part))
        if field is None:
            return None
        return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    if origin is tuple and ... not in arguments and isinstance(part, int):
        return arguments[part] if part < len(arguments) else None
    if origin in (list, tuple, Sequence):
        return arguments[0]
    return arguments[1] if origin is dict else None


def _at(value: Any, path: KeyPath, default: Any) -> Any:
    """Return the part of a value at a path, or `default` if the value has no such path."""
    for part in path:
        if not isinstance(value, dict | list | tuple):
            return default
        try:
            value = value[part]  # type: ignore[index]
        except (LookupError, TypeError):
            return default
    return value


def mistake_at(
    document: Document, details: ErrorDetails, model: type[BaseModel] | None = None, prefix: KeyPath = ()
) -> Mistake:
    """Turn one of pydantic's errors into a message with its place.

    Args:
        document: the document that was checked.
        details: the error, after `merge_unions` if the type has unions.
        model: the model that the document was checked against. Its keys are the known keys.
        prefix: the path in the document to the value that was checked.
    """
    path = (*prefix, *details["loc"])
    kind, key = details["type"], str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        known = _keys_beside(path, model)
        meant = difflib.get_close_matches(key, known, n=1, cutoff=0.65)  # `target` does not mean `args`
        if not meant and "args" not in known:
            meant = _elsewhere(key, model)
        hint = f"did you mean {listed(meant[:3], 'or')}?" if meant else f"the keys here are {listed(known)}."
        if "args" in known and not meant:
            hint += f" An argument belongs in args: args: {{{key}: ...}}."
        return Mistake(document.place(path, of_key=True), f"unknown key '{key}'; {hint}")
    message = message_of(details)
    if kind == "greater_than" and details["input"] == 0:  # a decimal comma may have cut a number
        place = document.place(path)
        message += _comma_hint(_CUT_BY_COMMA.match(place.text, place.column - 1))
    if kind == "missing":
        path = path[:-1]
        if not isinstance(details["loc"][-1], int):  # for a key, the message names it
            return Mistake(document.place(path), message)
    dotted = ".".join(str(part) for part in path)
    return Mistake(document.place(path), f"{dotted}: {message}" if dotted else message)


def message_of(details: ErrorDetails) -> str:
    """Return the message of one of pydantic's errors, without its place."""
    text = _MESSAGES.get(details["type"], details["msg"])
    key = details["loc"][-1] if details["loc"] else ""
    if details["type"] == "missing" and isinstance(key, int):
        return f"item {key + 1} of the list is missing"
    message = text.format(key=key, found=_quoted(details["input"]), **details.get("ctx", {}))
    given = details["input"] if isinstance(details["input"], str) and "number" in message else ""
    if WHOLE in message and _IN_THOUSANDS.fullmatch(given.strip()):
        return f"{message}; write it without commas: {given.strip().replace(',', '')}"
    return message + _comma_hint(_WITH_COMMA.fullmatch(given.strip()))


_WITH_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?x?")
_IN_THOUSANDS = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+")
_CUT_BY_COMMA = re.compile(r"0,[0-9]+(?![\w.])")


def _comma_hint(number: re.Match[str] | None) -> str:
    """Say how to write a number that has a decimal comma; nothing if there is none."""
    return f"; a decimal comma is not read: write {number[0].replace(',', '.')}" if number else ""


def _quoted(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text '{' '.join(value.split())[:60]}'"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value).lower() if isinstance(value, bool) else f"{value!r}"


def _elsewhere(key: str, model: type[BaseModel] | None) -> list[str]:
    """Return the paths at which the sections of a model have this key."""
    sections = model.model_fields if model is not None else ()
    return [f"{section}.{key}" for section in sections if key in _keys_beside((section, key), model)]


def _keys_beside(path: KeyPath, model: type[BaseModel] | None) -> list[str]:
    """Return the known keys of the mapping that contains the last key of `path`."""
    annotation: Any = model
    for part in path[:-1]:
        annotation = next(
            filter(None, (_type_inside(branch, part) for branch in _branches(annotation)[0])), None
        )
    models = [branch for branch in _branches(annotation)[0] if hasattr(branch, "model_fields")]
    return list(models[0].model_fields) if models else []
