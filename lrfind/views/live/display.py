"""Where a live view is shown: on a terminal below the notes, or in the output of a notebook's cell."""

from __future__ import annotations

import contextlib
import html
import importlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lrfind.views.live.picture import Line, picture
from lrfind.views.live.scene import Scene
from lrfind.views.terminal import LiveDisplay, columns, folded, notes_above, on_terminal

EVERY_SECONDS = 0.25
"""The time between two pictures."""
ROOM_OF_AN_ECHO = 3
"""The columns that stay free: a terminal writes ^C after the picture, which must not begin a new line."""
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
    terminal = _Terminal(scene)
    try:
        with notes_above(LiveDisplay(terminal.above, terminal.waiting.append, os.getpid())):
            yield terminal.draw
    finally:
        with contextlib.suppress(OSError):
            terminal.end()


class _Terminal:
    """The lower end of the terminal on stderr.

    Rich moves the cursor up over the last picture in one step and writes in another, so two threads that
    print at once would erase each other's lines. Therefore whoever prints holds a lock.
    """

    def __init__(self, scene: Scene) -> None:
        from rich.console import Console
        from rich.live import Live

        self.waiting = deque[str]()
        self._scene, self._lock = scene, threading.RLock()
        self._braille, self._lines = _shows_braille(sys.stderr), list[Line]()
        self._console = Console(stderr=True, highlight=False, emoji=False, markup=False)
        self._width = self._console.width
        self._redirected = ExitStack()
        self._live = Live(
            get_renderable=self._picture,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def above(self, text: str) -> None:
        """Print a text above the picture."""
        from rich.text import Text

        with contextlib.suppress(OSError), self._lock:  # nobody may see it any more
            self._console.print(Text(folded(text, self._console.width)), soft_wrap=True)

    def draw(self) -> None:
        """Draw the scene as it is now, in the place of the last picture."""
        with contextlib.suppress(OSError), self._lock:
            self._print_waiting()
            now, before = self._console.size, self._lines
            room = now.width - ROOM_OF_AN_ECHO
            self._lines = picture(self._scene, room, now.height, braille=self._braille)
            if not self._live.is_started:
                self._live.start()
                self._console.show_cursor()  # it must be there if this process is killed
                self._redirect()
            elif now.width < self._width:
                self._erase_folded(before, now.width)
            self._width = now.width
            self._live.refresh()

    def end(self) -> None:
        """Erase the picture, and print what still waits."""
        with self._lock:
            self._redirected.close()
            self._live.stop()
            self._print_waiting()

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        return Group(*(Text(line.text, line.style, no_wrap=True, overflow="crop") for line in self._lines))

    def _print_waiting(self) -> None:
        while self.waiting:
            self.above(self.waiting.popleft())

    def _redirect(self) -> None:
        """Print above the picture what others, such as the user's code, write to the terminal."""
        from rich.file_proxy import FileProxy

        lock, process = self._lock, os.getpid()

        class Above(FileProxy):
            def write(self, text: str) -> int:
                if os.getpid() != process:  # a process that was forked from this one has no picture
                    return self.rich_proxied_file.write(text)
                with lock:
                    return super().write(text)

            def flush(self) -> None:
                if os.getpid() == process:
                    with lock:
                        super().flush()

        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if on_terminal(stream):
                setattr(sys, name, Above(self._console, stream))
                self._redirected.callback(setattr, sys, name, stream)
        self._redirected.callback(lambda: [stream.flush() for stream in (sys.stdout, sys.stderr) if stream])

    def _erase_folded(self, lines: Sequence[Line], width: int) -> None:
        """Erase the lines that a terminal made of those for which it has become too narrow."""
        from rich.control import Control
        from rich.segment import ControlType

        for _ in range(sum((max(len(line.text), 1) - 1) // width for line in lines)):
            self._console.control(Control((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)))


@contextmanager
def _in_a_cell(scene: Scene) -> Iterator[Callable[[], None]]:
    """Yield a function that draws the scene into the output of the cell that runs."""
    handle: Any = importlib.import_module("IPython.display").DisplayHandle()
    shown = False

    def draw() -> None:
        nonlocal shown
        text = "\n".join(line.text for line in picture(scene, columns(None), 24, braille=True))
        content = {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}
        (handle.update if shown else handle.display)(content, raw=True)
        shown = True

    yield draw
    if shown:
        handle.update({"text/plain": "", "text/html": ""}, raw=True)


def _shows_braille(stream: Any) -> bool:
    try:
        "⣿━│└".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True
