"""A net of skorch, which holds the module, the optimizer and the batches, and computes its loss itself.

`find` gets these parts of the net after `initialize`; then `partial_fit` goes on with the rate.
"""

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

import lrfind
from lrfind.datasets.mnist import mnist_mini

EPOCHS = 20


def build() -> tuple[NeuralNetClassifier, np.ndarray, np.ndarray]:
    """Make the net, images (1024, 196), and digits."""
    torch.manual_seed(0)
    images, digits = mnist_mini().train
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(196, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.001,
        batch_size=64,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    ).initialize()
    return net, images[:1024, 0, ::2, ::2].flatten(1).numpy(), digits[:1024].numpy()


def train(net: NeuralNetClassifier, x: np.ndarray, y: np.ndarray, epochs: int) -> list[float]:
    """Train, and return the loss of every step."""
    net.partial_fit(x, y, epochs=epochs)
    return [batch["train_loss"] for epoch in net.history[-epochs:] for batch in epoch["batches"]]


def find(net: NeuralNetClassifier, x: np.ndarray, y: np.ndarray) -> lrfind.Recommendation:
    """Find the lr for 20 epochs."""
    loader = net.get_iterator(net.get_dataset(x, y), training=True)
    return lrfind.find(
        net.module_,
        net.optimizer_,
        data=loader,
        loss=lambda batch: net.get_loss(net.infer(batch[0]), batch[1], training=True),
        steps=EPOCHS * len(loader),
    )


if __name__ == "__main__":
    net, x, y = build()
    best = find(net, x, y)
    best.apply(net.optimizer_)
    losses = train(net, x, y, EPOCHS)
    print(f"{best}\nloss: from {losses[0]:.2f} to {losses[-1]:.2f}")  # noqa: T201 - a script of its own
