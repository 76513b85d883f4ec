"""Every built-in name, with one row of facts about each. Nothing is imported until it is used.

A new model, dataset, loss, optimizer, schedule, suggestion method or command gets one row here and one file,
or one function in the file of its family. All facts that the code needs about a name are in its row only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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

CSV_CONFIG = "lrfind.datasets.csv_config:csv_config"
"""The function that writes a first config for a CSV file."""

LOSSES = {
    "bce_with_logits": "torch.nn.modules.loss:BCEWithLogitsLoss",
    "cross_entropy": "torch.nn.modules.loss:CrossEntropyLoss",
    "huber": "torch.nn.modules.loss:HuberLoss",
    "mae": "torch.nn.modules.loss:L1Loss",
    "mse": "torch.nn.modules.loss:MSELoss",
}


@dataclass(frozen=True)
class Optimizer:
    """All that lrfind knows about one optimizer. It knows nothing about an optimizer without a row.

    Attributes:
        path: the import path of its class.
        family: the optimizers whose learning rates behave alike, a key of
            `analysis.planned_training.FAMILIES`; None where that was not measured.
        adaptive: whether it divides a gradient by the size of past gradients.
        stackable: whether it treats every number by itself and its update is linear in the lr, so that many
            lanes can share one optimizer (see `training.stack`).
        fused: whether torch has a one-kernel version of it that is worth using on a small model.
        momentum: the argument that has its momentum: "momentum", or "betas" (their first number); else None.
        batch_rule: the rule by which its lr follows the batch size; see `analysis.batch_size`.
        batch_rule_derived: whether that rule was derived for this optimizer, and not only for its relatives.
        batch_args: torch's defaults of the other arguments that change with the batch size.
        decoupled_decay: whether its weight decay acts on the weights directly and not through the gradient.
    """

    path: str
    family: str | None
    adaptive: bool
    stackable: bool
    fused: bool
    momentum: Literal["momentum", "betas"] | None
    batch_rule: Literal["linear", "sqrt"]
    batch_rule_derived: bool
    batch_args: Mapping[str, Any]
    decoupled_decay: bool = False


def _adam(
    path: str, *, fused: bool = False, derived: bool = False, decoupled_decay: bool = False
) -> Optimizer:
    """Make the row of an optimizer of Adam's family."""
    return Optimizer(
        path, "adam", adaptive=True, stackable=True, fused=fused, momentum="betas", batch_rule="sqrt",
        batch_rule_derived=derived, batch_args={"betas": (0.9, 0.999), "eps": 1e-8},
        decoupled_decay=decoupled_decay,
    )  # fmt: skip


OPTIMIZERS = {
    "adadelta": Optimizer(
        "torch.optim.adadelta:Adadelta", None, adaptive=True, stackable=True, fused=False, momentum=None,
        batch_rule="sqrt", batch_rule_derived=False, batch_args={},
    ),
    "adagrad": Optimizer(
        "torch.optim.adagrad:Adagrad", "adagrad", adaptive=True, stackable=True, fused=False, momentum=None,
        batch_rule="sqrt", batch_rule_derived=False, batch_args={},
    ),
    "adam": _adam("torch.optim.adam:Adam", fused=True, derived=True),
    "adamax": _adam("torch.optim.adamax:Adamax"),
    "adamw": _adam("torch.optim.adamw:AdamW", fused=True, derived=True, decoupled_decay=True),
    "nadam": _adam("torch.optim.nadam:NAdam"),
    "radam": _adam("torch.optim.radam:RAdam"),
    "rmsprop": Optimizer(
        "torch.optim.rmsprop:RMSprop", "rmsprop", adaptive=True, stackable=True, fused=False,
        momentum="momentum", batch_rule="sqrt", batch_rule_derived=True,
        batch_args={"alpha": 0.99, "eps": 1e-8},
    ),
    "sgd": Optimizer(
        "torch.optim.sgd:SGD", "sgd", adaptive=False, stackable=True, fused=True, momentum="momentum",
        batch_rule="linear", batch_rule_derived=True, batch_args={},
    ),
}  # fmt: skip


