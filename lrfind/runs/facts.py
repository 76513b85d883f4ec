"""The facts of a run: all that is known of it besides its lanes; they are checked as they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lrfind.catalog import KINDS
from lrfind.config.experiment import Experiment, dump, own_names
from lrfind.config.registry import command_line, folder_of, import_root
from lrfind.config.variants import variants_of
from lrfind.errors import in_shell
from lrfind.runs.measurements import Mismatch
from lrfind.runs.rows import digest


@dataclass(frozen=True)
class Facts:
    """All that is known of a run, except for its lanes. Facts that are not known yet are None or empty.

    Attributes:
        version: the version of the format of the database.
        written_by: the version of lrfind that made the run.
        command: the command that made the run, a key of `catalog.KINDS`.
        config: the text of the config, as given.
        overrides: the overrides of the config, as the user typed them.
        resolved: the YAML of the experiment, with every default and override.
        variants: name -> the YAML of the experiment with this variant in it, where the run compares several.
        import_root: the folder of the user's own modules: `--import-root`, or where they were found.
        origin: the command that was typed, where and when (see `runs.origin.origin`).
        report: whether a report is written at the end.
        environment: versions, device and threads.
        data: the facts of the data (see `problem.data.Stream.facts`).
        notes: events of the run that its reader should know, in sentences.
        metric: the name of the task's metric on the validation split.
        modes: how lanes run, one row for each problem (see `training.mode.Mode`).
        threads: the number of torch's threads in a final training.
        planned: the number of lanes that the run will have in all, as far as is known.
        stability_edge: `lr` and `reason` of the edge that a range test measured by bisection.
        planned_training: the training for which `find` looks for a rate.
        probing: the result of probing: `answer`, `probes` and `cost`. It never changes, even if a later
            version of the method would give another answer.
        left_budget: the gradient steps that are left for refinement after probing.
        refined: the plan of the trainings that refine the answer, and what they change of it.
        script: what the starts of a script showed: its optimizers, and their cost (see
            `experiments.script.run`).
        verified: the rate that whole trainings verify.
        holder: the process that runs the lanes, or ran them last: `pid`, `host` and `since`.
        progress: how far the lanes are that are not stored yet (see `views.live.scene.Scene.progress`); None
            after the run has ended.
        concluded: whether everything is done, tables and plots too.
        began: the time at which the run was made, as `moment` writes it.
        ended: the time at which it was concluded.
    """

    version: int
    command: str = ""
    written_by: str = ""
    config: str = ""
    overrides: Sequence[str] = ()
    resolved: str = ""
    variants: Mapping[str, str] = field(default_factory=dict)
    import_root: str | None = None
    origin: Mapping[str, Any] | None = None
    report: bool = True
    environment: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    metric: str | None = None
    modes: Sequence[Mapping[str, Any]] = ()
    threads: int | None = None
    planned: int | None = None
    stability_edge: Mapping[str, Any] | None = None
    planned_training: Mapping[str, Any] | None = None
    probing: Mapping[str, Any] | None = None
    left_budget: int = 0
    refined: Mapping[str, Any] | None = None
    script: Mapping[str, Any] | None = None
    verified: float | None = None
    holder: Mapping[str, Any] = field(
        default_factory=lambda: {"pid": "unknown", "host": "unknown", "since": "unknown"}
    )
    progress: Mapping[str, Any] | None = None
    concluded: bool = False
    began: str | None = None
    ended: str | None = None


def moment(seconds: float | None = None) -> str:
    """Return a time in ISO 8601, with the offset from UTC, such as "2026-11-28T17:55:00+01:00".

    Args:
        seconds: the time in seconds since 1970; now when omitted.
    """
    time = datetime.now() if seconds is None else datetime.fromtimestamp(seconds)
    return time.astimezone().isoformat(timespec="seconds")


FACT_NAMES = frozenset(column.name for column in fields(Facts))


def fact_value(name: Any, text: Any, digests: Mapping[str, bytes] | None) -> Any:
    """Return the value of a fact from its row, and compare it with its digest, where there is one.

    Raises:
        ValueError: if it is not what lrfind wrote.
    """
    if name not in FACT_NAMES or not isinstance(text, str):
        raise Mismatch(f"the fact {str(name)[:40]!r} is not one of lrfind")
    if digests is not None and digests.get(name) != digest(name, text):
        raise Mismatch(f"the fact '{name}' is not what lrfind wrote")
    return json.loads(text, parse_constant=_no_number)


def _no_number(name: str) -> None:
    raise Mismatch(f"a fact holds {name}, which is not JSON")


@cache
def _adapter() -> TypeAdapter[Facts]:
    return TypeAdapter(Facts)


def facts_of(values: Mapping[str, Any]) -> Facts:
    """Return facts from their values.

    Raises:
        Mismatch: if one of them has the wrong type.
    """
    try:
        return _adapter().validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise Mismatch(f"the fact '{first['loc'][0]}' cannot be used: {first['msg']}") from None


def resume_command(path: Path, facts: Facts) -> str:
    """Return the command that continues a run."""
    return command_line(["resume", str(path)], facts.import_root)


def found_again(path: Path, facts: Facts) -> str:
    """Say which run a directory holds, and the command that goes on from it."""
    if facts.concluded:
        return f"It holds a finished run of {facts.command}, which `lrfind show {in_shell(path)}` prints."
    return f"It holds an unfinished run of {facts.command}, which `{resume_command(path, facts)}` continues."


def variants_fact(experiment: Experiment, command: str) -> dict[str, str]:
    """Return the variants that a command compares, as YAML; empty if it compares nothing.

    They are stored, because computing them imports the optimizers, while reading a run imports nothing.
    """
    if KINDS[command].variants is None:
        return {}
    return {variant.name: dump(variant.experiment) for variant in variants_of(experiment, command)}


def imported_facts(experiment: Experiment, command: str) -> dict[str, Any]:
    """Return the facts of a new run about code that is not lrfind's."""
    facts: dict[str, Any] = {"variants": variants_fact(experiment, command)}
    if experiment.script is not None:
        return facts | {"import_root": str(Path(experiment.script.path).parent)}
    names = own_names(experiment)
    if not names:
        return facts
    folder = folder_of(names[0])
    return facts | {"import_root": import_root() or (str(folder) if folder else None)}
