"""Progress on stderr: a bar on a terminal, a line every few seconds elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from lrfind.experiments import Watch
from lrfind.plan import Lane
from lrfind.train import Step

EVERY_SECONDS = 5.0


@contextmanager
def progress(lanes: int, steps: int, *, quiet: bool) -> Iterator[Watch]:
    """Show how far a run is; yields the function to tell of each step."""
    if quiet:
        yield lambda lane, step: None
    elif sys.stderr.isatty():
        yield from _bar(lanes, steps)
    else:
        yield _lines(lanes, steps)


def _bar(lanes: int, steps: int) -> Iterator[Watch]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=lanes * steps)

        def watch(lane: Lane, step: Step) -> None:
            text = f"lane {lane.lane + 1}/{lanes}  lr {step.lr:.1e}  loss {step.loss:<9.3g}"
            bar.update(task, completed=lane.lane * steps + step.step + 1, description=text)

        yield watch


def _lines(lanes: int, steps: int) -> Watch:
    last = time.monotonic()

    def watch(lane: Lane, step: Step) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY_SECONDS:
            last = time.monotonic()
            text = f"lane {lane.lane + 1}/{lanes}, step {step.step + 1}/{steps}"
            click.echo(f"{text}: lr {step.lr:.2e}, loss {step.loss:.4g}", err=True)

    return watch
