"""limit.py: its functions compute what lrfind's models and optimizers compute."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

SPEED = Path(__file__).parents[2] / "benchmarks/speed"


@pytest.mark.parametrize("case", ["mlp", "cnn", "transformer"])
def test_all_ways_end_at_the_same_losses_and_are_measured(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SPEED))
    limit, threads = importlib.import_module("limit"), torch.get_num_threads()
    monkeypatch.setattr(limit, "LANES", 2)
    path = tmp_path / "figures.json"
    arguments = ["--case", case, "--turns", "1", "--steps", "3", "--json", str(path)]
    try:
        result = CliRunner().invoke(limit.main, arguments)
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())
    assert [row["what"] for row in rows] == [
        "single lanes",
        "stacked lanes",
        "limit",
        "preloaded loop",
    ]
    assert rows[2]["ratio"] == 1
    assert all(row["seconds"] > 0 and row["ratio"] > 0 for row in rows)
