"""The completion of new and resumed runs: run the missing part, draw the plots and print the summary."""

from __future__ import annotations

import errno
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
    run: Run, *, as_json: bool, quiet: bool, snippet: bool = False, team: TeamRequest | None = None
) -> int:
    """Run a new run to its end; see `complete`. A run that fails before anything is measured is removed."""
    from lrfind.runs.origin import origin

    try:
        run.keep_facts(origin=origin(click.get_current_context().obj["typed"], run.folder))
        return complete(run, as_json=as_json, quiet=quiet, snippet=snippet, team=team)
    except StorageError:  # what was measured can be continued, and the directory may be gone
        raise
    except Exception:
        run.discard_if_empty()
        raise
    finally:
        run.release()


def complete(
    run: Run, *, as_json: bool, quiet: bool, snippet: bool = False, team: TeamRequest | None = None
) -> int:
    """Run the missing part of a run, draw it and print its summary. A concluded run is only printed.

    Args:
        run: the run.
        as_json: print the summary as JSON instead of text.
        quiet: show no progress and no notes.
        snippet: also print lines for a training script; JSON has them under the key `snippet`.
        team: the workers that train; None to train in this process.

    Returns:
        The exit code.
    """
    from lrfind.runs.summary import content_of, read_result
    from lrfind.views.snippets.scripts import snippet_of

    result, warnings = (read_result(run), list[str]()) if run.concluded else _conclude(run, quiet, team)
    with content_of(run):
        lines = snippet_of(result.experiment, result.summary) if snippet else None
        if as_json:
            print_json(result.summary if lines is None else result.summary | {"snippet": lines})
        else:
            plots = "".join(f"\n  plot: {plot}" for plot in _plots(run))
            show(f"{load(result.kind.text)(result.summary)}{plots}\n  run: {run.path}")
            if lines is not None:
                show(f"\n{lines}\n")
            if not quiet:
                show_next(next_commands(result), result.facts.import_root)
        for warning in warnings:
            note(f"warning: {warning}")
        return exit_code(result)


def _plots(run: Run) -> list[Path]:
    """Return the plots of a run, as paths to show."""
    return [run.path / plot.name for plot in sorted(run.folder.glob("*.png"))]


def _conclude(run: Run, quiet: bool, team: TeamRequest | None) -> tuple[RunResult, list[str]]:
    """Run the missing part of a run, locked against other processes, draw the plots, and write to its sinks.

    Returns:
        The result, and what could not be drawn or written to a sink, in sentences. The answer does not depend
        on it.
    """
    from lrfind.cli.progress import progress
    from lrfind.views.plots.runs import plot_run
    from lrfind.views.sinks.delivery import delivered

    warnings: list[str] = []
    try:
        with (
            run.held(),
            delivered(run, run.experiment.sinks) as write_to_sinks,
            progress(run.resume_command, run.path, quiet=quiet) as observer,
        ):
            result = _run_missing_part(run, observer, quiet, team)
            try:
                plot_run(result, run.folder)
            except StorageError:
                raise  # the run can be resumed when there is room again
            except Exception as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                undrawn = in_one_line(error)
                warnings.append(
                    f"a plot could not be drawn: {undrawn}. `lrfind plot {run.path}` draws it again."
                )
            warnings += write_to_sinks()
            run.keep_facts(concluded=True)
            return result, warnings
    except (KeyboardInterrupt, Stopped):
        kept = "what was measured is kept"
        if not run.outcomes():
            probing = KINDS[run.facts().command].lanes == "probes"
            kept = "probing has not ended, and begins again" if probing else "no lane has come to its end yet"
        note(f"{kept} in {run.path}. Run `{run.resume_command}` to continue.")
        raise


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
