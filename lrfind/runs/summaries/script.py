"""The summary of a run of `lrfind script`."""

from __future__ import annotations

from typing import Any

from lrfind.runs.result import RunRecord
from lrfind.runs.summaries.find import find_summary


def script_summary(record: RunRecord) -> dict[str, Any]:
    """Summarize the probes of a script.

    Returns:
        The keys of a `find`, and `script`: `path`, `args`, `lr` (its own lr; None before its first start,
        and if the script itself raises it after the first step), `starts`, `steps` (of all starts, repeated
        ones too) and `seconds`.
    """
    section, facts = record.experiment.script, record.facts.script or {}
    assert section is not None  # a run of a script has one
    return {
        **find_summary(record),
        "script": {
            "path": section.path,
            "args": [*section.args],
            "lr": facts.get("lr"),
            "starts": facts.get("starts", 0),
            "steps": facts.get("steps", 0),
            "seconds": facts.get("seconds", 0.0),
        },
    }
