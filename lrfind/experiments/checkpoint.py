"""Checkpoints: everything that a lane needs to continue as if it had never been interrupted."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import Evaluation
from lrfind.errors import LrfindError, UsageError, in_one_line
from lrfind.experiments.tensor_files import is_sealed, write_tensors
from lrfind.problem.order import OrderedBatches
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
from lrfind.runs.files import storing
from lrfind.training.executor import SingleExecutor
from lrfind.training.interrupts import stop_if_asked
from lrfind.training.loop import Step

VERSION = 3  # of the content of a checkpoint; one of another version is refused
PAUSE_STEPS, CHECKPOINT_SECONDS = 10, 30.0
"""The steps between two looks whether a checkpoint is due, and the seconds after which one is due."""


class Checkpoint:
    """The checkpoint of one lane.

    Args:
        path: the file.
        identity: a text that identifies what is trained; the checkpoint of anything else is refused.
        every: the number of steps between checkpoints; None to write one every half minute.
        saved: called after each checkpoint.
    """

    def __init__(
        self, path: Path, identity: str, every: int | None, saved: Callable[[], None] = lambda: None
    ) -> None:
        self.path, self._identity, self._every, self._saved = path, identity, every, saved
        self._last = time.monotonic()

    def begin(self, executor: SingleExecutor) -> None:
        """Restore a lane from its checkpoint, if there is one."""
        if self.path.is_file():
            load_checkpoint(executor, self.path, self._identity)

    def paused(self, executor: SingleExecutor) -> None:
        """Write the checkpoint if one is due at this step, and the lane goes on."""
        record, step = executor.record, len(executor.record.steps)
        if record.outcome is None and step < record.lane.lr.size and self._due(step):
            save_checkpoint(executor, self.path, self._identity)
            self._last = time.monotonic()
            self._saved()

    def _due(self, step: int) -> bool:
        if self._every is not None:
            return step % self._every == 0
        return time.monotonic() - self._last >= CHECKPOINT_SECONDS


class LaneCheckpoints:
    """The checkpoints of a sweep's lanes, each a file in the run directory that names its lane.

    Args:
        folder: the run directory.
        config: the resolved config of the run.
        every: the number of steps between checkpoints; None to write one every half minute.
    """

    def __init__(self, folder: Path, config: str, every: int | None) -> None:
        self._folder, self._every = folder, every
        self._config = hashlib.sha256(config.encode()).hexdigest()
        self._current: Checkpoint | None = None

    def begin(self, executor: SingleExecutor) -> None:
        """Restore a lane from its checkpoint, if there is one."""
        number = executor.record.lane.lane
        self._current = Checkpoint(self._path(number), f"lane {number} of {self._config}", self._every)
        self._current.begin(executor)

    def paused(self, executor: SingleExecutor) -> None:
        """Write the checkpoint of the lane that began last, if one is due at this step."""
        assert self._current is not None
        self._current.paused(executor)

    def remove(self, lanes: Iterable[int]) -> None:
        """Delete the checkpoints of these lanes."""
        for number in lanes:
            remove_checkpoint(self._path(number))

    def _path(self, number: int) -> Path:
        return self._folder / f"checkpoint.lane{number}.pt"


def pause_steps(every: int | None, seconds_per_step: float) -> int:
    """Return the number of steps between two looks whether the checkpoint of a sweep's lane is due.

    Without a number of steps between checkpoints, it is what takes a third of the time between them.
    """
    return every or max(1, int(CHECKPOINT_SECONDS / 3 / max(seconds_per_step, 1e-6)))


def save_checkpoint(executor: SingleExecutor, path: Path, identity: str) -> None:
    """Write the state of a lane: weights, optimizer, loss scaler, randomness, and all measurements.

    The file holds tensors and plain values, so `torch.load(path, weights_only=True)` reads it. It is written
    whole or not at all, and ends with a checksum.

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
        "generators": [as_plain(state_of(generator)) for generator in executor.generators],
        "batches": _checksum_of(setup),
        "steps": torch.tensor(
            [[math.nan if value is None else float(value) for value in step] for step in record.steps],
            dtype=torch.float64,
        ),
        "measured": [value is not None for value in next(iter(record.steps), ())],
        "evaluations": [list(evaluation) for evaluation in record.evaluations],
        "health": [list(row) for row in record.health],
        "awake": [torch.from_numpy(units) for units in executor.gauge.awake],
        "seconds": record.seconds,
    }
    write_tensors(state, path, sealed=True)


