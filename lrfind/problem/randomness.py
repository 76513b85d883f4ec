"""Sources of randomness: seed them, save and restore their states."""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
APART = 1_000_003  # between the seeds of two processes
Purpose = Literal["weights", "masks", "order"]
_STREAMS: dict[Purpose, int] = {"weights": 0, "masks": 1, "order": 2}


def child_seed(seed: int, purpose: Purpose) -> int:
    """Derive a seed for one purpose, so that (for example) dropout masks do not repeat initial weights."""
    return int(np.random.SeedSequence((seed, _STREAMS[purpose])).generate_state(1)[0])


def reseed(seed: int, others: Iterable[Any] = (), apart: int = 0) -> None:
    """Seed every global generator, and `others`, with `seed`.

    Args:
        seed: the seed.
        others: further generators, such as those of a loader.
        apart: a number that keeps the global generators of processes apart that use the same seed.
    """
    of_process = (seed + APART * apart) % 2**32
    random.seed(of_process)
    np.random.seed(of_process)
    _seed_torch(of_process)
    for generator in others:
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, random.Random | np.random.RandomState):
            generator.seed(seed)
        else:
            generator.bit_generator.state = type(generator.bit_generator)(seed).state


def _seed_torch(seed: int) -> None:
    """Seed torch's global generators, those of accelerators only where there is one.

    Where there is none, torch would note the whole call stack for each kind, in case one appears.
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def state_of(generator: Any) -> Any:
    """Return the state of a generator of torch, Python or NumPy."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.RandomState):
        return generator.get_state()
    return generator.bit_generator.state


def set_state(generator: Any, state: Any) -> None:
    """Restore a state from `state_of`."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state


def capture(others: Iterable[Any] = ()) -> list[tuple[Any, Any]]:
    """Return the states of the global generators and of `others`, as pairs (function to set it, state)."""
    states: list[tuple[Any, Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state(legacy=False)),
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    if torch.cuda.is_available():
        states.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    if torch.backends.mps.is_available():
        states.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
    return [*states, *((partial(set_state, generator), state_of(generator)) for generator in others)]


def restore(states: Iterable[tuple[Any, Any]]) -> None:
    """Restore the states from `capture`."""
    for set_one, state in states:
        set_one(state)


def plain_state() -> dict[str, Any]:
    """Return the states of the global generators as tensors and plain values, which any file can hold."""
    state: dict[str, Any] = {
        "python": as_plain(random.getstate()),
        "numpy": as_plain(np.random.get_state()),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_plain_state(state: dict[str, Any]) -> None:
    """Restore the states from `plain_state`."""
    random.setstate(from_plain(state["python"]))
    np.random.set_state(from_plain(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


def as_plain(state: Any) -> Any:
    """Return a generator's state with each array as {"array": its values, "dtype": their type}."""
    if isinstance(state, np.ndarray):
        return {"array": state.tolist(), "dtype": str(state.dtype)}
    if isinstance(state, tuple):
        return tuple(map(as_plain, state))
    return {key: as_plain(value) for key, value in state.items()} if isinstance(state, dict) else state


def from_plain(state: Any) -> Any:
    """Turn the result of `as_plain` back into a generator's state."""
    if isinstance(state, dict) and state.keys() == {"array", "dtype"}:
        return np.array(state["array"], dtype=state["dtype"])
    if isinstance(state, tuple):
        return tuple(map(from_plain, state))
    return {key: from_plain(value) for key, value in state.items()} if isinstance(state, dict) else state
