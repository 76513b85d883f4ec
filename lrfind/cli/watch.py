"""The command that looks at a run of another process: watch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lrfind.cli.help import Command
from lrfind.cli.options import common_options, is_quiet, run_argument
from lrfind.errors import UsageError
from lrfind.views.terminal import note, show

if TYPE_CHECKING:
    from lrfind.runs.store import Run
    from lrfind.views.live.scene import Scene

LOOK_SECONDS = 1.0
"""The time between two looks at the run."""
LINE_SECONDS = 10.0
"""The least time between two lines, where there is no terminal."""


@click.command(
    cls=Command,
    examples=(("lrfind watch runs/NAME", "in a second terminal, while a run goes on in the first"),),
)
@run_argument
@common_options
def watch(path: Path) -> int:
    """Show a run that another process runs, until it ends.

    Ctrl-C leaves the view; the run goes on.
    """
    from lrfind.runs.store import Run
    from lrfind.runs.summary import content_of, status
    from lrfind.views.text.runs import status_text

    run = Run.open(path)
    try:
        if run.taken and not is_quiet():
            _follow(run)
        while run.taken:
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        return 0
    result = status(run)
    with content_of(run):
        show(status_text(result))
    return 0


def _follow(run: Run) -> None:
    """Show the run until its process lets go of it: as a live view on a terminal, and as lines elsewhere."""
    from lrfind.views.live.display import can_change, live_view
    from lrfind.views.live.picture import plain_line
    from lrfind.views.live.scene import Scene

    scene = Scene(run.facts().command)
    look = _looks(run, scene)
    if can_change():
        with live_view(scene, lambda: None, first=0.0):
            while run.taken:
                look()
                time.sleep(LOOK_SECONDS)
        return
    due, before = 0.0, ""
    while run.taken:
        look()
        line = plain_line(scene)
        if line != before and time.monotonic() > due:
            note(line)
            due, before = time.monotonic() + LINE_SECONDS, line
        time.sleep(LOOK_SECONDS)


def _looks(run: Run, scene: Scene) -> Callable[[], None]:
    """Return a function that reads what is new in a run, only from its database."""
    from lrfind.analysis.lanes import SETTLED

    known: set[int] = set()

    def look() -> None:
        with run.kept_open():
            try:
                facts, outcomes = run.facts(), run.outcomes()
            except UsageError:  # the process has just removed a run that measured nothing
                return
            new = [lane for lane, outcome in outcomes.items() if outcome in SETTLED and lane not in known]
            known.update(new)
            if facts.progress is not None:
                scene.restore(facts.progress)
            scene.stored([run.lane(number) for number in new])
        scene.look()

    return look
