"""The command that writes the report of runs: report."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrfind.cli.completion import complete_runs
from lrfind.cli.help import OUTPUT, Command, option
from lrfind.cli.options import common_options, is_quiet
from lrfind.errors import UsageError
from lrfind.views.terminal import note, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfind.runs.result import RunResult


@click.command(
    cls=Command,
    examples=(
        ("lrfind report runs/NAME --open", "one run, in the browser"),
        ("lrfind report runs/A runs/B --out both.html", "two runs, compared"),
    ),
)
@click.argument(
    "paths",
    metavar="RUN...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    shell_complete=complete_runs,
)
@option(
    "--out",
    group=OUTPUT,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The HTML file to write; by default report.html in RUN, or here if there are several runs.",
)
@option("--open", "opened", group=OUTPUT, is_flag=True, help="Open the report in a web browser.")
@common_options
def report(paths: tuple[Path, ...], out: Path | None, opened: bool) -> int:
    """Write a run, or several compared, as one HTML page.

    The page holds the answer, its evidence and how to reproduce it. It needs no network, so it can be shared.
    """
    from lrfind.runs.store import Run
    from lrfind.runs.summary import content_of, read_result
    from lrfind.views.report.page import NAME

    runs = [Run.open(path) for path in paths]
    results = [read_result(run) for run in runs]
    file = out or (runs[0].path / NAME if len(runs) == 1 else Path(NAME))
    if out is None and len(runs) > 1 and file.exists():
        raise UsageError(f"'{file}' exists already; give --out FILE.")
    _refuse_other_files(file)
    with content_of(runs[0]):
        _write(results, file)
    show(f"wrote {file}")
    if opened and not webbrowser.open(file.absolute().as_uri()) and not is_quiet():
        note(f"no web browser was found; open {file} in one.")
    return 0


def _refuse_other_files(file: Path) -> None:
    """Refuse to overwrite anything but a report, which can be written again, or a link, which is replaced."""
    from lrfind.views.report.page import is_report

    if file.exists() and not file.is_symlink() and not is_report(file):
        raise UsageError(f"'{file}' exists already, and is no report of lrfind; give --out another file.")


def _write(results: Sequence[RunResult], file: Path) -> None:
    """Write the report, or say which file cannot be written, and why."""
    from lrfind.views.report.page import write_report

    try:
        write_report(results, file)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(f"cannot write '{file}': {reason}; give --out a file that you may write.") from None
