"""Forms: descriptions of a batch, an output or a parameter, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from lrfind.errors import first_few


def form(tensor: Tensor) -> str:
    """Describe a tensor by its shape and type, and by its device where that is not the CPU.

    >>> import torch
    >>> form(torch.zeros(64, 1, dtype=torch.int64))
    '(64, 1) int64'
    """
    device = "" if tensor.device.type == "cpu" else f" on {tensor.device}"
    return f"{tuple(tensor.shape)} {dtype(tensor)}{device}"


def dtype(tensor: Tensor) -> str:
    """Return the name of the type of a tensor's numbers, such as float32."""
    return str(tensor.dtype).removeprefix("torch.")


def describe(value: Any) -> str:
    """Describe a value; also describe the parts of a tuple, of a dict or of an object with tensors.

    >>> import torch
    >>> describe({"ids": torch.zeros(2, 3), "text": ["a", "b"]})
    'a dict: ids (2, 3) float32, text a list'
    >>> describe((torch.zeros(2), None))
    'a tuple of 2: (2,) float32, None'
    """
    if isinstance(value, Tensor):
        return form(value)
    if value is None:
        return "None"
    kind = type(value).__name__
    named = _named_parts(value)
    if named:
        parts = first_few(f"{name} {_brief(part)}" for name, part in named.items())
        return f"{_article(kind)} {kind}: {parts}"
    if isinstance(value, tuple | list):
        parts = first_few(_brief(part) for part in value)
        return f"{_article(kind)} {kind} of {len(value)}" + (f": {parts}" if parts else "")
    return f"{_article(kind)} {kind}"


def describe_batch(batch: Any) -> str:
    """Describe the parts of a batch; see `batch_parts` for their names.

    >>> import torch
    >>> describe_batch((torch.zeros(4, 2), torch.zeros(4)))
    'x (4, 2) float32, y (4,) float32'
    """
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        return first_few(f"{name} {_brief(part)}" for name, part in batch_parts(batch).items())
    return describe(batch)


def batch_parts(batch: Any) -> dict[str, Any]:
    """Return the parts of a batch by name: x (or x1, ..., xn) and y, or the keys of a dict."""
    if isinstance(batch, Mapping):
        return {str(key): part for key, part in batch.items()}
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        inputs = ["x"] if len(batch) == 2 else [f"x{i + 1}" for i in range(len(batch) - 1)]
        return dict(zip([*inputs, "y"], batch, strict=True))
    return {"batch": batch}


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in a value: itself, or those in a tuple, a dict or an object, at any depth."""
    if isinstance(value, Tensor):
        return [value]
    parts = [*_named_parts(value).values()] or (value if isinstance(value, tuple | list) else ())
    return [tensor for part in parts for tensor in tensors_in(part)]


def _named_parts(value: Any) -> dict[str, Any]:
    """Return the parts of a dict, a named tuple or a plain object, by name; none for a module."""
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    if hasattr(value, "_asdict"):
        return dict(value._asdict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    attributes = {} if isinstance(value, nn.Module | Tensor) else getattr(value, "__dict__", {})
    return {name: part for name, part in attributes.items() if isinstance(part, Tensor)}


def _brief(part: Any) -> str:
    if isinstance(part, Tensor):
        return form(part)
    kind = type(part).__name__
    return "None" if part is None else f"{_article(kind)} {kind}"


def _article(noun: str) -> str:
    return "an" if noun[:1].lower() in "aeiou" else "a"
