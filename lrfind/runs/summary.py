"""The summary of a run: plain data made from what the run holds, the content of summary.json."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from lrfind.config.registry import load
from lrfind.runs.result import RunRecord, RunResult
from lrfind.runs.store import Run
from lrfind.runs.summaries.health import health_summary
from lrfind.runs.summaries.parts import count_lanes

SCHEMA_VERSION = 2
"""The version of the keys of summary.json."""


def read_result(run: Run) -> RunResult:
    """Read what a run holds, and summarize it."""
    record = run.record()
    stored = {column.name: getattr(record, column.name) for column in fields(RunRecord)}
    return RunResult(**stored, summary=summarize(record))


def summarize(record: RunRecord) -> dict[str, Any]:
    """Summarize a run.

    Returns:
        `schema_version`, `command`, `run` (the directory), `answer` (a mapping with `lr` and `reason`; `lr`
        is None if there is no answer), `lanes` (see `count_lanes`), `warnings`, `notes`, `data`, `health`
        (see `health_summary`), and the keys of the command's own summary.
    """
    part: dict[str, Any] = load(record.kind.summarize)(record)
    return {
        "schema_version": SCHEMA_VERSION,
        "command": record.command,
        "run": str(record.path),
        **part,
        "lanes": count_lanes(record.lanes, record.planned),
        "notes": [*record.facts.notes],
        "data": record.facts.data,
        "health": health_summary(record, part["answer"]),
    }


def status(run: Run) -> dict[str, Any]:
    """Return the progress of a run, and its answer so far."""
    result, holder = read_result(run), run.holder
    answer = result.answer
    return {
        "run": str(run.path),
        "name": result.experiment.name,
        "command": result.command,
        "state": "running" if holder else "finished" if result.facts.concluded else "unfinished",
        "lanes": result.summary["lanes"],
        "answer": {"lr": answer["lr"], "variant": answer.get("variant")},
        "holder": holder,
    }
