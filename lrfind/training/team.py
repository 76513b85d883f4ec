"""Teams: how the driver of a run has tasks done by workers, which are other processes.

Dask distributed carries the tasks and their answers, and gives the task of a worker that died to another one.
A worker holds nothing that is needed later: the driver chooses the lanes, and it alone writes.
`lrfind.training.worker` is the side of the workers, `lrfind.training.assembly` brings the workers together.
"""

from __future__ import annotations

import contextlib
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lrfind.analysis.lanes import Watch
from lrfind.config.imports import import_policy
from lrfind.config.registry import load
from lrfind.errors import LrfindError, Stopped, counted, in_one_line
from lrfind.training.interrupts import stop_if_asked
from lrfind.training.watch import unwatched, watch_reported
from lrfind.training.worker import Answer, Task, perform, topic_of

WAIT_SECONDS = 5.0
"""The seconds without a worker after which the user is told that the run waits for one."""
LOOK_SECONDS = 0.5
"""The longest time between two looks at the cluster."""


@dataclass(frozen=True)
class Work:
    """A task for a team.

    Attributes:
        function: the import path of the function of lrfind that does it; see `lrfind.training.worker.Task`.
        arguments: the arguments of the function, all of them plain data.
    """

    function: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Lost:
    """What came of a task that ended every worker that tried it.

    Attributes:
        reason: how many workers, and the last of them, in words.
    """

    reason: str


class Team:
    """The workers of a session.

    Args:
        client: a client of Dask that is connected to the scheduler.
        import_roots: the folders that hold the user's own modules.
        say: called with a sentence for the user.
    """

    def __init__(self, client: Any, import_roots: Sequence[str], say: Callable[[str], None]) -> None:
        self._client, self._import_roots, self._say = client, tuple(import_roots), say
        self._session = uuid.uuid4().hex
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()  # ("future", it) or ("event", it)
        self._with_gpu = False
        self._alone_since: float | None = None  # when there was no worker first
        client.subscribe_topic(topic_of(self._session), lambda event: self._inbox.put(("event", event[1])))

    @property
    def address(self) -> str:
        """The address of the scheduler."""
        return str(self._client.scheduler.address)

    @property
    def size(self) -> int:
        """The number of tasks that can be done at once: one on each GPU or, without GPUs, on each worker."""
        with self._connected():
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        gpus = int(sum(worker["resources"].get("GPU", 0) for worker in workers))
        self._with_gpu = gpus > 0
        if workers:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif 0 < self._alone_since < time.monotonic() - WAIT_SECONDS:
            self._alone_since = 0.0  # the user is told once
            self._say("the cluster has no workers; waiting for the first one.")
        return gpus or len(workers)

    def ask(self, function: str, **arguments: Any) -> Any:
        """Have one task done; return its value.

        Raises:
            LrfindError: if the task failed, or ended every worker that tried it.
            Stopped: if the scheduler is lost.
        """
        with contextlib.closing(self.results([Work(function, arguments)])) as results:
            ((_, value),) = results
        if isinstance(value, Lost):
            raise LrfindError(f"{value.reason}.")
        return value

    def results(
        self,
        works: Sequence[Work],
        watch: Watch = unwatched,
        heard: Callable[[Sequence[Any]], None] = lambda event: None,
    ) -> Generator[tuple[Work, Any], None, None]:
        """Have all tasks done; yield each with its value, or `Lost`, as soon as it is done.

        No more tasks are under way than there are workers, so that no task is blamed for the death of a
        worker that it only waited for. If the caller stops early, the tasks under way are cancelled.

        Args:
            works: the tasks, in the order in which they begin.
            watch: called with the steps that workers report, about one a second of each.
            heard: called with any other event that a worker sends.

        Raises:
            LrfindError: if a task raised one, or failed otherwise.
            Stopped: if the scheduler is lost; the tasks that were yielded are done.
        """
        waiting, running = deque(works), dict[Any, Work]()
        size = looked = 0.0
        try:
            while waiting or running:
                stop_if_asked()
                if time.monotonic() - looked > LOOK_SECONDS:
                    size, looked = self.size, time.monotonic()
                while waiting and len(running) < size:
                    work = waiting.popleft()
                    running[self._submitted(work)] = work
                try:
                    kind, item = self._inbox.get(timeout=LOOK_SECONDS)
                except queue.Empty:
                    continue
                if kind == "future" and item in running:  # else it belongs to an earlier call
                    yield running.pop(item), self._value(item)
                elif kind == "event" and item[0] == "step":
                    watch_reported(watch, *item[1:])
                elif kind == "event":
                    heard(item)
        finally:
            if running and self._client.status == "running":
                with contextlib.suppress(OSError):
                    self._client.cancel([*running])

    def fetch(self, address: str, function: str, *arguments: Any) -> Any:
        """Call a function of lrfind on a certain worker, beside its task; return None if it has gone."""
        with contextlib.suppress(Exception):
            return self._client.run(_called, function, arguments, workers=[address])[address]
        return None

    def _submitted(self, work: Work) -> Any:
        task = Task(work.function, work.arguments, self._session, self._import_roots, import_policy())
        resources = {"GPU": 1} if self._with_gpu else None
        with self._connected():
            future = self._client.submit(perform, task, pure=False, resources=resources)
            future.add_done_callback(lambda future: self._inbox.put(("future", future)))
        return future

    def _value(self, future: Any) -> Any:
        """Return the value of a task that is done."""
        from distributed import KilledWorker

        try:
            with self._connected():
                answer: Answer = future.result(timeout=60)
        except KilledWorker as death:
            deaths = counted(death.allowed_failures + 1, "worker")
            last = getattr(death.last_worker, "address", "of the cluster")
            return Lost(
                f"{deaths} died, one after another, while they did this; the last one was {last}. Perhaps the"
                " memory was full, or the code ends its process"
            )
        except Exception as error:
            raise LrfindError(
                f"a worker could not do its task ({in_one_line(error, 500)}). Is lrfind installed there?"
            ) from error
        return answer.unwrap()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Turn the loss of the scheduler into `Stopped`."""
        from distributed.client import FutureCancelledError

        lost = self._client.status != "running"
        try:
            if not lost:
                yield
                lost = self._client.status != "running"
        except (OSError, FutureCancelledError):  # a closed connection is an OSError
            lost = True
        if lost:
            raise Stopped("the connection to the scheduler of the cluster is lost")


def _called(function: str, arguments: Sequence[Any]) -> Any:
    return load(function)(*arguments)