def optimizer_named(name: str) -> Optimizer | None:
    """Return the row of an optimizer by its name in this catalog, its import path or its class name.

    Returns:
        None for an optimizer that has no row.

    >>> optimizer_named("torch.optim:AdamW").family, optimizer_named("SGD").family, optimizer_named("Lion")
    ('adam', 'sgd', None)
    """
    return OPTIMIZERS.get(name.rpartition(":")[2].rpartition(".")[2].lower())


def is_adaptive(name: str) -> bool:
    """Return whether an optimizer of this name is known to divide gradients by the size of past ones."""
    row = optimizer_named(name)
    return row is not None and row.adaptive


def optimizer_of(kind: object) -> Optimizer | None:
    """Return the row of exactly this class; None for any other class, even a subclass."""
    path = f"{getattr(kind, '__module__', '')}:{getattr(kind, '__qualname__', '')}"
    return next((row for row in OPTIMIZERS.values() if row.path == path), None)


@dataclass(frozen=True)
class Schedule:
    """One schedule.

    Attributes:
        path: the import path of its function. This is a function of the measurements so far if the schedule
            reacts, and a function of the step if it does not.
        watches: the measurements that it reacts to, which are the validation losses or the norms of the
            gradient; None for a function of the step.
        momentum: the import path of the function that gives the momentum of each step; None if the schedule
            does not change the momentum.
        snippet: the import path of the function that writes its scheduler for a training script. Every
            schedule that reacts needs one; the others are written as torch's scheduler or as a table.
    """

    path: str
    watches: Literal["val_loss", "grad_norm"] | None = None
    momentum: str | None = None
    snippet: str | None = None


SCHEDULES = {
    "constant": Schedule("lrfind.schedules.functions:constant"),
    "linear_warmup": Schedule("lrfind.schedules.functions:linear_warmup"),
    "linear": Schedule("lrfind.schedules.functions:linear"),
    "polynomial": Schedule("lrfind.schedules.functions:polynomial"),
    "cosine": Schedule("lrfind.schedules.functions:cosine"),
    "cosine_restarts": Schedule("lrfind.schedules.functions:cosine_restarts"),
    "step_decay": Schedule("lrfind.schedules.functions:step_decay"),
    "multi_step": Schedule("lrfind.schedules.functions:multi_step"),
    "exponential": Schedule("lrfind.schedules.functions:exponential"),
    "inverse_time": Schedule("lrfind.schedules.functions:inverse_time"),
    "inverse_sqrt": Schedule("lrfind.schedules.functions:inverse_sqrt"),
    "cyclic": Schedule(
        "lrfind.schedules.functions:cyclic", momentum="lrfind.schedules.functions:cyclic_momentum"
    ),
    "one_cycle": Schedule(
        "lrfind.schedules.functions:one_cycle", momentum="lrfind.schedules.functions:one_cycle_momentum"
    ),
    "wsd": Schedule("lrfind.schedules.functions:wsd"),
    "join": Schedule("lrfind.schedules.functions:join"),
    "reduce_on_plateau": Schedule(
        "lrfind.schedules.reactive:reduce_on_plateau",
        watches="val_loss",
        snippet="lrfind.views.snippets.reactive:plateau_scheduler",
    ),
    "grad_norm": Schedule(
        "lrfind.schedules.reactive:grad_norm",
        watches="grad_norm",
        snippet="lrfind.views.snippets.reactive:grad_norm_scheduler",
    ),
}

