"""MNIST and Fashion-MNIST through torchvision, and the subset of MNIST that comes with lrfind."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lrfind.datasets.tensors import TensorData
from lrfind.errors import UsageError, in_one_line

MNIST_SCALE = (0.1307, 0.3081)  # mean and standard deviation of the training pixels in [0, 1]
FASHION_SCALE = (0.2860, 0.3530)


def mnist_mini(digits: Sequence[int] = tuple(range(10))) -> TensorData:
    """6,000 real MNIST images, 5,000 to train and 1,000 to validate; see MNIST_MINI.md beside this file.

    Args:
        digits: the digits whose images are used; y is the place of the digit in this list.

    Returns:
        x (N, 1, 28, 28) float32 with mean 0 and deviation 1, y (N,) int64 in 0..9.

    Raises:
        UsageError: if `digits` does not hold at least two different digits.
    """
    if len(digits) < 2 or len(set(digits)) < len(digits) or not set(digits) <= set(range(10)):
        raise UsageError(
            f"data: mnist_mini: digits must be two or more different digits from 0 to 9; found {[*digits]}."
        )
    with (resources.files("lrfind.datasets") / "mnist_mini.npz").open("rb") as file:
        archive = np.load(file)
        arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
    train, validation = (
        _select(digits, *_scaled(arrays[f"{split}_images"], arrays[f"{split}_labels"], MNIST_SCALE))
        for split in ("train", "validation")
    )
    return TensorData(train, validation, len(digits), _transforms(MNIST_SCALE))


def _select(digits: Sequence[int], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return only the images of these digits; y is the place of each image's digit in the list."""
    if [*digits] == [*range(10)]:
        return x, y
    places = torch.full((10,), -1)
    places[list(digits)] = torch.arange(len(digits))
    chosen = places[y] >= 0
    return x[chosen], places[y[chosen]]


def mnist_rows() -> TensorData:
    """The images of `mnist_mini` as sequences: 28 steps, each a row of 28 pixels from top to bottom.

    Returns:
        x (N, 28, 28) float32 with mean 0 and deviation 1, y (N,) int64 in 0..9.
    """
    images = mnist_mini()
    (x, y), (held_x, held_y) = images.train, images.validation
    transforms = (*images.transforms, "each image is a sequence of its 28 rows")
    return TensorData((x.squeeze(1), y), (held_x.squeeze(1), held_y), images.classes, transforms)


def mnist(root: str = "data", download: bool = True) -> TensorData:
    """The 70,000 images of MNIST (LeCun, Cortes and Burges) in its own split: 60,000 and 10,000.

    Args:
        root: the folder that has, or will get, MNIST/raw with the four files (.gz or unpacked).
        download: whether the files are downloaded when they are missing.

    Returns:
        The same tensors as `mnist_mini`.

    Raises:
        UsageError: if the files are missing and cannot be downloaded, or cannot be read.
    """
    return _from_torchvision("MNIST", root, download, MNIST_SCALE)


def fashion_mnist(root: str = "data", download: bool = True) -> TensorData:
    """The 70,000 images of Fashion-MNIST (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747); see `mnist`."""
    return _from_torchvision("FashionMNIST", root, download, FASHION_SCALE)


def _scaled(images: Tensor, labels: Tensor, scale: tuple[float, float]) -> tuple[Tensor, Tensor]:
    mean, deviation = scale
    pixels = images.to(torch.float32).div_(255).sub_(mean).div_(deviation)
    return pixels.unsqueeze(1), labels.to(torch.int64)


def _transforms(scale: tuple[float, float]) -> tuple[str, ...]:
    mean, deviation = scale
    return (
        f"pixels scaled to the range 0 to 1, less the mean {mean:g}, divided by the deviation {deviation:g},"
        " both of the full training split",
    )


def _from_torchvision(name: str, root: str, download: bool, scale: tuple[float, float]) -> TensorData:
    raw = Path(root).expanduser() / name / "raw"
    if not _files(raw):
        _fetch(name, root, download)
    files = _files(raw)
    if not files:
        raise UsageError(f"data: {name} was downloaded, but its four files are not in {raw}.")

    def read(split: str) -> tuple[Tensor, Tensor]:
        try:
            images = _read_idx(files[f"{split}-images-idx3-ubyte"])
            labels = _read_idx(files[f"{split}-labels-idx1-ubyte"])
        except (OSError, ValueError, EOFError, zlib.error) as error:
            raise UsageError(
                f"data: the {split} files of {name} in {raw} cannot be read ({error}); delete them and"
                " download them again."
            ) from error
        return _scaled(images, labels, scale)

    return TensorData(read("train"), read("t10k"), 10, _transforms(scale))


def _files(raw: Path) -> dict[str, Path]:
    """Return the four files by their stems, unpacked or .gz; an empty dict if any of the four is missing."""
    files = {}
    for stem in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        paths = [path for path in (raw / stem, raw / f"{stem}.gz") if path.is_file()]
        if not paths:
            return {}
        files[stem] = paths[0]
    return files


def _read_idx(path: Path) -> Tensor:
    """Read a file of unsigned bytes in the IDX format, unpacked or .gz.

    Such a file has two zero bytes, the type (8: unsigned byte), the number of axes, the size of each axis as
    a big-endian 32-bit integer, and the values.
    """
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path.name} is not an IDX file of unsigned bytes")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    return torch.from_numpy(values.reshape(shape.astype(int)).copy())


def _fetch(name: str, root: str, download: bool) -> None:
    folder = f"{Path(root).expanduser() / name / 'raw'}"
    if not download:
        raise UsageError(
            f"data: {name} is not in {folder}; set `download: true`, or put its four files there."
        )
    from torchvision import datasets  # slow to import, and only the download needs it

    try:
        getattr(datasets, name)(root=root, download=True)
    except Exception as error:  # torchvision lets any network error through
        raise UsageError(
            f"data: {name} is not in {folder}, and cannot be downloaded ({in_one_line(error, 160)})."
            " Without a network, put the four *-ubyte.gz files there, or use `mnist_mini`, which comes with"
            " lrfind."
        ) from error
