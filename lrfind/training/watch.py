"""Watches: functions that are called after every step that lanes take, for example to show progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lrfind.analysis.lanes import Lane
from lrfind.training.mode import Cost, Mode

Watch = Callable[[Sequence[Lane], int, Sequence[float]], None]
"""A function of (lanes, step, losses before the update), called after every step that these lanes took
together.

It must return quickly.
"""


def unwatched(lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
    """Take no note of a step."""


class Observer:
    """Hears how a run goes. This one takes no note; the command line's shows progress."""

    def prepared(self, cost: Cost, modes: Sequence[Mode]) -> None:
        """Hear, before the first lane, what a sweep will take and how its lanes run."""

    def watch(self, lanes: int | None, steps: int | None) -> Watch:
        """Return the watch for so many lanes of so many steps; None where that is not known beforehand."""
        return unwatched
