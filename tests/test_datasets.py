from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from lrfind.datasets.mnist import fashion_mnist, mnist, mnist_mini
from lrfind.datasets.regression import regression
from lrfind.datasets.tensors import TensorData, split
from lrfind.errors import UsageError


def test_mnist_mini_is_stratified_and_scaled() -> None:
    data = mnist_mini()
    for (images, labels), each in ((data.train, 500), (data.validation, 100)):
        assert images.shape == (10 * each, 1, 28, 28)
        assert torch.bincount(labels).tolist() == [each] * 10
    assert data.train[0].mean().abs() < 0.02
    assert data.train[0].std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("condition", [1.0, 10.0, 1000.0])
def test_the_curvature_of_the_regression_is_as_stated(condition: float) -> None:
    x, _ = regression(samples=200, features=6, condition=condition).train
    ones = torch.ones(200, 1)
    hessian = 2 * torch.cat([x, ones], dim=1).double().T @ torch.cat([x, ones], dim=1).double() / 200
    values = torch.linalg.eigvalsh(hessian)
    assert values[-1] == pytest.approx(2, rel=1e-5)
    assert values[0] == pytest.approx(2 / condition, rel=1e-4)


def test_the_noise_of_the_regression_is_as_stated() -> None:
    x, y = (tensor.double() for tensor in regression(samples=4000, features=3, noise=0.5).train)
    residual = y - x @ torch.linalg.lstsq(x, y).solution
    assert residual.std() == pytest.approx(0.5, rel=0.05)


def test_a_regression_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="samples > features"):
        regression(samples=4, features=4)


def write_idx(path: Path, values: np.ndarray, packed: bool) -> None:
    data = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.with_suffix(".gz" if packed else "").write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize("packed", [True, False])
def test_the_raw_files_of_mnist_are_read_packed_or_not(tmp_path: Path, packed: bool) -> None:
    make = np.random.default_rng(0)
    for name, function in (("MNIST", mnist), ("FashionMNIST", fashion_mnist)):
        raw = tmp_path / name / "raw"
        raw.mkdir(parents=True)
        images = make.integers(0, 256, (7, 28, 28), dtype=np.uint8)
        for stem in ("train", "t10k"):
            write_idx(raw / f"{stem}-images-idx3-ubyte", images, packed)
            write_idx(raw / f"{stem}-labels-idx1-ubyte", np.arange(7, dtype=np.uint8), packed)
        data = function(root=str(tmp_path), download=False)
        assert data.train[1].tolist() == list(range(7))
        back = data.train[0] * (0.3081 if name == "MNIST" else 0.3530)
        back += 0.1307 if name == "MNIST" else 0.2860
        np.testing.assert_allclose((back.squeeze(1) * 255).numpy(), images, atol=1e-3)


def test_missing_or_broken_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="allow `download: true`, or put its four files there"):
        mnist(root=str(tmp_path), download=False)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in ("train", "t10k"):
        (raw / f"{stem}-images-idx3-ubyte.gz").write_bytes(b"not gzip")
        (raw / f"{stem}-labels-idx1-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(UsageError, match="cannot be read .*delete them and download again"):
        mnist(root=str(tmp_path))


def test_a_split_is_seeded_and_keeps_every_row() -> None:
    rows = (torch.arange(50), torch.arange(50) * 2)
    first, again, other = split(rows, 0.2, 0), split(rows, 0.2, 0), split(rows, 0.2, 1)
    assert torch.equal(first.train[0], again.train[0])
    assert not torch.equal(first.train[0], other.train[0])
    assert sorted([*first.train[0].tolist(), *first.validation[0].tolist()]) == list(range(50))
    assert torch.equal(first.train[0] * 2, first.train[1])
    assert len(first.validation[0]) == 10


def test_data_with_holes_is_refused_with_the_row() -> None:
    x = torch.zeros(10, 3)
    x[4, 1] = torch.nan
    with pytest.raises(UsageError, match="training split holds NaN or inf .1 in all, the first in row 4"):
        TensorData((x, torch.zeros(10)), (torch.zeros(1), torch.zeros(1))).check()
    with pytest.raises(UsageError, match="differ in length"):
        TensorData((torch.zeros(3), torch.zeros(4)), (torch.zeros(1),)).check()
    with pytest.raises(UsageError, match="validation split is empty"):
        TensorData((torch.zeros(3),), (torch.zeros(0),)).check()
