"""The command that writes the report of runs: report."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrfind.cli.options import quiet_option
from lrfind.errors import UsageError
from lrfind.views.terminal import note, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfind.runs.result import RunResult


@click.command()
@click.argument("paths", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The HTML file to write; by default report.html in RUN, or here if there are several runs.",
)
@click.option("--open", "opened", is_flag=True, help="Open the report in a web browser.")
@quiet_option
def report(paths: tuple[Path, ...], out: Path | None, opened: bool, quiet: bool) -> int:
    """Write the report of a run, or of several compared, as one HTML page to look at and to share.

    For example: `lrfind report runs/mnist-cnn-grid-20261128-131227 --open`.
    """
    from lrfind.runs.store import Run
    from lrfind.runs.summary import content_of, read_result
    from lrfind.views.report.page import NAME

    runs = [Run.open(path) for path in paths]
    results = [read_result(run) for run in runs]
    file = out or (runs[0].path / NAME if len(runs) == 1 else Path(NAME))
    if out is None and len(runs) > 1 and file.exists():
        raise UsageError(f"'{file}' exists already; give --out FILE.")
    with content_of(runs[0]):
        _write(results, file)
    show(f"wrote {file}")
    if opened and not webbrowser.open(file.absolute().as_uri()):
        note(f"no web browser was found; open {file} in one.")
    return 0


def _write(results: Sequence[RunResult], file: Path) -> None:
    """Write the report, or say which file cannot be written, and why."""
    from lrfind.views.report.page import write_report

    try:
        write_report(results, file)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(f"cannot write '{file}': {reason}; give --out a file that you may write.") from None
