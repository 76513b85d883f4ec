"""Every built-in name and the import path behind it, on one page. Nothing here is imported until used.

To add a model, dataset, loss or optimizer: one file (or one class in its family's file), one line here.
"""

from __future__ import annotations

from typing import Literal

MODELS = {
    "linear": "lrfind.models.linear:Linear",
    "mlp": "lrfind.models.mlp:MLP",
    "small_cnn": "lrfind.models.small_cnn:SmallCNN",
}

DATASETS = {
    "mnist": "lrfind.datasets.mnist:mnist",
    "fashion_mnist": "lrfind.datasets.mnist:fashion_mnist",
    "mnist_mini": "lrfind.datasets.mnist:mnist_mini",
    "regression": "lrfind.datasets.regression:regression",
}

LOSSES = {
    "cross_entropy": "torch.nn.modules.loss:CrossEntropyLoss",
    "mse": "torch.nn.modules.loss:MSELoss",
}

OPTIMIZERS = {
    "adadelta": "torch.optim.adadelta:Adadelta",
    "adagrad": "torch.optim.adagrad:Adagrad",
    "adam": "torch.optim.adam:Adam",
    "adamax": "torch.optim.adamax:Adamax",
    "adamw": "torch.optim.adamw:AdamW",
    "nadam": "torch.optim.nadam:NAdam",
    "radam": "torch.optim.radam:RAdam",
    "rmsprop": "torch.optim.rmsprop:RMSprop",
    "sgd": "torch.optim.sgd:SGD",
}

METHODS = (
    "consensus",
    "steepest",
    "minimum",
    "edge",
    "torch-lr-finder",
    "lightning",
    "ignite",
    "fastai-steep",
    "fastai-minimum",
    "fastai-valley",
    "fastai-slide",
)
"""The suggestion methods; `lrfind.suggestions` has them. Names alone, so that a config is checked quickly."""

DEFAULT_METHOD = "consensus"

Shape = Literal["exponential", "linear"]
"""The shapes of a ramp; see `lrfind.schedules.ramp`."""

LaneMode = Literal["auto", "single", "stacked"]
"""How lanes run: one after another, many as one stacked model, or whichever is measured to be faster."""

Judge = Literal["val_loss", "train_loss"]
"""The loss that a sweep is judged by."""

Sampler = Literal["random", "sobol", "tpe", "gp"]
"""What a search proposes lrs with; see `lrfind.samplers`."""

CATALOGS = {"model": MODELS, "data": DATASETS, "loss": LOSSES, "optimizer": OPTIMIZERS}
"""By the section of the config that names them."""