METHODS = {
    "consensus": "the middle one of steepest, minimum and a tenth of the edge",
    "steepest": "where the loss falls fastest per decade of lr",
    "minimum": "a tenth of the lr of the lowest loss",
    "edge": "where the loss diverged; the largest stable lr is usually lower",
    "torch-lr-finder": "steepest fall per point",
    "lightning": "steepest fall against linear lr",
    "ignite": "steepest fall per point before the minimum",
    "fastai-steep": "steepest fall per unit of ln(lr)",
    "fastai-minimum": "a tenth of the lr of the lowest loss",
    "fastai-valley": "two thirds into the longest valley",
    "fastai-slide": "a sliding interval, from the right",
}
"""The suggestion methods, and what the answer of each is; `lrfind.analysis.suggestions` has the methods."""

DEFAULT_METHOD = "consensus"

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "identity"]
"""The activation between the layers of a model; see `lrfind.models.parts`."""

Norm = Literal["none", "batch", "layer", "group"]
"""The normalisation of the layers' outputs in a model, before the activation."""

Init = Literal["default", "he", "xavier", "orthogonal", "small"]
"""How a model's weights are drawn; `default` leaves torch's own."""

Spacing = Literal["exponential", "linear"]
"""How a ramp spaces its lrs; see `lrfind.schedules.functions.ramp`."""

LaneMode = Literal["auto", "single", "stacked"]
"""How lanes run: one after another, many as one stacked model, or whichever is measured to be faster."""

Precision = Literal["float32", "bfloat16", "float16"]
"""The number format of forward and backward; the weights and their updates keep their own."""

Over = Literal["lr", "momentum", "weight_decay"]
"""What differs between range tests side by side: a setting of the optimizer, or, with lr, nothing."""

FinalLoss = Literal["val_loss", "train_loss"]
"""A loss at the end of a training."""

Judge = Literal[FinalLoss, "best_val_loss"]
"""The loss that a sweep is judged by; best_val_loss is the lowest validation loss of all evaluations."""


@dataclass(frozen=True)
class Sampler:
    """One sampler, the algorithm with which a search proposes lrs; see `lrfind.experiments.samplers`.

    Attributes:
        path: the import path of its function: a function of (low, high, history, count, seed) if it learns,
            and of (low, high, count, seed) if it does not.
        learns: whether it learns from the trials so far. If so, it is asked for `search.batch` lrs at a
            time, after lrs that are spread evenly; otherwise it is asked once for all lrs.
    """

    path: str
    learns: bool


SAMPLERS = {
    "random": Sampler("lrfind.experiments.samplers:random", learns=False),
    "sobol": Sampler("lrfind.experiments.samplers:sobol", learns=False),
    "tpe": Sampler("lrfind.experiments.samplers:tpe", learns=True),
    "gp": Sampler("lrfind.experiments.samplers:gp", learns=True),
}


@dataclass(frozen=True)
class SinkRow:
    """One sink, a tracker of experiments to which a run is written too; see `lrfind.views.sinks.protocol`.

    Attributes:
        path: the import path of its class.
        packages: the packages that it needs.
        place: the argument that is given after a colon, as in `--to mlflow:URI`.
    """

    path: str
    packages: tuple[str, ...]
    place: str


SINKS = {
    "tensorboard": SinkRow("lrfind.views.sinks.tensorboard:TensorBoard", ("tensorboard",), "folder"),
    "mlflow": SinkRow("lrfind.views.sinks.mlflow:MLflow", ("mlflow", "sqlalchemy", "alembic"), "uri"),
    "wandb": SinkRow("lrfind.views.sinks.wandb:WandB", ("wandb",), "folder"),
}

TRANSFORMERS_SCHEDULES = {
    "constant_with_warmup": "linear_warmup",
    "cosine_with_restarts": "cosine_restarts",
    "cosine_with_min_lr": "cosine",
    "warmup_stable_decay": "wsd",
    "reduce_lr_on_plateau": "reduce_on_plateau",
}
"""The names of transformers' schedules that have another name here."""
TRANSFORMERS_ARGS = {"num_warmup_steps": "warmup", "warmup_steps": "warmup", "num_decay_steps": "decay"}
"""The args of transformers' schedules that have another name here."""

