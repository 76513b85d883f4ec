from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.preprocessing import StandardScaler

from lrfind.datasets import sklearn_sets
from lrfind.datasets.mnist import fashion_mnist, mnist, mnist_mini, mnist_rows
from lrfind.datasets.regression import regression
from lrfind.datasets.rows import split_rows, standardised
from lrfind.datasets.tensors import TensorData, split
from lrfind.datasets.text import text
from lrfind.errors import UsageError


def test_mnist_mini_is_stratified_and_scaled() -> None:
    data = mnist_mini()
    for (images, labels), count in ((data.train, 500), (data.validation, 100)):
        assert images.shape == (10 * count, 1, 28, 28)
        assert torch.bincount(labels).tolist() == [count] * 10
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


def test_an_impossible_regression_is_refused() -> None:
    with pytest.raises(UsageError, match="samples > features"):
        regression(samples=4, features=4)


def write_idx(path: Path, values: np.ndarray, packed: bool) -> None:
    data = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()
    path.with_suffix(".gz" if packed else "").write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize("packed", [True, False])
def test_the_raw_files_of_mnist_are_read_packed_or_not(tmp_path: Path, packed: bool) -> None:
    generator = np.random.default_rng(0)
    for name, function in (("MNIST", mnist), ("FashionMNIST", fashion_mnist)):
        raw = tmp_path / name / "raw"
        raw.mkdir(parents=True)
        images = generator.integers(0, 256, (7, 28, 28), dtype=np.uint8)
        for stem in ("train", "t10k"):
            write_idx(raw / f"{stem}-images-idx3-ubyte", images, packed)
            write_idx(raw / f"{stem}-labels-idx1-ubyte", np.arange(7, dtype=np.uint8), packed)
        data = function(root=str(tmp_path), download=False)
        assert data.train[1].tolist() == list(range(7))
        back = data.train[0] * (0.3081 if name == "MNIST" else 0.3530)
        back += 0.1307 if name == "MNIST" else 0.2860
        np.testing.assert_allclose((back.squeeze(1) * 255).numpy(), images, atol=1e-3)


def test_missing_and_broken_files_are_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="set `download: true`, or put its four files there"):
        mnist(root=str(tmp_path), download=False)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for stem in ("train", "t10k"):
        (raw / f"{stem}-images-idx3-ubyte.gz").write_bytes(b"not gzip")
        (raw / f"{stem}-labels-idx1-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(UsageError, match="cannot be read .*delete them and download them again"):
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


def test_rows_of_images_are_the_images() -> None:
    assert torch.equal(mnist_rows().train[0], mnist_mini().train[0][:, 0])


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_every_class_gives_its_share(share: float) -> None:
    labels = np.random.default_rng(0).choice(4, 203, p=[0.5, 0.3, 0.15, 0.05])
    train, held = split_rows(203, share, 0, labels)
    assert sorted([*train, *held]) == list(range(203))
    ((_, reference),) = StratifiedShuffleSplit(1, test_size=round(203 * share), random_state=0).split(
        labels, labels
    )
    assert np.abs(np.bincount(labels[held]) - np.bincount(labels[reference])).max() <= 1
    assert len(held) == len(reference)
    assert np.array_equal(held, split_rows(203, share, 0, labels)[1])
    assert not np.array_equal(held, split_rows(203, share, 1, labels)[1])


def test_a_class_with_one_row_is_trained_on() -> None:
    labels = np.array([0] * 5 + [1] + [2] * 5)
    assert all(5 in split_rows(11, 0.5, seed, labels)[0] for seed in range(20))


@pytest.mark.parametrize(
    ("rows", "share", "labels", "message"),
    [
        (1, 0.5, None, "has one row"),
        (9, 1.0, None, "validation must be a share between 0 and 1; found 1"),
        (3, 0.5, np.arange(3), "every row has a class that no other row has"),
    ],
)
def test_an_impossible_split_is_refused(
    rows: int, share: float, labels: np.ndarray | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        split_rows(rows, share, 0, labels)


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer", "wine"])
def test_tables_of_sklearn_are_standardised_by_the_training_rows_alone(name: str) -> None:
    arguments = {"scaled": False} if name == "diabetes" else {}
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True, **arguments)
    data = getattr(sklearn_sets, name)(seed=2)
    rows = split_rows(len(y), 0.2, 2, None if name == "diabetes" else y)
    scaler = StandardScaler().fit(x[rows[0]])
    for (features, target), chosen in ((data.train, rows[0]), (data.validation, rows[1])):
        np.testing.assert_allclose(features, scaler.transform(x[chosen]), atol=1e-5)
        if name == "diabetes":
            expected = StandardScaler().fit(y[rows[0], None]).transform(y[chosen, None])
            np.testing.assert_allclose(target, expected, atol=1e-5)
        else:
            assert target.tolist() == y[chosen].tolist()
    assert data.classes == {"diabetes": None, "breast_cancer": 2, "wine": 3}[name]


def test_digits_are_images_of_mean_0_and_deviation_1() -> None:
    data = sklearn_sets.digits()
    assert data.train[0].shape == (1438, 1, 8, 8)
    assert data.train[0].mean().abs() < 1e-5
    assert data.train[0].std(correction=0) == pytest.approx(1, abs=1e-5)
    assert (torch.bincount(data.validation[1]) - 36).abs().max() <= 1


def test_a_constant_column_becomes_zeros() -> None:
    values = np.column_stack([np.full(9, 0.1), np.arange(9.0), np.zeros(9)])
    result = standardised(values, np.arange(6))
    np.testing.assert_allclose(result[:, [0, 2]], 0, atol=1e-12)
    np.testing.assert_allclose(result[:, 1], StandardScaler().fit(values[:6]).transform(values)[:, 1])


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_the_noise_of_make_regression_is_what_no_model_can_go_below(noise: float) -> None:
    x, y = (
        part.double()
        for part in sklearn_sets.make_regression(samples=5000, features=5, informative=3, noise=noise).train
    )
    weight = torch.linalg.lstsq(x, y).solution
    assert (y - x @ weight).square().mean() == pytest.approx(noise**2 / (1 + noise**2), rel=0.05, abs=1e-9)
    assert (weight.abs() > 0.05).sum() == 3


def test_drawn_classes_are_as_many_as_requested_and_the_same_each_time() -> None:
    data = sklearn_sets.make_classification(samples=400, features=6, informative=3, classes=4, separation=3)
    assert data.classes == 4
    assert torch.bincount(data.train[1]).tolist() == [80] * 4
    assert torch.equal(
        data.train[0],
        sklearn_sets.make_classification(
            samples=400, features=6, informative=3, classes=4, separation=3
        ).train[0],
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sklearn_sets.make_regression(informative=30), "features >= informative >= 1"),
        (lambda: sklearn_sets.make_classification(classes=9, informative=3), r"classes <= 2\^informative"),
        (lambda: sklearn_sets.make_classification(noise=2), "noise from 0 to 1"),
    ],
)
def test_impossible_drawn_data_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_a_missing_sklearn_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"wine needs scikit-learn.* pip install 'lrfind\[sklearn\]'"):
        sklearn_sets.wine()


