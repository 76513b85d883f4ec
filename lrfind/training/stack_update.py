"""The updates of a stack: one step of an optimizer for all lanes together, or a step for each lane.

The update of the optimizers that the catalog calls stackable is linear in the lr. So one ordinary step at
lr 1 on the stacked parameters, of which each lane goes the share lr[lane], gives the same result as separate
optimizers. It takes a few calls for all lanes, but goes through the memory of all weights three times. Where
that takes longer than the calls, each lane has param groups of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn, optim

from lrfind.analysis.curves import Array
from lrfind.problem.setup import Recipe, Setup
from lrfind.training.kernels import digits_are_usual
from lrfind.training.update import laid_out, plain_step

T = TypeVar("T")
Gradients = Sequence[Tensor | None]
"""The gradients (K, ...) of the parameters; None for one that takes no part in the loss."""
LARGE_LANE = 2**18
"""The bytes of a lane's trained parameters from which a step for each lane is faster."""


class StackUpdate(Protocol):
    """Takes the steps of a stack.

    Attributes:
        optimizer: the optimizer over the stacked parameters, or over their parts.
    """

    optimizer: optim.Optimizer

    def rates(self, lr: Array) -> Sequence[Any]:
        """Return the lr (T, K) as `step` takes it, one part for each of T steps."""

    def step(self, gradients: Gradients, lr: Any) -> None:
        """Take a step along the gradients of all parameters."""

    def keep(self, places: Tensor) -> None:
        """Keep only the lanes at these places, with their optimizer state."""


def update_of(setup: Setup, stacked: Sequence[nn.Parameter], sources: Sequence[nn.Parameter]) -> StackUpdate:
    """Return the update of stacked parameters.

    Args:
        setup: the parts of one lane.
        stacked: the trained parameters (K, ...).
        sources: the parameters of the lane that they come from, in the same order.
    """
    lane_bytes = sum(source.nbytes for source in sources)
    fused = bool(setup.optimizer.defaults.get("fused")) and all(p.device.type == "cpu" for p in sources)
    apart = fused and lane_bytes >= LARGE_LANE and not digits_are_usual()
    kind = LaneSteps if apart else CommonStep
    return kind(setup, stacked, sources)


class CommonStep:
    """Takes one step at lr 1 on the stacked parameters, of which each lane goes its share."""

    def __init__(
        self, setup: Setup, stacked: Sequence[nn.Parameter], sources: Sequence[nn.Parameter]
    ) -> None:
        self._parameters, self._recipe = stacked, setup.recipe
        self._before = [torch.empty_like(parameter) for parameter in stacked]
        self.optimizer = _optimizer(setup, _groups(setup, sources, stacked))
        self._take_step = plain_step(self.optimizer)

    def rates(self, lr: Array) -> Sequence[Any]:
        """Return the lr (T, K) as `step` takes it, one part for each of T steps."""
        device = self._parameters[0].device
        kinds = {parameter.dtype for parameter in self._parameters}
        tables = {kind: torch.as_tensor(lr, dtype=kind, device=device) for kind in kinds}
        return [{kind: table[step] for kind, table in tables.items()} for step in range(len(lr))]

    def step(self, gradients: Gradients, lr: Mapping[torch.dtype, Tensor]) -> None:
        """Take a step along the gradients of all parameters."""
        used = _used(gradients, self._parameters, self._before, self._recipe)
        for gradient, parameter, old in used:
            old.copy_(parameter.detach())
            parameter.grad = gradient
        self._take_step()
        with torch.no_grad():
            for _, parameter, old in used:
                share = lr[parameter.dtype].view(-1, *[1] * (parameter.ndim - 1))
                torch.lerp(old, parameter, share, out=parameter)
                parameter.grad = None  # the next gradient takes this memory, which is in the cache

    def keep(self, places: Tensor) -> None:
        """Keep only the lanes at these places, with their optimizer state."""
        for parameter in self._parameters:
            shape = parameter.shape
            parameter.data = parameter.data[places]
            state = self.optimizer.state[parameter]
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == shape:
                    state[name] = value[places]
        self._before = [torch.empty_like(parameter) for parameter in self._parameters]


