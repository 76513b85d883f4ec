"""The trainings that sweep.py times, with everything that is made before the clock starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from lrfind.config.experiment import check
from lrfind.datasets.mnist import MNIST_SCALE, mnist_mini
from lrfind.datasets.regression import regression
from lrfind.datasets.tensors import TensorData
from lrfind.experiments.prepare import prepare
from lrfind.experiments.rounds import GridRounds
from lrfind.models.linear import Linear
from lrfind.models.mlp import MLP
from lrfind.models.small_cnn import SmallCNN
from lrfind.problem.randomness import child_seed

SEED = 0
BATCH, HELD_BATCH = 64, 1000
LOW, HIGH = 1e-4, 1e-2
MNIST = "{name: mnist_mini, batch_size: 64}"
CONFIG = """
seed: {seed}
device: cpu
model: {model}
data: {data}
loss: {loss}
optimizer: {{name: sgd, args: {{momentum: {momentum}}}}}
training: {{steps: {steps}}}
grid: {{low: {low}, high: {high}, points: {rates}, seeds: 1}}
"""


@dataclass(frozen=True)
class Setting:
    """What is trained, as the values of a config and as objects of plain torch."""

    model: str
    make_model: Callable[[], nn.Module]
    data: str
    load: Callable[[], TensorData]
    loss: str
    loss_fn: nn.Module
    momentum: float
    rates: int
    steps: int


SETTINGS = {
    "linear": Setting(
        "linear",
        lambda: Linear(8, 1),
        "{name: regression, batch_size: 64, args: {samples: 512, features: 8}}",
        lambda: regression(samples=512, features=8),
        "mse",
        nn.MSELoss(),
        momentum=0.0,
        rates=16,
        steps=300,
    ),
    "mlp": Setting(
        "{name: mlp, args: {hidden: [128, 64]}}",
        lambda: MLP(784, 10, (128, 64)),
        MNIST,
        mnist_mini,
        "cross_entropy",
        nn.CrossEntropyLoss(),
        momentum=0.9,
        rates=8,
        steps=150,
    ),
    "cnn": Setting(
        "{name: small_cnn, args: {channels: [16, 32, 32]}}",
        lambda: SmallCNN(1, (28, 28), 10, (16, 32, 32)),
        MNIST,
        mnist_mini,
        "cross_entropy",
        nn.CrossEntropyLoss(),
        momentum=0.9,
        rates=6,
        steps=60,
    ),
}


class Images(Dataset[Any]):
    """Images as torchvision.datasets.MNIST serves them: one by one, through PIL and transforms."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self._images, self._labels = images, labels
        mean, deviation = MNIST_SCALE
        self._transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((mean,), (deviation,))]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, i: int) -> Any:
        image = Image.fromarray(self._images[i].numpy())
        return self._transform(image), int(self._labels[i])


def raw_images() -> dict[str, Tensor]:
    """Return the arrays of `mnist_mini` as they are on the disk, in unsigned bytes."""
    with (resources.files("lrfind.datasets") / "mnist_mini.npz").open("rb") as file:
        archive = np.load(file)
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


class Case:
    """One setting, with all that is made before the clock: data in tensors and bytes, problem, mode."""

    def __init__(self, name: str, longer: int = 1) -> None:
        self.name, self.setting = name, replace(SETTINGS[name], steps=longer * SETTINGS[name].steps)
        self.steps, self.loss_fn = self.setting.steps, self.setting.loss_fn
        self.config = CONFIG.format(seed=SEED, low=LOW, high=HIGH, **vars(self.setting))
        self.experiment = check(self.config)
        self.rates = GridRounds(self.experiment.grid, SEED).first_lrs()
        self.tensors = self.setting.load()
        self.raw = raw_images() if self.setting.data == MNIST else None
        self.prepared = prepare(self.experiment, "grid")
        self.modes: list[Mapping[str, Any]] = []  # the choices of `lrfind sweep`, one for each turn

    def model(self) -> nn.Module:
        """Return a fresh model, always with the weights that lrfind starts from."""
        torch.manual_seed(child_seed(SEED, "weights"))
        return self.setting.make_model()

    def optimizer(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=self.setting.momentum)

    def loaders(self) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Return the loaders of the training and of the validation split."""
        train, held = (
            (TensorDataset(*self.tensors.train), TensorDataset(*self.tensors.validation))
            if self.raw is None
            else (
                Images(self.raw["train_images"], self.raw["train_labels"]),
                Images(self.raw["validation_images"], self.raw["validation_labels"]),
            )
        )
        return DataLoader(train, batch_size=BATCH, shuffle=True), DataLoader(held, batch_size=HELD_BATCH)


Losses = dict[float, float]
"""The loss on the validation split after the training, by lr."""
Timed = tuple[float, Losses]
"""The seconds that a way took, and the losses that it ended at."""


def held_score(loss_fn: nn.Module, model: nn.Module, batches: Iterable[Any]) -> tuple[float, float]:
    """Return the loss on the validation split and, where there are classes, the accuracy; otherwise 0."""
    model.eval()
    loss = right = 0.0
    rows = 0
    with torch.no_grad():
        for x, y in batches:
            output = model(x)
            loss += loss_fn(output, y).item() * len(x)
            if not y.is_floating_point():
                right += (output.argmax(1) == y).sum().item()
            rows += len(x)
    return loss / rows, right / rows
