"""What is called as lanes train, for example to show progress: watches after each step, and observers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrfind.analysis.lanes import Evaluation, Lane, Watch
from lrfind.training.cost import FindCost, StartCost, SweepCost
from lrfind.training.mode import Mode


def unwatched(lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
    """Ignore a step."""


Row = tuple[int, int, float, float, str]


def rows_of(lanes: Sequence[Lane], step: int) -> list[Row]:
    """Return what another process must know of lanes that took a step; see `watch_reported`."""
    return [(lane.lane, lane.seed, float(lane.lr[step]), float(lane.peak), lane.variant) for lane in lanes]


def watch_reported(watch: Watch, rows: Sequence[Row], step: int, losses: Sequence[float]) -> None:
    """Call a watch with a step that another process took.

    Args:
        watch: the watch.
        rows: (lane, seed, lr at the step, peak, variant) of each lane.
        step: the number of the step.
        losses: the loss of each lane.
    """
    lanes = [Lane(lane, seed, np.full(step + 1, lr), peak, name) for lane, seed, lr, peak, name in rows]
    watch(lanes, step, losses)


class Observer:
    """An object whose methods are called as a run proceeds.

    This class ignores the calls. The command line has a subclass that shows progress.
    """

    def prepared(self, cost: SweepCost, modes: Sequence[Mode]) -> None:
        """Receive, before the first lane, the cost of a sweep and the modes in which its lanes run."""

    def expected(self, cost: FindCost) -> None:
        """Receive, before the first probe, the most that a `find` may cost."""

    def timed(self, cost: StartCost) -> None:
        """Receive, after the first starts of a script, what they cost."""

    def watch(self, lanes: int | None, steps: int | None) -> Watch:
        """Return the watch for `lanes` lanes of `steps` steps; a number that is not yet known is None."""
        return unwatched

    def epochs(self, steps: float | None) -> None:
        """Receive, before a final training, the number of steps of an epoch; None if it has no end."""

    def evaluated(self, lane: int, evaluation: Evaluation) -> None:
        """Receive an evaluation of a final training, while it goes on."""
