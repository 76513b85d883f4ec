"""A short form of `make test-fault`: some faults, once or twice each, and no lane is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUITE = Path(__file__).parents[2] / "benchmarks/reliability/faults/suite.py"


def test_faults_lose_no_lane_and_count_none_twice() -> None:
    groups = ("kills", "full", "limits", "vanishing", "damage", "drivers", "versions")
    only = [word for name in groups for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, str(SUITE), "--times", "0.02", *only], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong" not in done.stdout
    assert "kill -9 of the driver" in done.stdout
