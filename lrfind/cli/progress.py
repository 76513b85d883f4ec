"""The progress of a run: notes and a live view on stderr, and a few numbers in the run for `lrfind watch`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict

from lrfind.analysis.lanes import SETTLED, Evaluation, Lane, Watch
from lrfind.config.experiment import section_for
from lrfind.errors import LrfindError, counted
from lrfind.runs.store import Run
from lrfind.training.cost import FindCost, StartCost, SweepCost
from lrfind.training.mode import Mode
from lrfind.training.watch import Observer
from lrfind.views.live.display import can_change, live_view
from lrfind.views.live.scene import Scene
from lrfind.views.progress import progress_lines
from lrfind.views.terminal import note
from lrfind.views.text.find import find_cost_text
from lrfind.views.text.script import start_cost_text
from lrfind.views.text.sweep import cost_text, mode_text, more_lanes

STORE_SECONDS = 2.0
"""The time between two moments at which the run stores how far it is, for `lrfind watch`."""


class _Progress(Observer):
    """Keeps a scene up to date, stores it in the run now and then, and tells the user what the run costs.

    Args:
        run: the run, which this process holds.
        scene: what is known of the run.
        tell: shows a note to the user.
        lines: whether progress is printed line by line.
    """

    def __init__(self, run: Run, scene: Scene, tell: Callable[[str], None], *, lines: bool) -> None:
        self._run, self._tell, self._introduced = run, tell, False
        self._line = progress_lines(scene) if lines else lambda: None
        self.scene = scene
        self._due = time.monotonic() + STORE_SECONDS
        self._stored = False

    def prepared(self, cost: SweepCost, modes: Sequence[Mode]) -> None:
        """Tell the expected cost of a sweep, and how its lanes run."""
        more = more_lanes(section_for(self._run.experiment, self.scene.command))
        self._tell(f"{cost_text(**vars(cost), more=more)}; {mode_text(map(asdict, modes))}")

    def expected(self, cost: FindCost) -> None:
        """Tell the most steps that a `find` may take."""
        self._tell(find_cost_text(**vars(cost)))

    def timed(self, cost: StartCost) -> None:
        """Tell what a start of a script costs, and how long probing usually takes."""
        self.scene.usual_seconds = cost.seconds
        self._tell(start_cost_text(**vars(cost)))

    def epochs(self, steps: float | None) -> None:
        """Take the number of steps of an epoch."""
        self.scene.epoch_steps = steps

    def evaluated(self, lane: int, evaluation: Evaluation) -> None:
        """Take an evaluation of a final training."""
        self.scene.evaluated(lane, evaluation)

    def watch(self, lanes: int | None, steps: int | None) -> Watch:
        """Return the watch for this number of lanes and this number of steps per lane."""
        settled = [lane for lane, outcome in self._run.outcomes().items() if outcome in SETTLED]
        if not self._introduced:
            self._tell(
                f"run: {self._run.path}. After an interruption, run `{self._run.resume_command}` to continue."
            )
            self.scene.stored(self._run.lanes() if settled else [])
        self._introduced = True
        take = self.scene.begin(lanes, steps, settled)

        def watch(together: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
            take(together, step, losses)
            self._line()
            if time.monotonic() > self._due:
                self._store()

        return watch

    def _store(self) -> None:
        """Store how far the run is. If that fails, the run goes on; its lanes meet the same trouble."""
        with contextlib.suppress(LrfindError, OSError):
            self.scene.look()
            self._run.keep_facts(progress=self.scene.progress())
            self._stored = True
        self._due = time.monotonic() + STORE_SECONDS

    def end(self) -> None:
        """Remove from the run what was stored of its progress."""
        if self._stored:
            with contextlib.suppress(LrfindError, OSError):
                self._run.keep_facts(progress=None)


@contextmanager
def progress(run: Run, scene: Scene, *, quiet: bool) -> Iterator[Observer]:
    """Yield an observer that shows the progress of a run: a live view on a terminal, and lines elsewhere.

    Args:
        run: the run, which this process holds.
        scene: what is known of the run; the observer keeps it up to date.
        quiet: show nothing.
    """
    live = not quiet and can_change()
    observer = _Progress(run, scene, (lambda text: None) if quiet else note, lines=not quiet and not live)
    run.listeners.append(scene.stored)
    with ExitStack() as stack:
        stack.callback(observer.end)
        stack.callback(run.listeners.remove, scene.stored)
        if live:
            stack.enter_context(live_view(scene, scene.look))
        yield observer


def kept_text(run: Run, scene: Scene) -> str:
    """Return what is kept of a run that was interrupted, and the command that continues it."""
    if run.outcomes():
        kept = f"what was measured is kept in {run.path}."
    elif scene.noun == "probe" and scene.lanes:
        probes = counted(len(scene.lanes), "probe")
        kept = (
            f"{probes} had begun, but probes are kept only when probing has ended. {run.path} keeps the plan."
        )
    else:
        kept = f"no {scene.noun} has come to its end yet in {run.path}."
    return f"{kept} Run `{run.resume_command}` to continue."
