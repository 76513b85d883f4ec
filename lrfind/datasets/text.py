"""Text as characters, each of which is to be predicted from those before it."""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch
from torch import Tensor

from lrfind.datasets.files import existing_file, read_text
from lrfind.datasets.tensors import TensorData
from lrfind.errors import UsageError, counted


def text(
    path: str | None = None, length: int = 64, stride: int | None = None, validation: float = 0.1
) -> TensorData:
    """A text in windows of characters, to predict the next character; by default 36 Shakespeare sonnets.

    The characters are numbered in their sorted order. The windows to train on are cut from the first part of
    the text, the held-out ones from the rest, so no character of the text is in both.

    Args:
        path: the path of a file of UTF-8 text; None for the sonnets that come with lrfind (see SONNETS.md).
        length: T, the number of characters in a window.
        stride: the number of characters from the start of a window to the start of the next; None for
            `length`.
        validation: the share of the text, its last part, that is held out.

    Returns:
        x (N, T) and y (N, T) int64; y has the character that follows each character of x.

    Raises:
        UsageError: if there is no such text, or too little of it.
    """
    if length < 1 or (stride is not None and stride < 1) or not 0 < validation < 1:
        raise UsageError(
            "data: text needs length >= 1, stride >= 1 and validation between 0 and 1; found length"
            f" {length}, stride {stride}, validation {validation:g}."
        )
    if path is None:
        name, whole = "the sonnets", (resources.files("lrfind.datasets") / "sonnets.txt").read_text("utf-8")
    else:
        file = existing_file(path)
        name, whole = str(file), read_text(file)
    held_count = round(len(whole) * validation)
    longest = min(held_count, len(whole) - held_count) - 1
    if longest < length:
        advice = (
            f"set data.args.length to at most {longest}, or give a longer text"
            if longest > 0
            else "give a longer text"
        )
        raise UsageError(
            f"data: {name}: {counted(len(whole), 'character')}, {held_count:,} of them held out, are too few"
            f" for windows of {counted(length, 'character')} and the next character; {advice}."
        )
    points = np.frombuffer(whole.encode("utf-32-le"), np.uint32)
    characters, numbers = np.unique(points, return_inverse=True)
    if len(characters) < 2:
        raise UsageError(f"data: {name} repeats a single character, so there is nothing to predict.")
    ids = torch.from_numpy(numbers)
    step = stride or length
    return TensorData(
        _windows(ids[: len(ids) - held_count], length, step),
        _windows(ids[len(ids) - held_count :], length, step),
        len(characters),
        (
            f"{len(whole):,} characters of {len(characters)} kinds, numbered in sorted order",
            f"cut into windows of {counted(length, 'character')}, one every {step:,}; the last"
            f" {held_count:,} characters are held out",
        ),
        len(characters),
    )


def _windows(ids: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    windows = ids.unfold(0, length + 1, stride)  # (N, T + 1)
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()
