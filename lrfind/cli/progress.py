"""Progress on stderr: a bar on a terminal, a line every few seconds elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click

from lrfind.analysis.lanes import Lane
from lrfind.training.mode import Cost, Mode
from lrfind.training.watch import Observer, Watch
from lrfind.views.text.sweep import cost_text, mode_text

EVERY_SECONDS = 5.0

WatchFor = Callable[[int | None, int | None], Watch]
"""A function that takes the numbers of lanes and steps (None if not known beforehand) and returns a watch."""


class _Terminal(Observer):
    """Shows progress on stderr, and says once where the run is and how to continue it."""

    def __init__(self, path: Path, watch_for: WatchFor) -> None:
        self._path, self._watch_for, self._introduced = path, watch_for, False

    def prepared(self, cost: Cost, modes: Sequence[Mode]) -> None:
        """Print the expected cost of a sweep, and how its lanes run."""
        click.echo(f"{cost_text(**vars(cost))}; {mode_text(map(asdict, modes))}", err=True)

    def watch(self, lanes: int | None, steps: int | None) -> Watch:
        """Return the watch for this number of lanes and this number of steps per lane."""
        if not self._introduced:
            resume = f"`lrfind resume {self._path}`"
            click.echo(f"run: {self._path}. After an interruption, run {resume} to continue.", err=True)
        self._introduced = True
        return self._watch_for(lanes, steps)


@contextmanager
def progress(path: Path, *, quiet: bool) -> Iterator[Observer]:
    """Yield an observer that shows the progress of the run in a directory."""
    if quiet:
        yield Observer()
    elif sys.stderr.isatty():
        for watch_for in _bar():
            yield _Terminal(path, watch_for)
    else:
        yield _Terminal(path, _lines)


def _bar() -> Iterator[WatchFor]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def begin(lanes: int | None, steps: int | None) -> Watch:
            furthest = 0
            total = None if lanes is None or steps is None else lanes * steps

            def watch(together: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
                nonlocal furthest
                text = f"{_which(together, lanes)}  lr {_lrs(together, step)}  loss {_lowest(losses):<9.3g}"
                done = together[0].lane * (steps or 0) + (step + 1) * len(together)
                furthest = max(furthest, done)  # with pruning, lanes take turns, and `done` can fall
                bar.update(task, total=total, completed=furthest, description=text)

            return watch

        yield begin


def _lines(lanes: int | None, steps: int | None) -> Watch:
    last, of_steps = time.monotonic(), "" if steps is None else f"/{steps}"

    def watch(together: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY_SECONDS:
            last = time.monotonic()
            text = f"{_which(together, lanes)}, step {step + 1}{of_steps}: lr {_lrs(together, step)}"
            click.echo(f"{text}, loss {_lowest(losses):.4g}", err=True)

    return watch


def _which(together: Sequence[Lane], lanes: int | None) -> str:
    first, last = together[0].lane + 1, together[-1].lane + 1
    of_lanes = "" if lanes is None else f"/{lanes}"
    return f"lane {first}{of_lanes}" if first == last else f"lanes {first}-{last}{of_lanes}"


def _lowest(losses: Sequence[float]) -> float:
    return min((loss for loss in losses if loss == loss), default=losses[0])


def _lrs(together: Sequence[Lane], step: int) -> str:
    lrs = [float(lane.lr[step]) for lane in together]
    low, high = min(lrs), max(lrs)
    return f"{low:.1e}" if low == high else f"{low:.1e} to {high:.1e}"
