"""The page of a report: one HTML file with its style, its script and its charts, and nothing from elsewhere.

All texts of a run are untrusted. The template escapes them, characters that turn or hide text are shown
escaped, and the policy in the page's head lets only the script and the style run that are part of lrfind.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfind import __version__
from lrfind.config.registry import load
from lrfind.errors import printable
from lrfind.runs.files import write_whole
from lrfind.runs.result import RunResult
from lrfind.views.report import facts
from lrfind.views.report.content import Report, Table
from lrfind.views.report.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    STRIP,
    TOP,
    WIDTH,
    draw,
    heat_paths,
    strip_place,
    strip_scale,
    text,
)  # fmt: skip
from lrfind.views.report.health import health_section
from lrfind.views.report.runs import runs_section, titles
from lrfind.views.text.parts import data_in_words, interval, number

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

NAME = "report.html"
"""The file name of a report in the directory of its run."""

LARGEST = 300_000  # bytes
MOST_ROWS = 200  # of a table
SMALLEST_SHARE = 0.01


MARK = b'<meta name="generator" content="lrfind">'
"""What the head of every report holds."""


def is_report(file: Path) -> bool:
    """Return whether a file is a report that lrfind wrote, which another report may replace."""
    if not file.is_file():
        return False
    with file.open("rb") as head:
        return MARK in head.read(4096)


def write_report(results: Sequence[RunResult], path: Path) -> Path:
    """Write the report of one run or several; return its path.

    Raises:
        StorageError: if it cannot be written.
    """
    write_whole(path, report_html(results))
    return path


def report_html(results: Sequence[RunResult]) -> str:
    """Return the report of one run or several as one HTML page."""
    reports: list[Report] = [load(result.kind.report)(result) for result in results]
    names = titles(results)
    runs = [
        _run(f"run{place}", name, result, report)
        for place, (name, result, report) in enumerate(zip(names, results, reports, strict=True))
    ]
    compared = runs_section(results, [report.answer for report in reports]) if len(results) > 1 else None
    style, script = _asset("report.css"), _asset("report.js")
    content = {
        "title": _title(names, results, reports),
        "runs": runs,
        "compared": compared,
        "version": __version__,
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
    }
    share = 1 / len(results)
    while True:
        page = _template().render(share=share, most_rows=max(20, int(MOST_ROWS * share)), **content)
        if len(page.encode()) <= LARGEST or share < SMALLEST_SHARE:
            return page
        share /= 2  # fewer points of each line, and fewer rows of each table


def _title(names: Sequence[str], results: Sequence[RunResult], reports: Sequence[Report]) -> str:
    if len(results) > 1:
        return f"{len(results)} runs: {', '.join(names)}"[:200]
    lr = reports[0].answer.lr
    answer = "no answer" if lr is None else f"learning rate {number(lr)}"
    return f"{results[0].experiment.name[:80]}: {answer}"


def _run(identity: str, name: str, result: RunResult, report: Report) -> dict[str, Any]:
    """Return what the template shows of one run."""
    health = health_section(result)
    return {
        "id": identity,
        "name": name,
        "experiment": result.experiment.name[:80],
        "command": result.command,
        "path": str(result.path),
        "when": result.facts.holder["since"],
        "finished": result.facts.concluded,
        "answer": report.answer,
        "evidence": [*report.evidence, *([health] if health else [])],
        "warnings": result.summary["warnings"],
        "notes": result.summary["notes"],
        "snippet": facts.snippet_text(result),
        "use": facts.use_command(result),
        "resume": None if result.facts.concluded else result.resume_command,
        "repeat": facts.repeat_command(result),
        "lanes": facts.lanes_table(result),
        "outcomes": facts.outcomes_text(result),
        "data": data_in_words(result.facts.data),
        "environment": facts.environment_table(result),
        "config": facts.config_text(result),
        "overrides": facts.overrides_text(result),
    }


def _numeric(table: Table) -> list[bool]:
    """Return for each column of a table whether it holds numbers, which are set flush right."""
    return [all(cell == "-" or _is_number(cell) for cell in cells) for cells in zip(*table.rows, strict=True)]


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return False
    return True


def _marked(text: str) -> Markup:
    """Return a sentence with what stands between backticks as code."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in printable(text).split("`")]
    if len(parts) % 2 == 0:  # a backtick without its partner
        return Markup("`").join(parts)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


@cache
def _asset(name: str) -> str:
    return (files("lrfind.views.report") / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """Return the hash of a script or a style, as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


@cache
def _template() -> Template:
    """Return the template. Every text that it shows is made printable, then escaped."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {
        "number": number,
        "exact": lambda value: Markup(value),
        "marked": _marked,
        "short": text,
        "numeric": _numeric,
        "kind": lambda part: type(part).__name__.lower(),
    }
    environment.globals |= {
        "draw": draw,
        "interval": lambda pair: interval(*pair),
        "strip_scale": strip_scale,
        "strip_place": strip_place,
        "heat_paths": heat_paths,
        "frame": {"w": WIDTH, "h": HEIGHT, "l": LEFT, "r": RIGHT, "t": TOP, "b": BOTTOM, "strip": STRIP},
    }
    return environment.from_string(_asset("report.html.jinja"))