def decoded(ids: torch.Tensor, whole: str) -> str:
    return "".join(np.array(sorted(set(whole)))[ids.flatten()])


def test_windows_of_text_give_back_the_text_and_its_end_is_held_out(tmp_path: Path) -> None:
    whole = "".join(np.random.default_rng(0).choice(list("abcdé \n"), 1000))
    (tmp_path / "own.txt").write_text(whole, encoding="utf-8")
    data = text(str(tmp_path / "own.txt"), length=16)
    assert data.classes == 7
    for (x, y), part in ((data.train, whole[:900]), (data.validation, whole[900:])):
        covered = (len(part) - 1) // 16 * 16
        assert x.shape == y.shape == (covered // 16, 16)
        assert decoded(x, whole) == part[:covered]
        assert decoded(y, whole) == part[1 : covered + 1]


def test_windows_may_overlap_but_not_with_held_out_windows(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("".join(map(chr, range(256, 356))), encoding="utf-8")
    data = text(str(tmp_path / "own.txt"), length=4, stride=1, validation=0.2)
    assert data.train[0][:, 0].tolist() == list(range(76))
    assert data.train[1].max() == 79
    assert data.validation[0].min() == 80


def test_the_sonnets_come_with_the_package() -> None:
    data = text(length=14)
    assert data.classes == 59
    whole = "".join(sorted("\n !',-.:;?ABCDEFGHIJKLMNOPRSTUVWYabcdefghijklmnopqrstuvwxyz"))
    assert decoded(data.train[0][:2], whole) == "From fairest creatures we de"


@pytest.mark.parametrize(
    ("content", "length", "message"),
    [
        (b"short", 64, "5 characters, 0 of them held out, are too few .*give a longer text"),
        (b"x" * 100, 64, "too few for windows of 64 characters .*length to at most 9, or give a longer text"),
        (b"caf\xe9" * 99, 4, "is not UTF-8 text .byte 3 is 0xe9"),
        (b"x" * 100, 0, "length >= 1"),
    ],
)
def test_a_text_that_cannot_be_used_says_why(
    tmp_path: Path, content: bytes, length: int, message: str
) -> None:
    (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        text(str(tmp_path / "own.txt"), length=length)
    with pytest.raises(UsageError, match=r"no file owm.txt in .*did you mean own.txt\?"):
        text(str(tmp_path / "owm.txt"))


@pytest.mark.parametrize(
    "make", [mnist_mini, mnist_rows, regression, text, sklearn_sets.digits, sklearn_sets.diabetes]
)
def test_every_data_set_says_what_was_done_to_it(make: Callable[[], TensorData]) -> None:
    data = make()
    data.check()
    assert all(len(sentence) > 20 for sentence in data.transforms)
    assert data.transforms
