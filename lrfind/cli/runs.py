"""Commands for run directories: resume, status, runs, plot, export."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrfind.cli.execute import complete
from lrfind.cli.options import (
    import_options,
    json_option,
    print_json,
    quiet_option,
    refuse_unasked_imports,
    requested_team,
    team_options,
    to_option,
)
from lrfind.config.registry import load
from lrfind.errors import LrfindError, UsageError, counted, listed
from lrfind.views.terminal import note, show

if TYPE_CHECKING:
    from lrfind.runs.store import Run

run_argument = click.argument("path", metavar="RUN", type=click.Path(path_type=Path))


@click.command()
@run_argument
@import_options
@team_options
@json_option
@quiet_option
def resume(path: Path, workers: str | None, cluster: str | None, as_json: bool, quiet: bool) -> int:
    """Continue a run after any interruption; print the result of a finished run again."""
    from lrfind.runs.store import Run
    from lrfind.runs.summary import content_of, read_result

    team, run = requested_team(workers, cluster), Run.open(path)
    if run.concluded:
        _refuse_changed_config(run)
        return complete(run, as_json=as_json, quiet=quiet)
    refuse_unasked_imports(run.experiment, path, run.facts().import_root, ["resume", str(path)])
    result = read_result(run)  # damage must show before hours of training, not after them
    with content_of(run):
        load(result.kind.text)(result.summary)
    with run.held():
        _refuse_changed_config(run)
        return complete(run, as_json=as_json, quiet=quiet, team=team)


def _refuse_changed_config(run: Run) -> None:
    """Refuse to continue a run whose config was changed, because its lanes would not fit together."""
    facts = run.facts()
    for name, kept in (("config.yaml", facts.config), ("resolved.yaml", facts.resolved)):
        file = run.path / name
        if not file.is_file() or file.is_symlink():
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
    from lrfind.runs.summary import content_of
    from lrfind.runs.summary import status as status_of

    run = Run.open(path)
    run_status = status_of(run)
    with content_of(run):
        if as_json:
            print_json(run_status)
        else:
            from lrfind.views.text.runs import status_text

            show(status_text(run_status))
    return 0


@click.command()
@click.argument("folder", metavar="[DIR]", default="runs", type=click.Path(path_type=Path, file_okay=False))
@json_option
@quiet_option
def runs(folder: Path, as_json: bool, quiet: bool) -> int:
    """List the runs in a directory (runs, unless DIR is given) and the answer of each.

    A run that cannot be read is left out, with the reason.
    """
    from lrfind.runs.summary import content_of, find_runs
    from lrfind.runs.summary import status as status_of
    from lrfind.views.text.runs import runs_text

    readable, unreadable = find_runs(folder)
    statuses = []
    for run in readable:
        try:
            run_status = status_of(run)
            with content_of(run):
                runs_text([run_status])  # what cannot be printed must not hide the others
            statuses.append(run_status)
        except (LrfindError, OSError) as error:
            unreadable.append(str(error))
    for reason in unreadable:
        note(f"left out: {reason}")
    if as_json:
        print_json(statuses)
    elif statuses:
        show(runs_text(statuses))
    elif unreadable:
        raise UsageError(f"none of the {counted(len(unreadable), 'run')} in '{folder}' can be read.")
    else:
        show(f"there is no run in {folder}; `lrfind find` or `lrfind grid` makes one.")
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
    """Draw a run again into its directory, or draw several runs in one plot.

    Without --out, several runs are drawn to overlay.png, or to overlay-2.png and so on if it exists.
    """
    from lrfind.runs.store import Run
    from lrfind.runs.summary import content_of, read_result
    from lrfind.views.plots.runs import free_path, plot_overlay, plot_run

    runs = [Run.open(path) for path in paths]
    results = [read_result(run) for run in runs]
    if len(results) == 1 and out is None:
        with content_of(runs[0]):
            written = plot_run(results[0])
    else:
        written = plot_overlay(results, out or free_path(Path("overlay.png")))
    for file in written:
        show(f"wrote {file}")
    return 0


@click.command()
@run_argument
@import_options
@click.option(
    "--optuna",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The SQLite file to write, for optuna-dashboard.",
)
@to_option
@quiet_option
def export(path: Path, file: Path | None, to: str | None, quiet: bool) -> int:
    """Write a sweep as an Optuna study (`optuna-dashboard sqlite:///FILE` shows it), or any run to trackers.

    A tracker gets only what it has not got from this run before.
    """
    from lrfind.runs.optuna_export import export_study
    from lrfind.runs.store import Run

    if file is None and to is None:
        raise UsageError("give --optuna FILE, --to SINK, or both.")
    run = Run.open(path)
    if to is not None:
        _write_to_sinks(run, to)
    if file is not None:
        trials = export_study(run, file)
        show(f"wrote {file}: {counted(trials, 'trial')}; next: optuna-dashboard sqlite:///{file}")
    return 0


def _write_to_sinks(run: Run, sinks: str) -> None:
    """Write a finished run to sinks.

    Args:
        run: the run.
        sinks: the YAML of the sinks.

    Raises:
        UsageError: if the run is not finished, or a sink cannot be used here.
        LrfindError: if a sink failed.
    """
    from lrfind.config.document import parse
    from lrfind.config.sections import Component
    from lrfind.views.sinks.delivery import as_typed, delivered

    if not run.concluded:
        raise UsageError(f"'{run.path}' is not finished; `{run.resume_command}` continues it.")
    parts = [Component(**part) for part in parse(sinks, "--to").value]
    with delivered(run, parts) as write_to_sinks:
        failures = write_to_sinks()
    if failures:
        raise LrfindError("\n".join(failures))
    show(f"wrote {run.path} to {listed(map(as_typed, parts))}")


@click.command()
@run_argument
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="The run directory to write; it must be new or empty.",
)
@quiet_option
def repair(path: Path, out: Path, quiet: bool) -> int:
    """Save what is whole in a damaged run, as a new run, which `lrfind resume` completes.

    The damaged run is not changed.
    """
    from lrfind.runs.repair import repair as repair_run

    run, lost = repair_run(path, out)
    for what in lost:
        show(f"lost: {what}")
    lanes = counted(len(run.outcomes()), "lane")
    show(f"wrote {out}: {lanes}; next: {run.resume_command}")
    return 0
