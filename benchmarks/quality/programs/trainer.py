"""Digits with the Trainer of transformers."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import Trainer, TrainingArguments


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 10))

    def forward(self, pixels, labels=None):
        logits = self.net(pixels)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def build():
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    return Classifier(), [{"pixels": pixels, "labels": label} for pixels, label in zip(x, y, strict=True)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    arguments = TrainingArguments(
        output_dir="out",
        per_device_train_batch_size=64,
        num_train_epochs=20,
        learning_rate=5e-5,
        warmup_steps=20,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        seed=parser.parse_args().seed,
    )
    torch.manual_seed(arguments.seed)
    model, rows = build()
    Trainer(model=model, args=arguments, train_dataset=rows).train()
