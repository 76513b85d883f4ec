"""The run directory: its files, and what to say about a path that is none.

config.yaml       the config as given          resolved.yaml   with every default and override
environment.json  command, versions, device    run.sqlite      all data of the run
steps.csv         one row per step             lanes.csv       one row per lane
health.csv        one row per layer and look   *.png, *.svg    plots
summary.json      what --json prints           best.yaml       the config with the answer
report.html       all of it on one page        script.log      the output of a user's script

run.sqlite holds all data of a run; the other files can be written again from it.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from lrfind.errors import in_shell

DATABASE = "run.sqlite"
DRAFT = f".{DATABASE}.part"
FILES = (
    *(f"{DATABASE}{ending}" for ending in ("", "-wal", "-shm", "-journal")),
    *(DRAFT, "config.yaml", "resolved.yaml", "environment.json", "steps.csv", "lanes.csv", "health.csv"),
    *("summary.json", "best.yaml", "script.log"),
)
"""The files of a run that never measured anything, besides its lock."""


def is_run(path: Path) -> bool:
    """Return whether this is a run directory."""
    try:
        return (path / DATABASE).is_file()
    except OSError:  # a name too long to be one
        return False


def why_no_run(path: Path) -> str:
    """Say that there is no run at a path, and which runs are near."""
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError as error:  # for example a name too long to be one
        return f"the run directory '{path}' cannot be read: {error.strerror}."
    if is_folder:
        inside = f" It holds runs, which `lrfind runs {in_shell(path)}` lists." if _runs_in(path) else ""
        return f"'{path}' is not a run directory: it has no {DATABASE}.{inside}"
    if is_there:
        return f"'{path}' is a file, not a run directory."
    siblings = _runs_in(path.parent)
    close = difflib.get_close_matches(path.name, siblings, n=1)
    if close:
        return f"there is no run directory '{path}'; did you mean {path.with_name(close[0])}?"
    known = f"; `lrfind runs {in_shell(path.parent)}` lists those beside it" if siblings else ""
    return f"there is no run directory '{path}'{known}."


def _runs_in(folder: Path) -> list[str]:
    """Return the names of the runs in a folder; there are none in one that cannot be read."""
    try:
        return [entry.name for entry in folder.iterdir() if is_run(entry)]
    except OSError:
        return []
