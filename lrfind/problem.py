"""Problems: how to set up a lane, from a config or from objects that exist already."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lrfind.arguments import SIZES
from lrfind.batches import LossFn, Tally, loader_batches, to_device
from lrfind.config import Experiment
from lrfind.errors import LrfindError, UsageError
from lrfind.param_groups import group_number, param_groups
from lrfind.preserve import Snapshot
from lrfind.randomness import child_seed, reseed
from lrfind.registry import definition, import_path, resolve
from lrfind.sections import Component, DataSection, TrainingSection
from lrfind.streams import Stream, stream
from lrfind.train import Recipe, Setup
from lrfind.weights import load_weights, read_weights

FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
"""Optimizers made with fused=True: one kernel a step, which saves 0.1 to 0.5 ms on a small model."""


@dataclass(frozen=True)
class Problem:
    """Something to train: from a seed to a lane's parts, always the same ones for the same seed.

    Attributes:
        setup: from a seed to fresh parts. It also starts the global random generators that the lane's
            dropout draws from, so whoever keeps several lanes going swaps their states.
        device: where it trains.
        validation: the validation split, once; None where there is none.
        batches_per_epoch: batches in one pass over the training data; None where the data does not tell.
        generators: those that the data draws from besides the global ones.
        graphs: what stacks of its lanes have recorded; see `lrfind.stacks.Stack`.
        notes: what should be known of it, in sentences; filled by `setup`.
        data: what is known of the data; see `lrfind.streams.Stream.facts`. Empty for a user's own objects.
    """

    setup: Callable[[int], Setup]
    device: torch.device
    validation: Callable[[], Iterator[Any]] | None = None
    batches_per_epoch: int | None = None
    generators: Sequence[Any] = ()
    graphs: dict[Any, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


def check_objects(model: Any, optimizer: Any, loader: Any) -> None:
    """Refuse what no test can be made of.

    Raises:
        UsageError: says which of them it is, and what it should be.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"model must be a torch module; found a {type(model).__name__}.")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(f"optimizer must be a torch optimizer; found a {type(optimizer).__name__}.")
    own = {id(parameter) for parameter in model.parameters()}
    if not any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
        raise UsageError("the optimizer has none of the model's parameters; was it made for another model?")
    _refuse_ascent(optimizer, "the optimizer")
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        raise UsageError("loader is a Dataset, which yields single rows; wrap it in a DataLoader.")
    if not isinstance(loader, Iterable):
        raise UsageError(f"loader must yield batches; found a {type(loader).__name__}.")
    if isinstance(loader, Iterator):
        raise UsageError(
            "the loader is an iterator, which can be read only once; give the DataLoader (or a list of"
            " batches) itself."
        )


def _refuse_ascent(optimizer: torch.optim.Optimizer, named: str) -> None:
    """Refuse an optimizer that climbs: what lowers the loss is what every command looks for."""
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise UsageError(
            f"{named} has maximize=True, so its steps raise the loss, and lrfind looks for rates that lower"
            " it; leave maximize out, and give the negative of the objective as the loss."
        )


