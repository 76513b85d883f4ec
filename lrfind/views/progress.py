"""Progress on stderr: a line every few seconds; and that of a call from Python, which may be a live view."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from lrfind.analysis.lanes import Lane
from lrfind.views.live.display import can_change, in_a_notebook, live_view
from lrfind.views.live.scene import Scene, Watch
from lrfind.views.terminal import note

EVERY_SECONDS = 5.0  # between lines
QUIET_SECONDS = 1.0  # a call that ends sooner shows nothing
SILENT_SECONDS = 8.0  # without a step, after which a line says that the call still waits


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
        if can_change() or in_a_notebook():
            scene = Scene(command)
            stack.enter_context(live_view(scene, scene.look, first=QUIET_SECONDS))
            inner = scene.begin(None, None)
        else:
            inner = progress_lines(None, None)

        def watch(lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
            last[0] = time.monotonic()
            inner(lanes, step, losses)

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
