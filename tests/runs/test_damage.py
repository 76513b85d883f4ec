"""Damaged runs: every damage is told with the way out, and a repaired run ends as the run would have ended."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from lrfind.errors import LrfindError
from lrfind.runs.repair import repair
from lrfind.runs.rows import digest
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result
from tests.helpers.command import Command
from tests.helpers.runs import conduct, start

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
VIEWS = {
    "facts": f"{ENDLESS} i AS name, i AS value FROM n",
    "plan": f"{ENDLESS} i AS lane, 0 AS seed, 0.1 AS lr, '' AS variant FROM n",
    "lanes": f"{ENDLESS} i AS lane, 0 AS seed, 1 AS planned, 0.1 AS lr, 'finished' AS outcome FROM n",
    "steps": f"{ENDLESS} i AS lane, 1 AS size, x'00' AS lr, x'00' AS loss FROM n",
    "evaluations": f"{ENDLESS} 0 AS lane, i AS step, 0.1 AS val_loss, 0.1 AS metric FROM n",
    "health": f"{ENDLESS} i AS lane, '[]' AS layers, x'' AS looks FROM n",
    "digests": f"{ENDLESS} 'lane' AS part, i AS name, 0 AS digest FROM n",
}
CHANGES = {
    "facts": ("value", "'{\"answer\": 1}'"),
    "plan": ("lr", "lr * 2"),
    "lanes": ("seconds", "'long'"),
    "steps": ("loss", "lr"),
    "evaluations": ("val_loss", "x'00'"),
    "health": ("layers", "'[7]'"),
    "digests": ("digest", "x'00'"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid with validation, health and a plan; it is over."""
    run = start(
        tmp_path_factory.mktemp("whole") / "run", "grid", "grid.lrs=[0.01, 0.1]", "grid.seeds=1",
        "grid.extend=false", "training.steps=40", "training.eval_every=20", "grid.lanes=single",
    )  # fmt: skip
    conduct(run)
    run.release()
    return run.path


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "runs" / "damaged"))


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path / "run.sqlite")) as database, database:
        for statement in statements:
            database.execute(statement)


def table_of(path: Path) -> list[dict[str, object]]:
    """The lanes without the seconds that they took."""
    frame = pd.read_csv(path / "lanes.csv").drop(columns="train_seconds")
    rows: list[dict[str, object]] = frame.astype(str).to_dict("records")
    return rows


def outcome(path: Path) -> object:
    """What reading a run gives: everything in it, or the error."""
    try:
        result = read_result(Run.open(path))
    except LrfindError as error:
        return str(error)
    lanes = [(lane.loss.tolist(), lane.lr.tolist(), lane.evaluations, lane.outcome) for lane in result.lanes]
    return repr((result.summary | {"run": ""}, result.facts, lanes))


@pytest.mark.parametrize("table", VIEWS)
@pytest.mark.parametrize("how", ["changed", "emptied", "dropped", "endless", "half"])
def test_damage_of_any_table_is_told_and_what_is_whole_is_saved(
    whole: Path, damaged: Path, lrfind: Command, table: str, how: str
) -> None:
    column, value = CHANGES[table]
    statements = {
        "changed": [f"UPDATE {table} SET {column} = {value}"],
        "emptied": [f"DELETE FROM {table}"],
        "dropped": [f"DROP TABLE {table}"],
        "endless": [f"DROP TABLE {table}", f"CREATE VIEW {table} AS {VIEWS[table]}"],
        "half": [f"DELETE FROM {table} WHERE {'name' if table in ('facts', 'digests') else 'lane'} > '0' "
                 f"OR {'name' if table in ('facts', 'digests') else 'lane'} = 1"],
    }  # fmt: skip
    change(damaged, *statements[how])
    for command in ("status", "resume", "plot"):
        assert lrfind(command, damaged) == 2
        assert f"`lrfind repair {damaged} --out NEW` saves what is whole" in lrfind.err
        assert "Traceback" not in lrfind.err
    new = damaged.parent / "new"
    assert lrfind("repair", damaged, "--out", new) == 0, lrfind.err
    assert "lost: " in lrfind.out
    saved = Run.open(new).outcomes()
    assert len(saved) >= (table in ("facts", "plan"))
    conduct(Run.open(new))
    assert table_of(new) == table_of(whole)