CATALOGS: Mapping[str, Mapping[str, str]] = {
    "model": MODELS,
    "data": DATASETS,
    "loss": LOSSES,
    "optimizer": {name: row.path for name, row in OPTIMIZERS.items()},
    "schedule": {name: row.path for name, row in SCHEDULES.items()},
    "sampler": {name: row.path for name, row in SAMPLERS.items()},
    "sink": {name: row.path for name, row in SINKS.items()},
}
"""For each key of the config that takes built-in names: the names and their import paths."""


@dataclass(frozen=True)
class Kind:
    """One command that makes runs. Its parts are import paths, which `config.registry.load` resolves.

    Attributes:
        command: the click command.
        section: the config section that it reads.
        lanes: the kind of its lanes: short probes, ramps of the lr, or whole trainings.
        run: from a run directory that this process has locked to its result (`runs.result.RunResult`).
        summarize: from a record (`runs.result.RunRecord`) to its part of summary.json.
        text: from a summary to the text on the terminal.
        figures: from a result to its figures, by file name.
        report: from a result to the answer and the evidence in its report
            (`views.report.content.Report`).
        attempts: the key of the summary that lists the attempts, each with its outcome. If there is no answer
            and all attempts failed, the exit code is 1 instead of 3. None if the summary has no such list.
        writes_best: whether the answer is written as best.yaml.
        variants: from an experiment to its variants that the command compares; None if it compares none.
        overlay: from several results to one figure of them all; None if there is no such figure.
        rounds: the class that plans its lanes, one round after another; None if it runs no rounds.
        recommends: whether `lrfind train` can train with its answer. It cannot with the lr of a training that
            is done, and not with that of a script, which trains itself.
        spreads: whether workers can train its lanes. Then `run` also takes a `training.team.Team`, or None.
    """

    command: str
    section: str
    lanes: Literal["probes", "ramps", "trainings"]
    run: str
    summarize: str
    text: str
    figures: str
    report: str
    attempts: str | None
    writes_best: bool
    variants: str | None = None
    overlay: str | None = None
    rounds: str | None = None
    recommends: bool = True
    spreads: bool = False


