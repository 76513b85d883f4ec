"""Workers, seen without a cluster."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lrfind.analysis.lanes import Lane
from lrfind.errors import LrfindError, Stopped
from lrfind.training import worker
from lrfind.training.worker import Report, Task, perform, remembered


class OneTask:
    """A worker of Dask that executes one task."""

    address, local_directory = "tcp://127.0.0.1:1", "/tmp"

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.state = SimpleNamespace(tasks={"key": SimpleNamespace(state="executing")})

    def get_current_task(self) -> str:
        return "key"

    def log_event(self, topic: str, event: Any) -> None:
        self.events.append(event)


@pytest.fixture
def dask(monkeypatch: pytest.MonkeyPatch) -> Iterator[OneTask]:
    one = OneTask()
    path = [*sys.path]
    monkeypatch.setattr("distributed.get_worker", lambda: one)
    monkeypatch.setattr(worker, "_session", worker._Session())
    yield one
    sys.path[:] = path


def value_in_user_module(report: Report) -> int:
    module = importlib.import_module("edited_by_a_user")
    return int(remembered("value", lambda: module.VALUE))


def raise_error(report: Report, error: type[BaseException]) -> None:
    raise error("what happened")


def test_a_module_that_was_edited_is_imported_anew_in_the_next_session(dask: OneTask, tmp_path: Path) -> None:
    function = f"{__name__}:value_in_user_module"
    for session, value, expected in (("a", 1, 1), ("a", 22, 1), ("b", 333, 333)):
        (tmp_path / "edited_by_a_user.py").write_text(f"VALUE = {value}")
        importlib.invalidate_caches()
        answer = perform(Task(function, {}, session, (str(tmp_path),)))
        assert (answer.value, answer.error) == (expected, None)


@pytest.mark.parametrize(
    ("error", "text", "exit_code"),
    [(LrfindError, "what happened", 1), (Stopped, "what happened", 4), (ValueError, "Traceback", None)],
)
def test_what_a_task_raises_comes_back_as_text(
    dask: OneTask, error: type[BaseException], text: str, exit_code: int | None
) -> None:
    answer = perform(Task(f"{__name__}:raise_error", {"error": error}, "a"))
    assert str(answer.error).startswith(text)
    assert answer.exit_code == exit_code


def test_a_task_of_another_version_is_refused(dask: OneTask) -> None:
    answer = perform(Task("lrfind:nothing", {}, "a", version="0.0.1"))
    assert "this is lrfind 0.0.1" in str(answer.error)
    assert answer.exit_code == 2


def test_a_watch_reports_and_stops_a_task_that_was_cancelled(
    dask: OneTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "REPORT_SECONDS", 0.0)
    report, lane = Report(dask), Lane(3, 1, np.array([0.1, 0.2]))
    report.watch([lane], 1, [0.5])
    assert dask.events == [("step", [(3, 1, 0.2, 0.2, "")], 1, [0.5])]
    dask.state.tasks["key"].state = "cancelled"
    with pytest.raises(Stopped):
        report.watch([lane], 1, [0.5])
