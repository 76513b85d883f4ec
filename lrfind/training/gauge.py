"""The gauge: looks at every layer's gradient, weights and update, at some steps of a lane or a stack."""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from lrfind.analysis.curves import Array
from lrfind.analysis.health import LayerHealth
from lrfind.errors import in_one_line, printable

MEMORY = 4  # a unit is dead after this many looks without gradient, since one batch may just not activate it
ROOT = "(model)"  # the name of the layer for parameters that belong to the model itself
MOST_WAITING = 2**19  # the most numbers that wait for later looks, to be measured together with these
NO_MATRIX = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)
WITH_UNITS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
MEASURED = LayerHealth._fields[LayerHealth._fields.index("grad_norm") :]


@dataclass(frozen=True)
class _Layer:
    """A module with parameters of its own.

    Attributes:
        name: the name of the module.
        size: the number of numbers in its parameters.
        matrix: see `LayerHealth`.
        trained: the full names of its parameters that the optimizer has.
        sizes: the number of numbers in each of these.
        units: the number of units of a linear or convolutional layer, where each unit is one row of every
            trained parameter; 0 for other layers.
    """

    name: str
    size: int
    matrix: bool
    trained: Sequence[str]
    sizes: Sequence[int]
    units: int


@dataclass
class _Look:
    """The tensors of one step, with all trained weights of a lane in one row (K, N).

    Attributes:
        step: the number of the step.
        weights: the weights before the update.
        gradients: the gradients before anything changes them; 0 where there is none.
        has_gradient: for each trained layer, whether any gradient arrives at it.
        update: the change of the weights by the update; None until the update is done.
    """

    step: int
    weights: Tensor
    gradients: Tensor
    has_gradient: Sequence[bool]
    update: Tensor | None = None


