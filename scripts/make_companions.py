"""Makes the files that come with two experiments: configs/csv_regression.csv and configs/fine_tuning.pt.

    python scripts/make_companions.py FOLDER

The table is drawn from seed 7 and comes out the same everywhere. The weights are those of a CNN that has been
trained on the digits 0 to 6 of `mnist_mini` for 400 steps; on another machine their last digits differ.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from lrfind.config.experiment import check
from lrfind.config.templates import starter
from lrfind.experiments.train import run_training
from lrfind.runs.store import Run

COLUMNS = "id,area,rooms,floor,built,district,lift,garden,rent"
PRICES = {"centre": 17, "harbour": 15, "north": 11, "hills": 16, "south": 10}
PRETRAINING = (
    "model.args={channels: [8, 16, 16], hidden: 32}",
    "data.args={digits: [0, 1, 2, 3, 4, 5, 6]}",
    "optimizer={name: adam, lr: 3e-3}",
    "training={steps: 400, schedule: linear}",
)


def flats(count: int = 400) -> str:
    draw = np.random.default_rng(7)
    lines = [COLUMNS]
    for number in range(count):
        area = float(np.round(draw.gamma(9, 8) + 18, 1))
        rooms = int(np.clip(round(area / 26 + draw.normal(0, 0.6)), 1, 7))
        floor = int(draw.integers(0, 9))
        built = int(draw.choice([1905, 1935, 1958, 1972, 1990, 2008, 2019]) + draw.integers(-4, 5))
        district = str(draw.choice([*PRICES], p=[0.2, 0.15, 0.25, 0.1, 0.3]))
        lift = floor > 3 or draw.random() < 0.3
        garden = floor == 0 and draw.random() < 0.6
        age = 1 + 0.25 * ((built > 2000) - 0.3 * (1950 < built < 1980))
        rent = area**0.9 * PRICES[district] * age * (1 + 0.015 * floor * lift) * (1.08 if garden else 1)
        rent *= np.exp(draw.normal(0, 0.08))
        area_text = "" if draw.random() < 0.03 else f"{area:g}"
        built_text = "" if draw.random() < 0.04 else str(built)
        words = ["yes" if each else "no" for each in (lift, garden)]
        fields = (1000 + number, area_text, rooms, floor, built_text, district, *words, f"{rent:.0f}")
        lines.append(",".join(map(str, fields)))
    return "\n".join(lines) + "\n"


def weights(target: Path) -> None:
    text = starter("mnist_cnn")
    with tempfile.TemporaryDirectory() as folder:
        run = Run.start(Path(folder) / "run", "train", check(text, PRETRAINING), text, PRETRAINING)
        run_training(run)
        shutil.copy(run.path / "model.seed0.pt", target)


if __name__ == "__main__":
    (Path(sys.argv[1]) / "csv_regression.csv").write_text(flats(), encoding="utf-8")
    weights(Path(sys.argv[1]) / "fine_tuning.pt")
