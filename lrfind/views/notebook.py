"""Progress in a notebook: a line below the cell that changes, and is gone at the end."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lrfind.errors import printable

QUIET_SECONDS = 0.5  # a call that ends sooner shows no line
EVERY_SECONDS = 0.5  # between changes of the line


def in_a_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


@contextmanager
def notebook_line(text_of: Callable[..., str]) -> Iterator[Callable[..., None]]:
    """Show a line for what goes on inside the block, with the seconds so far.

    A thread of its own changes the line, because a single step may take long.

    Args:
        text_of: a function from what the yielded function is called with to the text of the line.

    Yields:
        A function to call after every step.
    """
    latest: Sequence[Any] = ()
    ended = threading.Event()

    def watch(*step: Any) -> None:
        nonlocal latest
        latest = step

    def keep_showing() -> None:
        began, line = time.monotonic(), importlib.import_module("IPython.display").DisplayHandle()
        if ended.wait(QUIET_SECONDS):
            return
        line.display({"text/plain": "lrfind: starting"}, raw=True)
        while not ended.wait(EVERY_SECONDS):
            text = text_of(*latest) if latest else "starting"
            seconds = f"{time.monotonic() - began:.0f} s"
            line.update({"text/plain": printable(f"lrfind: {text} ({seconds})")}, raw=True)
        line.update({"text/plain": ""}, raw=True)

    thread = threading.Thread(target=keep_showing, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()
