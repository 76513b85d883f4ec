"""The door to the terminal: answers on stdout and notes on stderr. All that lrfind prints goes through here.

Names, messages and headers come from configs, data and code that somebody else may have written. A terminal
obeys the control sequences in them, so these are shown escaped (see `errors.printable`), and long lines are
shortened. What the terminal's encoding lacks is escaped too.

While a live display is on the terminal, it prints the notes, above itself; see `notes_above`. While a command
prints JSON, what others print on stdout goes to stderr; see `only_answers_on_stdout`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from lrfind.errors import printable, shortened

LONGEST_LINE = 100_000
LONGEST_NOTE = 24_000
USUAL_COLUMNS = 80
FEWEST_COLUMNS = 20
_NO_BREAK = "\u00a0"


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
    _write(stdout(), "\n".join(shortened(line, LONGEST_LINE) for line in printable(text).split("\n")))


def show_line(line: str, rest: str = "  ") -> None:
    """Print a line of the answer. On a terminal it is folded; elsewhere it stays whole, as in `note`.

    Args:
        line: the line.
        rest: the text before the folded lines.
    """
    if on_terminal(stdout()) and len(line) > columns(stdout()):
        line = "\n".join(paragraph(line, columns(stdout()), rest=rest))
    show(line)


def show_exactly(text: str) -> None:
    """Print text for programs, such as JSON in ASCII, on stdout; see `show`."""
    _write(stdout(), text)


def stdout() -> TextIO | None:
    """Return the stream of the answers, also while `sys.stdout` leads elsewhere."""
    return _answers or sys.stdout


@contextmanager
def only_answers_on_stdout() -> Iterator[None]:
    """Send to stderr whatever is printed on stdout inside the block, except by `show` and `show_exactly`.

    So what the user's code prints does not get into the answer. The processes that are started inside the
    block inherit this, also those that know nothing of Python.
    """
    global _answers, _programs_read
    before, stream, _programs_read = (_answers, sys.stdout), stdout(), True
    with contextlib.ExitStack() as stack:
        if stream is not None and _number_of(stream) == 1 and _number_of(sys.stderr) is not None:
            stream.flush()
            kept = os.dup(1)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, 1)
            os.dup2(sys.stderr.fileno(), 1)
            stream = os.fdopen(kept, "w", encoding=stream.encoding, closefd=False)
            stack.callback(_closed, stream)
        try:
            _answers, sys.stdout = stream, sys.stderr
            yield
        finally:
            _answers, sys.stdout = before


def leave_stdout() -> None:
    """Send to stderr what is printed on stdout after an answer for programs, by exit handlers for example."""
    if _programs_read and _number_of(sys.__stdout__) == 1 and _number_of(sys.__stderr__) == 2:
        os.dup2(2, 1)


def note(text: str) -> None:
    """Print a note on stderr. If nobody reads it, nothing happens: a run goes on without its progress.

    On a terminal its lines are folded. Elsewhere they stay whole, for those who search a log.
    """
    safe = printable(shortened(text, LONGEST_NOTE))
    if _display is not None and _display.process == os.getpid():
        _display.print(safe)
        return
    if on_terminal(sys.stderr):
        safe = folded(safe, columns(sys.stderr))
    with contextlib.suppress(OSError):  # a broken pipe, a full disk, a closed file
        _write(sys.stderr, safe)


def announce(text: str) -> None:
    """Print a line on stderr from a signal handler, where Python's own buffers must not be touched."""
    if _display is not None and _display.process == os.getpid():
        _display.print_soon(text)
        return
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(2, f"{text}\n".encode())


def folded(text: str, width: int) -> str:
    r"""Fold the lines of a text at spaces, except those that quote something, which four spaces indent.

    >>> folded("error: there is no file", 14)
    'error: there\n  is no file'
    """
    lines = []
    for line in text.split("\n"):
        if len(line) <= width or line.startswith("    "):
            lines.append(line)
        else:
            indent = line[: len(line) - len(line.lstrip())]
            lines += paragraph(line.lstrip(), width, indent, f"{indent}  ")
    return "\n".join(lines)


def paragraph(text: str, width: int, indent: str = "", rest: str = "") -> list[str]:
    """Return the lines of a paragraph. A command between backquotes, and a long path, stay whole.

    Args:
        text: the paragraph.
        width: the most characters of a line.
        indent: the text before its first line.
        rest: the text before its other lines.

    >>> paragraph("Run `lrfind resume runs/a` to continue.", 24, rest="  ")
    ['Run', '  `lrfind resume runs/a`', '  to continue.']
    """
    parts = text.split("`")
    parts[1::2] = [part.replace(" ", _NO_BREAK) for part in parts[1::2]]
    lines = textwrap.wrap(
        "`".join(parts),
        width,
        initial_indent=indent,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]


@dataclass(frozen=True)
class LiveDisplay:
    """A display that changes, at the lower end of what a terminal shows.

    Attributes:
        print: prints a text above the display.
        print_soon: does that a moment later; it may be called from a signal handler.
        process: the process that shows it; one that was forked from it does not.
    """

    print: Callable[[str], None]
    print_soon: Callable[[str], None]
    process: int


_display: LiveDisplay | None = None
_answers: TextIO | None = None
_programs_read = False


@contextmanager
def notes_above(display: LiveDisplay) -> Iterator[None]:
    """Print notes above a live display inside the block."""
    global _display
    before, _display = _display, display
    try:
        yield
    finally:
        _display = before


def _number_of(stream: TextIO | None) -> int | None:
    """Return the number of the file behind a stream; None if there is none, or the stream is closed."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None


def _closed(stream: TextIO) -> None:
    """Close a stream; what it could not write has been told."""
    with contextlib.suppress(OSError):
        stream.close()


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
