from __future__ import annotations

import pytest
import torch

from lrfind.models.linear import Linear
from lrfind.models.mlp import MLP
from lrfind.models.small_cnn import SmallCNN

IMAGE = {"in_channels": 1, "image_size": (28, 28), "out_features": 10}


@pytest.mark.parametrize(
    ("model", "shape", "outputs", "parameters"),
    [
        (Linear(5, 2), (3, 5), 2, 12),
        (MLP(784, 10), (3, 1, 28, 28), 10, 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10),
        (MLP(4, 1, hidden=[], dropout=0.5), (3, 4), 1, 5),
        # The Keras tutorial's network: 93,322 parameters.
        (SmallCNN(**IMAGE, channels=(32, 64, 64)), (3, 1, 28, 28), 10, 93_322),
        (SmallCNN(**IMAGE, channels=(4,), hidden=8), (3, 1, 28, 28), 10, 40 + 26 * 26 * 4 * 8 + 8 + 90),
    ],
)
def test_a_model_has_the_shape_and_the_size_that_it_says(
    model: torch.nn.Module, shape: tuple[int, ...], outputs: int, parameters: int
) -> None:
    assert model(torch.zeros(shape)).shape == (shape[0], outputs)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="5 convolutions leave nothing of a 28x28 image"):
        SmallCNN(**IMAGE, channels=[4] * 5)
