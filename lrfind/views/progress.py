"""Progress: a bar on a terminal, a line below the cell in a notebook, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lrfind.analysis.lanes import Lane
from lrfind.views.notebook import in_a_notebook, notebook_line
from lrfind.views.terminal import note

EVERY_SECONDS = 5.0  # between lines
QUIET_SECONDS = 1.0  # a call that ends sooner shows no bar
SILENT_SECONDS = 8.0  # without a step, after which a line says that the call still waits

Watch = Callable[[Sequence[Lane], int, Sequence[float]], None]
"""A function of (lanes, step, losses before the update), called after every step; see `training.watch`."""
WatchFor = Callable[[int | None, int | None], Watch]
"""A function that takes the numbers of lanes and steps (None if not known beforehand) and returns a watch."""


@contextmanager
def progress_bar() -> Iterator[WatchFor]:
    """Show a bar on stderr inside the block, and remove it afterwards."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
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


def progress_lines(lanes: int | None, steps: int | None) -> Watch:
    """Return a watch that prints a line on stderr every few seconds."""
    last, of_steps = time.monotonic(), "" if steps is None else f"/{steps}"

    def watch(together: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY_SECONDS:
            last = time.monotonic()
            text = f"{_which(together, lanes)}, step {step + 1}{of_steps}: lr {_lrs(together, step)}"
            note(f"{text}, loss {_lowest(losses):.4g}")

    return watch


@contextmanager
def call_progress(shown: bool) -> Iterator[Watch]:
    """Yield the watch of one call from Python.

    It shows something only if the call takes a while. If no step ends for `SILENT_SECONDS`, a line says so.
    """
    if shown and in_a_notebook():
        with notebook_line(_step_text) as watch_line:
            yield watch_line
        return
    with ExitStack() as stack:
        began, last, watch = time.monotonic(), [time.monotonic()], list[Watch]()

        def lazily(*step: Any) -> None:
            last[0] = time.monotonic()
            if not watch and last[0] - began > QUIET_SECONDS:
                watch_for = stack.enter_context(progress_bar()) if on_a_terminal() else progress_lines
                watch.append(watch_for(None, None))
            for inner in watch:
                inner(*step)

        if shown:
            stack.enter_context(_never_silent(last))
        yield lazily if shown else lambda *step: None


@contextmanager
def _never_silent(last: list[float]) -> Iterator[None]:
    """Print a line whenever nothing happened for a while, from a thread, because a step may be under way.

    Args:
        last: the time of the last sign of life, by the monotonic clock.
    """
    ended = threading.Event()

    def wait() -> None:
        while not ended.wait(max(last[0] + SILENT_SECONDS - time.monotonic(), 0.01)):
            if time.monotonic() - last[0] >= SILENT_SECONDS:
                last[0] = time.monotonic()
                note(f"lrfind: no step has ended for {SILENT_SECONDS:.0f} s; still waiting for it")

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def on_a_terminal() -> bool:
    """Return whether stderr is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def _step_text(together: Sequence[Lane], step: int, losses: Sequence[float]) -> str:
    """Return where a call is, in words."""
    return f"{_which(together, None)}, step {step + 1}: lr {_lrs(together, step)}, loss {_lowest(losses):.4g}"


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
