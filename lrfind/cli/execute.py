"""From a run directory to its end: train what is lacking, draw, print; for a new run and a resumed one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from lrfind.cli.options import note, print_json
from lrfind.errors import LrfindError, Stopped

if TYPE_CHECKING:
    from lrfind.experiments.prepare import Prepared
    from lrfind.runs.store import Run
    from lrfind.training.watch import Watch


def begin(run: Run, *, as_json: bool, quiet: bool, snippet: bool = False) -> int:
    """`go_on` with a new run; one that fails before anything is measured is removed again."""
    try:
        return go_on(run, as_json=as_json, quiet=quiet, snippet=snippet)
    except LrfindError:
        run.discard_if_empty()
        raise


def go_on(run: Run, *, as_json: bool, quiet: bool, snippet: bool = False) -> int:
    """Run what a run still lacks, draw it and print its summary; a concluded run is left as it is.

    With `snippet`, also print lines for a training script; JSON has them under that key.

    Returns:
        The exit code.
    """
    if not run.concluded:
        _train(run, quiet)
    from lrfind.runs.summary import summarize
    from lrfind.views.snippets.scripts import snippet_of

    summary = summarize(run)
    lines = snippet_of(run.experiment, summary) if snippet else None
    if as_json:
        print_json(summary if lines is None else summary | {"snippet": lines})
    else:
        from lrfind.views.text.runs import summary_text

        files = "".join(f"\n  plot: {plot}" for plot in sorted(run.path.glob("*.png")))
        click.echo(f"{summary_text(summary)}{files}\n  data: {run.path}")
        if lines is not None:
            click.echo(f"\n{lines}")
    return _exit_code(summary)


def _train(run: Run, quiet: bool) -> None:
    from lrfind.cli.progress import progress
    from lrfind.experiments.find import run_find
    from lrfind.experiments.range_test import run_range_test
    from lrfind.experiments.sweep import run_sweep
    from lrfind.experiments.train import run_training
    from lrfind.views.plots.runs import plot_run

    command = run.facts()["command"]
    try:
        with run.held(), progress(quiet=quiet) as shown:
            told = False

            def watch(lanes: int | None, steps: int | None) -> Watch:
                nonlocal told
                if not (quiet or told):
                    note(f"run: {run.path}; if it is interrupted, `lrfind resume {run.path}` goes on")
                told = True
                return shown(lanes, steps)

            if command == "find":
                run_find(run, watch=watch)
            elif command == "range-test":
                run_range_test(run, watch=watch)
            elif command == "train":
                run_training(run, watch=watch)
            else:
                run_sweep(run, watch=watch, note=lambda prepared: None if quiet else _tell(prepared))
            plot_run(run)
            run.set_fact("concluded", True)
    except (KeyboardInterrupt, Stopped):
        kept = "what was measured is kept" if run.outcomes() else "nothing is measured to its end yet"
        note(f"{kept} in {run.path}; `lrfind resume {run.path}` goes on.")
        raise


def _tell(prepared: Prepared) -> None:
    from lrfind.views.text.sweep import cost_text, engine_text

    note(f"{cost_text(**vars(prepared.cost))}; {engine_text(prepared.engines)}")


def _exit_code(summary: dict[str, Any]) -> int:
    """0 with an answer, 3 without, 1 if that is because every lane failed."""
    from lrfind.runs.summaries.parts import answer

    if answer(summary)["lr"] is not None:
        return 0
    peaks = [peak for standing in summary.get("standings", ()) for peak in standing["peaks"]]
    tried = [*summary.get("rates", ()), *summary.get("trainings", ()), *peaks]
    return 1 if tried and {each["outcome"] for each in tried} == {"failed"} else 3
