"""Commands for run directories: runs, show, status, resume, plot, export, repair."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrfind.cli.completion import complete_runs
from lrfind.cli.execute import Output, complete, exit_code, print_result
from lrfind.cli.help import OUTPUT, Command, option
from lrfind.cli.options import (
    common_options,
    import_options,
    is_quiet,
    json_option,
    print_json,
    refuse_unasked_imports,
    report_option,
    run_argument,
    snippet_option,
    to_option,
)
from lrfind.cli.trainings import requested_team, team_options
from lrfind.config.registry import load
from lrfind.errors import LrfindError, UsageError, counted, listed
from lrfind.views.terminal import note, show

if TYPE_CHECKING:
    from lrfind.runs.store import Run


@click.command(
    cls=Command,
    examples=(
        ("lrfind resume runs/found", "go on where it stopped"),
        ("lrfind resume runs/swept --workers 4", "in four processes"),
    ),
)
@run_argument
@team_options
@report_option
@json_option
@import_options
@common_options
def resume(path: Path, workers: str | None, cluster: str | None, no_report: bool, as_json: bool) -> int:
    """Continue a run that was interrupted.

    What was measured is kept; only the missing part is trained. A finished run is only printed, as by
    `lrfind show`. `lrfind status` says how far a run is.
    """
    from lrfind.runs.store import Run
    from lrfind.runs.summary import content_of, read_result

    team, run = requested_team(workers, cluster), Run.open(path)
    if run.concluded:
        _refuse_changed_config(run)
        return complete(run, Output(as_json))
    refuse_unasked_imports(run.experiment, path, run.facts().import_root)
    result = read_result(run)  # damage must show before hours of training, not after them
    with content_of(run):
        load(result.kind.text)(result.summary)
    with run.held():
        _refuse_changed_config(run)
        return complete(run, Output(as_json, report=run.facts().report and not no_report), team)


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


@click.command(
    "show",
    cls=Command,
    examples=(
        ("lrfind show runs/found", "as at its end"),
        ("lrfind show runs/found --snippet", "with lines of PyTorch"),
        ("lrfind show runs/found --json", "for programs"),
    ),
)
@run_argument
@snippet_option
@json_option
@common_options
def show_run(path: Path, snippet: bool, as_json: bool) -> int:
    """Print the result of a run again.

    Nothing is trained. Of a run that is not finished, it prints what is known so far. `lrfind status` says
    only how far a run is, and `lrfind resume` continues it.
    """
    from lrfind.runs.store import Run
    from lrfind.runs.summary import content_of, read_result
    from lrfind.runs.summary import status as status_of
    from lrfind.views.text.runs import status_text

    run = Run.open(path)
    result = read_result(run)
    with content_of(run):
        if not result.facts.concluded and not as_json:
            show(status_text(status_of(run)))
            if not result.lanes:
                return 0
            show("")
        print_result(run, result, Output(as_json, snippet))
        return exit_code(result) if result.facts.concluded else 0


@click.command(
    cls=Command,
    examples=(
        ("lrfind status runs/found", "how far it is"),
        ("lrfind status runs/found --json", "for programs"),
    ),
)
@run_argument
@json_option
@common_options
def status(path: Path, as_json: bool) -> int:
    """Show how far a run is, and which process runs it.

    `lrfind show` prints the result too.
    """
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


@click.command(
    cls=Command,
    examples=(
        ("lrfind runs", "those in ./runs"),
        ("lrfind runs results --json", "those in ./results, for programs"),
    ),
)
@click.argument("folder", metavar="[DIR]", default="runs", type=click.Path(path_type=Path, file_okay=False))
@json_option
@common_options
def runs(folder: Path, as_json: bool) -> int:
    """List the runs in a directory, with the answer of each.

    The directory is ./runs, unless DIR is given. The newest run is the last. A run that cannot be read is
    left out, with the reason.
    """
    from lrfind.runs.directory import DATABASE
    from lrfind.runs.summary import content_of, find_runs
    from lrfind.runs.summary import status as status_of
    from lrfind.views.text.runs import runs_text

    readable, unreadable = find_runs(folder)
    if not (readable or unreadable) and (folder / DATABASE).is_file():
        command = shlex.join(["lrfind", "status", str(folder)])
        raise UsageError(f"'{folder}' is one run, not a directory with runs; `{command}` says how far it is.")
    statuses = []
    for run in readable:
        try:
            run_status = status_of(run)
            with content_of(run):
                runs_text([run_status])  # what cannot be printed must not hide the others
            statuses.append(run_status)
        except (LrfindError, OSError) as error:
            unreadable.append(str(error))
    for reason in [] if is_quiet() else unreadable:
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


@click.command(
    cls=Command,
    examples=(
        ("lrfind plot runs/swept", "into its directory"),
        ("lrfind plot runs/ramp runs/swept --out both.png", "in one plot"),
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
    help="The PNG to write, for one run or several; an SVG is written beside it.",
)
@common_options
def plot(paths: tuple[Path, ...], out: Path | None) -> int:
    """Draw the plots of a run again, or several runs in one plot.

    The plots of one run are written into its directory. Several runs are drawn to overlay.png, or to
    overlay-2.png and so on if it exists.
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


@click.command(
    cls=Command,
    examples=(
        ("lrfind export runs/swept --optuna study.db", "an Optuna study"),
        ("lrfind export runs/found --to mlflow", "a tracker"),
    ),
)
@run_argument
@option(
    "--optuna",
    "file",
    group=OUTPUT,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The SQLite file to write, for optuna-dashboard.",
)
@to_option
@import_options
@common_options
def export(path: Path, file: Path | None, to: str | None) -> int:
    """Write a run to an Optuna study or to a tracker.

    `optuna-dashboard sqlite:///FILE` shows the study of a sweep. A tracker gets any run, and only what it has
    not got from this run before.
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
    for part in parts:
        if part.name == "tensorboard":
            folder = str(part.args.get("folder", run.path / "tensorboard"))
            show(f"  next: {shlex.join(['tensorboard', '--logdir', folder])}")


@click.command(
    cls=Command, examples=(("lrfind repair runs/swept --out runs/whole", "then `lrfind resume runs/whole`"),)
)
@run_argument
@option(
    "--out",
    group=OUTPUT,
    required=True,
    type=click.Path(path_type=Path),
    help="The run directory to write; it must be new or empty.",
)
@common_options
def repair(path: Path, out: Path) -> int:
    """Save what is whole in a damaged run, as a new run.

    The damaged run is not changed. `lrfind resume` completes the new one.
    """
    from lrfind.runs.repair import repair as repair_run

    run, lost = repair_run(path, out)
    for what in lost:
        show(f"lost: {what}")
    lanes = counted(len(run.outcomes()), "lane")
    show(f"wrote {out}: {lanes}; next: {run.resume_command}")
    return 0
