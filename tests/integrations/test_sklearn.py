from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.datasets import make_classification, make_regression
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier, SGDRegressor

import lrfind
from lrfind.errors import UsageError
from lrfind.integrations import sklearn as integration
from tests.helpers.states import bits


def classes(count: int = 2) -> tuple[Any, Any]:
    pair: tuple[Any, Any] = make_classification(
        640, 12, n_informative=6, n_classes=count, flip_y=0.05, random_state=0
    )
    return pair


def numbers() -> tuple[Any, Any]:
    x, y = make_regression(640, 8, noise=5.0, random_state=0)
    return x, y / y.std()


def classifier(**settings: Any) -> SGDClassifier:
    settings = {"loss": "log_loss", "learning_rate": "constant", "eta0": 1e-3, **settings}
    return SGDClassifier(max_iter=20, tol=None, random_state=0, **settings)


def answer(best: lrfind.Recommendation) -> tuple[float, ...]:
    return best.lr, best.low, best.high, best.cost


def final_loss(estimator: Any, eta0: float, x: Any, y: Any) -> float:
    estimator.set_params(eta0=eta0).fit(x, y)
    return integration._loss(estimator, x, y, np.unique(y) if hasattr(estimator, "classes_") else None)


@pytest.mark.parametrize("loss", ["log_loss", "hinge", "modified_huber"])
def test_the_loss_of_a_classifier_is_that_of_its_formula(loss: str) -> None:
    x, y = classes()
    estimator = classifier(loss=loss).fit(x, y)
    margin = (2 * y - 1) * estimator.decision_function(x)
    formula = {
        "log_loss": np.log1p(np.exp(-margin)),
        "hinge": np.maximum(0, 1 - margin),
        "modified_huber": np.where(margin >= -1, np.maximum(0, 1 - margin) ** 2, -4 * margin),
    }
    assert integration._loss(estimator, x, y, np.unique(y)) == pytest.approx(formula[loss].mean())


def test_the_answer_is_that_of_the_plain_call_with_the_same_steps() -> None:
    x, y = classes()
    best = integration.find(classifier(), x, y)
    copy, optimizer = classifier(), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

    def step(batch: Any) -> float:
        rows = batch[0].numpy()
        loss = np.log(2.0)
        if hasattr(copy, "coef_"):
            loss = float(np.logaddexp(0, -(2 * y[rows] - 1) * copy.decision_function(x[rows])).mean())
        copy.eta0 = optimizer.param_groups[0]["lr"]
        if copy.eta0 > 0:
            copy.partial_fit(x[rows], y[rows], classes=[0, 1])
        return loss

    index = torch.utils.data.TensorDataset(torch.arange(len(x)))
    loader = torch.utils.data.DataLoader(index, batch_size=32, shuffle=True)
    plain = lrfind.find(step=step, data=loader, optimizers=[optimizer], keep=[copy], steps=20 * 20)
    assert (best.lr, best.low, best.high, best.cost) == (plain.lr, plain.low, plain.high, plain.cost)


@pytest.mark.parametrize("count", [2, 4])
def test_fit_at_the_rate_of_a_classifier_ends_lower_than_far_from_it(count: int) -> None:
    x, y = classes(count)
    estimator = classifier()
    best = integration.find(estimator, x, y)
    assert estimator.eta0 == best.lr
    assert not hasattr(estimator, "coef_")
    ends = [final_loss(classifier(), best.lr * factor, x, y) for factor in (1 / 30, 1, 30)]
    assert ends[1] == min(ends)


def test_fit_at_the_rate_of_a_regressor_ends_lower_than_far_from_it() -> None:
    x, y = numbers()
    estimator = SGDRegressor(learning_rate="invscaling", max_iter=20, tol=None, random_state=0)
    best = integration.find(estimator, x, y)
    assert estimator.eta0 == best.lr
    assert best.training.mean_multiplier < 0.5
    copies = [SGDRegressor(max_iter=20, tol=None, random_state=0) for _ in range(2)]
    low, middle = (final_loss(c, best.lr * f, x, y) for c, f in zip(copies, (1 / 30, 1), strict=True))
    assert middle < low


def test_fit_is_as_if_nobody_had_asked() -> None:
    x, y = classes()
    runs = []
    for asks in (False, True):
        np.random.seed(0)
        estimator = classifier().set_params(random_state=None)
        if asks:
            integration.find(estimator, x, y)
            estimator.eta0 = 1e-3
        runs.append(bits(estimator.fit(x, y).coef_, set()))
    assert runs[0] == runs[1]


def test_estimators_without_a_rate_are_refused() -> None:
    with pytest.raises(UsageError, match="learning_rate='optimal', which does not use eta0"):
        integration.find(SGDClassifier(), *classes())
    for other in (LogisticRegression(), Perceptron()):
        with pytest.raises(UsageError, match=f"found an object of type {type(other).__name__}"):
            integration.find(other, *classes())


def test_a_column_of_targets_gets_the_answer_of_a_row() -> None:
    x, y = numbers()
    found = [
        integration.find(SGDRegressor(learning_rate="constant"), x, targets) for targets in (y, y[:, None])
    ]
    assert answer(found[0]) == answer(found[1])


def test_a_sparse_matrix_gets_the_answer_of_its_numbers() -> None:
    x, y = classes()
    settings = {"fit_intercept": False}  # which scikit-learn decays only with sparse inputs
    found = [integration.find(classifier(**settings), inputs, y).lr for inputs in (x, csr_array(x))]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_the_weights_of_classes_and_rows_count_in_updates_and_loss() -> None:
    x, y = classes()
    y = np.where(y + (x[:, 0] > 2) > 0, "b", "a")
    few = float((y == "a").mean())
    by_name = {"a": 0.5 / few, "b": 0.5 / (1 - few)}
    rows = np.array([by_name[name] for name in y])
    found = [
        integration.find(classifier(class_weight="balanced"), x, y),
        integration.find(classifier(class_weight=by_name), x, y),
        integration.find(classifier(), x, y, sample_weight=rows),
    ]
    assert {best.lr for best in found} == {found[0].lr} != {integration.find(classifier(), x, y).lr}
    assert found[0].lanes[0].loss[5] == pytest.approx(found[2].lanes[0].loss[5])


def test_an_estimator_whose_fit_goes_on_is_probed_from_its_weights() -> None:
    x, y = classes()
    fitted = classifier(warm_start=True, eta0=1e-5).fit(x, y)
    start = integration._loss(fitted, x, y, np.unique(y))
    best = integration.find(fitted, x, y)
    assert np.mean(best.lanes[0].loss) == pytest.approx(start, rel=0.05)
    assert start < 0.95 * np.log(2)
