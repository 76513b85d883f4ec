"""The plan of a Lightning training: its batches, the number of its steps, and the course of its lr."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

from lrfind.errors import UsageError
from lrfind.integrations.adapters import every


class Batches:
    """The batches of the training, without the pass over them that has begun already.

    Args:
        trainer: the trainer, when its training begins.
    """

    def __init__(self, trainer: Any) -> None:
        self.loader = copy.copy(trainer.fit_loop._combined_loader)  # with iterators of its own
        self.loader._iterator, length = None, trainer.num_training_batches  # by limit_train_batches, too
        self.length = None if math.isinf(length) else int(length)

    def __iter__(self) -> Iterator[Any]:
        for batch, _, _ in islice(self.loader, self.length):
            yield batch

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("the data has no length")
        return self.length


def planned_steps(trainer: Any, options: dict[str, Any]) -> int:
    """Return the number of updates of the training.

    Raises:
        UsageError: if Lightning does not know it: the data has no length, or the training has no end.
    """
    steps = trainer.estimated_stepping_batches
    if not 0 < steps < math.inf:
        raise UsageError(
            "steps: Lightning does not know how many steps this training takes, because the data has no"
            " length, or max_epochs is -1. Say for how many the rate is, as in FindLR(steps=10_000)."
        )
    automatic = trainer.lightning_module.automatic_optimization
    return int(steps) // (1 if automatic else options.get("accumulate", 1))


def planned_schedule(trainer: Any, steps: Any, options: dict[str, Any]) -> Any:
    """Return the schedule of the lr; None if there is none, or if the module steps its scheduler itself.

    Raises:
        UsageError: if the scheduler takes a step for each epoch, whose length is not known.
    """
    config = next(iter(trainer.lr_scheduler_configs), None)
    automatic = trainer.lightning_module.automatic_optimization
    if config is None or not automatic or "schedule" in options or not isinstance(steps, int):
        return None
    interval = config.frequency
    if config.interval == "epoch":
        if math.isinf(trainer.num_training_batches):
            raise UsageError(
                "schedule: the scheduler takes a step for each epoch, and the data has no length. Say how the"
                " lr changes over the whole training, as in FindLR(schedule='cosine')."
            )
        interval *= math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return config.scheduler if interval == 1 else every(config.scheduler, steps, interval)
