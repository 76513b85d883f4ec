"""Checkpoints inside the lanes of a sweep: a killed process continues inside the lane, with the same result."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from lrfind.errors import StorageError
from lrfind.experiments.checkpoint import pause_steps, remove_checkpoint
from lrfind.runs.store import Run
from tests.experiments.test_train import Crash
from tests.helpers.command import Command
from tests.helpers.runs import conduct, start

WAY = (
    "model={name: mlp, args: {hidden: [8], dropout: 0.3}}",
    "data.batch_size=16",
    "optimizer=adam",
    "grid={lrs: [0.001, 0.01], seeds: 2, lanes: single}",
    "training={steps: 24, eval_every: 5, checkpoint_every: 4, schedule: one_cycle}",
)


def crash_in(lane: int, step: int) -> Any:
    def watch(lanes: Any, at: int, losses: Any) -> None:
        if (lanes[0].lane, at) == (lane, step):
            raise Crash

    return lambda lanes, steps: watch


def assert_same_tables(run: Path, calm: Path) -> None:
    for table in ("steps.csv", "health.csv"):
        assert (run / table).read_text() == (calm / table).read_text()
    tables = [pd.read_csv(path / "lanes.csv").drop(columns="train_seconds") for path in (run, calm)]
    pd.testing.assert_frame_equal(*tables)


def test_a_lane_that_was_killed_by_kill_9_continues_where_its_checkpoint_is(
    lrfind: Command, config: Path
) -> None:
    # The loss kills its own process in the 18th step of the third lane.
    Path("kill_in_lane.py").write_text(
        "import os, signal\nfrom torch import nn\ncalls = 0\n"
        "def loss(output, y):\n"
        "    global calls\n"
        "    calls += output.requires_grad\n"
        "    if calls == int(os.environ.get('KILL_AT', -1)): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return nn.functional.mse_loss(output, y)\n"
    )
    way = [word for part in (*WAY, "loss='kill_in_lane:loss'") for word in ("--set", part)]
    call = list(map(str, ("grid", config, *way, "--import-root", ".", "--out")))
    assert lrfind(*call, "calm") in (0, 3), lrfind.err
    import kill_in_lane  # type: ignore[import-not-found]

    before_lanes = kill_in_lane.calls - 4 * 24
    done = subprocess.run(
        [sys.executable, "-m", "lrfind", *call, "run"], capture_output=True, text=True,
        env=os.environ | {"KILL_AT": str(before_lanes + 2 * 24 + 18)},
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    (file,) = Path("run").glob("checkpoint.*")
    held = torch.load(file, weights_only=True)
    assert len(held["steps"]) == 16
    assert lrfind("resume", "run", "--import-root", ".") in (0, 3), lrfind.err
    assert kill_in_lane.calls - before_lanes - 4 * 24 < 2 * 24
    assert_same_tables(Path("run"), Path("calm"))
    assert not list(Path("run").glob("checkpoint*"))


@pytest.mark.parametrize("overrides", [(), ("grid={lrs: [0.001, 0.01], seeds: 2, lanes: stacked}",),
                                       ("grid.prune=true",)], ids=["single", "stacked", "pruned"])  # fmt: skip
def test_an_interrupted_sweep_ends_with_the_tables_of_one_that_was_not(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    calm = start(tmp_path / "calm", "grid", *WAY, *overrides)
    conduct(calm)
    run = start(tmp_path / "run", "grid", *WAY, *overrides)
    for lane, step in ((0, 3), (0, 4), (2, 3)) if overrides else ((0, 7), (0, 15), (2, 22)):
        with pytest.raises(Crash):
            conduct(Run.open(run.path), watch=crash_in(lane, step))
    seen: list[int] = []
    conduct(Run.open(run.path), watch=lambda lanes, steps: lambda lanes, at, losses: seen.append(at))
    assert seen[0] == (0 if overrides else 20)
    assert_same_tables(run.path, calm.path)
    assert not list(run.path.glob("checkpoint*"))


def test_checkpoints_are_looked_for_often_enough_and_not_more_often() -> None:
    assert pause_steps(7, 0.001) == 7
    assert pause_steps(None, 0.001) == 10_000
    assert pause_steps(None, 100.0) == 1


def test_a_checkpoint_that_a_kill_left_behind_a_stored_lane_is_removed(tmp_path: Path) -> None:
    run = start(tmp_path / "run", "grid", *WAY)
    with pytest.raises(Crash):
        conduct(run, crash_in(2, 14))
    (run.path / "checkpoint.lane0.pt").write_bytes(b"of a lane that is stored")
    conduct(run)
    assert not list(run.path.glob("checkpoint.*"))


def test_a_checkpoint_that_cannot_be_removed_stops_the_run_so_that_it_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path, *, missing_ok: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", closed)
    with pytest.raises(StorageError, match="you may not write there") as error:
        remove_checkpoint(tmp_path / "checkpoint.lane0.pt")
    assert error.value.exit_code == 4
