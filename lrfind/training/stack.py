"""Stacks: K lanes of one seed trained together as one model with a leading axis of lanes.

The parameters of the lanes are stacked, `vmap` runs the forward over them on one batch, and the steps of
all lanes are taken together; see `lrfind.training.stack_update`. The idea comes from HFTA (Wang et al. 2021,
arXiv:2102.02344); here an lr is one more axis, not one more optimizer.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from lrfind.analysis.curves import Array
from lrfind.errors import UsageError, as_exception
from lrfind.problem.batches import batch_loss
from lrfind.problem.setup import Setup
from lrfind.training.eager import eager_gradients
from lrfind.training.evaluation import Metric, Score, evaluate, evaluating, score
from lrfind.training.gauge import Gauge
from lrfind.training.interrupts import stop_if_asked
from lrfind.training.kernels import digits_are_usual, digits_as_usual, fast_kernels
from lrfind.training.loop import set_momentum
from lrfind.training.program import Replay, UnrecordableError
from lrfind.training.recording import MOST_RECORDINGS, is_plain, layout, record
from lrfind.training.stack_update import Gradients, update_of
from lrfind.training.stackable import PythonState, traceable


class Stack:
    """K lanes that start from one setup.

    Args:
        setup: the fresh parts of one lane, which the stack takes over. The global generators must be as
            `Problem.setup` left them, so that dropout draws the masks that each lane would draw by itself.
        lanes: K, the number of lanes.
        trace: whether a step may be recorded once and replayed. This is two to four times faster on small
            models, and correct only where `forward` does the same at every step; see `traceable`.
        compile: whether the recording is passed to torch.compile.
    """

    def __init__(
        self,
        setup: Setup,
        lanes: int,
        *,
        trace: bool | None = None,
        compile: bool = False,
    ) -> None:
        self.lanes, self.setup = lanes, setup
        self._model = setup.model
        self._trace = traceable(setup) if trace is None else trace
        self._compile = compile
        trained = {id(p) for group in setup.optimizer.param_groups for p in group["params"]}
        sources: list[nn.Parameter] = []
        self._parameters: dict[str, nn.Parameter] = {}
        self._fixed: dict[str, Tensor] = {}
        for name, parameter in self._model.named_parameters():
            if id(parameter) in trained and parameter.requires_grad:
                sources.append(parameter)
                self._parameters[name] = nn.Parameter(_repeat(parameter.detach(), lanes))
            else:
                self._fixed[name] = parameter.detach()
        self._buffers = {name: _repeat(buffer, lanes) for name, buffer in self._model.named_buffers()}
        self._update = update_of(setup, [*self._parameters.values()], sources)
        self._python = PythonState(setup)
        self._kind = ("stack", compile, digits_are_usual(), *self._parameters, self._python.values)

    @as_exception()
    def train(
        self, lr: Array, momentum: Array | None = None, *, start: int = 0, gauge: Gauge | None = None
    ) -> Array:
        """Take one step for each row of lr.

        Args:
            lr: (T, K) the lr of each step and lane.
            momentum: (T,) the momentum of each step, for all lanes; the optimizer's own when omitted.
            start: the number of the first step.
            gauge: the gauge that looks at the layers of every lane, at its own steps; None for no looks.

        Returns:
            (T, K) the loss of each lane before the update that uses its lr. A lane whose loss is not finite
            continues with NaN and does not affect the others.
        """
        losses = []
        for step, rates in enumerate(self._update.rates(lr)):
            stop_if_asked()
            if momentum is not None:
                set_momentum(self._update.optimizer, float(momentum[step]))
            loss, gradients = self._mean_gradients()
            if gauge is not None and start + step in gauge.steps:
                gauge.look(start + step, self.parameters, dict(zip(self._parameters, gradients, strict=True)))
            self._update.step(gradients, rates)
            if gauge is not None and gauge.awaits_update:
                gauge.updated(self.parameters)
            losses.append(loss)
        result: Array = torch.stack(losses).cpu().double().numpy()
        return result

    def _mean_gradients(self) -> tuple[Tensor, Gradients]:
        """Return the loss (K,) and the gradients (K, ...) of the next step: the means over its batches."""
        loss, gradients = self.gradients(next(self.setup.batches))
        count = self.setup.recipe.accumulate
        for _ in range(count - 1):
            next_loss, next_gradients = self.gradients(next(self.setup.batches))
            loss = loss + next_loss
            gradients = [_sum(a, b) for a, b in zip(gradients, next_gradients, strict=True)]
        if count == 1:
            return loss, gradients
        return loss / count, [None if part is None else part / count for part in gradients]

    def gradients(self, batch: Any) -> tuple[Tensor, Gradients]:
        """Return the losses (K,) and the gradients (K, ...) of the trained parameters; update the buffers.

        The gradient of a parameter that takes no part in the loss is None, as in a single lane: then the
        optimizer leaves it alone, also with momentum or weight decay.
        """
        self._trace = self._trace and not self._python.changed
        if not (self._trace and is_plain(batch)):
            return self._differentiate(batch)
        recordings = self.setup.recordings.setdefault((*self._kind, self.lanes), {})
        key = layout(batch)
        if key not in recordings:
            if len(recordings) >= MOST_RECORDINGS:
                with fast_kernels(allowed=True):
                    return self._differentiate(batch)
            try:
                (loss, *gradients), recordings[key] = self._record(batch)
            except UnrecordableError:
                self._trace = False
                return self._differentiate(batch)
            return loss, gradients
        tensors = self._parameters.values(), self._buffers.values(), self._fixed.values(), batch
        with torch.inference_mode():  # the recording contains its backward, so autograd need not record it
            loss, *gradients = recordings[key](*chain.from_iterable(tensors))
        return loss, gradients

    def evaluate(self, batches: Iterable[Any]) -> tuple[Array, Array | None, Metric | None]:
        """Return loss (K,) and metric (K,) of all lanes on a validation split; see `evaluation.evaluate`."""
        metric: Metric | None = None

        def score_lanes(batch: Any) -> tuple[Score, Metric | None]:
            def score_lane(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Score:
                nonlocal metric
                lane_score, metric = score(self._lane_model(parameters, buffers), self.setup.loss_fn, batch)
                return lane_score

            return _over_lanes(score_lane)(self._parameters, self._buffers), metric

        with evaluating(self._model), torch.no_grad(), fast_kernels(self._trace):
            return evaluate(score_lanes, batches, self.setup.loss_fn)

    def keep(self, index: Sequence[int]) -> None:
        """Keep only these lanes, with their optimizer state.

        Args:
            index: the places of these lanes in the stack.
        """
        places = torch.as_tensor(list(index), device=self._device)
        self._update.keep(places)
        self._buffers = {name: buffer[places] for name, buffer in self._buffers.items()}
        self.lanes = len(places)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Return every trained parameter (K, ...), by name."""
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Return every buffer (K, ...), by name."""
        return dict(self._buffers)

    @property
    def _device(self) -> torch.device:
        return next(iter(self._parameters.values())).device

    def _lane_model(
        self,
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
        fixed: dict[str, Tensor] | None = None,
    ) -> Callable[..., Any]:
        """Return the model with one lane's parameters and buffers, as a function of the model's inputs."""
        tensors = {**(self._fixed if fixed is None else fixed), **parameters, **buffers}
        return lambda *args, **kwargs: functional_call(self._model, tensors, args, kwargs)

    def _lane_loss(
        self, batch: Any, fixed: dict[str, Tensor] | None = None
    ) -> Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]:
        """Return one lane's loss () on a batch, as a function of its parameters and buffers."""

        def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            with self.setup.casting():
                model = self._lane_model(parameters, buffers, fixed)
                lane_loss = batch_loss(model, self.setup.loss_fn, batch)
            return lane_loss.reshape(())

        return loss

    def _differentiate(self, batch: Any) -> tuple[Tensor, Gradients]:
        """Return the losses (K,) and the gradients (K, ...), by autograd through the stacked forward."""
        losses = _over_lanes(self._lane_loss(batch))(self._parameters, self._buffers)
        if not losses.requires_grad:
            raise UsageError("the loss does not depend on any parameter that requires a gradient.")
        parameters = list(self._parameters.values())
        return losses.detach(), [*torch.autograd.grad(losses.sum(), parameters, allow_unused=True)]

    def _record(self, batch: Sequence[Tensor]) -> tuple[list[Tensor], Replay]:
        """Do and record the computation of `_differentiate`, as a function of a flat list of tensors.

        The tensors are (*parameters, *buffers, *fixed, *batch). It uses `torch.func.grad`. Without recording,
        `torch.func.grad` is slower than autograd. Recorded, it is faster, because its gradients have the
        layout of the parameters, which the optimizer needs.
        """
        names = list(self._parameters)

        def step(*tensors: Tensor) -> list[Tensor]:
            inputs = iter(tensors)
            parameters, buffers, fixed = (
                dict(zip(keys, inputs, strict=False)) for keys in (names, self._buffers, self._fixed)
            )
            lane_gradients = grad_and_value(self._lane_loss(tuple(inputs), fixed))
            gradients, losses = _over_lanes(lane_gradients)(parameters, buffers)
            return [losses, *(gradients[name] for name in names)]

        buffers = [*self._buffers.values()]
        inputs = [*self.parameters.values(), *buffers, *self._fixed.values(), *batch]
        usual = digits_as_usual() if self._compile else nullcontext()  # torch.compile has its own ways
        with usual, eager_gradients():
            outputs, replay = record(step, inputs, buffers)
        return outputs, cast(Replay, torch.compile(replay)) if self._compile else replay


def _over_lanes(lane: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a function of one lane's tensors into one of stacked tensors; all lanes draw the same masks."""
    over_lanes: Callable[..., Any] = torch.vmap(lane, randomness="same")

    def without_warnings(*stacked: Any) -> Any:
        with warnings.catch_warnings():  # vmap warns of unbatched operations; calibration measures the speed
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            return over_lanes(*stacked)

    return without_warnings


def _repeat(tensor: Tensor, lanes: int) -> Tensor:
    return tensor.detach().unsqueeze(0).repeat(lanes, *[1] * tensor.ndim)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Return the sum of two gradients, of which either may be missing."""
    return b if a is None else a if b is None else a + b
