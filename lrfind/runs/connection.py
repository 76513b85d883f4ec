"""How the SQLite file of a run is opened, read and written; its errors become errors of lrfind.

A writer uses a write-ahead log, so that no reader stops it. Where the file system may belong to several
machines, SQLite's usual journal is used, and the writer waits for its readers. When a run ends, the log is
merged into the file, so that one file holds everything and can be copied.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from lrfind.errors import UsageError, in_shell
from lrfind.runs.files import storage_error, why_not_writable

TRY_SECONDS = 5.0
"""How long SQLite waits for another process by itself. It cannot be interrupted then, so this is short."""
WAIT_SECONDS = 300.0
"""How long lrfind waits for another process that has locked the file, before it gives up."""
MOST_WORK = 500_000_000
"""The most steps of SQLite's machine in one transaction: about a minute. Only a damaged file needs more."""
LONGEST_VALUE = 2**28
"""The largest value in bytes that is read. A config is a thousand times smaller."""
LOCAL = {
    "apfs", "bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "reiserfs",
    "tmpfs", "ufs", "xfs", "zfs",
}  # fmt: skip
"""File systems that belong to one machine; the log needs memory that all its users share."""
CLOSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
"""The errors of SQLite for a file that cannot be opened or written, whatever the cause."""
COMPANIONS = ("-wal", "-journal")
"""The endings of the files beside the database that may hold the newest transactions."""

Value = TypeVar("Value")


