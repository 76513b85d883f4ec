"""Reads of files that a user names, of which no more than a bound is read, and the text in them."""

from __future__ import annotations

import codecs
import os
import re
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


class NotText(ValueError):  # noqa: N818 - it says what a file is not
    """Bytes are no text that is read; the message is what to say after the name of their file.

    Attributes:
        is_archive: whether they are an archive, of which no name would make a text.
    """

    def __init__(self, message: str, *, is_archive: bool = False) -> None:
        super().__init__(message)
        self.is_archive = is_archive


ZIP = b"PK\x03\x04"
PACKED = {
    b"\x1f\x8b": "is compressed with gzip. Unpack it: gunzip -c OLD > NEW.",
    ZIP: "is a zip archive or an Excel workbook. Unpack it, or save its sheet as CSV in UTF-8.",
}
"""How files begin that are often taken for text, and what they are."""


def decoded(content: bytes) -> str:
    """Return a text in UTF-8, with or without its mark, or in UTF-16 with its mark.

    Raises:
        NotText: if it is in another encoding, or packed; the message says how to convert it, if it is known.
    """
    for start, what in PACKED.items():
        if content.startswith(start):
            raise NotText(what, is_archive=start == ZIP)
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # one begins with the mark of UTF-16
        raise NotText("is in UTF-32. Convert it: iconv -f UTF-32 -t UTF-8 OLD > NEW.")
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    wide = "UTF-16LE" if content[1:2] == b"\0" else "UTF-16BE" if content[:1] == b"\0" else None
    if wide is not None and not marked:
        raise NotText(
            f"seems to be in UTF-16, without its mark. Convert it: iconv -f {wide} -t UTF-8 OLD > NEW."
        )
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        if marked:
            raise NotText(f"begins like UTF-16, but byte {error.start:,} fits no character.") from error
        raise NotText(
            f"is not UTF-8 text (byte {error.start:,} is 0x{content[error.start]:02x}). If it is Latin-1,"
            " convert it: iconv -f latin1 -t UTF-8 OLD > NEW."
        ) from error


def separator_note(text: str) -> str:
    r"""Return the first line of a CSV if it is only a note for Excel, which names the separator; else "".

    >>> separator_note("sep=;\nlr;loss\n")
    'sep=;'
    """
    note = re.match(r'\s*("?sep=.?"?)[,;\t ]*(?=[\r\n]|$)', text, re.IGNORECASE)
    return note[1] if note else ""
