"""Folders of small pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(
    folder: Path, counts: dict[str, int], seed: int = 0, shape: tuple[int, ...] = (12, 10, 3)
) -> None:
    generator = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(
                folder / name / f"{i:02}.png"
            )
