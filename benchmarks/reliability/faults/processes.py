"""Calls of lrfind in processes of their own, most of them forked from one that has imported everything."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import lrfind
from lrfind.runs.files import write_whole

LONGEST = 120.0
"""The most seconds that a process may take before it counts as one that never ends."""


def import_everything() -> None:
    """Import all that a run imports, so that a process that is forked from this one begins at once."""
    for module in pkgutil.walk_packages(lrfind.__path__, "lrfind."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in (
        "torch._dynamo",
        "matplotlib.figure",
        "importlib.readers",
        "matplotlib.backends.backend_agg",
        "matplotlib.backends.backend_svg",
        "optuna",
    ):
        importlib.import_module(name)


class Process:
    """One call of lrfind.

    Args:
        arguments: the command and its options.
        log: the file for what it prints.
        before: is called in the process before lrfind.
        after: is called in it after lrfind.
        environment: what the process gets besides the environment of this one.
        afresh: whether to start another Python, as a user does, and not to fork this process.
    """

    def __init__(
        self,
        arguments: tuple[object, ...],
        log: Path,
        before: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
        environment: Mapping[str, str] | None = None,
        *,
        afresh: bool = False,
    ) -> None:
        self._log, words = log, [str(argument) for argument in arguments]
        self._popen: subprocess.Popen[bytes] | None = None
        if afresh:
            with log.open("wb") as file:
                self._popen = subprocess.Popen(
                    [sys.executable, "-m", "lrfind", *words],
                    stdout=file,
                    stderr=file,
                    env=os.environ | (environment or {}),
                    start_new_session=True,
                )
            self.pid = self._popen.pid
            return
        self._forked = multiprocessing.get_context("fork").Process(
            target=_called, args=(words, log, before, after, environment or {})
        )
        self._forked.start()
        self.pid = self._forked.pid or 0

    def ended_within(self, seconds: float) -> bool:
        """Return whether the process ends within so many seconds."""
        if self._popen is None:
            self._forked.join(seconds)
            return self._forked.exitcode is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        return self._popen.returncode is not None

    def kill(self) -> None:
        """End the process without warning."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.ended_within(LONGEST)

    @property
    def code(self) -> int | None:
        """The exit code; None if the process still runs after `LONGEST` seconds and had to be killed."""
        if not self.ended_within(LONGEST):
            self.kill()
            return None
        return self._forked.exitcode if self._popen is None else self._popen.returncode

    @property
    def text(self) -> str:
        """What the process printed until now."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def _called(
    words: list[str],
    log: Path,
    before: Callable[[], None],
    after: Callable[[], None],
    environment: Mapping[str, str],
) -> None:
    """Be the process of one call of lrfind."""
    from lrfind.cli.main import main

    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    os.environ.update(environment)
    sys.argv = ["lrfind", *words]
    before()
    try:
        main()
    finally:
        after()


def without_rendering() -> None:
    """Let plots be built and written, but not rendered, which takes seconds."""
    from lrfind.views.plots import runs

    def save(figure: object, stem: Path) -> None:
        for ending in (".png", ".svg"):
            write_whole(Path(f"{stem}{ending}"), b"not rendered")

    runs.save = save


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that these have started."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))
