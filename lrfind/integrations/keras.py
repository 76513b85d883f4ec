"""Keras with the torch backend: the rate for a compiled model.

from lrfind.integrations.keras import find

find(model, x, y, batch_size=32, epochs=5)
model.fit(x, y, batch_size=32, epochs=5)
"""

from __future__ import annotations

import math
import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch

import lrfind
from lrfind.errors import UsageError
from lrfind.integrations.adapters import Grouped, expect_kind, framework, replaced, same_randomness

RATES = ("initial_learning_rate", "warmup_target", "end_learning_rate", "values")
"""The attributes of Keras' schedules that are rates; all others are numbers of steps or ratios."""


def find(
    model: Any,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    batch_size: int = 32,
    epochs: int = 1,
    **options: Any,
) -> lrfind.Recommendation:
    """Find the rate for `model.fit` with the same arguments, and set it in `model.optimizer`.

    Args:
        model: a compiled Keras model whose weights exist.
        x: an array of inputs with one row for each example; or a loader of batches (x, y), as in `fit`.
        y: the targets.
        sample_weight: the weight of each example.
        batch_size: the number of rows in a batch.
        epochs: the number of epochs of the planned training.
        options: arguments of `lrfind.find`; they go before what the model says.

    Raises:
        NoSuggestion: if no rate can be recommended.
        UsageError: if Keras uses another backend, or if the model is not ready.
    """
    keras = framework("keras", "keras")
    if keras.backend.backend() != "torch":
        raise UsageError(
            f"Keras uses the backend {keras.backend.backend()!r}; set the environment variable"
            " KERAS_BACKEND=torch before Keras is imported."
        )
    expect_kind(model, "model", "Model", "keras")
    if not model.trainable_variables or getattr(model, "optimizer", None) is None:
        raise UsageError(
            "the model must have weights that are trained, and be compiled: call it once, as in model(x[:1]),"
            " and then model.compile(...)."
        )
    data = x if y is None else _loader(x, y, sample_weight, batch_size)
    optimizer = _inner(model.optimizer)
    size = optimizer.gradient_accumulation_steps or 1
    if "steps" not in options:
        options["steps"] = max(1, epochs * len(data) // size)
    steps = options["steps"] * size  # Keras counts batches
    with same_randomness():
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        peak, table = _schedule(optimizer, steps, keras)
        with _settable(optimizer, keras, peak):
            adapter = _adapter(model)
            read: dict[str, Any] = {} if table is None else {"schedule": table[::size].__getitem__}
            if _has_steps_of_its_own(model, keras):
                step, groups = partial(_step, model, adapter), Grouped(data, size)
                best = lrfind.find(step=step, data=groups, optimizers=[adapter], **read | options)
            else:
                loss = partial(_batch_loss, model)
                best = lrfind.find(model, adapter, data=data, loss=loss, **read | options)
        _set(optimizer, best.lr, peak, steps, keras)
    return best


def _inner(optimizer: Any) -> Any:
    """Return the optimizer inside a `LossScaleOptimizer`: the lr is there."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _has_steps_of_its_own(model: Any, keras: Any) -> bool:
    """Return whether Keras must take the steps: the model has its own, or they are more than an update."""
    optimizer = model.optimizer
    return (
        type(model).train_step is not keras.Model.train_step
        or optimizer is not _inner(optimizer)
        or bool(optimizer.loss_scale_factor or optimizer.gradient_accumulation_steps)
    )


def _schedule(optimizer: Any, steps: int, keras: Any) -> tuple[float, list[float] | None]:
    """Return the highest rate of an optimizer, and its rate at each step; None if it is always the same."""
    schedule = optimizer._learning_rate
    if isinstance(schedule, keras.Variable):
        return float(optimizer.learning_rate), None
    taking_step = isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule)
    table = [float(schedule(step) if taking_step else schedule()) for step in range(steps)]
    return max(table), table


def _set(optimizer: Any, lr: float, peak: float, steps: int, keras: Any) -> None:
    """Set the rate, or the rates of a schedule so that its highest one is this; warn if that fails."""
    schedule = optimizer._learning_rate
    if isinstance(schedule, keras.Variable):
        optimizer.learning_rate = lr
        return
    for name in RATES:
        value = getattr(schedule, name, None)
        if isinstance(value, list | tuple):
            setattr(schedule, name, [lr * (one / peak) for one in value])
        elif value is not None:
            setattr(schedule, name, lr * (value / peak))
    now, _ = _schedule(optimizer, steps, keras)
    if not math.isclose(now, lr, rel_tol=1e-3):
        warnings.warn(
            f"the rate {lr:.3g} does not reach the training: the highest rate of {type(schedule).__name__} is"
            f" {now:.3g}. Compile the model with a schedule whose peak is best.lr.",
            stacklevel=3,
        )


def _loader(x: Any, y: Any, sample_weight: Any, batch_size: int) -> Any:
    """Return a loader that shuffles the rows of arrays, as `fit` does.

    Raises:
        UsageError: if they are no arrays of so many rows.
    """
    try:
        columns = [torch.as_tensor(column) for column in (x, y, sample_weight) if column is not None]
        rows = torch.utils.data.TensorDataset(*columns)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise UsageError(
            "x, y and sample_weight must be arrays with one row for each example. If the model has several"
            " inputs or outputs, give a DataLoader of batches ([x1, x2], y) as x, and no y."
        ) from error
    return torch.utils.data.DataLoader(rows, batch_size=batch_size, shuffle=True)


def _batch_loss(model: Any, batch: Any) -> Any:
    """Return the loss of a batch (x, y) or (x, y, weights) as the model computes it."""
    x, y, *weights = batch
    output = model(x, training=True)
    weight = weights[0] if weights else None
    return model.compute_loss(x=x, y=y, y_pred=output, sample_weight=weight, training=True)


def _step(model: Any, adapter: Any, batches: list[Any]) -> Any:
    """Let the model take a step on its batches; return the mean loss before it, None if there is none."""
    adapter.hand_over()
    model.reset_metrics()  # the loss is a mean over all batches since then
    logs = [model.train_step(tuple(batch)) for batch in batches]
    return logs[-1].get("loss")


def _adapter(model: Any) -> Any:
    """Return an optimizer of torch for that of the model; its class has the same name."""
    family: Any = type(type(_inner(model.optimizer)).__name__, (Adapter,), {"__module__": __name__})
    return family(model)


class Adapter(torch.optim.Optimizer):
    """Keras' optimizer as one of torch: it takes the gradients from the weights.

    Args:
        model: the model.
    """

    def __init__(self, model: Any) -> None:
        weights, inner = model.trainable_weights, _inner(model.optimizer)
        momentum = float(getattr(inner, "momentum", 0.0) or 0.0)
        group: dict[str, Any] = {
            "params": [weight.value for weight in weights],
            "lr": float(inner.learning_rate),
        }
        super().__init__([group | {"momentum": momentum}], {})
        self.inner, self.weights = inner, [*weights]
        self.slots = [
            variable.value for variable in model.optimizer.variables
        ]  # even large ones are restored

    def hand_over(self) -> None:
        """Give Keras' optimizer the rate."""
        with torch.no_grad():
            self.inner._learning_rate.assign(self.param_groups[0]["lr"])

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Let Keras make the update."""
        self.hand_over()
        with torch.no_grad():
            self.inner.apply([weight.value.grad for weight in self.weights], self.weights)


def _settable(optimizer: Any, keras: Any, lr: float) -> AbstractContextManager[Any]:
    """Put a variable in the place of a schedule, so that the rate can be set."""
    if isinstance(optimizer._learning_rate, keras.Variable):
        return nullcontext()
    variable = keras.Variable(lr, trainable=False, dtype="float32")
    return replaced(optimizer, _learning_rate=variable)
