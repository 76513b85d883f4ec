"""The components that a config names: how to import and create them, and why one is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lrfind.catalog import OPTIMIZERS, optimizer_of
from lrfind.config.arguments import SIZES
from lrfind.config.experiment import Experiment
from lrfind.config.registry import definition, import_path, resolve
from lrfind.config.sections import Component, DataSection, LossSection
from lrfind.config.shapes import named_in
from lrfind.errors import LrfindError, UsageError, as_exception, in_one_line, listed
from lrfind.problem.batches import LossFn, OwnLoss
from lrfind.problem.data import Stream, stream
from lrfind.problem.param_groups import param_groups
from lrfind.problem.randomness import child_seed, reseed

CLASS_WEIGHTS = ("weight", "pos_weight")
"""The arguments of torch's losses that are tensors with a number for each class."""
VECTOR_NUMBERS = 16
"""The most float32 numbers in a vector register of a processor (AVX-512)."""


def import_names(experiment: Experiment) -> None:
    """Import everything that a config names, and check that a run can call it. This runs the user's code.

    Raises:
        UsageError: for the first name that cannot be imported, or cannot be called as a run calls it.
    """
    comparison, sampler = experiment.compare, Component(name=experiment.search.sampler)
    schedules = (experiment.training.schedule, *comparison.schedules)
    for section, part in (
        ("model", experiment.model),
        ("data", experiment.data),
        ("optimizer", experiment.optimizer),
        *(("schedule", part) for schedule in schedules for part in named_in(schedule)),
        *(("optimizer", optimizer) for optimizer in comparison.optimizers),
        *(("sink", sink) for sink in experiment.sinks),
        *([("sampler", sampler)] if ":" in sampler.name else []),
    ):
        _check_call(section, part.name, part, import_part(section, part.name))
    if (loss := experiment.loss) is not None:
        _check_call("loss", loss.path, loss, import_part("loss", loss.path))


def _check_call(section: str, name: str, part: Component | LossSection, function: Any) -> None:
    """Check a call of an imported object: with a part's args, and with all that a run passes besides them.

    lrfind's own optimizers are also created, for a single parameter, because they refuse some values.
    """
    if not callable(function) or isinstance(function, Dataset | DataLoader):
        return  # a data set that exists already
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # a callable that is written in C and has no signature
    args, inputs = dict(part.args), list[str]()
    if section == "optimizer":
        args |= {"params": [nn.Parameter(torch.zeros(1))], "lr": getattr(part, "lr", None) or 1e-3}
    elif section == "model":  # the data gives the sizes
        args |= {name: None for name in SIZES if name in signature.parameters and name not in args}
    elif section == "schedule":
        inputs = ["step", "steps"]
    elif section == "sampler":
        inputs = ["low", "high", "history", "count", "seed"]
    elif isinstance(part, LossSection) and part.step:
        inputs = ["model", "batch"]
    elif section == "loss" and not inspect.isclass(function):  # the batch decides what else it gets
        positional = [p for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY]
        inputs = [p.name for p in positional if p.default is p.empty and p.name not in args]
    try:
        signature.bind(*inputs, **args)
    except TypeError as error:
        call = f" is called with {listed(inputs)}" if inputs else ""
        raise UsageError(f"{section}: {name}{call}: {error}") from None
    if section == "optimizer" and name in OPTIMIZERS:
        _call(section, name, function, args)


def import_part(section: str, name: str) -> Any:
    """Return the object that a name stands for: a name in the registry, or an import path.

    Raises:
        UsageError: if there is no such object; the message gives the section and what is wrong with the name.
    """
    try:
        return resolve(import_path(section, name))
    except UsageError as error:
        raise UsageError(f"{section}: {error}") from error


