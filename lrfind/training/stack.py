"""Stacks: K lanes of one seed trained together as one model with a leading axis of lanes.

The parameters of the lanes are stacked, `vmap` runs the forward over them on one batch, and one ordinary
`torch.optim` step is taken at lr 1 on the stacked tensors. Its update is linear in the lr for the optimizers
that the catalog calls stackable, so moving each lane by lr[lane] of the way gives what separate optimizers
would. The idea is that of HFTA (Wang et al. 2021, arXiv:2102.02344); here an lr is one more axis, not
one more optimizer.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn, optim
from torch.func import functional_call, grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx

from lrfind.analysis.curves import Array
from lrfind.catalog import optimizer_of
from lrfind.errors import UsageError
from lrfind.problem.batches import batch_loss
from lrfind.problem.setup import Recipe, Setup
from lrfind.training.evaluation import Metric, Score, evaluate, evaluating, score
from lrfind.training.gauge import Gauge
from lrfind.training.loop import set_momentum

MOST_GRAPHS = 4  # of batch shapes; a loader that yields more of them is not traced


def obstacle(setup: Setup) -> str | None:
    """Why a lane's parts cannot be stacked, or None if they may be."""
    kind = type(setup.optimizer)
    row = optimizer_of(kind)
    if row is None or not row.stackable:
        return f"{kind.__name__} is not an optimizer whose update is linear in the lr"
    odd = next((key for key in ("differentiable", "capturable") if setup.optimizer.defaults.get(key)), None)
    if odd is not None:
        return f"the optimizer is {odd}"
    taken = [state.get("step", 1) for state in setup.optimizer.state.values()]  # 0 of a new Adagrad
    if any(steps > 0 for steps in taken):
        return "the optimizer has state from earlier training"
    if setup.recipe.precision == "float16":
        return "float16 scales the loss of each lane by itself"
    if setup.group is not None:
        return "only one param group moves"
    if any(isinstance(module, nn.RNNBase) for module in setup.model.modules()):
        return "torch cannot evaluate recurrent layers of several lanes at once"
    own = {id(p) for p in setup.model.parameters()}
    if any(id(p) not in own for group in setup.optimizer.param_groups for p in group["params"]):
        return "the optimizer trains parameters that are not the model's"
    return None


