"""Sources of randomness: started anew from a seed, and the generators that a loader holds."""

from __future__ import annotations

import random
from typing import Any, Literal

import numpy as np
import torch

Purpose = Literal["weights", "masks", "order"]
_STREAMS: dict[Purpose, int] = {"weights": 0, "masks": 1, "order": 2}


def child_seed(seed: int, purpose: Purpose) -> int:
    """A seed of its own for each purpose, so that the dropout masks do not repeat the initial weights."""
    return int(np.random.SeedSequence((seed, _STREAMS[purpose])).generate_state(1)[0])


def reseed(seed: int, loader: Any = None) -> None:
    """Start every global generator, and those that `loader` holds, anew from `seed`."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    for generator in generators(loader):
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, random.Random):
            generator.seed(seed)
        else:
            generator.bit_generator.state = type(generator.bit_generator)(seed).state


def generators(loader: Any) -> list[Any]:
    """The random generators held by a loader, its samplers and its data set."""
    holders = [loader]
    for name in ("sampler", "batch_sampler", "dataset"):
        if (holder := getattr(loader, name, None)) is not None:
            holders += [holder, getattr(holder, "sampler", None)]
    found: dict[int, Any] = {}
    for holder in holders:
        for value in getattr(holder, "__dict__", {}).values():
            if isinstance(value, torch.Generator | random.Random | np.random.Generator):
                found[id(value)] = value
    return list(found.values())


def state_of(generator: Any) -> Any:
    """The state of a generator of torch, Python or NumPy."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state


def set_state(generator: Any, state: Any) -> None:
    """Put back what `state_of` gave."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state
