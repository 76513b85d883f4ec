"""The recommendation that a `find` stored, for `lrfind suggest`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lrfind.errors import UsageError
from lrfind.runs.directory import is_run
from lrfind.runs.store import Run
from lrfind.runs.summaries.find import METHOD
from lrfind.runs.summary import read_result


def recommended_by(source: Path, method: str) -> dict[str, Any] | None:
    """Return the answer of a run whose lanes are probes; None if the source is anything else.

    Args:
        source: a run directory, or any other file or folder.
        method: what was asked for: "all", or the name of a method.

    Raises:
        UsageError: if the method reads curves and the source has probes, or the other way round.
    """
    result = read_result(Run.open(source)) if is_run(source) else None
    probed = result is not None and result.kind.lanes == "probes"
    if result is not None and probed and method in ("all", METHOD):
        return result.answer
    if probed:
        raise UsageError(
            f"'{source}' has probes at constant rates, but {method} reads a curve over rates; `lrfind"
            " range-test` makes one."
        )
    if method == METHOD:
        raise UsageError(
            f"'{source}' is not the run of a find: the method {METHOD} reads probes at constant rates, which"
            " `lrfind find` makes."
        )
    return None
