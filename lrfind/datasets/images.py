"""Images in folders, one folder for each class. An image is read when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lrfind.datasets.files import existing_folder
from lrfind.datasets.rows import split_rows
from lrfind.datasets.tensors import LazyData
from lrfind.errors import UsageError, counted, first_few, unknown

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TRAINING_FOLDERS = ("train", "training")
HELD_FOLDERS = ("val", "valid", "validation", "dev", "test", "testing")
"""The folders of a split, in small or capital letters. The first one that exists is used."""
MEASURED = 2000  # the most images that the mean and the deviation are measured on

Scale = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images that are resized to one size, each read from its file when it is needed.

    Attributes:
        files: the N paths of the images.
        labels: (N,) int64, the class of each image.
        names: the names of the classes.
        shape: the shape (C, H, W) that every image gets.
        scale: the mean and the deviation, (C, 1, 1) each, of pixels from 0 to 1. An image is standardised
            with them.
        transforms: what was done to the data, in words.
    """

    files: Sequence[Path]
    labels: Tensor
    names: Sequence[str]
    shape: tuple[int, int, int]
    scale: Scale
    transforms: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.names)

    @property
    def bytes(self) -> int:
        """The memory that all rows would take as tensors, in bytes."""
        return len(self) * (4 * prod(self.shape) + 8)

    def rows(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return several rows at once: x (B, C, H, W) float32 and y (B,).

        Raises:
            UsageError: if a file cannot be read.
        """
        mean, deviation = self.scale
        x = torch.empty(len(chosen), *self.shape)
        for image, row in zip(x, chosen, strict=True):
            image[:] = (_pixels(self.files[row], self.shape) - mean) / deviation
        return x, self.labels[list(chosen)]


def image_folder(
    path: str,
    size: int | Sequence[int] = 64,
    channels: Literal[1, 3] = 3,
    validation: float = 0.2,
    seed: int = 0,
) -> LazyData:
    """Your own images: a folder for each class, in train/ and val/ or split by lrfind; resized and scaled.

    Args:
        path: the folder with a sub-folder for each class; or the folder with train/ (or training/) and val/
            (or valid/, validation/, dev/, test/, testing/), each of which has a sub-folder for each class.
        size: the height and the width, or one number for both. Images of another shape are stretched.
        channels: 3 for colour, 1 for grey.
        validation: the share of each class that is held out, where there are no folders train/ and val/.
        seed: the seed of that split, and of the choice of images that are measured.

    Returns:
        The training and the held-out images, each channel standardised with the mean and the deviation of
        the training images. An image is read when it is needed.

    Raises:
        UsageError: if the folders do not have this layout, or an image cannot be read.
    """
    sides = [size, size] if isinstance(size, int) else [*size]
    if len(sides) != 2 or min(sides) < 1:
        raise UsageError(
            f"data: data.args.size must be one positive number, or [height, width]; found {size}."
        )
    height, width = sides
    shape = (channels, height, width)
    folder = existing_folder(path)
    train_folder, held_folder = (_first_folder(folder, names) for names in (TRAINING_FOLDERS, HELD_FOLDERS))
    if train_folder is not None and held_folder is not None:
        classes, files, labels = _labelled(train_folder)
        _, held_files, held_labels = _labelled(held_folder, classes)
        split = f"split by folder: {train_folder.name}/ and {held_folder.name}/"
    else:
        classes, all_files, all_labels = _labelled(folder)
        train, held = split_rows(len(all_files), validation, seed, all_labels.numpy())
        files, labels = [all_files[i] for i in train], all_labels[train]
        held_files, held_labels = [all_files[i] for i in held], all_labels[held]
        split = f"split at random: {validation:.4g} of each class held out"
    scale, measured = _measure(files, shape, seed)
    transforms = (
        split,
        f"images resized to {height} x {width}, {'in colour' if channels == 3 else 'in grey'}",
        f"pixels scaled to the range 0 to 1, less the mean {_in_words(scale[0])}, divided by the deviation"
        f" {_in_words(scale[1])}, both of {measured}",
        f"{len(classes):,} classes: {first_few(classes)}",
    )
    return LazyData(
        ImageFiles(files, labels, classes, shape, scale, transforms),
        ImageFiles(held_files, held_labels, classes, shape, scale, transforms),
    )


def _first_folder(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first of the sub-folders with these names that exists, or None."""
    found = {entry.name.lower(): entry for entry in folder.iterdir() if entry.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _labelled(
    folder: Path, training_classes: list[str] | None = None
) -> tuple[list[str], list[Path], Tensor]:
    """Return the classes (the folder's, if none are passed), the images, and the class (N,) of each."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not names:
        count = len(_images(folder))
        content = (
            f"has {counted(count, 'image')} but no sub-folders" if count else "has no sub-folders with images"
        )
        raise UsageError(f"data: {folder} {content}; put the images of each class into a sub-folder.")
    if training_classes is None and len(names) == 1:
        inner = folder / names[0]
        classes_below = any(entry.is_dir() for entry in inner.iterdir())
        advice = (
            f". If its sub-folders are the classes, set data.args.path to {inner}" if classes_below else ""
        )
        raise UsageError(
            f"data: {folder} has one class, {names[0]}/; at least two sub-folders are needed{advice}."
        )
    classes = names if training_classes is None else training_classes
    files: list[Path] = []
    labels: list[int] = []
    for name in names:
        if name not in classes:
            raise UsageError(
                f"data: {folder}: {unknown('class', name, classes)} There are no training images of it."
            )
        images = _images(folder / name)
        if not images:
            raise UsageError(
                f"data: there is no image in {folder / name} ({', '.join(SUFFIXES)}); remove the folder, or"
                " put images into it."
            )
        files += images
        labels += [classes.index(name)] * len(images)
    return classes, files, torch.tensor(labels)


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _pixels(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """Return an image file as (C, H, W) float32 from 0 to 1, turned upright according to its EXIF note."""
    from PIL import Image, ImageOps  # comes with torchvision, and only images need it

    channels, height, width = shape
    try:
        with Image.open(path) as file:
            image: Image.Image = ImageOps.exif_transpose(file)
            if image.mode in ("I", "F"):
                raise ValueError(
                    f"its pixels are 32-bit numbers (mode {image.mode}); save it with 8 or 16 bits"
                )
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))  # `convert` would clip
            image = image.convert("RGB" if channels == 3 else "L")
            resized = image.resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(
            f"data: {path} cannot be read as an image ({error}); repair or remove it."
        ) from error
    pixels = torch.from_numpy(np.array(resized)).reshape(height, width, channels)
    return pixels.permute(2, 0, 1).to(torch.float32) / 255


def _measure(files: Sequence[Path], shape: tuple[int, int, int], seed: int) -> tuple[Scale, str]:
    """Return the mean and the deviation of each channel, (C, 1, 1), and in words the measured images."""
    chosen = np.random.default_rng(seed).permutation(len(files))[:MEASURED]
    sums = torch.zeros(2, shape[0], dtype=torch.float64)
    for i in chosen:
        pixels = _pixels(files[i], shape).to(torch.float64)
        sums += torch.stack([pixels.mean(dim=(1, 2)), pixels.square().mean(dim=(1, 2))])
    mean, square = sums / len(chosen)
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    deviation[deviation < 1e-6] = 1  # every pixel is the same
    share = "all" if len(chosen) == len(files) else f"{len(chosen):,} of the"
    return (
        (mean.float().reshape(-1, 1, 1), deviation.float().reshape(-1, 1, 1)),
        f"{share} {len(files):,} training images",
    )


def _in_words(values: Tensor) -> str:
    return ", ".join(f"{value:.3f}" for value in values.flatten().tolist())
