"""Commands for run directories: resume, status, runs, plot, export."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrfind.cli.execute import complete
from lrfind.cli.options import (
    import_root_option,
    json_option,
    note,
    print_json,
    quiet_option,
    requested_team,
    team_options,
)
from lrfind.errors import LrfindError, UsageError, counted, in_one_line

if TYPE_CHECKING:
    from lrfind.runs.store import Run

run_argument = click.argument("path", metavar="RUN", type=click.Path(path_type=Path))


@click.command()
@run_argument
@import_root_option
@team_options
@json_option
@quiet_option
def resume(path: Path, workers: str | None, cluster: str | None, as_json: bool, quiet: bool) -> int:
    """Continue a run after any interruption; print the result of a finished run again."""
    from lrfind.runs.store import Run

    team, run = requested_team(workers, cluster), Run.open(path)
    _refuse_changed_config(run)
    return complete(run, as_json=as_json, quiet=quiet, team=team)


def _refuse_changed_config(run: Run) -> None:
    """Refuse to continue a run whose config was changed, because its lanes would not fit together."""
    facts = run.facts()
    for name, kept in (("config.yaml", facts.config), ("resolved.yaml", facts.resolved)):
        file = run.path / name
        if not file.is_file():
            run.write(name, kept)
        elif (now := file.read_text(encoding="utf-8", errors="replace")) != kept:
            lines = difflib.unified_diff(
                kept.splitlines(), now.splitlines(), "as the run began", str(file), lineterm="", n=1
            )
            raise UsageError(
                "the config has changed since the run began, so its lanes would not fit together:\n"
                + "\n".join(lines)
                + f"\nRestore {name} (if you delete it, it is written again), or start a new run from it."
            )


@click.command()
@run_argument
@json_option
@quiet_option
def status(path: Path, as_json: bool, quiet: bool) -> int:
    """Show how far a run is, and whether a process is running it."""
    from lrfind.runs.store import Run
    from lrfind.runs.summary import status as status_of

    run_status = status_of(Run.open(path))
    if as_json:
        print_json(run_status)
    else:
        from lrfind.views.text.runs import status_text

        click.echo(status_text(run_status))
    return 0


@click.command()
@click.argument("folder", metavar="[DIR]", default="runs", type=click.Path(path_type=Path, file_okay=False))
@json_option
@quiet_option
def runs(folder: Path, as_json: bool, quiet: bool) -> int:
    """List the runs in a directory (runs, unless DIR is given) and the answer of each."""
    from lrfind.runs.store import find_runs
    from lrfind.runs.summary import status as status_of

    readable, unreadable = find_runs(folder)
    statuses = []
    for run in readable:
        try:
            statuses.append(status_of(run))
        except LrfindError as error:
            unreadable.append(f"'{run.path}': {in_one_line(error)}")
    for reason in unreadable:
        note(f"left out: {reason}")
    if as_json:
        print_json(statuses)
    elif not statuses:
        click.echo(f"there is no run in {folder}; `lrfind find` or `lrfind grid` makes one.")
    else:
        from lrfind.views.text.runs import runs_text

        click.echo(runs_text(statuses))
    return 0


@click.command()
@click.argument("paths", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The PNG to write, for one run or several; an SVG is written beside it.",
)
@quiet_option
def plot(paths: tuple[Path, ...], out: Path | None, quiet: bool) -> int:
    """Draw a run again into its directory, or draw several runs in one plot."""
    from lrfind.runs.store import Run
    from lrfind.runs.summary import read_result
    from lrfind.views.plots.runs import plot_overlay, plot_run

    results = [read_result(Run.open(path)) for path in paths]
    if len(results) == 1 and out is None:
        written = plot_run(results[0])
    else:
        written = plot_overlay(results, out or Path("overlay.png"))
    for file in written:
        click.echo(f"wrote {file}")
    return 0


@click.command()
@run_argument
@click.option(
    "--optuna",
    "file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The SQLite file to write, for optuna-dashboard.",
)
@quiet_option
def export(path: Path, file: Path, quiet: bool) -> int:
    """Write a sweep as an Optuna study: `optuna-dashboard sqlite:///FILE` shows it."""
    from lrfind.runs.optuna_export import export_study
    from lrfind.runs.store import Run

    trials = export_study(Run.open(path), file)
    click.echo(f"wrote {file}: {counted(trials, 'trial')}; next: optuna-dashboard sqlite:///{file}")
    return 0
