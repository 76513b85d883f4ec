"""The lock of a run directory: one process at a time creates, continues or removes a run."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lrfind.errors import UsageError
from lrfind.runs.files import storage_error

LOCK = ".lock"


class RunLock:
    """The lock of one run directory. The operating system releases it when this process dies.

    Args:
        folder: the run directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(
            (folder / LOCK).absolute(), timeout=1
        )  # another process may look at it for a moment

    @property
    def mine(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock.is_locked

    def acquire(self, holder: Callable[[], Mapping[str, Any] | None]) -> None:
        """Take the lock, also if this object holds it already; then it must be released as often.

        Args:
            holder: returns `pid`, `host` and `since` of the process that runs the run, as far as is known.

        Raises:
            UsageError: if another process has the lock; the message says which one.
            StorageError: if there can be no lock, for example because the directory is gone.
        """
        try:
            self._lock.acquire()
        except Timeout:
            facts = None
            with contextlib.suppress(Exception):  # the other process may not have written it yet
                facts = holder()
            who = f"process {facts['pid']} on {facts['host']} since {facts['since']}" if facts else ""
            raise UsageError(
                f"'{self._folder}' is being run by {who or 'another process'}; wait for it, or stop it."
            ) from None
        except OSError as error:
            file = self._folder / LOCK
            if error.errno == errno.ELOOP or file.is_symlink():
                raise UsageError(
                    f"'{file}' is a symbolic link, which a run does not follow; remove it."
                ) from None
            raise storage_error(file, error.errno, error.strerror or str(error)) from error

    def release(self) -> None:
        """Give the lock back, as often as it was taken."""
        self._lock.release()

    def taken(self) -> bool | None:
        """Return whether a process holds the lock; None if this user may not look. No file is made."""
        file = self._folder / LOCK
        if self.mine:
            return True
        if not file.exists() or file.is_symlink():
            return False
        try:
            with FileLock(file, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return None