KINDS = {
    "find": Kind(
        command="lrfind.cli.find:find",
        section="find",
        lanes="probes",
        run="lrfind.experiments.find:run_find",
        summarize="lrfind.runs.summaries.find:find_summary",
        text="lrfind.views.text.find:find_text",
        figures="lrfind.views.plots.find:find_figures",
        report="lrfind.views.report.find:find_report",
        attempts=None,
        writes_best=True,
        spreads=True,
    ),
    "script": Kind(
        command="lrfind.cli.script:script",
        section="find",
        lanes="probes",
        run="lrfind.experiments.script.run:run_script",
        summarize="lrfind.runs.summaries.script:script_summary",
        text="lrfind.views.text.script:script_text",
        figures="lrfind.views.plots.find:find_figures",
        report="lrfind.views.report.find:find_report",
        attempts=None,
        writes_best=False,
        recommends=False,
    ),
    "range-test": Kind(
        command="lrfind.cli.range_test:range_test",
        section="range_test",
        lanes="ramps",
        run="lrfind.experiments.range_test:run_range_test",
        summarize="lrfind.runs.summaries.range_test:range_test_summary",
        text="lrfind.views.text.range_test:range_test_text",
        figures="lrfind.views.plots.range_test:range_test_figures",
        report="lrfind.views.report.range_test:range_test_report",
        attempts=None,
        writes_best=False,
        variants="lrfind.config.variants:over_settings",
        overlay="lrfind.views.plots.overlay:overlay_figure",
    ),
    "grid": Kind(
        command="lrfind.cli.sweep:grid",
        section="grid",
        lanes="trainings",
        run="lrfind.experiments.sweep:run_sweep",
        summarize="lrfind.runs.summaries.sweep:sweep_summary",
        text="lrfind.views.text.sweep:sweep_text",
        figures="lrfind.views.plots.sweep:sweep_figures",
        report="lrfind.views.report.sweep:sweep_report",
        attempts="rates",
        writes_best=True,
        overlay="lrfind.views.plots.overlay:overlay_figure",
        rounds="lrfind.experiments.rounds:GridRounds",
        spreads=True,
    ),
    "search": Kind(
        command="lrfind.cli.sweep:search",
        section="search",
        lanes="trainings",
        run="lrfind.experiments.sweep:run_sweep",
        summarize="lrfind.runs.summaries.sweep:sweep_summary",
        text="lrfind.views.text.sweep:sweep_text",
        figures="lrfind.views.plots.sweep:sweep_figures",
        report="lrfind.views.report.sweep:sweep_report",
        attempts="rates",
        writes_best=True,
        overlay="lrfind.views.plots.overlay:overlay_figure",
        rounds="lrfind.experiments.rounds:SearchRounds",
        spreads=True,
    ),
    "compare": Kind(
        command="lrfind.cli.sweep:compare",
        section="compare",
        lanes="trainings",
        run="lrfind.experiments.sweep:run_sweep",
        summarize="lrfind.runs.summaries.compare:comparison_summary",
        text="lrfind.views.text.compare:comparison_text",
        figures="lrfind.views.plots.courses:comparison_figures",
        report="lrfind.views.report.courses:comparison_report",
        attempts="standings",
        writes_best=True,
        variants="lrfind.config.variants:compared",
        rounds="lrfind.experiments.rounds:CompareRounds",
        spreads=True,
    ),
    "train": Kind(
        command="lrfind.cli.train:train",
        section="training",
        lanes="trainings",
        run="lrfind.experiments.train:run_training",
        summarize="lrfind.runs.summaries.train:training_summary",
        text="lrfind.views.text.train:training_text",
        figures="lrfind.views.plots.courses:training_figures",
        report="lrfind.views.report.courses:training_report",
        attempts="trainings",
        writes_best=False,
        overlay="lrfind.views.plots.courses:overlay_figure",
        recommends=False,
        spreads=True,
    ),
}
"""The commands that make runs."""

COMMANDS = {name: kind.command for name, kind in KINDS.items()} | {
    "suggest": "lrfind.cli.range_test:suggest",
    "scale": "lrfind.cli.scale:scale",
    "schedules": "lrfind.cli.schedules:schedules",
    "runs": "lrfind.cli.runs:runs",
    "show": "lrfind.cli.runs:show_run",
    "report": "lrfind.cli.report:report",
    "status": "lrfind.cli.runs:status",
    "watch": "lrfind.cli.watch:watch",
    "resume": "lrfind.cli.runs:resume",
    "plot": "lrfind.cli.runs:plot",
    "export": "lrfind.cli.runs:export",
    "repair": "lrfind.cli.runs:repair",
    "init": "lrfind.cli.config:init",
    "check": "lrfind.cli.config:check",
    "ls": "lrfind.cli.config:ls",
    "schema": "lrfind.cli.config:schema",
    "doctor": "lrfind.cli.setup:doctor",
    "completion": "lrfind.cli.setup:completion",
}
"""Every command and the import path of its click command; see `COMMAND_GROUPS`."""

COMMAND_GROUPS = {
    "Find a rate": ("find", "script", "range-test", "suggest", "scale"),
    "Measure": ("grid", "search", "compare"),
    "Train": ("train", "schedules"),
    "Look at runs": ("runs", "show", "report", "watch", "status", "resume", "plot", "export", "repair"),
    "Configs and set-up": ("init", "check", "ls", "schema", "doctor", "completion"),
}
"""The groups of commands in `lrfind --help`, in its order. A command of no group is in a last one."""
