"""Problems: how to set up a lane, and the problem that a config describes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lrfind.config.experiment import Experiment
from lrfind.config.sections import TrainingSection
from lrfind.errors import LrfindError, UsageError, as_exception, in_one_line
from lrfind.problem.components import (
    import_part,
    make_loss,
    make_model,
    make_optimizer,
    make_stream,
)
from lrfind.problem.param_groups import group_number
from lrfind.problem.randomness import child_seed, reseed
from lrfind.problem.settings import TorchSettings
from lrfind.problem.setup import Recipe, Setup, begin_training
from lrfind.problem.weights import load_weights, read_weights


@dataclass(frozen=True)
class Problem:
    """Something to train: it turns a seed into a lane's parts, always the same for the same seed.

    Attributes:
        setup: a function from a seed to fresh parts. It also seeds the global random generators that the
            lane's dropout draws from, so code that trains several lanes in turns must swap the states of
            these generators.
        device: the device of the training.
        validation: a function that yields the batches of the validation split once; None without a split.
        batches_per_epoch: the number of batches in one pass over the training data; None where the data has
            no length.
        generators: the random generators that the data draws from besides the global ones.
        notes: remarks for the user, in sentences; `setup` writes them.
        own_step: whether the user's own function takes the steps, also those of the untouched model.
        data: the facts about the data; see `lrfind.problem.data.Stream.facts`. Empty for users' objects.
    """

    setup: Callable[[int], Setup]
    device: torch.device
    validation: Callable[[], Iterator[Any]] | None = None
    batches_per_epoch: int | None = None
    generators: Sequence[Any] = ()
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    own_step: bool = False


def from_config(experiment: Experiment, *, held_out: bool = False, group: str | None = None) -> Problem:
    """Return the problem that a config describes; see `from_configs`."""
    (problem,) = from_configs([experiment], held_out=held_out, group=group)
    return problem


def from_configs(
    experiments: Sequence[Experiment], *, held_out: bool = False, group: str | None = None
) -> list[Problem]:
    """Return problems that differ only in their optimizers; load the data once for all of them.

    Args:
        experiments: the configs.
        held_out: whether a fixed held-out batch is also set aside.
        group: the only param group whose lr changes; None for all groups.

    Raises:
        UsageError: if a part cannot be created as described.
    """
    first = experiments[0]
    device = choose_device(first.device)
    data, held_out_batch = make_stream(first, device, held_out)
    model_factory = import_part("model", first.model.name)
    weights = (
        None if first.model.init_from is None else read_weights(Path(first.model.init_from).expanduser())
    )
    recipe, notes = recipe_of(first.training), list[str]()
    settings = TorchSettings.now()

    def problem(experiment: Experiment) -> Problem:
        section = experiment.optimizer
        optimizer_factory = import_part("optimizer", section.name)

        @as_exception()
        def make(seed: int) -> Setup:
            reseed(child_seed(seed, "weights"))
            model = make_model(first.model, model_factory, data.sizes)
            if weights is not None:
                notes[:] = [load_weights(model, weights, first.model)]
            model.to(device)
            begin_training(model)
            loss_fn = None if first.loss is None else make_loss(first.loss, device)
            optimizer = make_optimizer(experiment, optimizer_factory, model)
            number = None if group is None else group_number(optimizer.param_groups, group)
            batches = data.batches(seed)
            reseed(child_seed(seed, "masks"))
            shared = recordings if type(model).__module__.startswith("lrfind.models.") else {}
            return Setup(
                model,
                optimizer,
                loss_fn,
                batches,
                recipe,
                held_out_batch,
                number,
                recordings=shared,
            )

        def setup(seed: int) -> Setup:
            settings.restore()
            try:
                return make(seed)
            except LrfindError:
                raise
            except Exception as error:  # for example in the model's own `to` or `parameters`
                raise UsageError(f"creating the parts of a lane failed: {in_one_line(error)}") from error

        return Problem(
            setup,
            device,
            data.validation,
            data.batches_per_epoch,
            data.generators,
            notes,
            data.facts,
        )

    recordings: dict[Any, Any] = {}
    return [problem(experiment) for experiment in experiments]


def recipe_of(training: TrainingSection) -> Recipe:
    """Return the recipe for the steps of a training."""
    return Recipe(
        training.accumulate, training.precision, training.l1, training.clip_value, training.clip_norm
    )


def choose_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        UsageError: if this machine does not have it.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if not available[name]:
        raise UsageError(f"device: {name} is not available to torch on this machine; use auto or cpu.")
    return torch.device(name)
