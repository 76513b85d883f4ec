"""New and resumed runs: make the directory, run the missing part, print the answer, then draw the plots."""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.catalog import KINDS
from lrfind.cli.hints import next_commands, show_next
from lrfind.cli.options import is_quiet, print_json
from lrfind.config.registry import load
from lrfind.errors import Stopped, StorageError, UsageError, in_one_line, in_shell
from lrfind.training.interrupts import deferred
from lrfind.views.terminal import note, show

if TYPE_CHECKING:
    from lrfind.config.document import Override
    from lrfind.config.experiment import Experiment
    from lrfind.runs.result import RunResult
    from lrfind.runs.store import Run
    from lrfind.training.assembly import TeamRequest
    from lrfind.training.watch import Observer


@dataclass(frozen=True)
class Output:
    """What the command of a run prints and writes at its end.

    Attributes:
        as_json: print the summary as JSON instead of text.
        snippet: also print lines for a training script; JSON has them under the key `snippet`.
        report: write a report.
    """

    as_json: bool = False
    snippet: bool = False
    report: bool = True


def new_run(
    out: Path | None, command: str, experiment: Experiment, config: str, typed: Sequence[Override]
) -> Run:
    """Make and lock the directory of a new run.

    Args:
        out: the directory, as typed with --out; None for a new one in `runs`.
        command: the command that makes the run.
        experiment: what the config and the overrides describe.
        config: the text of the config.
        typed: the overrides of the config.
    """
    from lrfind.runs.store import Run, default_path

    path = out or default_path(experiment.name, command)
    return Run.start(path, command, experiment, config, [override.text for override in typed])


def start(run: Run, output: Output, team: TeamRequest | None = None) -> int:
    """Run a new run to its end; see `complete`. A run that fails before anything is measured is removed."""
    from lrfind.runs.origin import origin

    try:
        typed = click.get_current_context().obj["typed"]
        run.keep_facts(origin=origin(typed, run.folder), report=output.report)
        return complete(run, output, team)
    except StorageError:  # what was measured can be continued, and the directory may be gone
        raise
    except Exception:
        run.discard_if_empty()
        raise
    finally:
        run.release()


def complete(run: Run, output: Output, team: TeamRequest | None = None) -> int:
    """Run the missing part of a run, print its answer and draw it. A concluded run is only printed.

    The answer is printed as soon as it is known. What is drawn and written after it is named below it.

    Args:
        run: the run.
        output: what is printed and written.
        team: the workers that train; None to train in this process.

    Returns:
        The exit code.
    """
    from lrfind.runs.summary import content_of, read_result

    if run.concluded:
        result = read_result(run)
        with content_of(run):
            print_result(run, result, output)
            return exit_code(result)

    result, warnings = _conclude(run, output, team)
    if not output.as_json:
        with _found_again(run):
            _print_files(run, result, output)
    for warning in warnings:
        note(f"warning: {warning}")
    return exit_code(result)


