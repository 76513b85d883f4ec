"""Logistic regression of all digits at once with LBFGS, whose closure is called several times a step."""

import torch
from sklearn.datasets import load_digits
from torch import nn


def build():
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    model = nn.Linear(64, 10)
    return model, torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=4), x, y


if __name__ == "__main__":
    model, optimizer, x, y = build()

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for step in range(200):
        print(step, optimizer.step(closure).item())
