"""How the files of a run directory are written: each whole or not at all, and through no symbolic link."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrfind.errors import StorageError, UsageError, in_shell

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your quota on this disk is used up",
    errno.EFBIG: "the file would be larger than this process may write (see `ulimit -f`)",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
    errno.ENOENT: "the directory was moved or removed",
    errno.ENOTDIR: "the directory was moved or removed",
    errno.ESTALE: "the directory was moved or removed",
    errno.EIO: "the disk or the network failed",
}
"""The errors of the operating system that a run can meet while it writes, in words."""


def absolute(path: Path) -> Path:
    """Return an absolute path.

    Raises:
        UsageError: if the working directory was removed.
    """
    try:
        return path.absolute()
    except FileNotFoundError:
        raise UsageError("the working directory was removed; change to another one.") from None


def storage_error(path: Path, number: int | None, text: str = "") -> StorageError:
    """Return the error for a file of a run that could not be written.

    Args:
        path: the file; its folder is the run directory.
        number: the number of the system's error.
        text: what the system said, for a number that is not in `REASONS`.
    """
    reason = REASONS.get(number or 0) or text or "the system does not say why"
    return StorageError(
        f"cannot write '{path}': {reason}. What was stored before is kept; put that right, then run `lrfind"
        f" resume {in_shell(path.parent)}`.",
        number,
    )


def why_not_writable(folder: Path) -> int | None:
    """Return the number of the system's error when a small file is written to a folder; None if that works.

    The file has no name, or loses it at once.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno
    return None


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system inside the block into a `StorageError` about this file."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(path, error.errno, error.strerror or str(error)) from error


def write_whole(path: Path, content: str | bytes | Iterator[str]) -> None:
    """Write a file, whole or not at all; a symbolic link at its path is replaced, never followed.

    Args:
        path: the file.
        content: its bytes, or its text, whole or in parts. Text is written as UTF-8; characters that UTF-8
            cannot hold, as in some names of files, are escaped.

    Raises:
        StorageError: if it cannot be written.
    """
    draft = path.with_name(f".{path.name}.part")
    with storing(path):
        try:
            with os.fdopen(new_file(draft), "wb") as file:
                for part in [content] if isinstance(content, str | bytes) else content:
                    file.write(part.encode("utf-8", "backslashreplace") if isinstance(part, str) else part)
            draft.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise


def new_file(path: Path) -> int:
    """Return the descriptor of a new file; anything that stood at its path, such as a link, is removed."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags, 0o666)


@contextmanager
def new_directory(path: Path) -> Iterator[None]:
    """Turn the reasons why a directory cannot be made and filled into errors that name --out."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"'{path}' cannot be a run directory: a file is in the way.") from None
    except OSError as error:
        closed = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT)
        if error.errno in REASONS and not closed:
            raise StorageError(
                f"cannot begin a run in '{path}': {REASONS[error.errno]}. Put that right, then start it"
                " again.",
                error.errno,
            ) from None
        if isinstance(error, StorageError) and not closed:
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(
            f"cannot write to '{path}': {reason}; give --out a directory that you may write to."
        ) from None
