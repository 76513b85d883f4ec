"""Remembered timings: how many times as fast stacks were on this machine, in a file of the user's cache.

A choice that was measured once is not measured again, so the same sweep runs in the same mode the next time.
The file is JSON that a person can read and delete; `lrfind doctor` names it, and `lrfind doctor --forget`
deletes it. It only saves time, so a file that cannot be read or written is no error.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "LRFIND_CACHE_DIR"
MOST = 1000
"""The most timings that are kept; the oldest go first."""


def timings_file() -> Path:
    """Return the path of the file: in LRFIND_CACHE_DIR, or else among the user's caches."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        return Path(folder) / "timings.json"
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        caches = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # the user has no home, as in some containers
        caches = Path(tempfile.gettempdir())
    return caches / "lrfind" / "timings.json"


def remembered_ratio(problem: Mapping[str, Any]) -> float | None:
    """Return the ratio that was measured on this machine for such a problem; None if there is none.

    Args:
        problem: all that the ratio depends on besides the machine, as plain values.
    """
    wanted = _described(problem)
    found = [row["ratio"] for row in read_timings() if {**row, "ratio": None} == {**wanted, "ratio": None}]
    return float(found[-1]) if found else None


def remember_ratio(problem: Mapping[str, Any], ratio: float) -> None:
    """Add a ratio to the file."""
    rows = [*read_timings(), {**_described(problem), "ratio": round(ratio, 3)}][-MOST:]
    with contextlib.suppress(OSError):
        path = timings_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")  # so that no reader sees half of it
        draft.write_text(json.dumps(rows, indent=1))
        draft.replace(path)


def read_timings() -> list[dict[str, Any]]:
    """Return all remembered timings; an empty list if the file does not exist or is damaged."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        rows = json.loads(timings_file().read_text())
        return [dict(row) for row in rows if isinstance(row.get("ratio"), int | float)]
    return []


def forget_timings() -> int:
    """Delete the file; return how many timings it had."""
    count = len(read_timings())
    timings_file().unlink(missing_ok=True)
    return count


def _described(problem: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a problem on this machine, as it is stored."""
    machine = {"machine": f"{platform.node()}, {platform.machine()}", "cores": os.cpu_count()}
    described: dict[str, Any] = json.loads(json.dumps({**problem, **machine}))
    return described