@contextmanager
def _found_again(run: Run) -> Iterator[None]:
    """Name, where stdout is on a full disk, the command that prints the answer of a run that is stored."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageError(
            "the answer cannot be printed, because stdout goes to a disk that is full. The run is stored;"
            f" `lrfind show {in_shell(run.path)}` prints its answer.",
            error.errno,
        ) from None


def print_result(run: Run, result: RunResult, output: Output) -> None:
    """Print the result of a run, as text or as JSON; see `complete`."""
    with _found_again(run):
        _print_answer(result, output)
        if not output.as_json:
            _print_files(run, result, output)


def _print_answer(result: RunResult, output: Output) -> None:
    """Print the summary of a run, as text or as JSON."""
    from lrfind.views.snippets.scripts import run_snippet

    if output.as_json:
        print_json(result.summary | ({"snippet": run_snippet(result)} if output.snippet else {}))
    else:
        show(load(result.kind.text)(result.summary))


def _print_files(run: Run, result: RunResult, output: Output) -> None:
    """Print what follows the text of an answer: files of the run, lines to paste and the next commands."""
    from lrfind.views.report.page import NAME
    from lrfind.views.snippets.scripts import run_snippet

    plots = [("plot", plot.name) for plot in sorted(run.folder.glob("*.png"))]
    report = [("report", NAME)] if (run.folder / NAME).is_file() else []
    for kind, name in (*plots, *report):
        show(f"  {kind}: {run.path / name}")
    show(f"  run: {run.path}")
    if output.snippet:
        show(f"\n{run_snippet(result)}\n")
    if not is_quiet():
        show_next(next_commands(result), result.facts.import_root)


def _conclude(run: Run, output: Output, team: TeamRequest | None) -> tuple[RunResult, list[str]]:
    """Run the missing part of a run, locked against other processes, and print its answer.

    Its plots, report and sinks are written afterwards, even if the answer cannot be printed.

    Args:
        run: the run.
        output: what is printed and written.
        team: the workers that train; None to train in this process.

    Returns:
        The result, and what could not be drawn or written, in sentences. The answer does not depend on it.
    """
    from lrfind.cli.progress import kept_text, progress
    from lrfind.runs.facts import moment
    from lrfind.views.live.scene import Scene
    from lrfind.views.sinks.delivery import delivered

    scene = Scene(run.facts().command)
    try:
        with run.held(), delivered(run, run.experiment.sinks) as write_to_sinks:
            with progress(run, scene, quiet=is_quiet()) as observer:
                result = _run_missing_part(run, observer, team)
            try:
                with _found_again(run):
                    _print_answer(result, output)
            finally:
                ended, warnings = _illustrated(run, result, output)
                warnings += write_to_sinks()
                run.keep_facts(concluded=True, ended=moment())
            return ended, warnings
    except (KeyboardInterrupt, Stopped):
        scene.look()
        note(kept_text(run, scene))
        raise


def _illustrated(run: Run, result: RunResult, output: Output) -> tuple[RunResult, list[str]]:
    """Draw the plots of a run that has ended, and write its report; see `_conclude`."""
    from lrfind.views.plots.runs import plot_run
    from lrfind.views.report.page import NAME, write_report

    warnings: list[str] = []
    again = f"`lrfind plot {in_shell(run.path)}` draws it again"
    with _warning_of("a plot could not be drawn", again, warnings):
        plot_run(result, run.folder)
    ended = replace(result, facts=replace(result.facts, concluded=True))
    if output.report:
        again = f"`lrfind report {in_shell(run.path)}` writes it again"
        with _warning_of("the report could not be written", again, warnings):
            write_report([ended], run.folder / NAME)
    return ended, warnings


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


def _run_missing_part(run: Run, observer: Observer, team: TeamRequest | None) -> RunResult:
    result: RunResult
    command = run.facts().command
    run_part = _imported(KINDS[command].run)
    from lrfind.training.eager import eager_optimizers

    with eager_optimizers():
        if team is None:
            result = run_part(run, observer)
            return result
        if not KINDS[command].spreads:
            raise UsageError(f"{command} trains in this process only; leave out --workers and --cluster.")
        from lrfind.training.assembly import assembled

        with assembled(team, say=(lambda text: None) if is_quiet() else note) as workers:
            result = run_part(run, observer, workers)
        return result


def _imported(path: str) -> Any:
    """Import a function that trains, and torch with it, while the garbage collector rests.

    Nothing of modules is garbage. Looking for it in all that torch is made of, again and again, takes a tenth
    of the time of the import, and later collections would go on with that. A signal waits for the end of the
    import, because modules that are written in C lose it, or end the process.
    """
    if "torch" in sys.modules or not gc.isenabled():
        return load(path)
    gc.disable()
    try:
        with deferred():
            return load(path)
    finally:
        gc.freeze()
        gc.enable()


def exit_code(result: RunResult) -> int:
    """Return 0 with an answer, 1 without an answer because every attempt failed, and otherwise 3."""
    if result.answer["lr"] is not None:
        return 0
    attempts: list[dict[str, Any]] = result.summary[result.kind.attempts] if result.kind.attempts else []
    return 1 if attempts and {row["outcome"] for row in attempts} == {"failed"} else 3
