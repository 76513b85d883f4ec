"""A first config for a CSV file: its columns are inspected, and what can be mended by settings is mended."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from lrfind.datasets.csv_inspection import inspected, mend
from lrfind.datasets.csv_problems import data_block
from lrfind.datasets.csv_table import Settings
from lrfind.errors import UsageError, listed

BATCH_SIZE = 32  # less if there are fewer than twice as many rows to train
TRAINED = 0.8  # the share of the rows that are trained on
EPOCHS, FEWEST_STEPS, MOST_STEPS = 20, 200, 3000


def csv_config(path: str, target: str) -> str:
    """Return a config that trains a small perceptron on a table; comments say what was decided.

    Args:
        path: the path of the file.
        target: the column to predict.

    Raises:
        UsageError: if there is no such file or column, or settings cannot mend the table.
    """
    settings, table, problems = mend(Settings(path, target))
    if table is None or settings.target != target:
        inspected(Settings(path, target))
        raise UsageError(f"data: {path} cannot be used with the target '{target}'.")
    batch_size = max(1, min(BATCH_SIZE, int(TRAINED * table.rows) // 2))
    steps = min(max(EPOCHS * table.rows // batch_size, FEWEST_STEPS), MOST_STEPS)
    regression = table.task == "regression"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).strip("-._")[:80] or "table"
    remarks = [f"{p.column or 'the file'}: {p.what}; so {_in_words(p.mends)} set" for p in problems]
    remarks += table.remarks
    about = [f"A perceptron on {settings.shown_path}, which predicts '{target}' ({table.task})."]
    if remarks:
        about.append("What was decided about the columns; change data.args if you know better:")
    about += [f"- {remark}" for remark in remarks]
    return "\n".join(
        [
            *(f"# {' '.join(line.split())}" for line in about),  # names may hold line breaks
            f"name: {name}",
            "model: {name: mlp, args: {hidden: [64, 64]}}",
            *data_block(settings),
            f"  batch_size: {batch_size}",
            f"loss: {'mse' if regression else 'cross_entropy'}",
            "optimizer: {name: adamw, lr: 1e-3}",
            f"training: {{steps: {steps}, schedule: cosine}}",
            "",
        ]
    )


def _in_words(names: Iterable[str]) -> str:
    """Return names of settings with their verb.

    >>> _in_words(["decimal", "thousands"]), _in_words(["ignore"])
    ('`decimal` and `thousands` are', '`ignore` is')
    """
    quoted = [f"`{name}`" for name in names]
    return f"{listed(quoted)} {'is' if len(quoted) == 1 else 'are'}"