def test_every_flipped_bit_is_noticed_or_changes_nothing(whole: Path, damaged: Path) -> None:
    chance, data = random.Random(0), (whole / "run.sqlite").read_bytes()
    told, before = 0, outcome(whole)
    for _ in range(200):
        at, bit = chance.randrange(len(data)), 1 << chance.randrange(8)
        (damaged / "run.sqlite").write_bytes(data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :])
        after = outcome(damaged)
        assert after == before or "is damaged: " in str(after), (at, bit)
        told += after != before
    assert told > 20  # most of a small database is free space


def test_a_file_that_is_cut_anywhere_is_noticed_and_repaired(whole: Path, damaged: Path) -> None:
    data = (whole / "run.sqlite").read_bytes()
    for size in range(0, len(data), 4096 * 3):
        (damaged / "run.sqlite").write_bytes(data[: size + 100])
        assert "is damaged: " in str(outcome(damaged))
        run, lost = repair(damaged, damaged.parent / f"new{size}")
        assert lost
        assert run.concluded is False


def test_no_zeros_are_saved_for_the_pages_of_a_lane_that_are_cut_off(tmp_path: Path) -> None:
    options = ("grid.points=6", "grid.seeds=1", "grid.lanes=single", "training.steps=80")
    whole = start(tmp_path / "whole", "grid", *options)
    conduct(whole)
    whole.release()
    expected = {lane.lane: lane.loss.tolist() for lane in whole.lanes()}
    change(whole.path, "DELETE FROM digests")  # as where they stood behind the cut
    data = (whole.path / "run.sqlite").read_bytes()
    saved = 0
    for size in range(4 * 4096 + 1024, len(data), 2048):
        damaged = Path(shutil.copytree(whole.path, tmp_path / f"damaged{size}"))
        (damaged / "run.sqlite").write_bytes(data[:size])
        run, _ = repair(damaged, tmp_path / f"new{size}")
        for lane in run.lanes():
            assert lane.loss.tolist() == expected[lane.lane]
            saved += 1
    assert saved > 0


@pytest.mark.parametrize("cut", [2048, 4000, 4096])
def test_a_run_that_was_killed_and_cut_keeps_the_lanes_in_front_of_the_cut(
    whole: Path, damaged: Path, cut: int
) -> None:
    (damaged / "summary.json").unlink()  # written at the end, so a run that was killed has none
    data = (whole / "run.sqlite").read_bytes()
    (damaged / "run.sqlite").write_bytes(data[:-cut])
    run, lost = repair(damaged, damaged.parent / "new")
    assert lost == ["the digests, so that a flipped bit in what was saved would not be noticed"]
    assert run.outcomes() == Run.open(whole).outcomes()
    conduct(run)
    assert table_of(run.path) == table_of(whole)


@pytest.mark.parametrize("name", ["planned", "modes", "data", "notes", "holder", "variants", "threads"])
@pytest.mark.parametrize(
    "value", ['"text"', "7.5", "[[1]]", "{", "NaN", "[" * 5000, '{"a": {"b": null}}', "1e999"]
)
def test_a_fact_of_a_wrong_form_is_one_clear_error(
    damaged: Path, lrfind: Command, name: str, value: str
) -> None:
    change(damaged, f"DELETE FROM facts WHERE name = '{name}'", f"DELETE FROM digests WHERE name = '{name}'")
    with closing(sqlite3.connect(damaged / "run.sqlite")) as database, database:
        database.execute("INSERT INTO facts VALUES (?, ?)", (name, value))
        database.execute("INSERT INTO digests VALUES ('fact', ?, ?)", (name, digest(name, value)))
    for command in (["status", damaged], ["resume", damaged], ["runs", damaged.parent]):
        assert lrfind(*command) in (0, 2)  # some forms do no harm
        assert "Traceback" not in lrfind.err


def test_a_description_of_the_tables_that_is_not_text_is_damage(
    whole: Path, damaged: Path, lrfind: Command
) -> None:
    # SQLite quotes it in its error, which Python then cannot decode.
    broken = "CAST(x'8a8b' AS TEXT)"
    change(
        damaged, "PRAGMA writable_schema = ON", f"UPDATE sqlite_master SET sql = {broken}, name = {broken}"
    )
    for command in ("status", "resume", "plot"):
        assert lrfind(command, damaged) == 2
        assert "is damaged: what describes its tables is not text" in lrfind.err
    new = damaged.parent / "new"
    assert lrfind("repair", damaged, "--out", new) == 0
    conduct(Run.open(new))
    assert table_of(new) == table_of(whole)


