"""Files of tensors: weights and checkpoints, written whole or not at all, some with a checksum."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch

from lrfind.runs.files import storing

SEAL = b"lrfind sha256 "
"""The bytes behind the tensors of a checkpoint, before the checksum of all bytes in front of them.

torch ignores what comes behind its own part of a file.
"""


def write_tensors(value: Any, path: Path, *, sealed: bool = False) -> None:
    """Save with `torch.save`, whole or not at all; the file is on the disk when this returns.

    Args:
        value: what to save.
        path: the file.
        sealed: whether a checksum is written behind it; see `SEAL`.
    """
    draft = path.with_name(f".{path.name}.part")
    with storing(path):
        draft.unlink(missing_ok=True)  # left by a process that was killed, or a link to somewhere else
        try:
            with draft.open("x+b") as file:
                _save(value, file)
                if sealed:
                    digest = _digest(file, file.seek(0, os.SEEK_END))
                    file.seek(0, os.SEEK_END)
                    file.write(SEAL + digest)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            with contextlib.suppress(OSError):  # the error that is raised already says more
                draft.unlink(missing_ok=True)  # left by a write that failed, for example on a full disk


def _save(value: Any, file: BinaryIO) -> None:
    """Save with `torch.save`, which hides an error of the system behind one of its own.

    Raises:
        OSError: if the file cannot be written.
    """
    try:
        torch.save(value, file)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        raise cause or error from None


def is_sealed(path: Path) -> bool:
    """Return whether the checksum of a file that was written with `sealed` is there and right."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - len(SEAL) - hashlib.sha256().digest_size
        digest = _digest(file, size)
        return size >= 0 and file.read() == SEAL + digest


def _digest(file: BinaryIO, size: int) -> bytes:
    """Return the SHA-256 of the first `size` bytes of a file, and leave the file behind them."""
    file.seek(0)
    result = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 2**20))):
        result.update(block)
        size -= len(block)
    return result.digest()
