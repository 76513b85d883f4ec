"""Make the files that come with two experiments: csv_regression.csv and fine_tuning.pt in configs/.

    python scripts/make_companions.py FOLDER

The table is drawn with seed 7 and is the same on every machine. The weights are those of a CNN that has been
trained on the digits 0 to 6 of `mnist_mini` for 400 steps; on another machine their last digits differ.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click
import numpy as np

from lrfind.config.experiment import check
from lrfind.config.templates import starter
from lrfind.experiments.train import run_training
from lrfind.runs.store import Run
from lrfind.training.watch import Observer

COLUMNS = "id,area,rooms,floor,built,district,lift,garden,rent"
PRICES = {"centre": 17, "harbour": 15, "north": 11, "hills": 16, "south": 10}
PRETRAINING = (
    "model.args={channels: [8, 16, 16], hidden: 32}",
    "data.args={digits: [0, 1, 2, 3, 4, 5, 6]}",
    "optimizer={name: adam, lr: 3e-3}",
    "training={steps: 400, schedule: linear}",
)


def flats(count: int = 400) -> str:
    """Draw the table of rents, with some missing values, as the text of a CSV file."""
    generator = np.random.default_rng(7)
    lines = [COLUMNS]
    for number in range(count):
        area = float(np.round(generator.gamma(9, 8) + 18, 1))
        rooms = int(np.clip(round(area / 26 + generator.normal(0, 0.6)), 1, 7))
        floor = int(generator.integers(0, 9))
        built = int(generator.choice([1905, 1935, 1958, 1972, 1990, 2008, 2019]) + generator.integers(-4, 5))
        district = str(generator.choice([*PRICES], p=[0.2, 0.15, 0.25, 0.1, 0.3]))
        lift = floor > 3 or generator.random() < 0.3
        garden = floor == 0 and generator.random() < 0.6
        age = 1 + 0.25 * ((built > 2000) - 0.3 * (1950 < built < 1980))
        rent = area**0.9 * PRICES[district] * age * (1 + 0.015 * floor * lift) * (1.08 if garden else 1)
        rent *= np.exp(generator.normal(0, 0.08))
        area_text = "" if generator.random() < 0.03 else f"{area:g}"
        built_text = "" if generator.random() < 0.04 else str(built)
        words = ["yes" if present else "no" for present in (lift, garden)]
        fields = (1000 + number, area_text, rooms, floor, built_text, district, *words, f"{rent:.0f}")
        lines.append(",".join(map(str, fields)))
    return "\n".join(lines) + "\n"


def weights(target: Path) -> None:
    """Train the CNN and copy its weights to `target`."""
    text = starter("mnist_cnn")
    with tempfile.TemporaryDirectory() as folder:
        run = Run.start(Path(folder) / "run", "train", check(text, PRETRAINING), text, PRETRAINING)
        run_training(run, Observer())
        shutil.copy(run.path / "model.seed0.pt", target)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Write csv_regression.csv and fine_tuning.pt into FOLDER."""
    (folder / "csv_regression.csv").write_text(flats(), encoding="utf-8")
    weights(folder / "fine_tuning.pt")


if __name__ == "__main__":
    main()
