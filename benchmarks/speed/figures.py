"""The figures of a benchmark, as rows of a JSON file that `report.py` makes tables of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        case: what was computed, such as "MLP, 8 rates x 150 steps".
        what: what was measured, such as "whole sweep".
        seconds: the median of the turns; None where only a ratio or a size was measured.
        ratio: the ratio that `note` explains; None where there is none.
        note: what the ratio compares, its spread and other facts, in words.
    """

    case: str
    what: str
    seconds: float | None
    ratio: float | None
    note: str


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as a JSON list."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
