from __future__ import annotations

import contextlib
import errno
import io
import math
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import Evaluation, LaneResult
from lrfind.errors import UsageError
from lrfind.runs.store import Run, default_path
from lrfind.runs.tables import lanes_frame, steps_frame
from tests.helpers.runs import start


def lane(number: int = 0, **changes: object) -> LaneResult:
    values: dict[str, object] = {
        "lane": number,
        "seed": 7 + number,
        "planned": 9,
        "peak": 10.0,
        "outcome": "diverged",
        "lr": np.array([1e-7 / 3, 0.1, 10 / 3]),
        "loss": np.array([2 / 3, 1e-300, np.nan]),
        "seconds": 1.5,
    }
    return LaneResult(**(values | changes))


def same(a: LaneResult, b: LaneResult) -> bool:
    return all(np.array_equal(x, y, equal_nan=True) if isinstance(x, np.ndarray) else x == y
               for x, y in zip(vars(a).values(), vars(b).values(), strict=True))  # fmt: skip


def test_lanes_come_back_bit_for_bit(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"command": "grid"})
    run.keep_facts(data={"deep": [1e-3, None]}, planned=3)
    lanes = [
        lane(),
        lane(1, grad_norm=np.array([1.0, np.inf, 3.0]), held_out_loss=np.array([0.1, 0.2, np.nan])),
        lane(2, lr=np.array([]), loss=np.array([]), outcome="failed", error="why"),
    ]
    for result in lanes:
        run.add_lane(result)
    again = Run.open(run.path)
    assert all(same(a, b) for a, b in zip(again.lanes(), lanes, strict=True))
    assert (again.facts().data, again.facts().planned) == ({"deep": [1e-3, None]}, 3)


def bits(result: LaneResult) -> dict[str, object]:
    """Everything in a lane, with the bits of its arrays and the types of its values."""
    return {
        name: (value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else repr(value)
        for name, value in vars(result).items()
    }


def test_lanes_are_the_same_from_memory_and_from_the_disk(tmp_path: Path) -> None:
    constant, nothing = np.full(40, 0.1), np.full(40, np.nan)
    look = LayerHealth(2, "layer.0", 7, True, False, grad_norm=math.inf, zero_share=math.nan)
    odd = np.array([0.0, -0.0, np.nan, -np.nan, 5e-324, -np.inf] * 20)
    lanes = [
        lane(0, planned=40, lr=constant, loss=nothing, held_out_loss=nothing, grad_norm=constant),
        lane(1, planned=120, lr=np.full(120, 1e-3), loss=odd, outcome="interrupted"),
        lane(
            2, peak=np.float64(0.3), evaluations=(Evaluation(3, math.nan, math.nan), Evaluation(1, 0.5, None))
        ),
        lane(3, health=(look, look._replace(layer="=1\ud800", step=0)), lr=np.zeros(3), loss=-np.zeros(3)),
        *(lane(number, lr=np.array([]), loss=np.array([]), outcome="failed") for number in range(4, 40)),
    ]
    run = Run.create(tmp_path / "run", {"command": "grid"})
    with run.held():
        run.add_lanes(lanes[::-1])
        run.add_lanes([lane(1, planned=120, lr=np.full(120, 1e-3), loss=odd)])
        inside = run.lanes()
    outside = Run.open(run.path).lanes()
    assert [*map(bits, inside)] == [*map(bits, outside)]
    assert [inside[1].outcome, inside[0].held_out_loss, inside[3].health[0].zero_share] == [
        "diverged",
        None,
        None,
    ]
    assert (inside[1].loss.tobytes(), inside[0].lr.tobytes()) == (odd.tobytes(), constant.tobytes())


def test_a_run_that_is_held_again_reads_what_others_stored_meanwhile(tmp_path: Path) -> None:
    mine = Run.create(tmp_path / "run", {"command": "grid"})
    with mine.held():
        mine.add_lane(lane(outcome="interrupted"))
    mine.release()
    with Run.open(mine.path).held():
        Run.open(mine.path).add_lane(lane(seconds=2.5))
    with mine.held():
        assert [result.seconds for result in mine.lanes()] == [2.5]


def test_what_a_run_left_that_was_killed_as_it_began_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".run.sqlite.part").write_text("half a database")
    Run.create(tmp_path, {"command": "grid"})
    assert Run.open(tmp_path).lanes() == []


