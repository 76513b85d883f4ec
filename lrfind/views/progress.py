"""Progress on stderr: a line every few seconds; and that of a call from Python, which may be a live view."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from lrfind.analysis.lanes import Lane, Watch
from lrfind.views.live.display import can_change, in_a_notebook, live_view
from lrfind.views.live.picture import plain_line
from lrfind.views.live.scene import Scene
from lrfind.views.terminal import note

EVERY_SECONDS = 5.0  # between lines
QUIET_SECONDS = 1.0  # a call that ends sooner shows nothing
SILENT_SECONDS = 8.0  # without a step, after which a line says that the call still waits


def progress_lines(scene: Scene) -> Callable[[], None]:
    """Return a function that is called after every step, and prints the scene as a line every few seconds."""
    last = time.monotonic()

    def line() -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY_SECONDS:
            last = time.monotonic()
            scene.look()
            note(plain_line(scene))

    return line


@contextmanager
def call_progress(shown: bool, command: str) -> Iterator[Watch]:
    """Yield the watch of one call from Python.

    It shows something only if the call takes a while. If no step ends for `SILENT_SECONDS`, a line says so.

    Args:
        shown: whether to show anything.
        command: the command that does the same.
    """
    if not shown:
        yield lambda *step: None
        return
    last = [time.monotonic()]
    with ExitStack() as stack:
        stack.enter_context(_never_silent(last))
        scene = Scene(command)
        take, line = scene.begin(None, None), progress_lines(scene)
        live = can_change() or in_a_notebook()
        if live:
            stack.enter_context(live_view(scene, scene.look, first=QUIET_SECONDS))

        def watch(lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
            last[0] = time.monotonic()
            take(lanes, step, losses)
            if not live:
                line()

        yield watch


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
