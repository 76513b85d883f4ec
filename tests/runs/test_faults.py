"""What other processes and the disk do to a run: it is never taken, removed, locked out or half written."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest
from filelock import FileLock

from lrfind.errors import StorageError, UsageError
from lrfind.experiments import tensor_files
from lrfind.runs import connection, database
from lrfind.runs.connection import file_system
from lrfind.runs.files import storage_error
from lrfind.runs.store import Run, default_path
from tests.helpers.command import Command
from tests.helpers.runs import start
from tests.runs.test_store import lane


def test_a_run_that_is_starting_is_left_alone_by_everybody_else(tmp_path: Path, lrfind: Command) -> None:
    run = start(tmp_path / "run", "grid")
    before = {file.name for file in run.path.iterdir()}
    assert lrfind("resume", run.path) == 2
    assert "is being run by process" in lrfind.err
    with pytest.raises(UsageError, match="is being run by process"):
        Run.open(run.path).discard_if_empty()
    with pytest.raises(UsageError, match="is not empty"):
        Run.create(run.path)
    assert lrfind("status", run.path) == 0
    assert "running" in lrfind.out
    assert {file.name for file in run.path.iterdir()} == before


def test_an_empty_directory_that_another_process_has_just_locked_is_refused(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(UsageError, match="is being run by another process"):
        Run.create(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]
    Run.create(tmp_path)


def test_a_run_that_was_removed_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    first = Run.create(tmp_path / "run", {"command": "grid"})
    first.release()
    second = Run.open(first.path)
    assert first.discard_if_empty()
    with pytest.raises(UsageError, match="is no run any more"), second.held():
        pass
    assert not first.path.exists()


def test_runs_that_start_in_the_same_second_get_a_directory_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "now")
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: default_path("exp", "grid"), range(16)))
    assert len({*paths}) == 16


@contextmanager
def reader(path: Path) -> Iterator[None]:
    """Someone who is in the middle of reading the database, for a long time."""
    with closing(sqlite3.connect(path / "run.sqlite", isolation_level=None)) as database:
        database.execute("BEGIN")
        database.execute("SELECT * FROM facts").fetchall()
        yield


def test_a_reader_does_not_stop_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(connection, "TRY_SECONDS", 0.01)
    run = Run.create(tmp_path / "run", {"command": "grid"})
    with run.held(), reader(run.path):
        run.add_lane(lane())
        assert len(Run.open(run.path).lanes()) == 1
        with closing(sqlite3.connect(run.path / "run.sqlite")) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert {file.name for file in run.path.iterdir()} == {".lock", "run.sqlite"}  # one file to copy
    with run.held():
        run.add_lane(lane(1))
        shutil.copytree(run.path, tmp_path / "as if it was killed")
    assert len(Run.open(tmp_path / "as if it was killed").lanes()) == 2


def test_without_a_log_the_writer_waits_for_its_readers_and_says_when_it_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "file_system", lambda path: "nfs4")
    monkeypatch.setattr(connection, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(connection, "TRY_SECONDS", 0.01)
    run = Run.create(tmp_path / "run", {"command": "grid"})
    with run.held():
        with (
            reader(run.path),
            pytest.raises(StorageError, match="another program has kept it locked") as busy,
        ):
            run.add_lane(lane())
        run.add_lane(lane())
    assert busy.value.exit_code == 4
    assert len(run.lanes()) == 1


def test_the_file_system_is_that_of_the_innermost_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda rw\n2 1 0:1 / /home/my\\040data rw - nfs4 host:/ rw\n"
    )
    assert file_system(Path("/home/my data/run"), mounts) == "nfs4"
    assert file_system(Path("/home/mine"), mounts) == "ext4"
    assert file_system(Path("/home"), tmp_path / "nothing") == ""


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_may_not_grow_is_told_and_the_run_goes_on_afterwards(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"command": "grid"})
    with run.held():
        with files_of_at_most(1000), pytest.raises(StorageError, match="cannot write"):
            run.add_lane(lane())
        run.add_lane(lane())
        with files_of_at_most(10), pytest.raises(StorageError, match="ulimit -f"):
            run.write("steps.csv", "x" * 99)
    assert len(run.lanes()) == 1
    assert not (run.path / "steps.csv").exists()


@pytest.mark.parametrize("size", [0, 5_000, 41_000, 60_000, 120_000])
def test_a_command_under_a_limit_ends_with_exit_4_and_can_be_resumed(
    lrfind: Command, config: Path, size: int
) -> None:
    call = ("grid", config, "--out", "run", "--lrs", "0.01,0.1", "--set", "training.steps=200", "-q")
    with files_of_at_most(size):
        assert lrfind(*call) == 4
    assert "Traceback" not in lrfind.err
    again = ("resume", "run", "-q") if Path("run/run.sqlite").exists() else call
    assert lrfind(*again) == 0


@pytest.mark.parametrize("size", [0, 1_000, 30_000])
def test_a_training_whose_checkpoint_may_not_grow_ends_with_exit_4_and_is_resumed(
    lrfind: Command, config: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = tensor_files._save

    def limited(value: object, file: BinaryIO) -> None:
        with files_of_at_most(size):
            save(value, file)
            file.flush()

    wide = "model={name: mlp, args: {hidden: [5000]}}"
    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "_save", limited)
        options = ("--set", wide, "--checkpoint-every", "5", "--lr", "1e-3", "--out", "run", "-q")
        assert lrfind("train", config, *options) == 4
    assert ".pt': the file would be larger" in lrfind.err
    assert not list(Path("run").glob(".*.part"))
    assert lrfind("resume", "run", "-q") == 0


def test_an_error_of_sqlite_gets_the_cause_that_the_system_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR_WRITE):
        error = sqlite3.OperationalError("some words")
        error.sqlite_errorcode = code
        file = tmp_path / "run.sqlite"
        file.touch()
        monkeypatch.setattr(connection, "why_not_writable", lambda folder: errno.ENOSPC)
        told = connection.explained(error, file, writing=True)
        assert isinstance(told, StorageError)
        assert "the disk is full" in str(told)
        monkeypatch.undo()
        assert "the disk is full" not in str(connection.explained(error, file, writing=True))
    assert [*tmp_path.iterdir()] == [file]
    assert connection.why_not_writable(tmp_path / "gone") == errno.ENOENT


def test_a_driver_that_cannot_read_its_own_run_can_be_resumed(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"command": "grid"})
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN

    def fails(_: sqlite3.Connection) -> None:
        raise error

    with run.held(), pytest.raises(StorageError):
        run._database.read(fails)
    with pytest.raises(UsageError):
        run._database.read(fails)


def test_a_run_that_is_killed_as_it_begins_leaves_its_name_free(tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        database._keep_facts = lambda *_: os._exit(7)  # type: ignore[assignment]
        Run.create(tmp_path / "run", {"command": "grid"})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert {file.name for file in (tmp_path / "run").iterdir()} == {".lock", ".run.sqlite.part"}
    assert Run.create(tmp_path / "run", {"command": "grid"}).facts().command == "grid"


def test_a_disk_that_is_full_before_a_run_has_begun_is_told_without_naming_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: object) -> None:
        raise storage_error(path, errno.ENOSPC)

    monkeypatch.setattr("lrfind.runs.store.write_whole", full)
    with pytest.raises(StorageError, match="the disk is full. Put that right, then start it again"):
        start(tmp_path / "run", "grid")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_directory_that_is_moved_or_removed_is_told(tmp_path: Path, how: str) -> None:
    run = Run.create(tmp_path / "run", {"command": "grid"})
    with run.held():
        run.add_lane(lane())
        run.path.rename(tmp_path / "elsewhere")
        if how == "removed":
            shutil.rmtree(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match="the directory was moved or removed"):
            run.add_lane(lane(1))
    if how == "moved":
        assert len(Run.open(tmp_path / "elsewhere").lanes()) == 1


LINKED = (
    "config.yaml",
    "resolved.yaml",
    "summary.json",
    "steps.csv",
    ".steps.csv.part",
    "sweep.png",
    "sweep.svg",
)


@pytest.mark.parametrize("name", [*LINKED, ".lock", "run.sqlite", ".run.sqlite.part"])
def test_no_symbolic_link_in_a_run_directory_is_followed_by_a_writer(
    tmp_path: Path, lrfind: Command, config: Path, name: str
) -> None:
    assert lrfind("grid", config, "--out", "run", "--lrs", "0.01,0.1", "-q") == 0
    Run.open(Path("run")).keep_facts(concluded=False)
    file, outside = Path("run") / name, tmp_path / "outside"
    outside.write_bytes(file.read_bytes() if file.exists() else b"precious")
    before = outside.read_bytes()
    file.unlink(missing_ok=True)
    file.symlink_to(outside)
    for command in ("status", "resume", "plot"):
        refused = name == "run.sqlite" or (name, command) == (".lock", "resume")
        assert lrfind(command, "run") == (2 if refused else 0)
        assert outside.read_bytes() == before
    assert outside.read_bytes() == before


def test_a_run_whose_folder_cannot_be_written_is_read_from_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "run", {"command": "grid"})
    run.add_lane(lane())
    connect = connection.connect

    def closed(path: Path, mode: str) -> sqlite3.Connection:
        if path == run.file:
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return connect(path, mode)

    monkeypatch.setattr(connection, "connect", closed)
    assert len(Run.open(run.path).lanes()) == 1
