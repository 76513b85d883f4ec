"""The gauge: looks at every layer's gradient, weights and update, at some steps of a lane or of a stack."""

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

MEMORY = 4  # looks over which a unit must pass no gradient to be dead: one batch may just not wake it
ROOT = "(model)"  # the layer of parameters that the model itself has
HELD = 2**22  # numbers that may wait to be measured together with those of later looks
NO_MATRIX = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)
WITH_UNITS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
MEASURED = LayerHealth._fields[LayerHealth._fields.index("grad_norm") :]


@dataclass(frozen=True)
class _Layer:
    """A module with parameters of its own, these by their full names.

    Attributes:
        name: of the module.
        size: how many numbers it has.
        matrix: see `LayerHealth`.
        trained: those that the optimizer has.
        sizes: how many numbers each of these has.
        units: of a linear or convolutional layer, each a row of all its trained parameters; else 0.
    """

    name: str
    size: int
    matrix: bool
    trained: Sequence[str]
    sizes: Sequence[int]
    units: int


@dataclass
class _Look:
    """What was taken at one step, all trained weights in a row (K, N).

    Attributes:
        step: its number.
        weights: before the update.
        gradients: as they are before anything is done to them; 0 where none arrives.
        arrives: of each layer that learns, whether any gradient does.
        moved: what the update changed; None until it is done.
    """

    step: int
    weights: Tensor
    gradients: Tensor
    arrives: Sequence[bool]
    moved: Tensor | None = None


