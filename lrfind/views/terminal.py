"""The door to the terminal: answers on stdout and notes on stderr. All that lrfind prints goes through here.

Names, messages and headers come from configs, data and code that somebody else may have written. A terminal
obeys the control sequences in them, so these are shown escaped (see `errors.printable`), and long lines are
shortened. What the terminal's encoding lacks is escaped too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TextIO

from lrfind.errors import printable, shortened

LONGEST_LINE = 100_000
LONGEST_NOTE = 24_000
USUAL_COLUMNS = 80
FEWEST_COLUMNS = 20


def columns(stream: TextIO | None) -> int:
    """Return the columns of the terminal behind a stream; 80 if it is no terminal, or does not say."""
    if stream is None or not on_terminal(stream):
        return USUAL_COLUMNS
    try:
        return max(os.get_terminal_size(stream.fileno()).columns or USUAL_COLUMNS, FEWEST_COLUMNS)
    except (OSError, ValueError):
        return USUAL_COLUMNS


def on_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # the user's code closed it
        return False


def show(text: str) -> None:
    """Print a part of the answer on stdout, for people.

    Raises:
        OSError: if it cannot be written, because nobody reads it or the disk is full.
    """
    _write(sys.stdout, "\n".join(shortened(line, LONGEST_LINE) for line in printable(text).split("\n")))


def show_exactly(text: str) -> None:
    """Print text for programs, such as JSON in ASCII, on stdout; see `show`."""
    _write(sys.stdout, text)


def note(text: str) -> None:
    """Print a line on stderr. If nobody reads it, nothing happens: a run goes on without its progress."""
    with contextlib.suppress(OSError):  # a broken pipe, a full disk, a closed file
        _write(sys.stderr, printable(shortened(text, LONGEST_NOTE)))


def _write(stream: TextIO | None, text: str) -> None:
    """Write a line. A stream that was closed before Python began is None."""
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
    except ValueError as error:  # the user's code closed it
        raise OSError(errno.EBADF, "the stream is closed") from error
