"""Files and folders that a config names: there, or an error with what is there instead."""

from __future__ import annotations

import difflib
from pathlib import Path

from lrfind.errors import UsageError


def existing_file(path: str) -> Path:
    """The file at `path`; ~ is the home folder.

    Raises:
        UsageError: if there is none; names the one that was probably meant.
    """
    found = Path(path).expanduser()
    if found.is_dir():
        raise UsageError(f"data: {found} is a folder; give a file in it.")
    if not found.is_file():
        raise _missing("file", found)
    return found


def existing_folder(path: str) -> Path:
    """The folder at `path`; ~ is the home folder.

    Raises:
        UsageError: if there is none; names the one that was probably meant.
    """
    found = Path(path).expanduser()
    if found.is_file():
        raise UsageError(f"data: {found} is a file; give a folder.")
    if not found.is_dir():
        raise _missing("folder", found)
    return found


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        UsageError: if it is not in UTF-8, or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"data: {path} is not UTF-8 text (byte {error.start:,} is 0x{error.object[error.start]:02x}); if"
            " it is Latin-1: iconv -f latin1 -t utf-8 OLD > NEW."
        ) from error
    except OSError as error:
        raise UsageError(f"data: {path} cannot be read: {error.strerror}.") from error


def _missing(kind: str, path: Path) -> UsageError:
    folder = path.parent
    if not folder.is_dir():
        return UsageError(f"data: there is no {kind} {path}: there is no folder {folder.resolve()}.")
    names = sorted(each.name for each in folder.iterdir() if each.is_dir() == (kind == "folder"))
    close = difflib.get_close_matches(path.name, names, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    return UsageError(f"data: there is no {kind} {path.name} in {folder.resolve()}{hint}")
