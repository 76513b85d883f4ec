"""The completion of new and resumed runs: run the missing part, draw the plots and print the summary."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from lrfind.catalog import KINDS
from lrfind.cli.hints import next_commands, show_next
from lrfind.cli.options import print_json
from lrfind.config.registry import load
from lrfind.errors import Stopped, StorageError, UsageError, in_one_line
from lrfind.views.terminal import note, show

if TYPE_CHECKING:
    from pathlib import Path

    from lrfind.runs.result import RunResult
    from lrfind.runs.store import Run
    from lrfind.training.assembly import TeamRequest
    from lrfind.training.watch import Observer


def start(
    run: Run,
    *,
    as_json: bool,
    quiet: bool,
    snippet: bool = False,
    no_report: bool = False,
    team: TeamRequest | None = None,
) -> int:
    """Run a new run to its end; see `complete`. A run that fails before anything is measured is removed."""
    from lrfind.runs.origin import origin

    try:
        run.keep_facts(origin=origin(click.get_current_context().obj["typed"], run.folder))
        return complete(run, as_json=as_json, quiet=quiet, snippet=snippet, no_report=no_report, team=team)
    except StorageError:  # what was measured can be continued, and the directory may be gone
        raise
    except Exception:
        run.discard_if_empty()
        raise
    finally:
        run.release()


def complete(
    run: Run,
    *,
    as_json: bool,
    quiet: bool,
    snippet: bool = False,
    no_report: bool = False,
    team: TeamRequest | None = None,
) -> int:
    """Run the missing part of a run, draw it and print its summary. A concluded run is only printed.

    Args:
        run: the run.
        as_json: print the summary as JSON instead of text.
        quiet: show no progress and no notes.
        snippet: also print lines for a training script; JSON has them under the key `snippet`.
        no_report: write no report.
        team: the workers that train; None to train in this process.

    Returns:
        The exit code.
    """
    from lrfind.runs.summary import content_of, read_result

    if run.concluded:
        result, warnings = read_result(run), list[str]()
    else:
        result, warnings = _conclude(run, quiet, no_report, team)
    with content_of(run):
        print_result(run, result, as_json=as_json, quiet=quiet, snippet=snippet)
        for warning in warnings:
            note(f"warning: {warning}")
        return exit_code(result)


def print_result(run: Run, result: RunResult, *, as_json: bool, quiet: bool, snippet: bool) -> None:
    """Print the result of a run, as text or as JSON; see `complete`."""
    from lrfind.views.snippets.scripts import run_snippet

    lines = run_snippet(result) if snippet else None
    if as_json:
        print_json(result.summary if lines is None else result.summary | {"snippet": lines})
        return
    files = "".join(f"\n  {kind}: {path}" for kind, path in _files(run))
    show(f"{load(result.kind.text)(result.summary)}{files}\n  run: {run.path}")
    if lines is not None:
        show(f"\n{lines}\n")
    if not quiet:
        show_next(next_commands(result), result.facts.import_root)


def _files(run: Run) -> list[tuple[str, Path]]:
    """Return the plots of a run and its report, each with its kind, as paths to show."""
    from lrfind.views.report.page import NAME

    plots = [("plot", run.path / plot.name) for plot in sorted(run.folder.glob("*.png"))]
    return [*plots, *([("report", run.path / NAME)] if (run.folder / NAME).is_file() else [])]


def _conclude(
    run: Run, quiet: bool, no_report: bool, team: TeamRequest | None
) -> tuple[RunResult, list[str]]:
    """Run the missing part of a run, locked against other processes, and write its plots, report and sinks.

    Returns:
        The result, and what could not be drawn or written, in sentences. The answer does not depend on it.
    """
    from lrfind.cli.progress import kept_text, progress
    from lrfind.runs.facts import moment
    from lrfind.views.live.scene import Scene
    from lrfind.views.plots.runs import plot_run
    from lrfind.views.report.page import NAME, write_report
    from lrfind.views.sinks.delivery import delivered

    warnings: list[str] = []
    scene = Scene(run.facts().command)
    try:
        with (
            run.held(),
            delivered(run, run.experiment.sinks) as write_to_sinks,
            progress(run, scene, quiet=quiet) as observer,
        ):
            result = _run_missing_part(run, observer, quiet, team)
            with _warning_of(
                "a plot could not be drawn", f"`lrfind plot {run.path}` draws it again", warnings
            ):
                plot_run(result, run.folder)
            ended = replace(result, facts=replace(result.facts, concluded=True))
            if not no_report:
                again = f"`lrfind report {run.path}` writes it again"
                with _warning_of("the report could not be written", again, warnings):
                    write_report([ended], run.folder / NAME)
            warnings += write_to_sinks()
            run.keep_facts(concluded=True, ended=moment())
            return ended, warnings
    except (KeyboardInterrupt, Stopped):
        scene.look()
        note(kept_text(run, scene))
        raise


@contextmanager
def _warning_of(what: str, again: str, warnings: list[str]) -> Iterator[None]:
    """Turn an error inside the block into a warning; a full disk stays an error, so that the run can resume.

    Args:
        what: what the error means.
        again: the command that makes up for it.
        warnings: the list that gets the warning.
    """
    try:
        yield
    except StorageError:
        raise  # the run can be resumed when there is room again
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        warnings.append(f"{what}: {in_one_line(error)}. {again}.")


def _run_missing_part(run: Run, observer: Observer, quiet: bool, team: TeamRequest | None) -> RunResult:
    result: RunResult
    command = run.facts().command
    run_part = load(KINDS[command].run)
    if team is None:
        result = run_part(run, observer)
        return result
    if not KINDS[command].spreads:
        raise UsageError(f"{command} trains in this process only; leave out --workers and --cluster.")
    from lrfind.training.assembly import assembled

    with assembled(team, say=lambda text: None if quiet else note(text)) as workers:
        result = run_part(run, observer, workers)
    return result


def exit_code(result: RunResult) -> int:
    """Return 0 with an answer, 1 without an answer because every attempt failed, and otherwise 3."""
    if result.answer["lr"] is not None:
        return 0
    attempts: list[dict[str, Any]] = result.summary[result.kind.attempts] if result.kind.attempts else []
    return 1 if attempts and {row["outcome"] for row in attempts} == {"failed"} else 3
