"""Reads of files that a user names: whatever the path leads to, no more than a bound is read."""

from __future__ import annotations

import os
from pathlib import Path

from lrfind.errors import UsageError


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a file; a pipe or a device is read like a file.

    A pipe that nobody writes into counts as empty, so that it cannot block.

    Args:
        path: the file.
        most: the largest size in bytes.

    Raises:
        UsageError: if the content is larger than that, or the path has a character that no path can have.
        OSError: if the file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:
        raise UsageError(f"'{path}' is not a path, because it holds a null character.") from None
    os.set_blocking(descriptor, True)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no Path
        content = file.read(most + 1)
    if len(content) > most:
        raise UsageError(f"'{path}' is larger than {most:,} bytes, which is the most that is read of it.")
    return content
