"""Watches: who is told of every step that lanes take, to show progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lrfind.analysis.lanes import Lane

Watch = Callable[[Sequence[Lane], int, Sequence[float]], None]
"""Told of every step that lanes took together: (lanes, step, losses before the update); must be quick."""


WatchFor = Callable[[int | None, int | None], Watch]
"""From the numbers of lanes and steps of a run, None where they are not known beforehand, to its watch."""


def unwatched(lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
    """A watch that takes no note."""
