"""Digits with skorch."""

import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn


def build():
    digits = load_digits()
    net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    return net, (digits.data / 16).astype("float32"), digits.target.astype("int64")


if __name__ == "__main__":
    net, x, y = build()
    classifier = NeuralNetClassifier(
        net,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=0.01,
        batch_size=64,
        max_epochs=20,
        iterator_train__shuffle=True,
        train_split=None,
    )
    classifier.fit(x, y)