class DamagedRun(UsageError):  # noqa: N818 - the name says what is wrong
    """The database of a run does not hold what lrfind wrote.

    Args:
        path: the database.
        what: what is wrong with it, as the end of a sentence.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"'{path}' is damaged: {what}. `lrfind repair {in_shell(path.parent)} --out NEW` saves what is"
            " whole."
        )
        self.what = what


class Connections:
    """The connections to one SQLite file. Each call makes its own, except inside `kept_open`.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.absolute()  # the working directory may change
        self._shared: sqlite3.Connection | None = None
        self._writable = False
        self._logged = False
        self._identity: tuple[int, int] | None = None

    @contextmanager
    def kept_open(self, *, writing: bool = False) -> Iterator[None]:
        """Share one connection among all calls inside the block, also among those in nested blocks.

        Args:
            writing: whether there will be writes; then the file gets a write-ahead log until the end.
        """
        if self._shared is not None and (self._writable or not writing):
            yield
            return
        before = self._shared, self._writable, self._logged, self._identity
        with self._opened(writing) as connection:
            logged = writing and begin_log(connection, self._file)
            now = connection, writing, logged, identity(self._file)
            self._shared, self._writable, self._logged, self._identity = now
            try:
                yield
            finally:
                self._shared, self._writable, self._logged, self._identity = before
                if writing:
                    merge_log(connection)

    def read(self, query: Callable[[sqlite3.Connection], Value]) -> Value:
        """Return what a function reads, in one short transaction.

        Raises:
            DamagedRun: if the file cannot be read because of what is in it.
            UsageError: if it cannot be opened.
            StorageError: if another process keeps it locked, or the disk fails.
        """
        with self._connection(writing=False) as connection:
            writing = connection is self._shared and self._writable
            return self._attempts(lambda: _transaction(connection, "BEGIN", query), writing=writing)

    def write(self, change: Callable[[sqlite3.Connection], Value], *, wait: bool = True) -> Value:
        """Make one transaction; if another process keeps the file locked, it is tried again for minutes.

        Args:
            change: makes the changes. It may be called several times.
            wait: wait until the disk has the transaction, so that it outlives a power cut too. Otherwise the
                next transaction that waits brings it to the disk, where there is a log; it outlives a kill.

        Raises:
            StorageError: if the disk is full, the file was moved, and so on.
            DamagedRun: if the file is damaged.
            sqlite3.IntegrityError: if a row is there already.
        """
        with self._connection(writing=True) as connection:
            if self._identity is not None and identity(self._file) != self._identity:
                raise storage_error(self.path, errno.ENOENT)
            connection.execute(f"PRAGMA synchronous = {'FULL' if wait or not self._logged else 'NORMAL'}")
            return self._attempts(lambda: _transaction(connection, "BEGIN IMMEDIATE", change), writing=True)

    @contextmanager
    def _connection(self, *, writing: bool) -> Iterator[sqlite3.Connection]:
        if self._shared is not None and (self._writable or not writing):
            yield self._shared
        else:
            with self._opened(writing) as connection:
                yield connection

    @contextmanager
    def _opened(self, writing: bool) -> Iterator[sqlite3.Connection]:
        if self._file.is_symlink():
            raise UsageError(
                f"'{self.path}' is a symbolic link, which a run does not follow; copy the file that it names."
            )
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(closing(connect(self._file, "rw" if writing else "ro")))
            except sqlite3.OperationalError as error:
                if writing or _primary(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                    raise explained(error, self.path, writing=writing) from error
                connection = stack.enter_context(self._copy())
            except sqlite3.DatabaseError as error:
                raise explained(error, self.path, writing=writing) from error
            yield connection

    @contextmanager
    def _copy(self) -> Iterator[sqlite3.Connection]:
        """Open a copy of the file, for a read-only folder in which a killed process left transactions."""
        with tempfile.TemporaryDirectory(prefix="lrfind-") as folder:
            try:
                copy = copied(self._file, Path(folder))
                connection = connect(copy, "rw")
            except OSError as error:
                raise UsageError(f"cannot read '{self.path}': {error.strerror}.") from error
            except sqlite3.DatabaseError as error:
                raise explained(error, self.path, writing=False) from error
            with closing(connection):
                yield connection

    def _attempts(self, attempt: Callable[[], Value], *, writing: bool) -> Value:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                with _readable_errors():
                    return attempt()
            except sqlite3.IntegrityError:
                raise
            except sqlite3.Error as error:
                busy = _primary(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if not busy or time.monotonic() > deadline:
                    raise explained(error, self.path, writing=writing) from error


def explained(error: sqlite3.Error, path: Path, *, writing: bool) -> Exception:
    """Return the error of lrfind that an error of SQLite stands for."""
    code = _primary(error)
    if code == sqlite3.SQLITE_FULL:
        return storage_error(path, errno.ENOSPC)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        minutes = f"another program has kept it locked for {WAIT_SECONDS / 60:g} minutes"
        return storage_error(path, None, minutes)
    if code in CLOSED and not path.exists():
        return storage_error(path, errno.ENOENT) if writing else UsageError(f"there is no '{path}'.")
    if writing and (code in CLOSED or code == sqlite3.SQLITE_IOERR) and not _cut_short(error):
        number = why_not_writable(path.absolute().parent)  # SQLite does not say what the system said
        if number is not None:
            return storage_error(path, number)
    if code in CLOSED:
        text = "you may not write there"
        return storage_error(path, None, text) if writing else UsageError(f"cannot read '{path}': {error}.")
    if code == sqlite3.SQLITE_IOERR and not _cut_short(error):
        limits = "the disk failed, a quota is used up, or a limit on the size of files is reached"
        return storage_error(path, errno.EIO if not writing else None, f"{error} ({limits})")
    if code == sqlite3.SQLITE_INTERRUPT:
        return DamagedRun(path, f"a query did not end within {MOST_WORK:,} steps")
    return DamagedRun(path, str(error))


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a database that exists, "ro" or "rw", and look into it, so that errors appear here.

    What is in the file is data: no function in its schema is trusted, and no value is larger than
    `LONGEST_VALUE`.
    """
    place = quote(os.fsencode(path.absolute()))  # a name may hold bytes that are no UTF-8
    connection = sqlite3.connect(
        f"file:{place}?mode={mode}", uri=True, timeout=TRY_SECONDS, isolation_level=None
    )
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        with _readable_errors():
            connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def copied(path: Path, folder: Path) -> Path:
    """Copy a database into a folder, with the files that may hold its newest transactions.

    If one of these files goes while the files are copied, a transaction has ended; then all are copied again.
    """
    shutil.copyfile(path, folder / path.name, follow_symlinks=False)
    for name in (path.name + ending for ending in COMPANIONS):
        file = path.with_name(name)
        if file.is_file() and not file.is_symlink():
            try:
                shutil.copyfile(file, folder / name, follow_symlinks=False)
            except FileNotFoundError:
                return copied(path, folder)
        else:
            (folder / name).unlink(missing_ok=True)
    return folder / path.name


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from every other file; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def last_change(path: Path) -> float:
    """Return when a database was changed last, in seconds since 1970."""
    files = (path, *(path.with_name(path.name + ending) for ending in COMPANIONS))
    return max(file.stat().st_mtime for file in files if file.is_file())


def begin_log(connection: sqlite3.Connection, path: Path) -> bool:
    """Give the database a write-ahead log, where all of its users are on this machine.

    Returns:
        Whether it has one.
    """
    if file_system(path) in LOCAL:
        with contextlib.suppress(sqlite3.OperationalError):  # a reader is busy: the usual journal works too
            return bool(connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",))
    return False


def merge_log(connection: sqlite3.Connection) -> None:
    """Merge the log into the file and remove it; if a reader is busy, the log stays, and is valid."""
    limit_work(connection, None)
    with contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA journal_mode = DELETE")


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the type of the file system that a path is on, such as "ext4"; "" where it is not known."""
    try:
        place = str(path.resolve())
        rows = [line.split() for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
        types = {_unescaped(row[4]): row[row.index("-") + 1] for row in rows}
    except (OSError, ValueError, IndexError):
        return ""
    above = [mount for mount in types if place == mount or place.startswith(mount.rstrip("/") + "/")]
    return types[max(above, key=len)] if above else ""


def _unescaped(mount: str) -> str:
    """Return a mount point without the escapes of mountinfo, which are those of a space, a tab and so on."""
    for code in ("040", "011", "012", "134"):
        mount = mount.replace(f"\\{code}", chr(int(code, 8)))
    return mount


def _transaction(
    connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], Value]
) -> Value:
    limit_work(connection)
    connection.execute(begin)
    try:
        value = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise
    return value


def limit_work(connection: sqlite3.Connection, most: int | None = MOST_WORK) -> None:
    """Let SQLite stop when it has taken so many steps from now on; None for no limit.

    The function that SQLite asks is not written in Python, because an interruption that arrives inside of it
    would be lost.
    """
    often = 100_000
    answers = chain(repeat(0, (most or 0) // often), repeat(1))
    connection.set_progress_handler(answers.__next__ if most else None, often)


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Turn an error of SQLite that cannot be read, because it quotes bytes of the file, into one that can."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise sqlite3.DatabaseError("what describes its tables is not text") from error


def _primary(error: sqlite3.Error) -> int:
    """Return SQLite's primary code of an error; that of a general error if Python made the error."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code & 0xFF


def _cut_short(error: sqlite3.Error) -> bool:
    """Return whether a read found less than it should: the file was truncated."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHORT_READ