class LaneSteps:
    """Takes a step for each lane, whose param groups have its own parts of the stacked parameters."""

    def __init__(
        self, setup: Setup, stacked: Sequence[nn.Parameter], sources: Sequence[nn.Parameter]
    ) -> None:
        self._parameters, self._recipe, self._ratios = stacked, setup.recipe, setup.ratios
        self._parts = [[nn.Parameter(part) for part in parameter.detach()] for parameter in stacked]
        lanes = [_groups(setup, sources, parts) for parts in zip(*self._parts, strict=True)]
        self.optimizer = _optimizer(setup, [group for groups in lanes for group in groups])
        self._take_step = plain_step(self.optimizer)

    def rates(self, lr: Array) -> Sequence[Any]:
        """Return the lr (T, K) as `step` takes it, one part for each of T steps."""
        return [[value * ratio for value in row for ratio in self._ratios] for row in lr.tolist()]

    def step(self, gradients: Gradients, lr: Sequence[float]) -> None:
        """Take a step along the gradients of all parameters."""
        used = _used(gradients, self._parameters, self._parts, self._recipe)
        for gradient, _, parts in used:
            for part, own in zip(parts, gradient, strict=True):
                part.grad = own
        for group, value in zip(self.optimizer.param_groups, lr, strict=True):
            group["lr"] = value
        self._take_step()
        for _, _, parts in used:
            for part in parts:
                part.grad = None  # the next gradient takes this memory, which is in the cache

    def keep(self, places: Tensor) -> None:
        """Keep only the lanes at these places, with their optimizer state."""
        kept = places.tolist()
        for parameter, parts in zip(self._parameters, self._parts, strict=True):
            parameter.data = parameter.data[places]
            for place in {*range(len(parts))} - {*kept}:
                self.optimizer.state.pop(parts[place], None)
            parts[:] = [parts[place] for place in kept]
            for part, own in zip(parts, parameter.detach(), strict=True):
                part.data = own
        groups, count = self.optimizer.param_groups, len(self._ratios)
        groups[:] = [group for place in kept for group in groups[place * count : (place + 1) * count]]


def _groups(
    setup: Setup, sources: Sequence[nn.Parameter], parameters: Sequence[nn.Parameter]
) -> list[dict[str, Any]]:
    """Return the setup's param groups with other parameters in the place of these sources.

    A source without another parameter is left out. Each group's lr is its entry in `ratios`.
    """
    instead = {id(source): parameter for source, parameter in zip(sources, parameters, strict=True)}
    return [
        {**group, "params": [instead[id(p)] for p in group["params"] if id(p) in instead], "lr": ratio}
        for group, ratio in zip(setup.optimizer.param_groups, setup.ratios, strict=True)
    ]


def _optimizer(setup: Setup, groups: list[dict[str, Any]]) -> optim.Optimizer:
    """Return an optimizer of the setup's kind and options over these param groups."""
    kind: Any = type(setup.optimizer)
    arguments = inspect.signature(kind).parameters
    options = {name: value for name, value in setup.optimizer.defaults.items() if name in arguments}
    optimizer: optim.Optimizer = kind(groups, **options | {"lr": 1.0})
    return optimizer


def _used(
    gradients: Gradients, parameters: Sequence[nn.Parameter], others: Sequence[T], recipe: Recipe
) -> list[tuple[Tensor, nn.Parameter, T]]:
    """Return the gradients (K, ...) that there are, each with its parameter and that one's entry of `others`.

    They are changed as the recipe says, and have the layout of their parameters.
    """
    used = [gradient is not None for gradient in gradients]
    kept = [*compress(parameters, used)]
    changed = _by_recipe([gradient for gradient in gradients if gradient is not None], kept, recipe)
    fitting = map(laid_out, changed, kept)
    return [*zip(fitting, kept, compress(others, used), strict=True)]


def _by_recipe(gradients: list[Tensor], parameters: Sequence[Tensor], recipe: Recipe) -> list[Tensor]:
    """Return the gradients (K, ...) changed as the recipe says, each lane's separately."""
    if recipe.l1:
        gradients = [
            gradient + recipe.l1 * parameter.detach().sign() if parameter.ndim > 2 else gradient
            for gradient, parameter in zip(gradients, parameters, strict=True)
        ]
    if recipe.clip_value is not None:
        gradients = [gradient.clamp(-recipe.clip_value, recipe.clip_value) for gradient in gradients]
    return gradients if recipe.clip_norm is None else _clipped(gradients, recipe.clip_norm)


def _clipped(gradients: list[Tensor], norm: float) -> list[Tensor]:
    """Scale each lane's gradient down to a norm, as `torch.nn.utils.clip_grad_norm_` does for one lane."""
    squares = torch.stack([gradient.reshape(len(gradient), -1).square().sum(1) for gradient in gradients])
    factor = (norm / (squares.sum(0).sqrt() + 1e-6)).clamp(max=1.0)  # (K,)
    return [gradient * factor.view(-1, *[1] * (gradient.ndim - 1)) for gradient in gradients]
