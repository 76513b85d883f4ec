"""The summary of a run: plain data made from what the run holds, the content of summary.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from lrfind.config.registry import load
from lrfind.errors import LrfindError, UsageError, in_one_line
from lrfind.runs.connection import DamagedRun, last_change
from lrfind.runs.directory import DATABASE
from lrfind.runs.facts import moment
from lrfind.runs.result import RunRecord, RunResult
from lrfind.runs.store import Run
from lrfind.runs.summaries.health import health_summary
from lrfind.runs.summaries.parts import count_kinds, count_lanes

SCHEMA_VERSION = 2
"""The version of the keys of summary.json."""


def read_result(run: Run) -> RunResult:
    """Read what a run holds, and summarize it.

    Raises:
        DamagedRun: if this process did not write the run, and it holds what no summary can be made of.
    """
    record = run.record()
    stored = {column.name: getattr(record, column.name) for column in fields(RunRecord)}
    with content_of(run):
        return RunResult(**stored, summary=summarize(record))


@contextmanager
def content_of(run: Run) -> Iterator[None]:
    """Call an error inside the block damage of the run, unless this process is writing the run.

    A database can be valid and hold facts that lrfind never wrote, which no summary, text or plot expects.
    """
    try:
        yield
    except (LrfindError, UnicodeError):
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if run.mine:
            raise
        what = f"it holds facts that lrfind did not write ({in_one_line(error, 200)})"
        raise DamagedRun(run.file, what) from error


def summarize(record: RunRecord) -> dict[str, Any]:
    """Summarize a run.

    Returns:
        `schema_version`, `command`, `run` (the directory), `import_root` (the folder of the user's own code),
        `answer` (a mapping with `lr` and `reason`; `lr` is None if there is no answer), `lanes` (see
        `count_lanes`), `warnings`, `notes`, `data`, `health` (see `health_summary`), and the keys of the
        command's own summary.
    """
    part: dict[str, Any] = load(record.kind.summarize)(record)
    return {
        "schema_version": SCHEMA_VERSION,
        "command": record.command,
        "run": str(record.path),
        "import_root": record.facts.import_root,
        **part,
        "lanes": count_lanes(record.lanes, record.known_plan),
        "notes": [*record.facts.notes],
        "data": record.facts.data,
        "health": health_summary(record, part["answer"]),
    }


def status(run: Run) -> dict[str, Any]:
    """Return the progress of a run, its answer so far, and its times in ISO 8601.

    Returns:
        `run`, `name`, `command`, `state`, `lanes`, `answer`, `holder`; `kinds`: see `count_kinds`; `loss`:
        see `final_loss`; `began`, None for a run of an older lrfind; `changed`, when something was stored
        last; `ended`, None until the run is finished.
    """
    result, holder = read_result(run), run.holder
    answer, facts, changed = result.answer, result.facts, moment(last_change(run.file))
    return {
        "run": str(run.path),
        "import_root": result.facts.import_root,
        "name": result.experiment.name,
        "command": result.command,
        "state": "running" if holder else "finished" if facts.concluded else "unfinished",
        "lanes": result.summary["lanes"],
        "kinds": count_kinds(result),
        "answer": {"lr": answer["lr"], "variant": answer.get("variant")},
        "loss": final_loss(result.summary),
        "began": facts.began,
        "changed": changed,
        "ended": (facts.ended or changed) if facts.concluded else None,
        "holder": holder,
    }


def final_loss(summary: Mapping[str, Any]) -> float | None:
    """Return the loss of whole trainings at the answer: the one that decided, or else the validation loss.

    Returns:
        The loss; None if no whole training was made at the answer.
    """
    answer, judge = summary["answer"], summary.get("judge")
    if "standings" in summary:
        ranked = [row[judge] for row in summary["standings"] if row["variant"] == answer["variant"]]
        return next(iter(ranked), None)
    if "trainings" in summary:
        mean = summary["val_loss"] or summary["train_loss"]
        return None if mean is None else float(mean["mean"])
    loss: float | None = answer.get(judge)
    return loss


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """Return the runs in a folder, the oldest first, and for each run that cannot be read the reason.

    Raises:
        UsageError: if there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no directory '{folder}'; runs are made in ./runs, or where --out says.")
    readable, unreadable = [], []
    for database in sorted(folder.glob(f"*/{DATABASE}"), key=lambda file: file.lstat().st_ctime):
        try:
            readable.append(Run.open(database.parent))
        except (LrfindError, OSError) as error:
            unreadable.append(str(error))
    return readable, unreadable
