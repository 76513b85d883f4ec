"""Every built-in name and the import path behind it, on one page. Nothing here is imported until used.

To add a model, dataset, loss, optimizer or schedule: one file (or one class or function in its family's), one
line here.
"""

from __future__ import annotations

from typing import Literal

MODELS = {
    "linear": "lrfind.models.linear:Linear",
    "logistic": "lrfind.models.linear:Logistic",
    "mlp": "lrfind.models.mlp:MLP",
    "deep_mlp": "lrfind.models.mlp:DeepMLP",
    "lenet": "lrfind.models.lenet:LeNet",
    "small_cnn": "lrfind.models.small_cnn:SmallCNN",
    "small_resnet": "lrfind.models.resnet:ResNet",
    "torchvision": "lrfind.models.torchvision_models:torchvision_model",
    "rnn": "lrfind.models.recurrent:RNN",
    "lstm": "lrfind.models.recurrent:LSTM",
    "gru": "lrfind.models.recurrent:GRU",
    "transformer": "lrfind.models.transformer:Transformer",
}

DATASETS = {
    "breast_cancer": "lrfind.datasets.sklearn_sets:breast_cancer",
    "csv": "lrfind.datasets.csv_file:csv",
    "diabetes": "lrfind.datasets.sklearn_sets:diabetes",
    "digits": "lrfind.datasets.sklearn_sets:digits",
    "fashion_mnist": "lrfind.datasets.mnist:fashion_mnist",
    "image_folder": "lrfind.datasets.images:image_folder",
    "make_classification": "lrfind.datasets.sklearn_sets:make_classification",
    "make_regression": "lrfind.datasets.sklearn_sets:make_regression",
    "mnist": "lrfind.datasets.mnist:mnist",
    "mnist_mini": "lrfind.datasets.mnist:mnist_mini",
    "mnist_rows": "lrfind.datasets.mnist:mnist_rows",
    "regression": "lrfind.datasets.regression:regression",
    "text": "lrfind.datasets.text:text",
    "wine": "lrfind.datasets.sklearn_sets:wine",
}

LOSSES = {
    "bce_with_logits": "torch.nn.modules.loss:BCEWithLogitsLoss",
    "cross_entropy": "torch.nn.modules.loss:CrossEntropyLoss",
    "huber": "torch.nn.modules.loss:HuberLoss",
    "mae": "torch.nn.modules.loss:L1Loss",
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

ADAPTIVE = frozenset(OPTIMIZERS) - {"sgd"}
"""Those that divide by the size of past gradients."""

SCHEDULES = {
    "constant": "lrfind.schedules.functions:constant",
    "linear_warmup": "lrfind.schedules.functions:linear_warmup",
    "linear": "lrfind.schedules.functions:linear",
    "polynomial": "lrfind.schedules.functions:polynomial",
    "cosine": "lrfind.schedules.functions:cosine",
    "cosine_restarts": "lrfind.schedules.functions:cosine_restarts",
    "step_decay": "lrfind.schedules.functions:step_decay",
    "multi_step": "lrfind.schedules.functions:multi_step",
    "exponential": "lrfind.schedules.functions:exponential",
    "inverse_time": "lrfind.schedules.functions:inverse_time",
    "inverse_sqrt": "lrfind.schedules.functions:inverse_sqrt",
    "cyclic": "lrfind.schedules.functions:cyclic",
    "one_cycle": "lrfind.schedules.functions:one_cycle",
    "wsd": "lrfind.schedules.functions:wsd",
    "join": "lrfind.schedules.functions:join",
    "reduce_on_plateau": "lrfind.schedules.reactive:reduce_on_plateau",
    "grad_norm": "lrfind.schedules.reactive:grad_norm",
}
"""Each is a function of the step; those of `reactive` are functions of what was measured so far."""

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
"""The suggestion methods; `lrfind.analysis.suggestions` has them. Names alone, for quick checks."""

DEFAULT_METHOD = "consensus"

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "identity"]
"""What a model has between its layers; see `lrfind.models.parts`."""

Norm = Literal["none", "batch", "layer", "group"]
"""What a model normalises its layers' outputs with, before the activation."""

Init = Literal["default", "he", "xavier", "orthogonal", "small"]
"""How a model's weights are drawn; `default` leaves torch's own."""

Spacing = Literal["exponential", "linear"]
"""How a ramp spaces its lrs; see `lrfind.schedules.functions.ramp`."""

LaneMode = Literal["auto", "single", "stacked"]
"""How lanes run: one after another, many as one stacked model, or whichever is measured to be faster."""

Precision = Literal["float32", "bfloat16", "float16"]
"""What forward and backward compute in; the weights and their updates stay as they are."""

Over = Literal["lr", "momentum", "weight_decay"]
"""What range tests are held side by side over: nothing but the lr, or a setting of the optimizer."""

Judge = Literal["val_loss", "train_loss"]
"""The loss that a sweep is judged by."""

Sampler = Literal["random", "sobol", "tpe", "gp"]
"""What a search proposes lrs with; see `lrfind.experiments.samplers`."""

CATALOGS = {
    "model": MODELS,
    "data": DATASETS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
"""By what the config calls the thing that is named."""