def test_a_sweep_that_lost_what_is_known_of_the_machine_notes_it_again(tmp_path: Path) -> None:
    first = start(tmp_path / "run", "grid", "grid.lrs=[0.1]", "grid.seeds=1", "grid.lanes=single")
    conduct(first)
    first.release()
    change(first.path, "DELETE FROM facts WHERE name = 'environment'")
    run, lost = repair(first.path, tmp_path / "new")
    assert "the fact 'environment'" in lost
    conduct(run)
    assert (run.path / "environment.json").is_file()


def test_a_find_that_lost_its_answer_finds_it_again(tmp_path: Path) -> None:
    first = start(tmp_path / "run", "find", "find.lanes=single")
    before = conduct(first)["answer"]
    change(first.path, "DELETE FROM facts WHERE name = 'probing'")
    first.release()
    run, lost = repair(first.path, tmp_path / "new")
    assert "the fact 'probing'" in lost
    assert run.lanes() == []
    assert conduct(run)["answer"] == before


def test_a_search_whose_plan_is_lost_is_planned_again_from_its_lanes(tmp_path: Path) -> None:
    options = ("search.trials=6", "search.sampler=tpe", "search.seeds=1", "search.lanes=single")
    first = start(tmp_path / "run", "search", *options)
    before = conduct(first)
    change(first.path, "UPDATE plan SET lr = 1 WHERE lane = 3", "DELETE FROM lanes WHERE lane = 5")
    first.release()
    run, lost = repair(first.path, tmp_path / "new")
    assert lost == ["the plan of the lanes, which is made again", "lane 5"]
    assert len(run.lanes()) == len(first.outcomes())
    again = conduct(run)
    assert again["rates"] == before["rates"]


def test_what_is_not_a_run_or_has_no_config_is_not_repaired(tmp_path: Path, lrfind: Command) -> None:
    assert lrfind("repair", tmp_path, "--out", "new") == 2
    (tmp_path / "run.sqlite").write_text("something else" * 99)
    assert lrfind("repair", tmp_path, "--out", "new") == 2
    assert "nothing in it says which config it was run with" in lrfind.err
    assert not Path("new").exists()


@pytest.fixture(params=[5, 6, 7])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A run of three lanes that an older lrfind wrote; its last lane has not been trained."""
    path = tmp_path / "older"
    path.mkdir()
    with closing(sqlite3.connect(path / "run.sqlite")) as database:
        dump = f"format_{max(request.param, 6)}.sql"
        database.executescript(Path(__file__).with_name(dump).read_text())
    if request.param == 5:
        names = ("written_by", "variants", "import_root")
        change(
            path, "DROP TABLE digests", f"DELETE FROM facts WHERE name IN {names}",
            "UPDATE facts SET value = '5' WHERE name = 'version'",
        )  # fmt: skip
    return path


def test_a_run_of_an_older_format_is_read_and_continued(older: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(Path(__file__).with_name("format_6.sql").read_text())
        query = "SELECT loss FROM steps WHERE lane = ? ORDER BY step"
        losses = [[loss for (loss,) in database.execute(query, (number,))] for number in (0, 1)]
    before = Run.open(older).lanes()
    assert [lane.loss.tolist() for lane in before] == losses
    assert [lane.health[0].layer for lane in before] == ["affine", "affine"]
    run = Run.open(older)
    with run.held():
        conduct(run)
    after = Run.open(older)
    assert (after.facts().version, len(after.lanes())) == (8, 3)
    for old, new in zip(before, after.lanes(), strict=False):
        assert (new.loss.tolist(), new.lr.tolist()) == (old.loss.tolist(), old.lr.tolist())
        assert (new.evaluations, new.health, new.seconds) == (old.evaluations, old.health, old.seconds)
    change(older, "UPDATE steps SET loss = lr")
    with pytest.raises(LrfindError, match="lane 0 is not what lrfind wrote"):
        Run.open(older).lanes()


def test_a_changed_step_of_an_older_run_is_told_and_never_sealed_again(older: Path) -> None:
    version = Run.open(older).facts().version
    more = "loss = loss + 1e-9 WHERE lane = 1 AND step = 3" if version < 7 else "loss = lr WHERE lane = 1"
    change(older, f"UPDATE steps SET {more}")
    run = Run.open(older)
    if version == 5:  # it notices only what cannot be a lane
        assert len(run.lanes()) == 2
        return
    for attempt in (run.lanes, lambda: run.held().__enter__()):
        with pytest.raises(LrfindError, match="lane 1 is not what lrfind wrote"):
            attempt()
    run.release()
    repaired, lost = repair(older, older.parent / "new")
    assert (lost, [*repaired.outcomes()]) == (["lane 1"], [0])
