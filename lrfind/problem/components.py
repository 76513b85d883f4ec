"""The components that a config names: imported, made with their args, and refused with the reason."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lrfind.catalog import optimizer_of
from lrfind.config.arguments import SIZES
from lrfind.config.experiment import Experiment
from lrfind.config.registry import definition, import_path, resolve
from lrfind.config.sections import Component, DataSection
from lrfind.errors import LrfindError, UsageError
from lrfind.problem.batches import LossFn
from lrfind.problem.data import Stream, stream
from lrfind.problem.param_groups import param_groups


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
            _check_call(section, part, imported(section, part.name))


def _check_call(section: str, part: Component, made: Any) -> None:
    """Hold a part's args against the real signature of what was imported."""
    if not callable(made):
        return  # a data set that exists already
    try:
        inspect.signature(made).bind_partial(**part.args)
    except TypeError as error:
        raise UsageError(f"{section}: {part.name}: {error}") from None
    except ValueError:
        return  # a callable without a signature, in C


def imported(section: str, name: str) -> Any:
    """What a name stands for: of the registry, or an import path.

    Raises:
        UsageError: names the section, and what is wrong with the name.
    """
    try:
        return resolve(import_path(section, name))
    except UsageError as error:
        raise UsageError(f"{section}: {error}") from error


def make_model(section: Component, make: Callable[..., Any], sizes: dict[str, Any]) -> nn.Module:
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


def make_stream(experiment: Experiment, device: torch.device, held_out: bool) -> tuple[Stream, Any]:
    """The stream of the batches, and the held-out batch where it is asked for.

    Raises:
        UsageError: if the data cannot be made, or their first batch not be read.
    """
    section = experiment.data
    made = _make_data(section)
    try:
        found = stream(made, section, experiment.seed, device)
        return found, _held_out(found) if held_out else None
    except LrfindError:
        raise
    except (Exception, SystemExit) as error:  # anything may go wrong in a user's data set
        raise UsageError(
            f"data: reading the first batch of '{section.name}' failed: {type(error).__name__}: {error}"
        ) from error


def _held_out(data: Stream) -> Any:
    if data.validation is None:
        raise UsageError(
            "range_test.held_out: the data has no validation part to take a held-out batch from; give a pair"
            " (train, validation)."
        )
    return next(data.validation())


def make_loss(section: Component, device: torch.device) -> LossFn:
    """A loss: the class that is named, called with its args, or the function, which has them."""
    loss = imported("loss", section.name)
    if not inspect.isclass(loss):
        return partial(loss, **section.args) if section.args else cast(LossFn, loss)
    made = _call("loss", section.name, loss, section.args)
    return made.to(device) if isinstance(made, nn.Module) else cast(LossFn, made)


def make_optimizer(experiment: Experiment, make: Any, model: nn.Module) -> torch.optim.Optimizer:
    """Call an optimizer's class or function with the model's parameters, in their groups.

    Raises:
        UsageError: if that fails, does not give an optimizer, or gives one that raises the loss.
    """
    section = experiment.optimizer
    if not any(p.requires_grad for p in model.parameters()):
        raise UsageError(f"model: '{experiment.model.name}' has no parameters to train.")
    arguments: dict[str, Any] = {"params": param_groups(section, model), "lr": section.lr}
    row = optimizer_of(make)
    if row is not None and row.fused and not {"foreach", "capturable", "differentiable"} & {*section.args}:
        arguments["fused"] = True  # one kernel a step, which saves 0.1 to 0.5 ms on a small model
    made = _call("optimizer", section.name, make, arguments | section.args)
    if not isinstance(made, torch.optim.Optimizer):
        raise UsageError(f"optimizer: '{section.name}' gave a {type(made).__name__}, not a torch optimizer.")
    refuse_ascent(made, f"optimizer: '{section.name}'")
    return made


def refuse_ascent(optimizer: torch.optim.Optimizer, named: str) -> None:
    """Refuse an optimizer that climbs: what lowers the loss is what every command looks for."""
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise UsageError(
            f"{named} has maximize=True, so its steps raise the loss, and lrfind looks for rates that lower"
            " it; leave maximize out, and give the negative of the objective as the loss."
        )


def _kind(sizes: Mapping[str, Any]) -> tuple[str, str]:
    """What the inputs are, and built-in models for them; empty where that is not known."""
    if "image_size" in sizes:
        return "images", "small_cnn, small_resnet, lenet, torchvision, mlp"
    if "vocabulary" in sizes:
        return "tokens", "transformer, lstm, gru, rnn"
    if "step_features" in sizes:
        return "sequences of numbers", "lstm, gru, rnn"
    return ("rows of numbers", "linear, logistic, mlp, deep_mlp") if "in_features" in sizes else ("", "")


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
    made = imported("data", section.name)
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