def load_checkpoint(executor: SingleExecutor, path: Path, identity: str) -> None:
    """Restore a lane from its checkpoint, so that its next steps are the same as without an interruption.

    The batches before the checkpoint are drawn again and skipped, so that the loader continues at the same
    place. Only state in tensors, random generators and plain attributes of modules is restored; other state
    is lost.

    Raises:
        UsageError: if the file cannot be read, is damaged, or belongs to another training, or if the data
            gives other batches than before.
    """
    try:
        if not is_sealed(path):
            raise UsageError(
                f"the checkpoint '{path}' is damaged, or was written by another version of lrfind: its"
                f" checksum is missing or wrong; {_way_out()}."
            )
        held: Any = torch.load(path, weights_only=True)
        version, whose, rows, measured = (held[key] for key in ("version", "identity", "steps", "measured"))
    except LrfindError:
        raise
    except Exception as error:  # torch raises many kinds
        raise _unreadable(path, error) from None
    if version != VERSION or whose != identity:
        what = "another version of lrfind" if version != VERSION else "another training, lane or seed"
        raise UsageError(f"the checkpoint '{path}' belongs to {what}; {_way_out()}.")
    setup, record = executor.setup, executor.record
    _skip_batches(setup, len(rows) * setup.recipe.accumulate, held["batches"], path)
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
        for generator, kept in zip(executor.generators, held["generators"], strict=True):
            set_state(generator, from_plain(kept))
        set_plain_state(held["randomness"])
    except Exception as error:
        raise _unreadable(path, error) from None


def _skip_batches(setup: Setup, count: int, checksum: int | None, path: Path) -> None:
    """Draw the batches before a checkpoint again.

    Raises:
        UsageError: if they are not the batches that the lane was trained on.
    """
    try:
        for _ in range(count):
            stop_if_asked()
            next(setup.batches)
    except Exception as error:  # of the user's data set
        raise UsageError(
            f"the batches before the checkpoint '{path}' cannot be read again: {in_one_line(error)}"
        ) from error
    if _checksum_of(setup) != checksum:
        raise UsageError(
            f"the data gives other batches than those before the checkpoint '{path}', so the training would"
            " not continue as if it had not been interrupted. Does the data set draw from a generator that is"
            " not seeded, count its reads, or read a file that has changed? Let its rows depend on their"
            f" number only; {_way_out()}."
        )


def _checksum_of(setup: Setup) -> int | None:
    """Return the checksum of the batches so far; None for batches that depend on the seed only."""
    return setup.batches.checksum if isinstance(setup.batches, OrderedBatches) else None


def _way_out() -> str:
    return "delete it to start this lane from its first step"


def _unreadable(path: Path, error: Exception) -> UsageError:
    return UsageError(f"the checkpoint '{path}' cannot be read ({in_one_line(error, 120)}); {_way_out()}.")


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


def remove_checkpoint(path: Path) -> None:
    """Delete a checkpoint that is not needed any more, if there is one.

    Raises:
        StorageError: if it cannot be deleted.
    """
    with storing(path):
        path.unlink(missing_ok=True)


def _step(row: list[float], measured: list[bool]) -> Step:
    number, lr, loss, *rest = row
    grad_norm, held_out_loss, skipped = (
        value if known else None for value, known in zip(rest, measured[3:], strict=True)
    )
    return Step(int(number), lr, loss, grad_norm, held_out_loss, None if skipped is None else bool(skipped))
