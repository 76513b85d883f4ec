"""The gauge: looks at every layer's gradient, weights and update, at some steps of a lane or of a stack."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from lrfind.curves import Array
from lrfind.health import LayerHealth

MEMORY = 4  # looks over which a unit must pass no gradient to be dead: one batch may just not wake it
MEASURED = LayerHealth._fields[LayerHealth._fields.index("grad_norm") :]


@dataclass(frozen=True)
class _Layer:
    """A module with parameters of its own, these by their full names.

    Attributes:
        name: of the module.
        weights: how many numbers it has.
        matrix: whether any parameter has two axes or more.
        trained: those that the optimizer has.
        numbers: how many of its weights are trained.
        units: weight and, where there is one, bias of a linear or convolutional layer, a row a unit.
    """

    name: str
    weights: int
    matrix: bool
    trained: Sequence[str]
    numbers: int
    units: Sequence[str]


@dataclass
class Gauge:
    """Looks at the layers of one lane, or of each of K lanes of a stack.

    All tensors that it is given have a leading axis of lanes (K, ...), and go by their parameters' names. Few
    and large tensor operations are made, of floats where truth values would do: torch is slow at these.

    Attributes:
        model: whose layers they are.
        trained: names of the parameters that the optimizer has.
        steps: at which it looks.
        clip_norm: see `lrfind.train.Recipe`.
        clip_value: see there.
        awake: at each of the last few looks, which units of all layers had a gradient (K, units).
    """

    model: nn.Module
    trained: Container[str]
    steps: Container[int]
    clip_norm: float | None = None
    clip_value: float | None = None
    awake: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._layers = _layers_of(self.model, self.trained)
        self._learning = [layer for layer in self._layers if layer.trained]
        self._seen: list[tuple[int, Array]] = []  # step, (K, L, len(MEASURED)); NaN where there is nothing
        self._before: Tensor | None = None  # (K, N) all trained weights before the update that is awaited

    @property
    def awaits(self) -> bool:
        """Whether the update of the step that it looked at last is still to be measured."""
        return self._before is not None

    def look(
        self, step: int, parameters: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]
    ) -> None:
        """Measure the gradients of a step, before anything is done to them."""
        weights = self._flat([parameters[name] for layer in self._learning for name in layer.trained])
        found = {name: gradients.get(name) for layer in self._learning for name in layer.trained}
        known = [parameters[n].new_zeros(parameters[n].shape) if g is None else g for n, g in found.items()]
        flat = self._flat([gradient.to_dense() if gradient.is_sparse else gradient for gradient in known])
        parts = self._split(flat)
        columns = dict.fromkeys(MEASURED, np.full((len(flat), len(self._learning)), np.nan))
        measured = [
            *_norms(parts),
            *_norms(self._split(weights)),
            *(p.sign().abs_().mean(dim=1) for p in parts),
        ]
        columns["grad_norm"], columns["weight_norm"], nonzero = np.split(_host(measured), 3, axis=1)
        columns["zero_share"], columns["dead_share"] = 1 - nonzero, self._dead(found)
        columns["nonfinite_share"] = np.zeros_like(columns["grad_norm"])
        if not np.isfinite(columns["grad_norm"]).all():
            columns["nonfinite_share"] = _shares([~part.isfinite() for part in parts])
            columns["grad_norm"] = np.nan_to_num(columns["grad_norm"], nan=np.inf, posinf=np.inf)
        if self.clip_norm is not None or self.clip_value is not None:
            columns["clipped_share"] = self._clipped(parts, columns["grad_norm"])
        table = np.stack([*columns.values()], axis=2)
        silent = [all(found[name] is None for name in layer.trained) for layer in self._learning]
        for name in MEASURED:
            if name != "weight_norm":
                table[:, silent, MEASURED.index(name)] = np.nan
        self._seen.append((step, table))
        self._before = weights

    def updated(self, parameters: Mapping[str, Tensor]) -> None:
        """Measure what the step that was looked at did, once it is done."""
        assert self._before is not None
        after = self._flat([parameters[name] for layer in self._learning for name in layer.trained])
        _, table = self._seen[-1]
        with np.errstate(divide="ignore", invalid="ignore"):  # of weights that were 0
            moved = _host(_norms(self._split(after - self._before)))
            ratio = moved / table[:, :, MEASURED.index("weight_norm")]
        table[:, :, MEASURED.index("update_ratio")] = ratio
        self._before = None

    def keep(self, index: Sequence[int]) -> None:
        """Go on with the lanes at these places of the stack alone."""
        self.awake = [units[[*index]] for units in self.awake]

    def take(self) -> list[list[LayerHealth]]:
        """What was seen of each lane since it was last asked; of no lane if nothing was."""
        seen, self._seen, self._before = self._seen, [], None
        lanes = len(seen[0][1]) if seen else 0
        return [[row for step, table in seen for row in self._rows(step, table[k])] for k in range(lanes)]

    def _rows(self, step: int, table: Array) -> list[LayerHealth]:
        """One lane's look (L, len(MEASURED)), with the layers that do not learn among the others."""
        measured = iter(table.tolist())
        rows = []
        for layer in self._layers:
            values = next(measured) if layer.trained else [math.nan] * len(MEASURED)
            known = [None if math.isnan(value) else value for value in values]
            trained = bool(layer.trained)
            rows.append(LayerHealth(step, layer.name, layer.weights, trained, layer.matrix, *known))
        return rows

    @staticmethod
    def _flat(tensors: Sequence[Tensor]) -> Tensor:
        """All numbers of tensors (K, ...) in a row a lane, (K, N); a copy."""
        return torch.cat([tensor.flatten(1) for tensor in tensors], dim=1)

    def _split(self, flat: Tensor) -> Sequence[Tensor]:
        """The part of each layer that learns, of all of them (K, N)."""
        parts: Sequence[Tensor] = torch.split(flat, [layer.numbers for layer in self._learning], dim=1)
        return parts

    def _dead(self, gradients: Mapping[str, Tensor | None]) -> Array:
        """Share (K, L) of each layer's units without gradient at all of the last few looks; NaN without."""
        rows, owners = [], []
        for place, layer in enumerate(self._learning):
            found = [g for name in layer.units if (g := gradients[name]) is not None]
            if layer.units and len(found) == len(layer.units):
                norms = [torch.linalg.vector_norm(g.flatten(2), dim=2) if g.ndim > 2 else g for g in found]
                rows.append(torch.stack([norm != 0 for norm in norms]).any(dim=0))
                owners.append(place)
        if not rows:
            return np.full((1, len(self._learning)), np.nan)
        self.awake = [*self.awake[1 - MEMORY :], torch.cat(rows, dim=1)]
        awake: Array = torch.stack(self.awake).any(dim=0).cpu().numpy()
        shares = np.full((len(awake), len(self._learning)), np.nan)
        borders = np.cumsum([row.shape[1] for row in rows])[:-1]
        for place, units in zip(owners, np.split(awake, borders, axis=1), strict=True):
            shares[:, place] = 1 - units.mean(axis=1)
        return shares

    def _clipped(self, parts: Sequence[Tensor], norms: Array) -> Array:
        """Share (K, L) of each layer's gradient that clipping changes."""
        shares = np.zeros_like(norms)
        if self.clip_value is not None:
            shares = _shares([part.abs() > self.clip_value for part in parts])
        if self.clip_norm is not None:
            over = np.sqrt((norms**2).sum(axis=1)) > self.clip_norm  # (K,)
            shares[over] = 1.0
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
        if not own:
            continue
        learning = [key for key in own if key in trained]
        has_units = isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
        layers.append(
            _Layer(
                name or type(model).__name__,
                sum(parameter.numel() for parameter in own.values()),
                any(parameter.ndim > 1 for parameter in own.values()),
                learning,
                sum(own[key].numel() for key in learning),
                learning if has_units else [],
            )
        )
    return layers


def _norms(parts: Sequence[Tensor]) -> list[Tensor]:
    """The Euclidean norm (K,) of each of L tensors (K, n)."""
    return [torch.linalg.vector_norm(part, dim=1) for part in parts]


def _shares(marked: Sequence[Tensor]) -> Array:
    """The share (K, L) of the numbers that are marked, in L tensors (K, n) of truth values."""
    return _host([part.float().mean(dim=1) for part in marked])


def _host(columns: Sequence[Tensor]) -> Array:
    """L columns (K,) as a table (K, L)."""
    found: Array = torch.stack([*columns], dim=1).cpu().double().numpy()
    return found