def make_model(section: Component, make: Callable[..., Any], sizes: dict[str, Any]) -> nn.Module:
    """Call a model's class or function with its args and with sizes of the data.

    A size is passed if the class or function has an argument of that name and the model's args do not set it.

    Raises:
        UsageError: if the call fails, or does not return a module.
    """
    if not callable(make):
        raise UsageError(
            f"model: '{section.name}' is of type {type(make).__name__}; name a class or a function."
        )
    if isinstance(make, nn.Module):
        raise UsageError(
            f"model: '{section.name}' is a module that exists already; name its class, or a function that"
            " creates it, so that every seed can have its own."
        )
    parameters = inspect.signature(make).parameters
    size_names = [name for name in SIZES if name in parameters]
    missing = [name for name in size_names if name not in section.args and name not in sizes]
    missing = [name for name in missing if parameters[name].default is inspect.Parameter.empty]
    sequences = {"step_features", "vocabulary"}
    if sequences <= {*size_names} and not sequences & {*section.args, *sizes}:  # one of the two is enough
        missing = ["step_features or vocabulary"]
    if missing:
        kind, models = _kind_and_models(sizes)
        alternative = f", or use a model for {kind}: {models}" if models else ""
        raise UsageError(
            f"model: the data does not determine {missing[0]} of '{section.name}'; set it in"
            f" model.args{alternative}."
        )
    arguments = {name: sizes[name] for name in size_names if name in sizes}
    model = _call("model", section.name, make, arguments | section.args)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"model: '{section.name}' returned an object of type {type(model).__name__}, not a torch module."
        )
    if ":" not in section.name and _takes_channels_last(model):  # a user's model may call `view`
        model.to(memory_format=torch.channels_last)
    return model


def _takes_channels_last(model: nn.Module) -> bool:
    """Return whether a model has convolutions of images, and all of them are safe on channels-last images.

    oneDNN writes past its memory for the gradient of a strided 1x1 convolution of such images, if they have
    fewer channels than a vector register has numbers (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return bool(convolutions) and not any(
        module.kernel_size == (1, 1) and max(module.stride) > 1 and module.in_channels < VECTOR_NUMBERS
        for module in convolutions
    )


def make_stream(experiment: Experiment, device: torch.device, held_out: bool) -> tuple[Stream, Any]:
    """Return the stream of the batches, and the held-out batch if `held_out` is true.

    Raises:
        UsageError: if the data cannot be created, or its first batch cannot be read.
    """
    section = experiment.data
    # A data set that is drawn at random is the same after `resume`.
    reseed(child_seed(experiment.seed, "order"))
    data = _make_data(section)
    try:
        with as_exception():
            result = stream(data, section, experiment.seed, device)
            return result, _held_out_batch(result) if held_out else None
    except LrfindError:
        raise
    except Exception as error:  # anything may go wrong in a user's data set
        raise UsageError(
            f"data: reading the first batch of '{section.name}' failed: {in_one_line(error)}"
        ) from error


def _held_out_batch(data: Stream) -> Any:
    if data.validation is None:
        raise UsageError(
            "range_test.held_out: the data has no validation part for the held-out batch; give a pair"
            " (train, validation)."
        )
    return next(data.validation())


def make_loss(section: LossSection, device: torch.device) -> LossFn | OwnLoss:
    """Return a loss: an instance of the named class, or the named function, with the args of `section`.

    Raises:
        UsageError: if the call fails, or it sums over rows: validation batches have more rows than others.
    """
    loss = import_part("loss", section.path)
    if section.step is not None:
        return OwnLoss(partial(loss, **section.args))
    arguments = _with_class_weights(loss, section.args, device)
    if not inspect.isclass(loss):
        return partial(loss, **arguments) if arguments else cast(LossFn, loss)
    instance = _call("loss", section.path, loss, arguments)
    if getattr(instance, "reduction", None) == "sum":
        raise UsageError(
            f"loss: {section.path} has `reduction: sum`, so batches with more rows have higher losses, and"
            " those of training and validation cannot be compared; leave it out. For sgd, multiply the lr by"
            " the number of rows in a batch."
        )
    return instance.to(device) if isinstance(instance, nn.Module) else cast(LossFn, instance)


def _with_class_weights(loss: Any, args: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the args of a loss. torch's losses take the weights of classes as tensors, so lists become some.

    Raises:
        UsageError: if the weights are no numbers with which a loss can be lowered.
    """
    made_by = loss.__init__ if inspect.isclass(loss) else loss  # a user's class may have that of torch
    if not str(getattr(made_by, "__module__", "")).startswith("torch.nn."):
        return {**args}
    given = {name: args[name] for name in CLASS_WEIGHTS if args.get(name) is not None}
    return {**args, **{name: _class_weights(name, value).to(device) for name, value in given.items()}}


