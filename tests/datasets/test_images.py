from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lrfind.datasets.images import image_folder
from lrfind.datasets.rows import split_rows
from lrfind.errors import UsageError
from tests.helpers.images import write_images


def pixels(folder: Path) -> np.ndarray:
    """Return all images of a folder of classes, sorted by name, (N, C, H, W) from 0 to 1."""
    files = sorted(folder.rglob("*.png"))
    return np.stack([np.asarray(Image.open(file)) for file in files]).transpose(0, 3, 1, 2) / 255


def test_images_are_scaled_by_the_training_images_alone(tmp_path: Path) -> None:
    write_images(tmp_path, {"dogs": 10, "cats": 20})
    train, held = image_folder(str(tmp_path), size=[12, 10], seed=1)
    images = pixels(tmp_path)
    rows = split_rows(30, 0.2, 1, np.repeat([0, 1], [20, 10]))
    mean = images[rows[0]].mean(axis=(0, 2, 3), keepdims=True)
    deviation = images[rows[0]].std(axis=(0, 2, 3), keepdims=True)
    for part, chosen in ((train, rows[0]), (held, rows[1])):
        x, y = part.rows(range(len(part)))
        np.testing.assert_allclose(x, (images[chosen] - mean) / deviation, atol=1e-5)
        assert y.tolist() == (chosen >= 20).astype(int).tolist()
    assert (train.classes, train.names) == (2, ["cats", "dogs"])
    assert torch.bincount(held.labels).tolist() == [4, 2]
    assert train.transforms[1] == "images resized to 12 x 10, in colour"
    assert "of all 24 training images" in train.transforms[2]
    assert train.transforms[3] == "2 classes: cats, dogs"


def test_loaded_images_equal_lazily_read_images_bit_for_bit(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 6, "b": 6})
    lazy = image_folder(str(tmp_path), size=8, channels=1)
    data = lazy.loaded()
    for part, (x, y) in ((lazy.train, data.train), (lazy.validation, data.validation)):
        rows = [part.rows([i]) for i in range(len(part))]
        assert all(torch.equal(one[0], x[i]) and one_y == y[i] for i, (one, one_y) in enumerate(rows))
        assert part.bytes == x.nbytes + y.nbytes
    assert data.train[0].shape[1:] == (1, 8, 8)
    assert data.train[0].mean().abs() < 1e-5
    assert data.train[0].std(correction=0) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("training", "name"),
    [("train", "val"), ("train", "validation"), ("train", "dev"), ("Training", "Testing")],
)
def test_folders_for_training_and_validation_are_the_split(tmp_path: Path, training: str, name: str) -> None:
    write_images(tmp_path / training, {"a": 5, "b": 4})
    write_images(tmp_path / name, {"b": 2}, seed=1)
    train, held = image_folder(str(tmp_path), size=[12, 10])
    assert (len(train), len(held)) == (9, 2)
    assert held.labels.tolist() == [1, 1]
    assert train.transforms[0] == f"split by folder: {training}/ and {name}/"


def test_a_folder_around_the_classes_is_named_with_the_path_that_would_do(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 2, "b": 2})
    with pytest.raises(UsageError, match=f"set data.args.path to {tmp_path / 'train'}.$"):
        image_folder(str(tmp_path))


def test_only_a_sample_of_very_many_images_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrfind.datasets.images.MEASURED", 4)
    write_images(tmp_path, {"a": 5, "b": 5})
    assert "of 4 of the 8 training images" in image_folder(str(tmp_path), size=4)[0].transforms[2]


def test_deep_and_turned_and_constant_images_are_read_as_they_look(tmp_path: Path) -> None:
    for name in ("dark", "bright"):
        (tmp_path / name).mkdir()
    grey = np.full((2, 3), 65535 * 3 // 5, dtype=np.uint16)
    for i in range(2):
        Image.fromarray(grey).save(tmp_path / "bright" / f"{i}.png")  # 16 bits
        image = Image.new("RGB", (3, 2))
        image.putpixel((0, 0), (255, 255, 255))
        exif = image.getexif()
        exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
        image.save(tmp_path / "dark" / f"{i}.png", exif=exif)
    train, _ = image_folder(str(tmp_path), size=[3, 2], channels=1, validation=0.5)
    (bright, dark), _ = train.rows([0, 1])
    mean, deviation = train.scale
    assert (bright * deviation + mean).mean() == pytest.approx(0.6, abs=0.005)
    turned = (dark * deviation + mean)[0]
    assert turned.argmax() == 1  # at the top right
    Image.new("L", (3, 2), 9).save(tmp_path / "dark" / "0.png")


def test_folders_that_are_not_a_data_set_are_refused_with_the_reason(tmp_path: Path) -> None:
    def refused(message: str, **arguments: object) -> None:
        with pytest.raises(UsageError, match=message):
            image_folder(str(tmp_path), **arguments)

    refused("has no sub-folders with images")
    Image.new("L", (2, 2)).save(tmp_path / "0.png")
    refused("has 1 image but no sub-folders; put the images of each class into a sub-folder")
    write_images(tmp_path, {"a": 3})
    refused("has one class, a/; at least two sub-folders are needed.$")
    (tmp_path / "b").mkdir()
    refused("no image in .*b .*remove the folder, or put images into it")
    refused("size must be one positive number, or .height, width.; found .3, 0.", size=[3, 0])
    (tmp_path / "b" / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "b" / "more.png").write_bytes((tmp_path / "a" / "00.png").read_bytes()[:99])
    refused(r"b/(broken.jpg|more.png) cannot be read as an image")
    with pytest.raises(UsageError, match=r"no folder .* in .*did you mean"):
        image_folder(str(tmp_path) + "x")


def test_a_class_only_in_the_validation_folder_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cats": 2, "dogs": 2})
    write_images(tmp_path / "val", {"dog": 2})
    with pytest.raises(
        UsageError, match="unknown class 'dog'; did you mean dogs.* There are no training images of it"
    ):
        image_folder(str(tmp_path), size=4)
