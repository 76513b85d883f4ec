"""The benchmark for a GPU, on the CPU: its parts at tiny size, and what becomes of a part that fails."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner

SPEED = Path(__file__).parents[2] / "benchmarks/speed"
BAD_PARTS = """
import os, time

def raises(stage):
    raise ValueError("not this one")

def dies(stage):
    os._exit(3)

def hangs(stage):
    time.sleep(600)
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the command, whose parts are beside it."""
    monkeypatch.syspath_prepend(str(SPEED))
    return importlib.import_module("gpu")


def test_every_part_runs_on_the_cpu_at_tiny_size(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    options = ["--device", "cpu", "--tiny", "--seconds", "900", "--json"]
    started = [sys.executable, SPEED / "gpu.py", *options, path]
    done = subprocess.run(started, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(path.read_text())
    assert [row for row in rows if row["note"].startswith(("FAILED", "left out"))] == []
    measured = {(row["case"], row["what"]) for row in rows}
    assert ("machine", "cpu") in measured
    for precision in ("float32", "bfloat16"):
        for command in ("find", "range-test", "grid", "train"):
            assert (f"{command}, mnist_cnn", precision) in measured
        for call in ("find", "range_test", "grid"):
            assert (f"lrfind.{call}", precision) in measured
    for model in ("MLP", "CNN", "ResNet-18", "GPT"):
        for stack in ("stacked", "stacked, CUDA graph", "stacked, compiled"):
            assert (f"{model}, 2 lanes", stack) in measured
        for loop in ("bare eager loop", "compiled loop"):
            assert (f"{model}, 1 lane", loop) in measured
        assert (model, "2 processes") in measured
    assert ("MLP, 2 rates x 4 steps", "lanes: auto") in measured


def test_without_a_gpu_one_sentence_says_so(gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done = CliRunner().invoke(gpu.main, [])
    assert done.exit_code == 0
    assert done.output.startswith("torch finds no CUDA GPU on this machine, so nothing was measured")
    assert len(done.output.splitlines()) == 1


def test_a_part_that_fails_dies_or_hangs_ends_only_itself(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad_parts.py").write_text(BAD_PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    shares, path = {"hangs": 0.02, "raises": 1.0, "dies": 1.0}, tmp_path / "rows.json"
    parts = [gpu.Part(name, f"bad_parts:{name}", share) for name, share in shares.items()]
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu, "PRELOADED", ["torch"])
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 0.0)
    done = CliRunner().invoke(gpu.main, ["--device", "cpu", "--seconds", "60", "--json", str(path)])
    assert done.exit_code == 0, done.output
    assert [row["note"] for row in json.loads(path.read_text())] == [
        "FAILED: its share of the time, 1 s, was over before its next row",
        "FAILED: ValueError: not this one",
        "FAILED: its process ended with code 3",
    ]