class Stack:
    """K lanes that start from one setup.

    Args:
        setup: of one lane, fresh: the stack takes it over. The global generators are as `Problem.setup` left
            them, so that dropout draws the masks that each lane would draw by itself.
        lanes: K.
        trace: whether a step may be recorded once as a graph of tensor operations and played again. That is
            two to three times quicker on small models, and right only where `forward` does the same at every
            step; see `traceable`.
        compile: hand the graph to torch.compile.
        graphs: what other stacks of the same problem recorded, for lrfind's own models: one of the user's may
            have numbers in it that differ between seeds.
    """

    def __init__(
        self,
        setup: Setup,
        lanes: int,
        *,
        trace: bool | None = None,
        compile: bool = False,
        graphs: dict[Any, Callable[..., list[Tensor]]] | None = None,
    ) -> None:
        self.lanes, self.setup = lanes, setup
        self._model = setup.model
        self._trace = traceable(setup) if trace is None else trace
        self._compile = compile
        trained = {id(p) for group in setup.optimizer.param_groups for p in group["params"]}
        stacked: dict[int, nn.Parameter] = {}
        self._parameters: dict[str, Tensor] = {}
        self._fixed: dict[str, Tensor] = {}
        for name, parameter in self._model.named_parameters():
            if id(parameter) in trained and parameter.requires_grad:
                stacked[id(parameter)] = nn.Parameter(_repeat(parameter.detach(), lanes))
                self._parameters[name] = stacked[id(parameter)]
            else:
                self._fixed[name] = parameter.detach()
        self._buffers = {name: _repeat(buffer, lanes) for name, buffer in self._model.named_buffers()}
        self._optimizer = _at_lr_one(setup, stacked)
        own = type(setup.model).__module__.startswith("lrfind.models.")
        self._graphs = graphs if own and graphs is not None else {}

    def train(
        self, lr: Array, momentum: Array | None = None, *, start: int = 0, gauge: Gauge | None = None
    ) -> Array:
        """Take one step for each row of lr.

        Args:
            lr: (T, K).
            momentum: (T,) of all lanes; the optimizer's own when omitted.
            start: the number of the first step.
            gauge: looks at the layers of every lane, at the steps that it wants.

        Returns:
            (T, K) the loss of each lane before the update that uses its lr. A lane whose loss is not finite
            goes on with NaN and leaves the others as they are.
        """
        kinds = {parameter.dtype for parameter in self._parameters.values()}
        tables = {kind: torch.as_tensor(lr, dtype=kind, device=self._device) for kind in kinds}
        losses = []
        for step in range(len(lr)):
            if momentum is not None:
                set_momentum(self._optimizer, float(momentum[step]))
            loss, gradients = self._accumulated()
            if gauge is not None and start + step in gauge.steps:
                gauge.look(start + step, self.parameters, dict(zip(self._parameters, gradients, strict=True)))
            self._update(gradients, {kind: table[step] for kind, table in tables.items()})
            if gauge is not None and gauge.awaits:
                gauge.updated(self.parameters)
            losses.append(loss)
        found: Array = torch.stack(losses).cpu().double().numpy()
        return found

    def _accumulated(self) -> tuple[Tensor, list[Tensor]]:
        """Loss (K,) and gradients (K, ...) of the next step: the mean over its batches."""
        loss, gradients = self.gradients(next(self.setup.batches))
        count = self.setup.recipe.accumulate
        for _ in range(count - 1):
            more, further = self.gradients(next(self.setup.batches))
            loss, gradients = loss + more, [a + b for a, b in zip(gradients, further, strict=True)]
        return (loss, gradients) if count == 1 else (loss / count, [part / count for part in gradients])

    def gradients(self, batch: Any) -> tuple[Tensor, list[Tensor]]:
        """Each lane's loss (K,), and the gradient of each trained parameter (K, ...); buffers move on."""
        if not (self._trace and type(batch) is tuple and all(isinstance(part, Tensor) for part in batch)):
            return self._differentiate(batch)
        key = (self.lanes, *(part.shape for part in batch))
        if key not in self._graphs:
            if sum(lanes == self.lanes for lanes, *_ in self._graphs) >= MOST_GRAPHS:
                return self._differentiate(batch)
            self._graphs[key] = self._record(batch)
        tensors = self._parameters.values(), self._buffers.values(), self._fixed.values(), batch
        with torch.inference_mode():  # the graph has its own backward: autograd need not watch
            loss, *gradients = self._graphs[key](*chain.from_iterable(tensors))
        return loss, gradients

    def evaluate(self, batches: Iterable[Any]) -> tuple[Array, Array | None, Metric | None]:
        """Loss (K,) and metric (K,) of every lane on a validation split; see `evaluation.evaluate`."""
        metric: Metric | None = None

        def scored(batch: Any) -> tuple[Score, Metric | None]:
            def lane(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Score:
                nonlocal metric
                found, metric = score(self._bound(parameters, buffers), self.setup.loss_fn, batch)
                return found

            return _over_lanes(lane)(self._parameters, self._buffers), metric

        with evaluating(self._model), torch.no_grad():
            return evaluate(scored, batches)

    def keep(self, index: Sequence[int]) -> None:
        """Go on with these lanes alone, their optimizer state with them.

        Args:
            index: their places in the stack.
        """
        chosen = torch.as_tensor(list(index), device=self._device)
        for parameter in self._parameters.values():
            shape = parameter.shape
            parameter.data = parameter.data[chosen]
            state = self._optimizer.state[parameter]
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == shape:
                    state[name] = value[chosen]
        self._buffers = {name: buffer[chosen] for name, buffer in self._buffers.items()}
        self.lanes = len(chosen)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Every trained parameter (K, ...), by name."""
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Every buffer (K, ...), by name."""
        return dict(self._buffers)

    @property
    def _device(self) -> torch.device:
        return next(iter(self._parameters.values())).device

    def _bound(
        self,
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
        fixed: dict[str, Tensor] | None = None,
    ) -> Callable[..., Any]:
        """The model as a function of its inputs, with one lane's parameters and buffers in it."""
        tensors = {**(self._fixed if fixed is None else fixed), **parameters, **buffers}
        return lambda *args, **kwargs: functional_call(self._model, tensors, args, kwargs)

    def _lane_loss(
        self, batch: Any, fixed: dict[str, Tensor] | None = None
    ) -> Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]:
        """One lane's loss () on a batch, as a function of its parameters and buffers."""

        def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            with self.setup.casting():
                found = batch_loss(self._bound(parameters, buffers, fixed), self.setup.loss_fn, batch)
            return found.reshape(())

        return loss

    def _differentiate(self, batch: Any) -> tuple[Tensor, list[Tensor]]:
        """The losses (K,) and the gradients, by autograd through the stacked forward."""
        losses = _over_lanes(self._lane_loss(batch))(self._parameters, self._buffers)
        if not losses.requires_grad:
            raise UsageError("the loss does not depend on any parameter that requires a gradient.")
        wanted = list(self._parameters.values())
        found = torch.autograd.grad(losses.sum(), wanted, allow_unused=True, materialize_grads=True)
        return losses.detach(), list(found)

    def _record(self, batch: tuple[Tensor, ...]) -> Callable[..., list[Tensor]]:
        """Record the same as one graph of (*parameters, *buffers, *fixed, *batch), a flat list of tensors.

        `torch.func.grad` is the slower of the two to run and leaves the gradients in the layout of the
        parameters, which the optimizer wants: recorded, it is the faster one.
        """
        names = list(self._parameters)

        def step(*tensors: Tensor) -> list[Tensor]:
            given = iter(tensors)
            parameters, buffers, fixed = (
                dict(zip(kind, given, strict=False)) for kind in (names, self._buffers, self._fixed)
            )
            lane = grad_and_value(self._lane_loss(tuple(given), fixed))
            gradients, losses = _over_lanes(lane)(parameters, buffers)
            return [losses, *(gradients[name] for name in names)]

        spare = [buffer.clone() for buffer in self._buffers.values()]
        with torch.random.fork_rng():
            graph = make_fx(step)(*self.parameters.values(), *spare, *self._fixed.values(), *batch)
        return torch.compile(graph) if self._compile else cast(Callable[..., list[Tensor]], graph.forward)

    def _update(self, gradients: list[Tensor], lr: dict[torch.dtype, Tensor]) -> None:
        parameters = [*self._parameters.values()]
        gradients = _adjusted(gradients, parameters, self.setup.recipe)
        before = [parameter.detach().clone() for parameter in parameters]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            as_is = gradient.stride() == parameter.stride()  # a fused optimizer takes that for granted
            parameter.grad = gradient if as_is else gradient.clone(memory_format=torch.contiguous_format)
        self._optimizer.step()
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                share = lr[parameter.dtype].view(-1, *[1] * (parameter.ndim - 1))
                torch.lerp(old, parameter, share, out=parameter)


