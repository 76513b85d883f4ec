"""Where a run comes from: the command that was typed, where and when, and the commit of the code there."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def origin(arguments: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return what reproduces a run, beside its config.

    Args:
        arguments: the arguments of `lrfind` as they were typed; passwords in addresses are left out.
        folder: the run directory.

    Returns:
        `command`: the arguments; `directory`: the working directory, relative to the run directory;
        `started`: the time; `commit`: the commit of the Git repository there, None if there is none.
    """
    command = [re.sub(r"://[^/@\s]+@", "://***@", _escaped(argument)) for argument in arguments]
    return {
        "command": ["lrfind", *command],
        "directory": _escaped(os.path.relpath(Path.cwd(), folder)),
        "started": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "commit": commit_of(Path.cwd()),
    }


def _escaped(argument: str) -> str:
    r"""Return an argument as text that a run can hold: the bytes of a name that are no UTF-8 are escaped.

    >>> _escaped("gr\udcf6sse")
    'gr\\udcf6sse'
    """
    return argument.encode("utf-8", "backslashreplace").decode()


def commit_of(folder: Path) -> str | None:
    """Return the commit that is checked out in a folder, as Git's files say; None if they do not say it."""
    for parent in (folder, *folder.parents):
        if (parent / ".git").exists():
            break
    else:
        return None
    try:
        git = parent / ".git"
        if git.is_file():  # a worktree, whose folder is named in the file
            git = parent / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return head
        common = git / "commondir"
        shared = git / common.read_text(encoding="utf-8").strip() if common.is_file() else git
        reference = head.removeprefix("ref:").strip()
        if (shared / reference).is_file():
            return (shared / reference).read_text(encoding="utf-8").strip()
        packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
        return next((line.split()[0] for line in packed if line.split()[1:] == [reference]), None)
    except (OSError, UnicodeError):
        return None
