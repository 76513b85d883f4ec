"""The files and folders that a config names. If one is missing, the error names what is there instead."""

from __future__ import annotations

import difflib
import io
from pathlib import Path

from lrfind.config.files import NotText, decoded
from lrfind.errors import UsageError, listed


def existing_file(path: str) -> Path:
    """Return the file at `path`, in which ~ is the home folder.

    Raises:
        UsageError: if there is no such file. The message names the file that was probably meant.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise UsageError(f"data: {file} is a folder; give a file in it.")
    if not file.is_file():
        raise _missing("file", file)
    return file


def existing_folder(path: str) -> Path:
    """Return the folder at `path`, in which ~ is the home folder.

    Raises:
        UsageError: if there is no such folder. The message names the folder that was probably meant.
    """
    folder = Path(path).expanduser()
    if folder.is_file():
        raise UsageError(f"data: {folder} is a file; give a folder.")
    if not folder.is_dir():
        raise _missing("folder", folder)
    return folder


def read_text(path: Path) -> str:
    r"""Return the text of a file in UTF-8, or in UTF-16 with its mark; all its line breaks are "\n".

    Raises:
        UsageError: if the file is in another encoding, or cannot be read.
    """
    try:
        return io.StringIO(decoded(path.read_bytes()), newline=None).read()
    except NotText as error:
        raise UsageError(f"data: {path} {error}") from error
    except OSError as error:
        raise UsageError(f"data: {path} cannot be read: {error.strerror}.") from error


def _missing(kind: str, path: Path) -> UsageError:
    folder = path.parent
    if not folder.is_dir():
        return UsageError(f"data: there is no {kind} {path}, as there is no folder {folder.resolve()}.")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() == (kind == "folder"))
    close = difflib.get_close_matches(path.name, names, n=2, cutoff=0.5)
    hint = f"; did you mean {listed(close, 'or')}?" if close else "."
    return UsageError(f"data: there is no {kind} {path.name} in {folder.resolve()}{hint}")
