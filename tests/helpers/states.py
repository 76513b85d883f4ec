"""The whole state of objects and of the random generators, to compare it bit for bit."""

from __future__ import annotations

import random
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor


def bits(value: Any, seen: set[int]) -> Any:
    """Everything in a value that a training may change, in a form that `==` compares bit for bit."""
    if isinstance(value, bool | int | str | bytes | type(None) | torch.dtype | torch.device):
        return value
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, Tensor):
        grad = bits(value.grad, seen) if value.is_leaf else None
        values = value.detach().to_dense().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return tuple(value.shape), value.dtype, value.requires_grad, values, grad
    if isinstance(value, np.ndarray):
        return value.shape, str(value.dtype), value.tobytes()
    if isinstance(value, torch.Generator):
        return bits(value.get_state(), seen)
    if id(value) in seen or isinstance(value, type | FunctionType):
        return type(value).__name__
    seen.add(id(value))
    if isinstance(value, dict):
        return [(bits(key, seen), bits(entry, seen)) for key, entry in value.items()]
    if isinstance(value, list | tuple):
        return [bits(entry, seen) for entry in value]
    if isinstance(value, set | frozenset):
        return {repr(entry) for entry in value}
    return type(value).__name__, bits(getattr(value, "__dict__", None), seen)


def world(parts: tuple[Any, ...]) -> dict[str, Any]:
    """The state of the parts of a training, and of all random generators."""
    of_numpy = np.random.get_state()
    return {
        "parts": bits(parts, set()),
        "python": random.getstate(),
        "numpy": bits(of_numpy, set()),
        "torch": bits(torch.get_rng_state(), set()),
    }
