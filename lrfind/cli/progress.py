"""The progress of a run on stderr, and nothing when quiet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from lrfind.training.mode import Cost, FindCost, Mode, StartCost
from lrfind.training.watch import Observer, Watch
from lrfind.views.progress import WatchFor, on_a_terminal, progress_bar, progress_lines
from lrfind.views.terminal import note
from lrfind.views.text.find import find_cost_text
from lrfind.views.text.script import start_cost_text
from lrfind.views.text.sweep import cost_text, mode_text


class _Terminal(Observer):
    """Shows progress on stderr, and says once where the run is and how to continue it."""

    def __init__(self, resume: str, path: Path, watch_for: WatchFor) -> None:
        self._resume, self._path, self._watch_for, self._introduced = resume, path, watch_for, False

    def prepared(self, cost: Cost, modes: Sequence[Mode]) -> None:
        """Print the expected cost of a sweep, and how its lanes run."""
        note(f"{cost_text(**vars(cost))}; {mode_text(map(asdict, modes))}")

    def expected(self, cost: FindCost) -> None:
        """Print the most steps that a `find` may take."""
        note(find_cost_text(**vars(cost)))

    def timed(self, cost: StartCost) -> None:
        """Print what a start of a script costs, and how long probing usually takes."""
        note(start_cost_text(**vars(cost)))

    def watch(self, lanes: int | None, steps: int | None) -> Watch:
        """Return the watch for this number of lanes and this number of steps per lane."""
        if not self._introduced:
            note(f"run: {self._path}. After an interruption, run `{self._resume}` to continue.")
        self._introduced = True
        return self._watch_for(lanes, steps)


@contextmanager
def progress(resume: str, path: Path, *, quiet: bool) -> Iterator[Observer]:
    """Yield an observer that shows the progress of the run in a directory, and the command to resume it."""
    if quiet:
        yield Observer()
    elif on_a_terminal():
        with progress_bar() as watch_for:
            yield _Terminal(resume, path, watch_for)
    else:
        yield _Terminal(resume, path, progress_lines)
