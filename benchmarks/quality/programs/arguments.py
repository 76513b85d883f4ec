"""Sums of sequences with a GRU and accumulated gradients; everything is an argument with a default."""

import argparse

import torch
from torch import nn


class Sum(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.gru, self.head = nn.GRU(2, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1]).squeeze(1)


def batch(rows, length=12):
    values, marks = torch.rand(rows, length), (torch.rand(rows, length) < 0.3).float()
    return torch.stack([values, marks], dim=2), (values * marks).sum(1)


def build(hidden=32, lr=1e-3):
    model = Sum(hidden)
    return model, torch.optim.RMSprop(model.parameters(), lr=lr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--log", default="losses.txt")
    args = parser.parse_args()
    model, optimizer = build(args.hidden, args.lr)
    with open(args.log, "w") as log:
        for _ in range(args.steps):
            optimizer.zero_grad()
            for _ in range(args.accumulate):
                x, y = batch(args.rows)
                loss = nn.functional.mse_loss(model(x), y) / args.accumulate
                loss.backward()
                log.write(f"{loss.item()}\n")
            optimizer.step()