def _class_weights(name: str, values: Any) -> Tensor:
    numbers = torch.zeros(0)
    if isinstance(values, list):
        with suppress(TypeError, ValueError, RuntimeError):  # torch raises any of these for what is no number
            numbers = torch.tensor(values, dtype=torch.float32)
    if not (numbers.any() and numbers.isfinite().all() and (numbers >= 0).all()):
        raise UsageError(
            f"loss: {name} must be a list of numbers, one for each class, none negative and not all 0; found"
            f" {values!r:.80}."
        )
    return numbers


def make_optimizer(experiment: Experiment, make: Any, model: nn.Module) -> torch.optim.Optimizer:
    """Call an optimizer's class or function with the model's parameters, in their groups.

    Raises:
        UsageError: if the call fails, does not return an optimizer, or returns one that raises the loss.
    """
    section = experiment.optimizer
    if not any(p.requires_grad for p in model.parameters()):
        raise UsageError(f"model: '{experiment.model.name}' has no parameters to train.")
    arguments: dict[str, Any] = {"params": param_groups(section, model), "lr": section.lr}
    row, others = optimizer_of(make), {"foreach", "capturable", "differentiable"}
    if row is not None and row.fused and not others & {*section.args} and _allows_fused(model):
        arguments["fused"] = True  # one kernel per step, which saves 0.1 to 0.5 ms on a small model
    optimizer = _call("optimizer", section.name, make, arguments | section.args)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(
            f"optimizer: '{section.name}' returned an object of type"
            f" {type(optimizer).__name__}, not a torch optimizer."
        )
    refuse_ascent(optimizer, f"optimizer: '{section.name}'")
    return optimizer


def _allows_fused(model: nn.Module) -> bool:
    """Return whether torch's fused optimizers take a model: no complex parameters, no sparse gradients."""
    sparse = any(getattr(module, "sparse", False) for module in model.modules())
    return not sparse and all(parameter.is_floating_point() for parameter in model.parameters())


def refuse_ascent(optimizer: torch.optim.Optimizer, name: str) -> None:
    """Refuse an optimizer that raises the loss, because every command looks for lrs that lower it.

    Args:
        optimizer: the optimizer to check.
        name: what the message calls it.
    """
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise UsageError(
            f"{name} has maximize=True, so its steps raise the loss, but lrfind looks for lrs that lower it;"
            " leave maximize out, and give the negative of the objective as the loss."
        )


def _kind_and_models(sizes: Mapping[str, Any]) -> tuple[str, str]:
    """Return the kind of the inputs, and the built-in models for them; both are empty for an unknown kind."""
    if "image_size" in sizes:
        return "images", "small_cnn, small_resnet, lenet, torchvision, mlp"
    if "vocabulary" in sizes:
        return "tokens", "transformer, lstm, gru, rnn"
    if "step_features" in sizes:
        return "sequences of numbers", "lstm, gru, rnn"
    return ("rows of numbers", "linear, logistic, mlp, deep_mlp") if "in_features" in sizes else ("", "")


def _call(section: str, name: str, make: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    if not callable(make):
        raise UsageError(f"{section}: '{name}' is of type {type(make).__name__} and cannot be called.")
    try:
        with as_exception():
            return make(**arguments)
    except LrfindError:
        raise
    except Exception as error:
        text = ", ".join(f"{key}={value!r}" for key, value in arguments.items() if key != "params")
        raise UsageError(f"{section}: {name}({text[:200]}) failed: {in_one_line(error)}") from error


def _make_data(section: DataSection) -> Any:
    data = import_part("data", section.name)
    if callable(data) and not isinstance(data, Dataset | DataLoader):
        data = _call("data", section.name, data, _args_with_validation(section))
    return data


def _args_with_validation(section: DataSection) -> dict[str, Any]:
    """Return the args of a data set; a built-in one gets `data.validation` as its argument `validation`."""
    if section.validation is None or ":" in section.name:
        return section.args
    source = definition(import_path("data", section.name))
    parameter = source.signature.parameters.get("validation") if source and source.signature else None
    if parameter is None or parameter.annotation != "float":
        raise UsageError(
            f"data.validation: '{section.name}' has a validation split of its own; leave data.validation out."
        )
    if "validation" in section.args:
        raise UsageError("data.validation: the share is also set in data.args.validation; give only one.")
    return section.args | {"validation": section.validation}
