"""Checkpoints: all that a training needs to go on as if it had never been interrupted."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch

from lrfind.errors import UsageError
from lrfind.plan import Evaluation
from lrfind.randomness import plain_state, set_plain_state
from lrfind.teams import Alone
from lrfind.train import Step

VERSION = 1


def save_checkpoint(alone: Alone, path: Path) -> None:
    """Write where a lane stands: weights, optimizer, scale of the loss, randomness, and all measurements.

    The file holds tensors and plain values, so `torch.load(path, weights_only=True)` reads it. It is written
    whole or not at all.
    """
    record, setup = alone.record, alone.setup
    scaler = setup.scaler
    state = {
        "version": VERSION,
        "model": setup.model.state_dict(),
        "optimizer": setup.optimizer.state_dict(),
        "scaler": {} if scaler is None else scaler.state_dict(),
        "randomness": plain_state(),
        "steps": torch.tensor(
            [[math.nan if value is None else float(value) for value in step] for step in record.steps],
            dtype=torch.float64,
        ),
        "measured": [value is not None for value in record.steps[0]] if record.steps else [],
        "evaluations": [list(evaluation) for evaluation in record.evaluations],
        "outcome": record.outcome,
        "seconds": record.seconds,
    }
    write_tensors(state, path)


def load_checkpoint(alone: Alone, path: Path) -> None:
    """Put a lane where the checkpoint was taken: what comes next is what came then.

    The batches up to there are drawn again and passed over, so that the loader stands where it stood.

    Raises:
        UsageError: if the file cannot be read.
    """
    try:
        held: Any = torch.load(path, weights_only=True)
        version = held["version"]
    except Exception as error:  # torch raises many kinds
        first = str(error).strip().partition("\n")[0][:120]
        what = f"the checkpoint '{path}' cannot be read ({first})"
        raise UsageError(f"{what}; delete it to start again.") from None
    if version != VERSION:
        raise UsageError(f"the checkpoint '{path}' was written by another lrfind; delete it to start again.")
    setup, record = alone.setup, alone.record
    rows, measured = held["steps"].tolist(), held["measured"]
    for _ in range(len(rows) * setup.recipe.accumulate):
        next(setup.batches)
    setup.model.load_state_dict(held["model"])
    lrs = [group["lr"] for group in setup.optimizer.param_groups]  # as made: their ratios come from these
    setup.optimizer.load_state_dict(held["optimizer"])
    for group, lr in zip(setup.optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr
    if setup.scaler is not None:
        setup.scaler.load_state_dict(held["scaler"])
    for row in rows:
        record.take(_step(row, measured))
    record.evaluations = [Evaluation(int(step), *values) for step, *values in held["evaluations"]]
    record.outcome, record.seconds = held["outcome"], held["seconds"]
    set_plain_state(held["randomness"])


def write_tensors(value: Any, path: Path) -> None:
    """`torch.save`, whole or not at all, and on the disk when it returns."""
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as file:
        torch.save(value, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _step(row: list[float], measured: list[bool]) -> Step:
    number, lr, loss, *rest = row
    grad_norm, probe_loss, skipped = (
        value if known else None for value, known in zip(rest, measured[3:], strict=True)
    )
    return Step(int(number), lr, loss, grad_norm, probe_loss, None if skipped is None else bool(skipped))