@dataclass
class Gauge:
    """Looks at the layers of one lane, or of each of K lanes of a stack.

    Tensors are given with a leading axis of lanes (K, ...), by their parameters' names. A look copies the
    weights, their gradients and their update; what these amount to is computed for several looks together,
    since on small models the number of operations is what costs.

    Attributes:
        model: whose layers they are.
        trained: names of the parameters that the optimizer has.
        steps: at which it looks.
        clip_norm: see `lrfind.training.loop.Recipe`.
        clip_value: see there.
        awake: at each of the last few looks, which units of all layers had a gradient (K, units).
    """

    model: nn.Module
    trained: Container[str]
    steps: Container[int]
    clip_norm: float | None = None
    clip_value: float | None = None
    awake: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._looks: list[_Look] = []
        self._seen: list[tuple[int, Array]] = []  # step, (K, L, len(MEASURED)); NaN where there is nothing

    @cached_property
    def _layers(self) -> list[_Layer]:  # not known before the first step: a lazy layer has no shape
        return _layers_of(self.model, self.trained)

    @cached_property
    def _learning(self) -> list[_Layer]:
        return [layer for layer in self._layers if layer.trained]

    @property
    def awaits(self) -> bool:
        """Whether the update of the step that it looked at last is still to be seen."""
        return bool(self._looks) and self._looks[-1].moved is None

    def look(
        self, step: int, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]
    ) -> None:
        """Look at a step whose gradients are there, before anything is done to them."""
        with self._going_blind():
            self._look(step, parameters, gradients)

    def _look(
        self, step: int, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]
    ) -> None:
        if not self._learning:  # the optimizer has parameters of the loss alone
            return
        arrives, found = [], []
        for layer in self._learning:
            arrives.append(any(gradients[name] is not None for name in layer.trained))
            found += [_dense(gradients[name], parameters[name]) for name in layer.trained]
        self._looks.append(_Look(step, self._flat(parameters), _in_a_row(found), arrives))

    def updated(self, parameters: Mapping[str, Tensor]) -> None:
        """See what the step that was looked at did, once it is done."""
        with self._going_blind():
            last = self._looks[-1]
            last.moved = self._flat(parameters).sub_(last.weights)
            if len(self._looks) * last.weights.numel() > HELD:
                self._measure()

    def keep(self, index: Sequence[int]) -> None:
        """Go on with the lanes at these places of the stack alone; what was seen must be taken before."""
        self.awake = [units[[*index]] for units in self.awake]

    def take(self) -> list[list[LayerHealth]]:
        """What was seen of each lane since it was last asked; of no lane if nothing was."""
        with self._going_blind():
            self._measure()
        seen, self._seen = self._seen, []
        lanes = len(seen[0][1]) if seen else 0
        return [[row for step, table in seen for row in self._rows(step, table[k])] for k in range(lanes)]

    @contextmanager
    def _going_blind(self) -> Iterator[None]:
        """An observer ends no training: a failure inside, as of lack of memory, ends the looks alone."""
        try:
            yield
        except Exception as error:
            self.steps, self._looks = (), []
            told = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            warnings.warn(f"the layers are looked at no more: {told}", RuntimeWarning, stacklevel=2)

    def _rows(self, step: int, table: Array) -> list[LayerHealth]:
        """One lane's look (L, len(MEASURED)), with the layers that do not learn among the others."""
        measured = iter(table.tolist())
        rows = []
        for layer in self._layers:
            values = next(measured) if layer.trained else [math.nan] * len(MEASURED)
            known = [None if math.isnan(value) else value for value in values]
            trained = bool(layer.trained)
            rows.append(LayerHealth(step, layer.name, layer.size, trained, layer.matrix, *known))
        return rows

    def _flat(self, parameters: Mapping[str, Tensor]) -> Tensor:
        return _in_a_row([parameters[name] for layer in self._learning for name in layer.trained])

    def _measure(self) -> None:
        """Turn the M looks that wait into tables."""
        looks, self._looks = self._looks, []
        if not looks:
            return
        lanes, column = len(looks[0].weights), {name: place for place, name in enumerate(MEASURED)}
        gradients = self._by_layer([look.gradients for look in looks])  # each (M K, n)
        weights = self._by_layer([look.weights for look in looks])
        undone = torch.full_like(looks[0].weights, torch.nan)
        moved = [undone if look.moved is None else look.moved for look in looks]
        zeros = [1 - part.sign().abs_().mean(dim=1) for part in gradients]  # counting is slower
        norms = [*_norms(gradients), *_norms(weights), *_norms(self._by_layer(moved))]
        grad_norm, weight_norm, update, share = np.split(_host([*norms, *zeros]), 4, axis=1)  # (M K, L)
        wild = ~np.isfinite(grad_norm)
        table = np.full((*grad_norm.shape, len(MEASURED)), np.nan)
        table[:, :, column["grad_norm"]] = np.where(wild, np.inf, grad_norm)
        table[:, :, column["zero_share"]] = share
        table[:, :, column["nonfinite_share"]] = 0.0
        if wild.any():
            table[:, :, column["nonfinite_share"]] = _shares([~part.isfinite() for part in gradients])
        if self.clip_norm is not None or self.clip_value is not None:
            table[:, :, column["clipped_share"]] = self._clipped(gradients, grad_norm)
        table[:, :, column["dead_share"]] = self._dead(gradients, lanes)
        table[np.repeat(~np.array([look.arrives for look in looks]), lanes, axis=0)] = np.nan
        table[:, :, column["weight_norm"]] = weight_norm
        with np.errstate(divide="ignore", invalid="ignore"):  # of weights that were 0
            ratio = update / weight_norm
        table[:, :, column["update_ratio"]] = np.where(np.isfinite(ratio), ratio, np.nan)
        self._seen += zip([look.step for look in looks], np.split(table, len(looks)), strict=True)

    def _by_layer(self, flat: Sequence[Tensor]) -> Sequence[Tensor]:
        """M tensors (K, N) as L tensors (M K, n), one for each layer that learns."""
        sizes = [sum(layer.sizes) for layer in self._learning]
        parts: Sequence[Tensor] = torch.split(torch.cat([*flat]) if len(flat) > 1 else flat[0], sizes, dim=1)
        return parts

    def _dead(self, gradients: Sequence[Tensor], lanes: int) -> Array:
        """Share (M K, L) of each layer's units without gradient at all of the last few looks."""
        shares = np.full((len(gradients[0]), len(gradients)), np.nan)
        owners = [place for place, layer in enumerate(self._learning) if layer.units]
        if not owners:
            return shares
        rows = [_awake(gradients[place], self._learning[place]) for place in owners]
        awake = np.split(torch.cat(rows, dim=1).cpu().numpy(), len(shares) // lanes)  # M times (K, units)
        borders = np.cumsum([row.shape[1] for row in rows])[:-1]
        for number, units in enumerate(awake):
            self.awake = [*self.awake[1 - MEMORY :], units]
            lately = np.any(self.awake, axis=0)
            for place, own in zip(owners, np.split(lately, borders, axis=1), strict=True):
                shares[number * lanes : (number + 1) * lanes, place] = 1 - own.mean(axis=1)
        return shares

    def _clipped(self, gradients: Sequence[Tensor], norms: Array) -> Array:
        """Share (M K, L) of each layer's gradient that clipping changes."""
        shares = np.zeros_like(norms)
        if self.clip_value is not None:
            shares = _shares([part.abs() > self.clip_value for part in gradients])
        if self.clip_norm is not None:
            shares[np.sqrt((norms**2).sum(axis=1)) > self.clip_norm] = 1.0
        return shares


def _layers_of(model: nn.Module, trained: Container[str]) -> list[_Layer]:
    """The modules with parameters of their own; one that is shared counts where it comes first."""
    layers = []
    seen: set[int] = set()
    for name, module in model.named_modules():
        own = {
            f"{name}.{key}" if name else key: parameter
            for key, parameter in module.named_parameters(recurse=False)
            if id(parameter) not in seen
        }
        seen |= {id(parameter) for parameter in own.values()}
        learning = {key: parameter for key, parameter in own.items() if key in trained}
        size = sum(parameter.numel() for parameter in own.values())
        by_row = {len(parameter) if parameter.ndim else 0 for parameter in learning.values()}
        if size:
            layers.append(
                _Layer(
                    name=name or ROOT,
                    size=size,
                    matrix=any(p.ndim > 1 for p in own.values()) and not isinstance(module, NO_MATRIX),
                    trained=[*learning],
                    sizes=[p.numel() * (1 + p.is_complex()) for p in learning.values()],
                    units=max(by_row) if len(by_row) == 1 and isinstance(module, WITH_UNITS) else 0,
                )
            )
    return layers


def _dense(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    """A gradient as numbers in the shape of its parameter."""
    if gradient is None:
        return torch.zeros_like(parameter)
    return gradient.to_dense() if gradient.is_sparse else gradient


def _in_a_row(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers of tensors (K, ...) in a row a lane, (K, N); a copy."""
    real = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors]
    rows = [tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None] for tensor in real]
    return torch.cat([row.to(rows[0].device) for row in rows], dim=1)


def _awake(gradient: Tensor, layer: _Layer) -> Tensor:
    """Which units of a layer have a gradient, (R, units), from that of its parameters in a row (R, n)."""
    parts = torch.split(gradient, list(layer.sizes), dim=1)
    shapes = [(len(part), layer.units, part.shape[1] // layer.units) for part in parts]
    rows = [torch.linalg.vector_norm(p.reshape(s), dim=2) for p, s in zip(parts, shapes, strict=True)]
    return torch.stack([row != 0 for row in rows]).any(dim=0)


def _norms(parts: Sequence[Tensor]) -> list[Tensor]:
    """The Euclidean norm (R,) of each row of tensors (R, n)."""
    return [torch.linalg.vector_norm(part, dim=1) for part in parts]


def _shares(marked: Sequence[Tensor]) -> Array:
    """The share (R, L) of the numbers that are marked, in each row of L tensors (R, n) of truth values."""
    return _host([part.float().mean(dim=1) for part in marked])


def _host(columns: Sequence[Tensor]) -> Array:
    """Columns (R,) as a table."""
    found: Array = torch.stack([*columns], dim=1).cpu().double().numpy()
    return found
