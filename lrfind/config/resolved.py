"""The resolved config of a run: the text from which a run reads its experiment again, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrfind.config.document import KeyPath
from lrfind.config.experiment import Experiment, dump, restored
from lrfind.errors import UsageError


def resolved_text(experiment: Experiment) -> str:
    """Return the YAML of an experiment, after reading it again has given the same experiment.

    Raises:
        UsageError: if it gives another one; the message names the first value that differs.
    """
    text = dump(experiment)
    found = difference(experiment.model_dump(), restored(text, "resolved.yaml").model_dump())
    if found is not None:
        path, value, value_read = found
        raise UsageError(
            f"{'.'.join(map(str, path))}: {value!r:.80} cannot be written into a config, because it would be"
            f" read as {value_read!r:.80}; so the run would not be what was asked for. Give another value."
        )
    return text


def difference(value: Any, other: Any, path: KeyPath = ()) -> tuple[KeyPath, Any, Any] | None:
    """Return the first difference between two plain values: its path and both parts; None if they are equal.

    A list equals a tuple of the same items, nan equals nan, and 1 does not equal 1.0.

    >>> difference({"a": [1, float("nan")]}, {"a": (1, float("nan"))})
    >>> difference({"a": [1, 2.0]}, {"a": [1, 2]})
    (('a', 1), 2.0, 2)
    """
    if isinstance(value, Mapping) and isinstance(other, Mapping) and [*value] == [*other]:
        pairs = [(key, value[key], other[key]) for key in value]
    elif isinstance(value, list | tuple) and isinstance(other, list | tuple) and len(value) == len(other):
        pairs = [(place, *items) for place, items in enumerate(zip(value, other, strict=True))]
    else:
        both_nan = value != value and other != other
        same = type(value) is type(other) and (repr(value) == repr(other) or both_nan)
        return None if same else (path, value, other)
    inside: Sequence[Any] = [difference(one, two, (*path, key)) for key, one, two in pairs]
    return next((found for found in inside if found is not None), None)
