"""Workers: processes of a cluster that do one task after another, and report to the driver on the way.

A task is plain data: the import path of a function of lrfind, and its arguments, such as the text of a config
and the numbers of lanes. So nothing of the user's has to be pickled; the worker imports it by its name.
`lrfind.training.team` is the driver's side.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrfind import __version__
from lrfind.analysis.lanes import Lane
from lrfind.config.imports import ImportPolicy, imports_limited_to
from lrfind.config.registry import load
from lrfind.errors import LrfindError, Stopped, UsageError
from lrfind.training.watch import rows_of

REPORT_SECONDS = 1.0
"""The least time between two reports of a lane's progress, and between two looks whether to stop."""


@dataclass(frozen=True)
class Task:
    """A piece of work for a worker.

    Attributes:
        function: the import path of a function of lrfind that takes a `Report` and the arguments.
        arguments: its arguments, which are plain data.
        session: the name of the driver's session. Workers keep problems and users' modules for one session.
        import_roots: the folders that hold the user's own modules.
        imports: which code the config may import.
        version: the version of lrfind that the driver runs.
    """

    function: str
    arguments: Mapping[str, Any]
    session: str
    import_roots: tuple[str, ...] = ()
    imports: ImportPolicy = field(default_factory=ImportPolicy)
    version: str = __version__


@dataclass(frozen=True)
class Answer:
    """What came of a task.

    Attributes:
        value: what the function returned.
        error: the message of the `LrfindError` that it raised, or the traceback of any other exception; None
            if it returned.
        exit_code: the exit code of the `LrfindError`; None for any other exception.
    """

    value: Any = None
    error: str | None = None
    exit_code: int | None = None

    def unwrap(self) -> Any:
        """Return the value.

        Raises:
            LrfindError: if the function raised one; UsageError and Stopped where it was one of these.
            RuntimeError: if it raised any other exception.
        """
        if self.exit_code == Stopped.exit_code:
            raise Stopped(str(self.error))
        if self.exit_code == UsageError.exit_code:
            raise UsageError(str(self.error))
        if self.exit_code is not None:
            raise LrfindError(str(self.error))
        if self.error is not None:
            raise RuntimeError(f"a worker failed:\n{self.error}")
        return self.value


def answer_of(function: Callable[[], Any]) -> Answer:
    """Call a function; return what it returns or raises as plain data, which another process can read."""
    try:
        return Answer(function())
    except (LrfindError, Stopped) as error:
        return Answer(error=str(error), exit_code=error.exit_code)
    except (Exception, SystemExit):
        return Answer(error=traceback.format_exc())


class Report:
    """The way from a task to its driver; it also tells the task to stop.

    Args:
        worker: the worker of Dask that the task runs on.
    """

    def __init__(self, worker: Any) -> None:
        self._worker, self._key = worker, worker.get_current_task()
        self._last = time.monotonic()

    def watch(self, lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
        """Report a step about once a second.

        Raises:
            Stopped: if the driver has cancelled the task, or has gone.
        """
        if time.monotonic() - self._last < REPORT_SECONDS:
            return
        self._last = time.monotonic()
        task = self._worker.state.tasks.get(self._key)
        if task is None or task.state not in ("executing", "long-running"):
            raise Stopped("the driver no longer waits for this task")
        self.send("step", rows_of(lanes, step), step, list(map(float, losses)))

    def send(self, *event: Any) -> None:
        """Send an event, made of numbers, text and lists, to the driver."""
        with contextlib.suppress(Exception):  # a report that is lost changes no result
            self._worker.log_event(topic_of(_session.name), event)

    @property
    def folder(self) -> str:
        """The folder for temporary files of this worker."""
        return str(self._worker.local_directory)

    @property
    def address(self) -> str:
        """The address of this worker in its cluster."""
        return str(self._worker.address)


def topic_of(session: str) -> str:
    """Return the name of the events of a session."""
    return f"lrfind-{session}"


class _Session:
    """What this process keeps for the driver that it works for."""

    def __init__(self) -> None:
        self.name = ""
        self.kept: dict[Any, Any] = {}
        self.import_roots: tuple[str, ...] = ()

    def change(self, task: Task) -> None:
        """Forget the previous session, with the user's modules, which may have been edited since."""
        for root in self.import_roots:
            with contextlib.suppress(ValueError):
                sys.path.remove(root)
        for name, module in [*sys.modules.items()]:
            file = getattr(module, "__file__", None)
            if file and any(Path(file).is_relative_to(root) for root in self.import_roots):
                del sys.modules[name]
        self.name, self.import_roots, self.kept = task.session, task.import_roots, {}
        sys.path[:0] = self.import_roots


_session, _one_at_a_time = _Session(), threading.Lock()


def remembered(key: Any, make: Callable[[], Any]) -> Any:
    """Return what was made for this key in this session; make it at the first call."""
    if key not in _session.kept:
        _session.kept[key] = make()
    return _session.kept[key]


def perform(task: Task) -> Answer:
    """Do a task on a worker, one at a time, because the process has only one of torch's random generators."""
    from distributed import get_worker

    if task.version != __version__:
        versions = f"the workers run lrfind {__version__}, and this is lrfind {task.version}"
        return Answer(error=f"{versions}; install the same version everywhere.", exit_code=2)
    with _one_at_a_time:
        if task.session != _session.name:
            _session.change(task)
        with imports_limited_to(task.imports):
            return answer_of(lambda: _done(task, Report(get_worker())))


def _done(task: Task, report: Report) -> Any:
    """Do a task, and return what its function returns."""
    function = load(task.function)
    from lrfind.training.eager import eager_optimizers

    with eager_optimizers():
        return function(report, **task.arguments)


def dask_setup(worker: Any) -> None:
    """Ignore Ctrl-C in a worker of this machine; its driver, which also gets it, stops the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