@given(st.lists(st.floats(width=64), min_size=1, max_size=8))
def test_floats_survive_the_csv(losses: list[float]) -> None:
    result = lane(lr=np.geomspace(1e-9, 1 / 3, len(losses)), loss=np.array(losses))
    frame = pd.read_csv(io.StringIO(steps_frame([result]).to_csv(index=False)), dtype=str)
    np.testing.assert_array_equal(frame.loss.astype(float), result.loss)
    np.testing.assert_array_equal(frame.lr.astype(float), result.lr)


def test_a_row_a_lane_says_how_it_ended() -> None:
    (row,) = lanes_frame([lane()]).to_dict("records")
    assert list(row) == [
        "lane", "seed", "lr", "outcome", "steps", "first_loss", "best_loss", "last_loss", "train_loss", "val_loss",
        "best_val_loss", "best_val_step", "metric", "rung", "train_seconds"
    ]  # fmt: skip
    assert (row["lr"], row["outcome"], row["steps"], row["first_loss"], row["best_loss"]) == (
        10,
        "diverged",
        3,
        2 / 3,
        1e-300,
    )
    assert np.isnan(row["last_loss"])


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    Run.create(tmp_path / "run")
    with pytest.raises(
        UsageError, match="is not empty, and a run never overwrites anything; give another --out"
    ):
        Run.create(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="a file is in the way"):
        Run.create(tmp_path / "file")
    with pytest.raises(UsageError, match="a file is in the way"):
        Run.create(tmp_path / "file" / "run")


def test_a_directory_that_holds_a_run_names_the_command_that_goes_on_from_it(tmp_path: Path) -> None:
    run = start(tmp_path / "run", "find")
    for concluded, hint in (
        (False, f"It holds an unfinished run of find, which `lrfind resume {run.path}` continues."),
        (True, f"It holds a finished run of find, which `lrfind show {run.path}` prints."),
    ):
        run.keep_facts(concluded=concluded)
        with pytest.raises(UsageError, match=f"give another --out. {re.escape(hint)}$"):
            start(run.path, "find")


def test_an_empty_run_is_discarded_and_nothing_else(tmp_path: Path) -> None:
    made = Run.create(tmp_path / "made")
    assert made.discard_if_empty()
    assert not made.path.exists()
    mine = Run.create(tmp_path / "mine")
    (mine.path / "notes.txt").write_text("precious")
    assert mine.discard_if_empty()
    assert [path.name for path in mine.path.iterdir()] == ["notes.txt"]
    full = Run.create(tmp_path / "full")
    full.add_lane(lane())
    assert not full.discard_if_empty()
    assert len(full.lanes()) == 1


def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    with contextlib.closing(sqlite3.connect(run.path / "run.sqlite")) as database:
        (size,) = database.execute("PRAGMA page_count").fetchone()
    connect = sqlite3.connect

    def small(*args: Any, **options: Any) -> sqlite3.Connection:
        database = connect(*args, **options)
        database.execute(f"PRAGMA max_page_count = {size}")
        return database

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sqlite3.connect", small)
        with pytest.raises(OSError, match="full") as full:
            run.add_lane(lane(lr=np.geomspace(1, 2, 5000), loss=np.ones(5000)))
    assert full.value.errno == errno.ENOSPC
    assert run.lanes() == []  # the lane was one transaction


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no run\.sqlite"):
        Run.open(tmp_path)
    (tmp_path / "run.sqlite").write_text("something else, and longer than a header of sqlite is" * 30)
    with pytest.raises(UsageError, match="is damaged: file is not a database"):
        Run.open(tmp_path)


def test_a_default_path_that_is_taken_gets_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "now")
    first = default_path("exp", "grid")
    assert first == Path("runs/exp-grid-now")
    assert first.is_dir()
    assert default_path("exp", "grid") == Path("runs/exp-grid-now-2")
