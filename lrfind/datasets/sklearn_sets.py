"""The data sets that come with scikit-learn, and those that scikit-learn draws."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from lrfind.datasets.rows import moments, split_rows, standardised, tensor_data
from lrfind.datasets.tensors import TensorData
from lrfind.errors import UsageError

STANDARDISED = "features standardised to mean 0 and deviation 1 on the training rows"


def digits(validation: float = 0.2, seed: int = 0) -> TensorData:
    """1,797 images of handwritten digits, 8 by 8 (Alpaydin and Kaynak 1998, UCI); needs scikit-learn.

    Args:
        validation: the share of each digit that is held out.
        seed: the seed of the split.

    Returns:
        x (N, 1, 8, 8) float32 with mean 0 and deviation 1 over all pixels, y (N,) int64 in 0..9.
    """
    source = _sklearn("digits").load_digits()
    images, labels = source.images[:, None].astype(np.float64), source.target
    rows = split_rows(len(labels), validation, seed, labels)
    mean, deviation = moments(images[rows[0]].reshape(-1, 1))
    standardising = (
        f"pixels of 0 to 16, minus the mean {mean[0]:.4g}, over the deviation {deviation[0]:.4g} of the"
        " training pixels"
    )
    return tensor_data((images - mean) / deviation, labels, rows, 10, (standardising,))


def diabetes(validation: float = 0.2, seed: int = 0) -> TensorData:
    """442 patients, 10 measurements, and the progression of diabetes (Efron et al. 2004); needs scikit-learn.

    Args:
        validation: the share of the rows that is held out.
        seed: the seed of the split.

    Returns:
        x (N, 10) and y (N, 1) float32, each with mean 0 and deviation 1 on the training rows.
    """
    source = _sklearn("diabetes").load_diabetes(scaled=False)
    return _regression(source.data, source.target, validation, seed)


def breast_cancer(validation: float = 0.2, seed: int = 0) -> TensorData:
    """569 tumours, 30 measurements, malignant or benign (Street et al. 1993, UCI); needs scikit-learn.

    Args:
        validation: the share of each class that is held out.
        seed: the seed of the split.

    Returns:
        x (N, 30) float32 with mean 0 and deviation 1 on the training rows, y (N,) int64: 1 if benign.
    """
    source = _sklearn("breast_cancer").load_breast_cancer()
    return _classification(source.data, source.target, validation, seed)


def wine(validation: float = 0.2, seed: int = 0) -> TensorData:
    """178 wines of 3 growers, 13 measurements (Forina et al. 1991, UCI); needs scikit-learn.

    Args:
        validation: the share of each class that is held out.
        seed: the seed of the split.

    Returns:
        x (N, 13) float32 with mean 0 and deviation 1 on the training rows, y (N,) int64 in 0..2.
    """
    source = _sklearn("wine").load_wine()
    return _classification(source.data, source.target, validation, seed)


def make_regression(
    samples: int = 1000,
    features: int = 20,
    informative: int = 10,
    noise: float = 0.1,
    validation: float = 0.2,
    seed: int = 0,
) -> TensorData:
    """A linear regression in which only some of the features matter; drawn by scikit-learn.

    Args:
        samples: N, the number of rows in all.
        features: D, the number of columns.
        informative: the number of columns that y depends on.
        noise: the deviation of the noise, as a multiple of the deviation of y without noise. No model can
            have a mean squared error much below noise² / (1 + noise²).
        validation: the share of the rows that is held out.
        seed: the seed of the rows and of the split.

    Returns:
        x (N, D) and y (N, 1) float32, each with mean 0 and deviation 1 on the training rows.
    """
    if samples < 2 or not 1 <= informative <= features or noise < 0:
        raise UsageError(
            "data: make_regression needs samples >= 2, features >= informative >= 1 and noise >= 0; found"
            f" samples {samples}, features {features}, informative {informative}, noise {noise:g}."
        )
    x, y = _sklearn("make_regression").make_regression(
        n_samples=samples, n_features=features, n_informative=informative, random_state=seed
    )
    y = y + noise * y.std() * np.random.default_rng(seed).standard_normal(samples)
    return _regression(x, y, validation, seed)


def make_classification(
    samples: int = 1000,
    features: int = 20,
    informative: int = 5,
    classes: int = 2,
    separation: float = 1.0,
    noise: float = 0.0,
    validation: float = 0.2,
    seed: int = 0,
) -> TensorData:
    """Classes that are clouds at the corners of a cube, with uninformative features too; by scikit-learn.

    Args:
        samples: N, the number of rows in all.
        features: D, the number of columns.
        informative: the number of columns that the class depends on; the cube has 2^informative corners.
        classes: the number of classes, each at one corner.
        separation: half the side of the cube. A larger cube is easier to learn.
        noise: the share of the rows whose class is drawn at random.
        validation: the share of each class that is held out.
        seed: the seed of the rows and of the split.

    Returns:
        x (N, D) float32 with mean 0 and deviation 1 on the training rows, y (N,) int64.
    """
    if not 2 <= classes <= min(samples // 2, 2**informative) or informative > features:
        raise UsageError(
            "data: make_classification needs 2 <= classes <= 2^informative, features >= informative and at"
            f" least two samples in each class; found classes {classes}, informative {informative}, features"
            f" {features}, samples {samples}."
        )
    if separation <= 0 or not 0 <= noise <= 1:
        raise UsageError(
            "data: make_classification needs separation > 0 and noise from 0 to 1; found separation"
            f" {separation:g}, noise {noise:g}."
        )
    x, y = _sklearn("make_classification").make_classification(
        n_samples=samples,
        n_features=features,
        n_informative=informative,
        n_redundant=0,
        n_classes=classes,
        n_clusters_per_class=1,
        class_sep=separation,
        flip_y=noise,
        random_state=seed,
    )
    return _classification(x, y, validation, seed)


def _sklearn(name: str) -> Any:
    try:
        return importlib.import_module("sklearn.datasets")
    except ImportError as error:
        raise UsageError(
            f"data: {name} needs scikit-learn, which cannot be imported ({error}). Install it:"
            " pip install 'lrfind[sklearn]'."
        ) from error


def _classification(x: np.ndarray, y: np.ndarray, validation: float, seed: int) -> TensorData:
    rows = split_rows(len(y), validation, seed, y)
    return tensor_data(standardised(x, rows[0]), y, rows, int(y.max()) + 1, (STANDARDISED,))


def _regression(x: np.ndarray, y: np.ndarray, validation: float, seed: int) -> TensorData:
    rows = split_rows(len(y), validation, seed)
    (mean,), (deviation,) = moments(y[rows[0], None])
    return tensor_data(
        standardised(x, rows[0]),
        standardised(y[:, None], rows[0]),
        rows,
        None,
        (
            STANDARDISED,
            f"target minus the mean {mean:.6g}, over the deviation {deviation:.6g} of the training rows",
        ),
    )
