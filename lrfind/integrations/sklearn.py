"""Scikit-learn: `eta0` for `SGDClassifier` and `SGDRegressor`.

from lrfind.integrations.sklearn import find

find(estimator, x, y)
estimator.fit(x, y)
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch

import lrfind
from lrfind.analysis.curves import Array
from lrfind.errors import UsageError
from lrfind.integrations.adapters import framework, same_randomness

ROWS = 32
"""The rows of a step: scikit-learn makes an update for each of them."""
FIRST = 1e-3  # only the ratio of lrs counts, and there is one
USE_ETA0 = ("constant", "invscaling", "adaptive")


def find(
    estimator: Any, x: Any, y: Any, *, sample_weight: Any = None, **options: Any
) -> lrfind.Recommendation:
    """Find `eta0` for `estimator.fit` with the same arguments, and set it in the estimator.

    Copies of the estimator train with `partial_fit`, one pass over 32 rows for each step. The estimator is
    not fitted by this.

    Args:
        estimator: an `SGDClassifier` or an `SGDRegressor`.
        x: (N, D) the inputs; a sparse matrix, too.
        y: (N,) the targets, or (N, 1).
        sample_weight: (N,) the weights of the rows.
        options: arguments of `lrfind.find`; they go before what the estimator says.

    Raises:
        NoSuggestion: if no rate can be recommended.
        UsageError: if the estimator does not use `eta0`.
    """
    base = framework("sklearn.base", "scikit-learn")
    linear = framework("sklearn.linear_model", "scikit-learn")
    if not isinstance(estimator, linear.SGDClassifier | linear.SGDRegressor):
        raise UsageError(
            "estimator must be an SGDClassifier or an SGDRegressor of scikit-learn; found an object of type"
            f" {type(estimator).__name__}."
        )
    if estimator.learning_rate not in USE_ETA0:
        raise UsageError(
            f"the estimator has learning_rate={estimator.learning_rate!r}, which does not use eta0; choose"
            " learning_rate='adaptive', 'constant' or 'invscaling'."
        )
    x, y = x.tocsr() if hasattr(x, "tocsr") else np.asarray(x), np.asarray(y)
    count = x.shape[0]
    y = y.ravel() if y.shape == (count, 1) else y
    weights = np.ones(count) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    epoch = max(1, count // ROWS)
    steps = options.get("steps", min(estimator.max_iter * epoch, 100_000))
    read: dict[str, Any] = {"steps": steps, "schedule": _schedule(estimator)}
    with same_randomness():
        classes = np.unique(y) if base.is_classifier(estimator) else None
        copy = _copy(estimator, y, classes)
        rows = torch.utils.data.TensorDataset(torch.arange(count))
        loader = torch.utils.data.DataLoader(rows, batch_size=min(ROWS, count), shuffle=True, drop_last=True)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=FIRST)
        step = partial(_step, copy, optimizer, (x, y, weights), classes)
        best = lrfind.find(step=step, data=loader, optimizers=[optimizer], **read | options)
    estimator.eta0 = best.lr
    return best


def _copy(estimator: Any, y: Array, classes: Array | None) -> Any:
    """Return a copy that takes updates at a constant rate; it has been fitted if the next fit goes on."""
    goes_on = estimator.warm_start and hasattr(estimator, "coef_")
    copy = deepcopy(estimator) if goes_on else framework("sklearn.base", "scikit-learn").clone(estimator)
    copy.set_params(learning_rate="constant", early_stopping=False, average=False, warm_start=False)
    if classes is not None and copy.class_weight == "balanced":  # which partial_fit does not take
        weigh = framework("sklearn.utils.class_weight", "scikit-learn").compute_class_weight
        copy.class_weight = dict(zip(classes, weigh("balanced", classes=classes, y=y), strict=True))
    return copy


def _schedule(estimator: Any) -> Any:
    """Return the schedule of the rate: "adaptive" is constant until the loss stops falling."""
    if estimator.learning_rate != "invscaling":
        return "constant"
    return lambda step: float(1 + step * ROWS) ** -estimator.power_t


def _step(
    copy: Any,
    optimizer: torch.optim.SGD,
    data: tuple[Any, Array, Array],
    classes: Array | None,
    batch: Any,
) -> float:
    """Let a copy make an update for each row of (x, y, weights); return the mean loss before."""
    rows = batch[0].numpy()
    x, y, weights = (column[rows] for column in data)
    loss = _loss(copy, x, y, classes, weights)
    copy.eta0 = optimizer.param_groups[0]["lr"]
    if copy.eta0 > 0:
        known = {} if classes is None else {"classes": classes}
        copy.partial_fit(x, y, sample_weight=weights, **known)
    return loss


def _loss(copy: Any, x: Any, y: Array, classes: Array | None, weights: Array | None = None) -> float:
    """Return the mean loss of an estimator, without its penalty; rows and classes count by their weights."""
    weights = np.ones(len(y)) if weights is None else weights
    if classes is not None:
        y = np.where(y[:, None] == classes, 1.0, -1.0)  # (N, K), a column for each class against the others
        given = copy.class_weight or {}
        by_class = np.array([float(given.get(name, 1.0)) for name in classes.tolist()])
        if len(classes) == 2:
            y = y[:, 1]
            weights = weights * np.where(y > 0, by_class[1], by_class[0])
        else:
            weights = weights[:, None] * np.where(y > 0, by_class, 1.0)
    output = 0.0 * y  # before the first update
    if hasattr(copy, "coef_"):
        output = copy.predict(x) if classes is None else copy.decision_function(x)
    return float((weights * LOSSES[copy.loss](output, y, copy.epsilon)).mean())


def _huber(output: Array, y: Array, epsilon: float) -> Array:
    distance = np.abs(y - output)
    return np.where(distance <= epsilon, 0.5 * distance**2, epsilon * distance - 0.5 * epsilon**2)


LOSSES: dict[str, Any] = {
    "squared_error": lambda output, y, epsilon: 0.5 * (y - output) ** 2,
    "huber": _huber,
    "epsilon_insensitive": lambda output, y, epsilon: np.maximum(0, np.abs(y - output) - epsilon),
    "squared_epsilon_insensitive": lambda output, y, epsilon: (
        np.maximum(0, np.abs(y - output) - epsilon) ** 2
    ),
    "log_loss": lambda output, y, epsilon: np.logaddexp(0, -y * output),
    "hinge": lambda output, y, epsilon: np.maximum(0, 1 - y * output),
    "squared_hinge": lambda output, y, epsilon: np.maximum(0, 1 - y * output) ** 2,
    "perceptron": lambda output, y, epsilon: np.maximum(0, -y * output),
    "modified_huber": lambda output, y, epsilon: np.where(
        y * output >= -1, np.maximum(0, 1 - y * output) ** 2, -4 * y * output
    ),
}
"""The losses of scikit-learn by their names, from (output, y, epsilon); y is 1 or -1 for classes."""