def from_objects(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: LossFn | None,
    loader: Iterable[Any],
    snapshot: Snapshot,
    probe: Any = None,
    accumulate: int = 1,
) -> Problem:
    """A problem made of a user's own objects, which every lane starts from as `snapshot` found them.

    Seeds vary the batch order and the dropout; the initial weights are the model's.
    """
    first = next(model.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    tally = Tally()

    def setup(seed: int) -> Setup:
        snapshot.restore()
        snapshot.clear_grads()
        reseed(seed, loader)
        if not model.training:
            model.train()
        batches = loader_batches(loader, device, tally)
        recipe = Recipe(accumulate=accumulate)
        return Setup(model, optimizer, loss_fn, batches, recipe, probe=to_device(probe, device))

    return Problem(setup, device)


def from_config(experiment: Experiment, *, probe: bool = False, group: str | None = None) -> Problem:
    """The problem that a config describes; see `from_configs`."""
    (problem,) = from_configs([experiment], probe=probe, group=group)
    return problem


def from_configs(
    experiments: Sequence[Experiment], *, probe: bool = False, group: str | None = None
) -> list[Problem]:
    """Problems that differ in their optimizers alone; the data is loaded here, once for all.

    Args:
        experiments: the configs.
        probe: also set a fixed batch of held-out rows aside.
        group: the one param group whose lr moves.

    Raises:
        UsageError: if a part cannot be made as described.
    """
    first = experiments[0]
    device = choose_device(first.device)
    data, probe_batch = _data(first, device, probe)
    make_model = _resolve("model", first.model.name)
    weights = (
        None if first.model.init_from is None else read_weights(Path(first.model.init_from).expanduser())
    )
    recipe, notes = recipe_of(first.training), list[str]()

    def problem(experiment: Experiment) -> Problem:
        section = experiment.optimizer
        make_optimizer = _resolve("optimizer", section.name)

        def setup(seed: int) -> Setup:
            reseed(child_seed(seed, "weights"))
            model = make_named_model(first.model, make_model, data.sizes)
            if weights is not None:
                notes[:] = [load_weights(model, weights, first.model)]
            model.to(device)
            loss_fn = None if first.loss is None else _make_loss(first.loss, device)
            optimizer = _make_optimizer(experiment, make_optimizer, model)
            number = None if group is None else group_number(optimizer.param_groups, group)
            batches = data.batches(seed)
            reseed(child_seed(seed, "masks"))
            return Setup(model, optimizer, loss_fn, batches, recipe, probe_batch, number)

        return Problem(
            setup,
            device,
            data.validation,
            data.batches_per_epoch,
            data.generators,
            graphs,
            notes,
            data.facts,
        )

    graphs: dict[Any, Any] = {}
    return [problem(experiment) for experiment in experiments]


def recipe_of(training: TrainingSection) -> Recipe:
    """How the steps of a training are taken."""
    return Recipe(
        training.accumulate, training.precision, training.l1, training.clip_value, training.clip_norm
    )


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA, else MPS, else the CPU.

    Raises:
        UsageError: if this machine does not have it.
    """
    has = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if has[kind]))
    if not has[name]:
        raise UsageError(f"device: {name} is not available to torch here; use auto or cpu.")
    return torch.device(name)


def make_named_model(section: Component, make: Callable[..., Any], sizes: dict[str, Any]) -> nn.Module:
    """Call a model's class or function with its args, and with the sizes that it asks for and lacks.

    Raises:
        UsageError: if that fails, or does not give a module.
    """
    if not callable(make):
        raise UsageError(f"model: '{section.name}' is a {type(make).__name__}; name a class or a function.")
    if isinstance(make, nn.Module):
        raise UsageError(
            f"model: '{section.name}' is a module that exists already; name its class, or a function that"
            " makes it, so that every seed can have its own."
        )
    wanted = [name for name in SIZES if name in inspect.signature(make).parameters]
    missing = [name for name in wanted if name not in section.args and name not in sizes]
    defaults = inspect.signature(make).parameters
    missing = [name for name in missing if defaults[name].default is inspect.Parameter.empty]
    sequences = {"step_features", "vocabulary"}
    if sequences <= {*wanted} and not sequences & {*section.args, *sizes}:  # it takes the one or the other
        missing = ["step_features or vocabulary"]
    if missing:
        kind, fitting = _kind(sizes)
        advice = f"give it in model.args{f', or use one for {kind}: {fitting}' if fitting else ''}"
        raise UsageError(f"model: the data does not tell {missing[0]} of '{section.name}'; {advice}.")
    given = {name: sizes[name] for name in wanted if name in sizes}
    model = _call("model", section.name, make, given | section.args)
    if not isinstance(model, nn.Module):
        raise UsageError(f"model: '{section.name}' gave a {type(model).__name__}, not a torch module.")
    if ":" not in section.name and any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)  # not a user's own: it may call `view`
    return model


def _kind(sizes: Mapping[str, Any]) -> tuple[str, str]:
    """What the inputs are, and built-in models for them; empty where that is not known."""
    if "image_size" in sizes:
        return "images", "small_cnn, small_resnet, lenet, torchvision, mlp"
    if "vocabulary" in sizes:
        return "tokens", "transformer, lstm, gru, rnn"
    if "step_features" in sizes:
        return "sequences of numbers", "lstm, gru, rnn"
    return ("rows of numbers", "linear, logistic, mlp, deep_mlp") if "in_features" in sizes else ("", "")


def import_names(experiment: Experiment) -> None:
    """Import everything that a config names, which runs the user's code.

    Raises:
        UsageError: for the first name that cannot be imported.
    """
    comparison = experiment.compare
    for section, part in (
        ("model", experiment.model),
        ("data", experiment.data),
        ("loss", experiment.loss),
        ("optimizer", experiment.optimizer),
        ("schedule", experiment.training.schedule),
        *(("schedule", schedule) for schedule in comparison.schedules),
        *(("optimizer", optimizer) for optimizer in comparison.optimizers),
    ):
        if part is not None:
            _check_call(section, part, _resolve(section, part.name))


def _check_call(section: str, part: Component, made: Any) -> None:
    """Hold a part's args against the real signature of what was imported."""
    try:
        inspect.signature(made).bind_partial(**part.args)
    except TypeError as error:
        raise UsageError(f"{section}: {part.name}: {error}") from None
    except ValueError:
        return  # a callable without a signature, in C


def _resolve(section: str, name: str) -> Any:
    try:
        return resolve(import_path(section, name))
    except UsageError as error:
        raise UsageError(f"{section}: {error}") from error


def _call(section: str, name: str, make: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    if not callable(make):
        raise UsageError(f"{section}: '{name}' is a {type(make).__name__}, which makes nothing when called.")
    try:
        return make(**arguments)
    except LrfindError:
        raise
    except (Exception, SystemExit) as error:
        plain = {key: value for key, value in arguments.items() if key != "params"}
        shown = ", ".join(f"{key}={value!r}" for key, value in plain.items())
        raise UsageError(
            f"{section}: {name}({shown[:200]}) failed: {type(error).__name__}: {error}"
        ) from error


def _make_data(section: DataSection) -> Any:
    made = _resolve("data", section.name)
    if callable(made) and not isinstance(made, Dataset | DataLoader):
        made = _call("data", section.name, made, _with_share(section))
    return made


def _with_share(section: DataSection) -> dict[str, Any]:
    """The args of a data set; a built-in one takes `data.validation` as its own argument of that name."""
    if section.validation is None or ":" in section.name:
        return section.args
    found = definition(import_path("data", section.name))
    own = found.signature.parameters.get("validation") if found and found.signature else None
    if own is None or own.annotation != "float":
        raise UsageError(
            f"data.validation: '{section.name}' has a validation split of its own; leave this out."
        )
    if "validation" in section.args:
        raise UsageError("data.validation: the share stands in data.args.validation too; give one of them.")
    return section.args | {"validation": section.validation}


def _data(experiment: Experiment, device: torch.device, probe: bool) -> tuple[Stream, Any]:
    """The stream of the training batches, and the probe batch where it is asked for."""
    section = experiment.data
    made = _make_data(section)
    try:
        found = stream(made, section, experiment.seed, device)
        return found, _probe(found) if probe else None
    except LrfindError:
        raise
    except (Exception, SystemExit) as error:  # anything may go wrong in a user's data set
        raise UsageError(
            f"data: reading the first batch of '{section.name}' failed: {type(error).__name__}: {error}"
        ) from error


def _probe(data: Stream) -> Any:
    if data.validation is None:
        raise UsageError(
            "range_test.probe: the data has no validation part to take a probe batch from; give a pair"
            " (train, validation)."
        )
    return next(data.validation())


def _make_loss(section: Component, device: torch.device) -> LossFn:
    loss = _resolve("loss", section.name)
    if not inspect.isclass(loss):
        return partial(loss, **section.args) if section.args else cast(LossFn, loss)
    made = _call("loss", section.name, loss, section.args)
    return made.to(device) if isinstance(made, nn.Module) else cast(LossFn, made)


def _make_optimizer(experiment: Experiment, make: Any, model: nn.Module) -> torch.optim.Optimizer:
    section = experiment.optimizer
    if not any(p.requires_grad for p in model.parameters()):
        raise UsageError(f"model: '{experiment.model.name}' has no parameters to train.")
    arguments: dict[str, Any] = {"params": param_groups(section, model), "lr": section.lr}
    if make in FUSED and not {"foreach", "capturable", "differentiable"} & {*section.args}:
        arguments["fused"] = True
    made = _call("optimizer", section.name, make, arguments | section.args)
    if not isinstance(made, torch.optim.Optimizer):
        raise UsageError(f"optimizer: '{section.name}' gave a {type(made).__name__}, not a torch optimizer.")
    _refuse_ascent(made, f"optimizer: '{section.name}'")
    return made
