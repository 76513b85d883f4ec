"""Checkpoints: everything that a training needs to continue as if it had never been interrupted."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import Evaluation
from lrfind.errors import UsageError
from lrfind.problem.randomness import (
    GENERATORS,
    as_plain,
    from_plain,
    plain_state,
    set_plain_state,
    set_state,
    state_of,
)
from lrfind.problem.setup import Setup
from lrfind.training.executor import SingleExecutor
from lrfind.training.loop import Step

VERSION = 2


def save_checkpoint(executor: SingleExecutor, path: Path, identity: str) -> None:
    """Write the state of a lane: weights, optimizer, loss scaler, randomness, and all measurements.

    The file holds tensors and plain values, so `torch.load(path, weights_only=True)` reads it. It is written
    whole or not at all.

    Args:
        executor: the executor of the lane.
        path: the file.
        identity: a text that identifies what is trained; `load_checkpoint` accepts no other.
    """
    record, setup = executor.record, executor.setup
    scaler = setup.scaler
    state = {
        "version": VERSION,
        "identity": identity,
        "modules": [_module_state(module) for module in _modules(setup)],
        "optimizer": setup.optimizer.state_dict(),
        "scaler": {} if scaler is None else scaler.state_dict(),
        "randomness": plain_state(),
        "steps": torch.tensor(
            [[math.nan if value is None else float(value) for value in step] for step in record.steps],
            dtype=torch.float64,
        ),
        "measured": [value is not None for value in record.steps[0]] if record.steps else [],
        "evaluations": [list(evaluation) for evaluation in record.evaluations],
        "health": [list(row) for row in record.health],
        "awake": [torch.from_numpy(units) for units in executor.gauge.awake],
        "seconds": record.seconds,
    }
    write_tensors(state, path)


def load_checkpoint(executor: SingleExecutor, path: Path, identity: str) -> None:
    """Restore a lane from its checkpoint, so that its next steps are the same as without an interruption.

    The batches before the checkpoint are drawn again and skipped, so that the loader continues at the same
    place. Only state in tensors, random generators and plain attributes of modules is restored; other state
    is lost.

    Raises:
        UsageError: if the file cannot be read, or belongs to another training.
    """
    try:
        held: Any = torch.load(path, weights_only=True)
        version, whose, rows, measured = (held[key] for key in ("version", "identity", "steps", "measured"))
    except Exception as error:  # torch raises many kinds
        raise _unreadable(path, error) from None
    if version != VERSION or whose != identity:
        what = "another version of lrfind" if version != VERSION else "another training or seed"
        raise UsageError(f"the checkpoint '{path}' belongs to {what}; delete it to start this seed again.")
    setup, record = executor.setup, executor.record
    for _ in range(len(rows) * setup.recipe.accumulate):
        next(setup.batches)
    try:
        for module, state in zip(_modules(setup), held["modules"], strict=True):
            _set_module_state(module, state)
        setup.optimizer.load_state_dict(held["optimizer"])
        if setup.scaler is not None:
            setup.scaler.load_state_dict(held["scaler"])
        for row in rows.tolist():
            record.take(_step(row, measured))
        record.evaluations = [Evaluation(int(step), *values) for step, *values in held["evaluations"]]
        record.health = [LayerHealth(*row) for row in held["health"]]
        executor.gauge.awake = [units.numpy() for units in held["awake"]]
        record.seconds = held["seconds"]
        set_plain_state(held["randomness"])
    except Exception as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UsageError:
    first = str(error).strip().partition("\n")[0][:120]
    return UsageError(
        f"the checkpoint '{path}' cannot be read ({type(error).__name__}: {first}); delete it to start this"
        " seed again."
    )


def _modules(setup: Setup) -> list[nn.Module]:
    """Return the modules of a lane: its model, and its loss if that is a module."""
    return [part for part in (setup.model, setup.loss_fn) if isinstance(part, nn.Module)]


def _module_state(module: nn.Module) -> dict[str, Any]:
    """Return parameters, buffers, plain attributes and random generators of a module and its submodules."""
    inside = dict(module.named_modules())
    return {
        "tensors": {name: tensor.detach() for name, tensor in _tensors(module)},
        "attributes": {name: _plain_attributes(part) for name, part in inside.items()},
        "generators": {name: [as_plain(state_of(g)) for g in _held(part)] for name, part in inside.items()},
    }


def _set_module_state(module: nn.Module, state: dict[str, Any]) -> None:
    with torch.no_grad():
        for name, tensor in _tensors(module):
            tensor.copy_(state["tensors"][name])
    for name, part in module.named_modules():
        vars(part).update(state["attributes"][name])
        for generator, kept in zip(_held(part), state["generators"][name], strict=True):
            set_state(generator, from_plain(kept))


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if type(value) in (bool, int, float, str)}


def _held(module: nn.Module) -> list[Any]:
    return [value for value in vars(module).values() if isinstance(value, GENERATORS)]


def write_tensors(value: Any, path: Path) -> None:
    """Save with `torch.save`, whole or not at all; the file is on the disk when this returns."""
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("wb") as file:
            torch.save(value, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # left by a write that failed, for example on a full disk


def _step(row: list[float], measured: list[bool]) -> Step:
    number, lr, loss, *rest = row
    grad_norm, held_out_loss, skipped = (
        value if known else None for value, known in zip(rest, measured[3:], strict=True)
    )
    return Step(int(number), lr, loss, grad_norm, held_out_loss, None if skipped is None else bool(skipped))