@dataclass
class Gauge:
    """Looks at the layers of one lane, or of each of K lanes of a stack.

    Tensors have a leading axis of lanes (K, ...) and are passed as mappings from parameter names. A look
    copies the weights, their gradients and their update. The measurements are computed for several looks
    together, because on small models the time depends on the number of operations.

    Attributes:
        model: the model that has the layers.
        trained: the names of the parameters that the optimizer has.
        steps: the steps at which it looks.
        clip_norm: see `lrfind.problem.setup.Recipe`.
        clip_value: see there.
        awake: for each of the last few looks, an array (K, units) that marks the units with a gradient, of
            all layers.
    """

    model: nn.Module
    trained: Container[str]
    steps: Container[int]
    clip_norm: float | None = None
    clip_value: float | None = None
    awake: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._looks: list[_Look] = []
        self._tables: list[tuple[int, Array]] = []  # step, (K, L, len(MEASURED)); NaN: not measured

    @cached_property
    def _layers(self) -> list[_Layer]:  # read at the first look: before it, a lazy layer has no shape
        return _layers_of(self.model, self.trained)

    @cached_property
    def _trained_layers(self) -> list[_Layer]:
        return [layer for layer in self._layers if layer.trained]

    @property
    def awaits_update(self) -> bool:
        """Return whether the last look still waits for the update of its step."""
        return bool(self._looks) and self._looks[-1].update is None

    def look(
        self, step: int, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]
    ) -> None:
        """Look at a step whose gradients are computed, before anything changes them."""
        with self._looks_end_on_failure():
            self._look(step, parameters, gradients)

    def _look(
        self, step: int, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]
    ) -> None:
        if not self._trained_layers:  # the optimizer only has parameters of the loss
            return
        has_gradient, dense = [], []
        for layer in self._trained_layers:
            has_gradient.append(any(gradients[name] is not None for name in layer.trained))
            dense += [_dense(gradients[name], parameters[name]) for name in layer.trained]
        self._looks.append(_Look(step, self._flat(parameters), _in_a_row(dense), has_gradient))

    def updated(self, parameters: Mapping[str, Tensor]) -> None:
        """Complete the last look, after the optimizer has made the update of its step."""
        with self._looks_end_on_failure():
            last = self._looks[-1]
            last.update = self._flat(parameters).sub_(last.weights)
            if len(self._looks) * last.weights.numel() > MOST_WAITING:
                self._measure()

    def keep(self, index: Sequence[int]) -> None:
        """Keep only the lanes at these places of the stack. Call `take` first, for the looks so far."""
        self.awake = [units[[*index]] for units in self.awake]

    def take(self) -> list[list[LayerHealth]]:
        """Return each lane's rows of the looks since the last call; an empty list if there was no look."""
        with self._looks_end_on_failure():
            self._measure()
        tables, self._tables = self._tables, []
        lanes = len(tables[0][1]) if tables else 0
        return [[row for step, table in tables for row in self._rows(step, table[k])] for k in range(lanes)]

    @contextmanager
    def _looks_end_on_failure(self) -> Iterator[None]:
        """End the looks, with a warning, if the block fails, for example for lack of memory.

        A failed look must not end the training.
        """
        try:
            yield
        except Exception as error:
            self.steps, self._looks = (), []
            reason = in_one_line(error, most=200)
            message = f"there are no further looks at the layers, because one failed: {reason}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _rows(self, step: int, table: Array) -> list[LayerHealth]:
        """Turn one lane's look (L, len(MEASURED)) into rows, with empty rows for the layers not trained."""
        measured = iter(table.tolist())
        rows = []
        for layer in self._layers:
            values = next(measured) if layer.trained else [math.nan] * len(MEASURED)
            columns = [None if math.isnan(value) else value for value in values]
            trained = bool(layer.trained)
            rows.append(LayerHealth(step, printable(layer.name), layer.size, trained, layer.matrix, *columns))
        return rows

    def _flat(self, parameters: Mapping[str, Tensor]) -> Tensor:
        return _in_a_row([parameters[name] for layer in self._trained_layers for name in layer.trained])

    def _measure(self) -> None:
        """Turn the M waiting looks into tables."""
        looks, self._looks = self._looks, []
        if not looks:
            return
        lanes, column = len(looks[0].weights), {name: place for place, name in enumerate(MEASURED)}
        gradients = self._by_layer([look.gradients for look in looks])  # L tensors (M K, n)
        weights = self._by_layer([look.weights for look in looks])
        updates = [
            torch.full_like(look.weights, torch.nan) if look.update is None else look.update for look in looks
        ]
        zeros = [1 - part.sign().abs_().mean(dim=1) for part in gradients]  # counting zeros is slower
        norms = [*_norms(gradients), *_norms(weights), *_norms(self._by_layer(updates))]
        columns = _host([*norms, *zeros])
        grad_norm, weight_norm, update_norm, zero_share = np.split(columns, 4, axis=1)  # (M K, L)
        nonfinite = ~np.isfinite(grad_norm)
        table = np.full((*grad_norm.shape, len(MEASURED)), np.nan)
        table[:, :, column["grad_norm"]] = np.where(nonfinite, np.inf, grad_norm)
        table[:, :, column["zero_share"]] = zero_share
        table[:, :, column["nonfinite_share"]] = 0.0
        if nonfinite.any():
            table[:, :, column["nonfinite_share"]] = _shares([~part.isfinite() for part in gradients])
        if self.clip_norm is not None or self.clip_value is not None:
            table[:, :, column["clipped_share"]] = self._clipped(gradients, grad_norm)
        table[:, :, column["dead_share"]] = self._dead(gradients, lanes)
        table[np.repeat(~np.array([look.has_gradient for look in looks]), lanes, axis=0)] = np.nan
        table[:, :, column["weight_norm"]] = weight_norm
        with np.errstate(divide="ignore", invalid="ignore"):  # where the weights are all 0
            ratio = update_norm / weight_norm
        table[:, :, column["update_ratio"]] = np.where(np.isfinite(ratio), ratio, np.nan)
        self._tables += zip([look.step for look in looks], np.split(table, len(looks)), strict=True)

    def _by_layer(self, flat: Sequence[Tensor]) -> Sequence[Tensor]:
        """Turn M tensors (K, N) into L tensors (M K, n), one for each trained layer."""
        sizes = [sum(layer.sizes) for layer in self._trained_layers]
        parts: Sequence[Tensor] = torch.split(torch.cat([*flat]) if len(flat) > 1 else flat[0], sizes, dim=1)
        return parts

    def _dead(self, gradients: Sequence[Tensor], lanes: int) -> Array:
        """Return the share (M K, L) of each layer's units that had no gradient in the last few looks."""
        shares = np.full((len(gradients[0]), len(gradients)), np.nan)
        with_units = [place for place, layer in enumerate(self._trained_layers) if layer.units]
        if not with_units:
            return shares
        rows = [_awake(gradients[place], self._trained_layers[place]) for place in with_units]
        awake = np.split(torch.cat(rows, dim=1).cpu().numpy(), len(shares) // lanes)  # M arrays (K, units)
        borders = np.cumsum([row.shape[1] for row in rows])[:-1]
        for number, units in enumerate(awake):
            self.awake = [*self.awake[1 - MEMORY :], units]
            recently = np.any(self.awake, axis=0)
            for place, layer_units in zip(with_units, np.split(recently, borders, axis=1), strict=True):
                shares[number * lanes : (number + 1) * lanes, place] = 1 - layer_units.mean(axis=1)
        return shares

    def _clipped(self, gradients: Sequence[Tensor], norms: Array) -> Array:
        """Return the share (M K, L) of each layer's gradient that clipping changes."""
        shares = np.zeros_like(norms)
        if self.clip_value is not None:
            shares = _shares([part.abs() > self.clip_value for part in gradients])
            norms = _host(_norms([part.clamp(-self.clip_value, self.clip_value) for part in gradients]))
        if self.clip_norm is not None:
            shares[np.sqrt((norms**2).sum(axis=1)) > self.clip_norm] = 1.0
        return shares


def _layers_of(model: nn.Module, trained: Container[str]) -> list[_Layer]:
    """List the modules with parameters of their own; a shared parameter counts where it comes first."""
    layers = []
    seen: set[int] = set()
    for name, module in model.named_modules():
        parameters = {
            f"{name}.{key}" if name else key: parameter
            for key, parameter in module.named_parameters(recurse=False)
            if id(parameter) not in seen
        }
        seen |= {id(parameter) for parameter in parameters.values()}
        trained_parameters = {key: parameter for key, parameter in parameters.items() if key in trained}
        size = sum(parameter.numel() for parameter in parameters.values())
        row_counts = {len(parameter) if parameter.ndim else 0 for parameter in trained_parameters.values()}
        if size:
            layers.append(
                _Layer(
                    name=name or ROOT,
                    size=size,
                    matrix=any(p.ndim > 1 for p in parameters.values()) and not isinstance(module, NO_MATRIX),
                    trained=[*trained_parameters],
                    sizes=[p.numel() * (1 + p.is_complex()) for p in trained_parameters.values()],
                    units=max(row_counts) if len(row_counts) == 1 and isinstance(module, WITH_UNITS) else 0,
                )
            )
    return layers


def _dense(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    """Return a gradient as a dense tensor in the shape of its parameter; zeros where there is none."""
    if gradient is None:
        return torch.zeros_like(parameter)
    return gradient.to_dense() if gradient.is_sparse else gradient


def _in_a_row(tensors: Sequence[Tensor]) -> Tensor:
    """Copy all numbers of tensors (K, ...) into one row per lane, (K, N)."""
    real = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors]
    rows = [tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None] for tensor in real]
    return torch.cat([row.to(rows[0].device) for row in rows], dim=1)


def _awake(gradient: Tensor, layer: _Layer) -> Tensor:
    """Return which units of a layer have a gradient (R, units), from its gradients in rows (R, n)."""
    parts = torch.split(gradient, list(layer.sizes), dim=1)
    shapes = [(len(part), layer.units, part.shape[1] // layer.units) for part in parts]
    rows = [torch.linalg.vector_norm(p.reshape(s), dim=2) for p, s in zip(parts, shapes, strict=True)]
    return torch.stack([row != 0 for row in rows]).any(dim=0)


def _norms(parts: Sequence[Tensor]) -> list[Tensor]:
    """Return the Euclidean norm (R,) of each row of each tensor (R, n)."""
    return [torch.linalg.vector_norm(part, dim=1) for part in parts]


def _shares(marked: Sequence[Tensor]) -> Array:
    """Return the share (R, L) of true values in each row of L tensors (R, n)."""
    return _host([part.float().mean(dim=1) for part in marked])


def _host(columns: Sequence[Tensor]) -> Array:
    """Return columns (R,) as a table in host memory."""
    table: Array = torch.stack([*columns], dim=1).cpu().double().numpy()
    return table
