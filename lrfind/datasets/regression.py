"""A synthetic linear regression whose curvature is known exactly."""

from __future__ import annotations

import math

import torch

from lrfind.datasets.tensors import TensorData
from lrfind.errors import UsageError


def regression(
    samples: int = 512,
    features: int = 8,
    noise: float = 0.1,
    condition: float = 10.0,
    seed: int = 0,
    validation: int = 128,
) -> TensorData:
    """Y = X w + noise, with the second moments of X set exactly.

    On the training rows, X'X / samples has eigenvalues that are evenly spaced in log from 1 / `condition` to
    1. The columns of X are orthogonal to the constant, so a bias is a direction of its own with eigenvalue 1.
    For the mean squared error the Hessian is 2 X'X / samples: lambda_max = 2, lambda_min = 2 / `condition`,
    and gradient descent on the full batch is stable below 2 / lambda_max = 1.

    Args:
        samples: N, the number of rows for training; more than `features`.
        features: D, the number of columns.
        noise: the standard deviation of the noise in y.
        condition: lambda_max / lambda_min of the Hessian, at least 1.
        seed: the seed of X, w and the noise.
        validation: M, the number of rows for validation, which are drawn from the same distribution.

    Returns:
        x (N, D) and y (N, 1) in float32, and the same with M rows for validation.
    """
    if samples <= features or features < 1 or condition < 1 or noise < 0 or validation < 1:
        raise UsageError(
            "data: regression needs samples > features >= 1, condition >= 1, noise >= 0 and validation >= 1;"
            f" found samples {samples}, features {features}, condition {condition:g}, noise {noise:g},"
            f" validation {validation}."
        )
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    raw = normal(samples, features)
    basis, _ = torch.linalg.qr(raw - raw.mean(dim=0))  # (N, D), orthonormal, each column sums to 0
    scale = torch.logspace(0, -math.log10(condition), features, dtype=torch.float64).sqrt()
    rotation, _ = torch.linalg.qr(normal(features, features))
    x = samples**0.5 * (basis * scale) @ rotation.T
    held_x = (normal(validation, features) * scale) @ rotation.T
    weight = rotation @ normal(features, 1)  # has the same share in every direction of curvature

    def target(rows: torch.Tensor) -> torch.Tensor:
        exact: torch.Tensor = rows @ weight
        return exact + noise * normal(len(rows), 1)

    y, held_y = target(x), target(held_x)
    origin = f"artificial, drawn with seed {seed}; the training loss has exactly the configured curvature"
    return TensorData((x.float(), y.float()), (held_x.float(), held_y.float()), transforms=(origin,))
