"""What `lrfind doctor` found, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from lrfind.errors import counted, listed
from lrfind.views.text.layout import wrapped

COLUMN = 16
"""The width of the column of names."""

Rows = list[tuple[str, str]]


def doctor_text(report: Mapping[str, Any]) -> str:
    """Return what `experiments.doctor.examine` found, with `terminal` in it, in words."""
    python, runs, config, terminal, timings = (
        report[key] for key in ("python", "runs", "config", "terminal", "timings")
    )
    versions = [("lrfind", report["lrfind"]), ("python", f"{python['version']}, {python['executable']}")]
    readers = (
        "a run can be read while it is written" if runs["write_ahead_log"] else "a run waits for its readers"
    )
    blocks: list[tuple[str, Rows]] = [
        ("Versions", versions + _needed(report["packages"])),
        ("Extras", _extras(report["packages"])),
        ("Devices", [(row["name"], _device(row)) for row in report["devices"]]),
        ("Data", [(row["name"], _data(row)) for row in report["data"]]),
        (
            "Runs",
            [
                ("folder", f"{runs['folder']}, {runs['problem'] or 'writable'}"),
                ("file system", f"{runs['file_system'] or 'unknown'}: {readers}"),
            ],
        ),
        ("Config", [("file", config["path"]), ("because", config["why"])]),
        ("Timings", [("remembered", f"{timings['count']} of stacked and single lanes, {timings['path']}")]),
        (
            "Terminal",
            [
                ("width", counted(terminal["width"], "column")),
                ("encoding", terminal["encoding"]),
                ("colours", terminal["colours"]),
            ],
        ),
    ]
    lines = [line for title, rows in blocks if rows for line in (title, *_rows(rows), "")]
    problems = report["problems"]
    if not problems:
        return "\n".join([*lines, "No problem was found."])
    return "\n".join(
        [*lines, f"{counted(len(problems), 'problem')}:", *_rows([("", text) for text in problems], 2)]
    )


def _rows(rows: Iterable[tuple[str, str]], column: int = COLUMN) -> list[str]:
    """Return the lines of a list with the names in a column."""
    lines = []
    for name, text in rows:
        first, rest = f"  {name}".ljust(column), " " * column
        lines += wrapped(text, first, rest)
    return lines


def _needed(packages: Iterable[Mapping[str, Any]]) -> Rows:
    return [(row["name"], row["version"] or _missing(row)) for row in packages if row["extra"] is None]


def _extras(packages: Iterable[Mapping[str, Any]]) -> Rows:
    """Return a row for each extra: the packages that are there, or what is missing and how to get it."""
    rows = []
    extras = [row for row in packages if row["extra"] is not None]
    for extra, group in groupby(extras, key=lambda row: row["extra"]):
        parts = [*group]
        there = [f"{row['name']} {row['version']}" for row in parts if not row["problem"]]
        wrong = [f"{row['name']} {row['problem']}" for row in parts if row["problem"]]
        text = listed(there)
        if wrong:
            text = f"{listed(wrong)}: {parts[0]['install']}"
        rows.append((str(extra), text))
    return rows


def _missing(row: Mapping[str, Any]) -> str:
    return f"{row['problem']}: {row['install']}"


def _device(row: Mapping[str, Any]) -> str:
    return f"{row['description']}; {row['problem'] or 'works'}".lstrip("; ")


def _data(row: Mapping[str, Any]) -> str:
    if row["packaged"]:
        return "comes with lrfind" if row["found"] else f"missing: {row['path']}; install lrfind again"
    return (
        f"in {row['path']}" if row["found"] else f"not in {row['path']}; a config that uses it downloads it"
    )
