"""Problems: how to set up a lane, from a config or from objects that exist already."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from lrfind.arguments import SIZES
from lrfind.batches import LossFn, loader_batches, tensor_batches, to_device
from lrfind.catalog import CATALOGS, DATASETS, LOSSES, MODELS, OPTIMIZERS
from lrfind.config import Component, Experiment
from lrfind.datasets.tensors import TensorData, split
from lrfind.errors import LrfindError, UsageError
from lrfind.preserve import Snapshot
from lrfind.registry import import_path, resolve
from lrfind.train import Setup

FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
"""Optimizers made with fused=True: one kernel a step, which saves 0.1 to 0.5 ms on a small model."""

PROBE_ROWS = 256  # of the validation split, for the fixed probe batch


@dataclass(frozen=True)
class Problem:
    """Something to train: from a seed to a lane's parts, always the same ones for the same seed.

    Attributes:
        setup: from a seed to fresh parts. The parts of one lane are used up before the next are made.
        device: where it trains.
    """

    setup: Callable[[int], Setup]
    device: torch.device


def from_objects(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: LossFn | None,
    loader: Iterable[Any],
    snapshot: Snapshot,
    probe: Any = None,
) -> Problem:
    """A problem made of a user's own objects, which every lane starts from as `snapshot` found them.

    Seeds vary the batch order and the dropout; the initial weights are the model's.
    """
    if iter(loader) is loader:
        raise UsageError(
            "the loader is an iterator, which can be read only once; give the DataLoader (or a list of"
            " batches) itself."
        )
    first = next(model.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")

    def setup(seed: int) -> Setup:
        snapshot.restore()
        snapshot.clear_grads()
        snapshot.reseed(seed)
        if not model.training:
            model.train()
        batches = loader_batches(loader, device)
        return Setup(model, optimizer, loss_fn, batches, to_device(probe, device))

    return Problem(setup, device)


def from_config(experiment: Experiment, *, probe: bool = False) -> Problem:
    """The problem that a config describes; its data is loaded here, once for all lanes.

    Args:
        experiment: the config.
        probe: also set a fixed batch of held-out rows aside.

    Raises:
        UsageError: if a part cannot be made as described.
    """
    device = choose_device(experiment.device)
    loss_fn = None if experiment.loss is None else _make_loss(experiment.loss, device)
    stream = _stream(experiment, device)
    sizes = sizes_of(stream.example)
    make_model = _resolve("model", experiment.model.name, MODELS)
    make_optimizer = _resolve("optimizer", experiment.optimizer.name, OPTIMIZERS)
    probe_batch = stream.probe() if probe else None

    def setup(seed: int) -> Setup:
        torch.manual_seed(seed)
        model = make_named_model(experiment.model, make_model, sizes).to(device)
        if any(isinstance(module, nn.Conv2d) for module in model.modules()):
            model.to(memory_format=torch.channels_last)
        optimizer = _make_optimizer(experiment, make_optimizer, model)
        torch.manual_seed(seed)  # dropout masks do not depend on how many numbers the model drew
        return Setup(model, optimizer, loss_fn, stream.batches(seed), probe_batch)

    return Problem(setup, device)


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


def sizes_of(batch: Any) -> dict[str, Any]:
    """What a model's sizes would be for this batch: the arguments of `SIZES` that it tells.

    Integer targets are classes; the caller sees to it that the highest one is in the batch.
    """
    if not (isinstance(batch, tuple | list) and all(isinstance(part, Tensor) for part in batch)):
        return {}
    x, y = batch[0], batch[-1]
    sizes: dict[str, Any] = {"in_features": math.prod(x.shape[1:])}
    if x.ndim == 4:
        sizes |= {"in_channels": x.shape[1], "image_size": tuple(x.shape[2:])}
    if y.is_floating_point():
        sizes["out_features"] = math.prod(y.shape[1:])
    elif y.ndim == 1:
        sizes["out_features"] = int(y.max()) + 1
    return sizes


def make_named_model(section: Component, make: Callable[..., Any], sizes: dict[str, Any]) -> nn.Module:
    """Call a model's class or function with its args, and with the sizes that it asks for and lacks.

    Raises:
        UsageError: if that fails, or does not give a module.
    """
    if isinstance(make, nn.Module):
        raise UsageError(
            f"model: '{section.name}' is a module that exists already; name its class, or a function that"
            " makes it, so that every seed can have its own."
        )
    wanted = [name for name in SIZES if name in inspect.signature(make).parameters]
    missing = [name for name in wanted if name not in section.args and name not in sizes]
    defaults = inspect.signature(make).parameters
    missing = [name for name in missing if defaults[name].default is inspect.Parameter.empty]
    if missing:
        raise UsageError(
            f"model: the data does not tell {missing[0]} of '{section.name}'; give it in model.args."
        )
    given = {name: sizes[name] for name in wanted if name in sizes}
    model = _call("model", section.name, make, given | section.args)
    if not isinstance(model, nn.Module):
        raise UsageError(f"model: '{section.name}' gave a {type(model).__name__}, not a torch module.")
    return model


def import_names(experiment: Experiment) -> None:
    """Import everything that a config names, which runs the user's code.

    Raises:
        UsageError: for the first name that cannot be imported.
    """
    for section, part in (
        ("model", experiment.model),
        ("data", experiment.data),
        ("loss", experiment.loss),
        ("optimizer", experiment.optimizer),
    ):
        if part is not None:
            _resolve(section, part.name, CATALOGS[section])


def _resolve(section: str, name: str, catalog: dict[str, str]) -> Any:
    try:
        return resolve(import_path(section, name, catalog))
    except UsageError as error:
        raise UsageError(f"{section}: {error}") from error


def _call(section: str, name: str, make: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        return make(**arguments)
    except LrfindError:
        raise
    except Exception as error:
        plain = {key: value for key, value in arguments.items() if key != "params"}
        shown = ", ".join(f"{key}={value!r}" for key, value in plain.items())
        raise UsageError(
            f"{section}: {name}({shown[:200]}) failed: {type(error).__name__}: {error}"
        ) from error


def _make_loss(section: Component, device: torch.device) -> LossFn:
    loss = _resolve("loss", section.name, LOSSES)
    if not inspect.isclass(loss):
        return partial(loss, **section.args) if section.args else cast(LossFn, loss)
    made = _call("loss", section.name, loss, section.args)
    return made.to(device) if isinstance(made, nn.Module) else cast(LossFn, made)


def _make_optimizer(experiment: Experiment, make: Any, model: nn.Module) -> torch.optim.Optimizer:
    section = experiment.optimizer
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError(f"model: '{experiment.model.name}' has no parameters to train.")
    arguments: dict[str, Any] = {"params": parameters, "lr": section.lr}
    if make in FUSED and not {"foreach", "capturable", "differentiable"} & {*section.args}:
        arguments["fused"] = True
    return cast(torch.optim.Optimizer, _call("optimizer", section.name, make, arguments | section.args))


@dataclass(frozen=True)
class _Stream:
    """Training batches by seed, an example of them, and a fixed held-out batch."""

    batches: Callable[[int], Iterator[Any]]
    example: Any
    probe: Callable[[], Any]


def _stream(experiment: Experiment, device: torch.device) -> _Stream:
    section = experiment.data
    made = _resolve("data", section.name, DATASETS)
    if callable(made) and not isinstance(made, Dataset | DataLoader):
        made = _call("data", section.name, made, section.args)
    if isinstance(made, TensorDataset):
        made = split(made.tensors, section.validation, experiment.seed)
    if isinstance(made, TensorData):
        return _tensor_stream(made, section.batch_size, device)
    if isinstance(made, Dataset):
        train, held = _random_split(made, section.validation, experiment.seed)
    elif isinstance(made, DataLoader):
        train, held = made, None
    elif isinstance(made, tuple | list) and len(made) == 2:
        train, held = made
    else:
        raise UsageError(
            f"data: '{section.name}' gave a {type(made).__name__}; expected a Dataset, a pair (train,"
            " validation) of Datasets, or one or two DataLoaders."
        )
    return _loader_stream(train, held, section.batch_size, device)


def _random_split(data: Any, validation: float, seed: int) -> Any:
    try:
        rows = len(data)
    except TypeError:
        return data, None  # an iterable data set has no length: nothing is split off
    held = max(1, round(rows * validation))
    return random_split(data, [rows - held, held], torch.Generator().manual_seed(seed))


def _tensor_stream(data: TensorData, batch_size: Any, device: torch.device) -> _Stream:
    data.check()
    train = tuple(tensor.to(device) for tensor in data.train)
    rows = len(train[0]) if batch_size == "full" else batch_size
    if rows > len(train[0]):
        raise UsageError(
            f"data.batch_size: {rows} is more than the {len(train[0])} training rows; use at most that, or"
            " full."
        )
    held = tuple(tensor[:PROBE_ROWS].to(device) for tensor in data.validation)
    return _Stream(lambda seed: tensor_batches(train, rows, seed), train, lambda: held)


def _loader_stream(train: Any, held: Any, batch_size: Any, device: torch.device) -> _Stream:
    def loader(data: Any, generator: torch.Generator | None) -> Iterable[Any]:
        if not isinstance(data, Dataset):
            return data  # type: ignore[no-any-return]
        rows = len(data) if batch_size == "full" else batch_size  # type: ignore[arg-type]
        if generator is None or not hasattr(data, "__len__"):
            return DataLoader(data, batch_size=rows)
        return DataLoader(data, rows, shuffle=True, drop_last=len(data) >= rows, generator=generator)

    def batches(seed: int) -> Iterator[Any]:
        own = getattr(train, "generator", None)
        if isinstance(own, torch.Generator):
            own.manual_seed(seed)
        return loader_batches(loader(train, torch.Generator().manual_seed(seed)), device)

    def probe() -> Any:
        if held is None:
            raise UsageError(
                "range_test.probe: the data has no validation part to take a probe batch from; give a pair"
                " (train, validation)."
            )
        return next(loader_batches(loader(held, None), device))

    return _Stream(batches, next(batches(0)), probe)
