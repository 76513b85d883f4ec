"""The trainings that the parts of gpu.py run, and the bare loops that lrfind is compared with."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from gpu_stage import Stage
from torch import Tensor

from lrfind.analysis.curves import Array
from lrfind.config.experiment import check
from lrfind.datasets.tensors import TensorData
from lrfind.problem.problem import Problem, from_config
from lrfind.problem.setup import Setup

SEED = 0
SPREAD = 128  # the rates of a case, from which the lanes of any number take the first ones


def images(rows: int = 4096) -> TensorData:
    """Return images of 32 x 32 pixels in three colours, each a pattern of its class under noise."""
    random = torch.Generator().manual_seed(SEED)
    classes = torch.arange(rows) % 10
    patterns = torch.randn(10, 3, 32, 32, generator=random)
    x = patterns[classes] + torch.randn(rows, 3, 32, 32, generator=random)
    held = rows // 8
    return TensorData((x[held:], classes[held:]), (x[:held], classes[:held]), classes=10)


@dataclass(frozen=True)
class Case:
    """One training, as values of a config.

    Attributes:
        model: the model.
        tiny_model: the same kind of model at a tiny size.
        data: the data, with a place for the rows of a batch.
        rows: the rows of a batch.
        optimizer: the optimizer.
        low: the lowest rate, and
        high: the highest one; nothing diverges between them.
    """

    model: str
    tiny_model: str
    data: str
    rows: int
    optimizer: str
    low: float
    high: float

    def config(self, stage: Stage, steps: int = 100, more: str = "") -> str:
        """Return the text of the config for trainings of so many steps, with further lines."""
        model = self.tiny_model if stage.tiny else self.model
        data = self.data.format(rows=8 if stage.tiny else self.rows)
        return (
            f"seed: {SEED}\ndevice: {stage.device}\nmodel: {model}\ndata: {data}\nloss: cross_entropy\n"
            f"optimizer: {self.optimizer}\ntraining: {{steps: {steps}, precision: {stage.precision}}}\n{more}"
        )

    def problem(self, stage: Stage) -> Problem:
        """Return what is trained; its data is on the device."""
        return from_config(check(self.config(stage)))

    def rates(self, lanes: int) -> Array:
        """Return the rates (K,) of K lanes, which spread over the whole range in no order."""
        order = np.random.default_rng(SEED).permutation(SPREAD)[:lanes]
        rates: Array = np.geomspace(self.low, self.high, SPREAD)[order]
        return rates


SGD = "{name: sgd, lr: 1e-3, args: {momentum: 0.9}}"
MNIST = "{{name: mnist_mini, batch_size: {rows}}}"
CASES = {
    "MLP": Case(
        "{name: mlp, args: {hidden: [512, 512]}}",
        "{name: mlp, args: {hidden: [8]}}",
        MNIST,
        128,
        SGD,
        1e-4,
        1e-2,
    ),
    "CNN": Case(
        "{name: small_cnn, args: {channels: [32, 64, 64]}}",
        "{name: small_cnn, args: {channels: [2, 2], hidden: 4}}",
        MNIST,
        128,
        SGD,
        1e-4,
        1e-2,
    ),
    "ResNet-18": Case(
        "{name: small_resnet, args: {channels: [64, 128, 256, 512], blocks: 2}}",
        "{name: small_resnet, args: {channels: [2, 4]}}",
        "{{name: 'gpu_cases:images', batch_size: {rows}}}",
        64,
        SGD,
        1e-4,
        1e-2,
    ),
    "GPT": Case(
        "{name: transformer, args: {width: 256, heads: 8, layers: 4}}",
        "{name: transformer, args: {width: 8, heads: 2, layers: 1}}",
        "{{name: text, batch_size: {rows}, args: {{length: 128, stride: 16}}}}",
        16,
        "{name: adamw, lr: 1e-3}",
        1e-5,
        1e-3,
    ),
}


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute convolutions on the GPU in whole float32 inside the block, as matrix products always are."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        yield


def set_rate(setup: Setup, lr: float) -> None:
    """Give a rate to the optimizer, as a user does."""
    for group in setup.optimizer.param_groups:
        group["lr"] = lr


def loss_in(setup: Setup, x: Tensor, y: Tensor) -> Tensor:
    """Return the loss of a batch, in the precision of the lane."""
    with setup.casting():
        loss: Tensor = setup.loss_fn(setup.model(x), y)
    return loss


class BareLoop:
    """One lane in a loop as people usually write it, with lrfind's weights, batches and fused optimizer.

    It reads no loss while it trains, so that the GPU never waits for that.

    Args:
        problem: what to train.
        lr: the rate.
        compile: whether torch compiles the forward and backward pass, into CUDA graphs where it can.
    """

    lanes = 1

    def __init__(self, problem: Problem, lr: float, *, compile: bool = False) -> None:
        setup = problem.setup(SEED)
        set_rate(setup, lr)
        self._batches, self._optimizer = setup.batches, setup.optimizer

        def loss_of(x: Tensor, y: Tensor) -> Tensor:
            return loss_in(setup, x, y)

        self._loss_of = torch.compile(loss_of, mode="reduce-overhead") if compile else loss_of
        self._losses: list[Tensor] = []

    def advance(self, steps: int) -> None:
        """Take so many further steps."""
        for _ in range(steps):
            x, y = next(self._batches)
            self._optimizer.zero_grad()
            loss = self._loss_of(x, y)
            loss.backward()
            self._optimizer.step()
            self._losses.append(loss.detach().clone())  # the next run of a CUDA graph writes there

    @property
    def losses(self) -> Array:
        """The losses (T, 1) so far."""
        table: Array = torch.stack(self._losses)[:, None].cpu().double().numpy()
        return table


class References:
    """The losses of the first steps of lanes that a bare loop trains, each by itself, and each only once."""

    def __init__(self, problem: Problem, steps: int) -> None:
        self._setup, self._known = problem.setup(SEED), dict[float, list[float]]()
        self._batches = [next(self._setup.batches) for _ in range(steps)]
        self._start = {name: value.clone() for name, value in self._setup.model.state_dict().items()}

    def losses(self, rates: Sequence[float], ends: float) -> Array:
        """Return the losses (T, K) of lanes with these rates, or of the first ones if the time ends before.

        Args:
            rates: the rates.
            ends: the end of the time, by the monotonic clock.
        """
        known = []
        for lr in rates:
            if known and time.monotonic() > ends:
                break
            known.append(self._known.get(lr) or self._train(lr))
        return np.array(known).T

    def _train(self, lr: float) -> list[float]:
        setup = self._setup
        setup.model.load_state_dict(self._start)
        setup.optimizer.state.clear()
        set_rate(setup, lr)
        losses = []
        for x, y in self._batches:
            setup.optimizer.zero_grad()
            loss = loss_in(setup, x, y)
            loss.backward()
            setup.optimizer.step()
            losses.append(loss.item())
        self._known[lr] = losses
        return losses
