"""Where a live view is shown: on a terminal below the notes, or in the output of a notebook's cell."""

from __future__ import annotations

import contextlib
import html
import importlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lrfind.views.live.picture import Line, picture
from lrfind.views.live.scene import Scene
from lrfind.views.terminal import LiveDisplay, columns, folded, notes_above, on_terminal

EVERY_SECONDS = 0.25
"""The time between two pictures."""
FIRST_SECONDS = 0.5
"""A run that ends sooner shows no live view."""


def can_change() -> bool:
    """Return whether stderr is a terminal on which a display can change."""
    unable = os.environ.get("TERM", "").lower() in ("dumb", "unknown") or os.environ.get("CI")
    return on_terminal(sys.stderr) and not unable


def in_a_notebook() -> bool:
    """Return whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def live_view(scene: Scene, refresh: Callable[[], None], first: float = FIRST_SECONDS) -> Iterator[None]:
    """Show a scene inside the block, on the terminal or in the notebook; nothing of it stays afterwards.

    Args:
        scene: what is shown.
        refresh: brings the scene up to date; it is called before each picture.
        first: the seconds until the first picture.
    """
    show = _in_a_cell if in_a_notebook() else _on_a_terminal
    ended = threading.Event()
    with show(scene) as draw:

        def draw_again() -> None:
            wait = first
            while not ended.wait(wait):
                wait = EVERY_SECONDS
                refresh()
                draw()

        thread = threading.Thread(target=draw_again, name="lrfind-live", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@contextmanager
def _on_a_terminal(scene: Scene) -> Iterator[Callable[[], None]]:
    """Yield a function that draws the scene below everything that was printed."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True, highlight=False, emoji=False, markup=False)
    braille, waiting = _shows_braille(sys.stderr), deque[str]()
    lines: list[Line] = []

    def group() -> Group:
        return Group(*(Text(line.text, line.style, no_wrap=True, overflow="crop") for line in lines))

    live = Live(
        get_renderable=group,
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=on_terminal(sys.stdout),
        vertical_overflow="crop",
    )
    width = console.width

    def above(text: str) -> None:
        with contextlib.suppress(OSError):
            console.print(Text(folded(text, console.width)), soft_wrap=True)

    def draw() -> None:
        nonlocal width
        while waiting:
            above(waiting.popleft())
        now = console.size
        lines[:] = picture(scene, now.width - 1, now.height, braille=braille)
        with contextlib.suppress(OSError):  # nobody sees it any more
            if not live.is_started:
                live.start()
                console.show_cursor()  # it must be there if this process is killed
            elif now.width < width:
                _forget_folded(console, now.width)
            live.refresh()
        width = now.width
        drawn[:] = lines

    drawn: list[Line] = []

    def _forget_folded(console: Console, width: int) -> None:
        """Erase the lines that a terminal made of those that became too long for it."""
        from rich.control import Control
        from rich.segment import ControlType

        extra = sum((max(len(line.text), 1) - 1) // width for line in drawn)
        for _ in range(extra):
            console.control(Control((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)))

    try:
        with notes_above(LiveDisplay(above, waiting.append, os.getpid())):
            yield draw
    finally:
        with contextlib.suppress(OSError):
            live.stop()
            for text in waiting:
                above(text)


@contextmanager
def _in_a_cell(scene: Scene) -> Iterator[Callable[[], None]]:
    """Yield a function that draws the scene into the output of the cell that runs."""
    ipython: Any = importlib.import_module("IPython.display")
    handle: Any = None

    def draw() -> None:
        nonlocal handle
        lines = [line.text for line in picture(scene, columns(None), 24, braille=True)]
        content = ipython.HTML(f"<pre>{html.escape(chr(10).join(lines))}</pre>")
        if handle is None:
            handle = ipython.display(content, display_id=True)
        else:
            handle.update(content)

    yield draw
    if handle is not None:
        handle.update(ipython.HTML(""))


def _shows_braille(stream: Any) -> bool:
    try:
        "⣿━│└".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True