def traceable(setup: Setup) -> bool:
    """Whether a step may be recorded once: only torch's own modules and lrfind's, which keep no Python state.

    A user's `forward` may count its calls, draw from Python's random, or branch on values.
    """
    parts: list[Any] = [*setup.model.modules()]
    if isinstance(setup.loss_fn, nn.Module):
        parts += setup.loss_fn.modules()
    elif setup.loss_fn is not None:
        parts.append(setup.loss_fn)
    hooked = any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks
        for part in parts
        if isinstance(part, nn.Module)
    )
    homes = {(type(part) if isinstance(part, nn.Module) else part).__module__ for part in parts}
    return not hooked and all(home.startswith(("torch.nn.", "lrfind.models.")) for home in homes)


def _over_lanes(lane: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one lane's (parameters, buffers), over stacked ones; all lanes draw the same masks."""
    over: Callable[..., Any] = torch.vmap(lane, randomness="same")

    def quietly(*stacked: Any) -> Any:
        with warnings.catch_warnings():  # that some operation is not batched: whether it pays is measured
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            return over(*stacked)

    return quietly


def _repeat(tensor: Tensor, lanes: int) -> Tensor:
    return tensor.detach().unsqueeze(0).repeat(lanes, *[1] * tensor.ndim)


def _at_lr_one(setup: Setup, stacked: dict[int, nn.Parameter]) -> optim.Optimizer:
    """The setup's optimizer over the stacked parameters, each group's lr its ratio to the first."""
    groups = [
        {**group, "params": [stacked[id(p)] for p in group["params"] if id(p) in stacked], "lr": ratio}
        for group, ratio in zip(setup.optimizer.param_groups, setup.ratios, strict=True)
    ]
    kind: Any = type(setup.optimizer)
    known = inspect.signature(kind).parameters
    options = {name: value for name, value in setup.optimizer.defaults.items() if name in known}
    made: optim.Optimizer = kind(groups, **options | {"lr": 1.0})
    return made


def _adjusted(gradients: list[Tensor], parameters: list[Tensor], recipe: Recipe) -> list[Tensor]:
    """The gradients (K, ...) as the recipe changes them, each lane's by itself."""
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
