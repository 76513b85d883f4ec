"""A run's result is computed once for each state of the run, over a handful of connections."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from lrfind.analysis import planned_training
from lrfind.analysis.probing import METHOD_VERSION
from lrfind.errors import UsageError
from lrfind.runs import summary as summaries
from lrfind.runs.store import Run
from tests.helpers.command import Command
from tests.helpers.runs import conduct, start, summary_of


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often SQLite was opened, and how often a run was summarized."""
    counted = {"connections": 0, "summaries": 0}
    connect, summarize = sqlite3.connect, summaries.summarize

    def connecting(*args: Any, **options: Any) -> sqlite3.Connection:
        counted["connections"] += 1
        return connect(*args, **options)

    def summarizing(*args: Any) -> dict[str, Any]:
        counted["summaries"] += 1
        return summarize(*args)

    monkeypatch.setattr(sqlite3, "connect", connecting)
    monkeypatch.setattr(summaries, "summarize", summarizing)
    return counted


@pytest.mark.parametrize(
    ("command", "options", "states"),
    [
        ("find", (), 1),
        ("find", ("--verify", "--verify-seeds", "1"), 2),  # before the whole trainings and after them
        ("range-test", ("--edge",), 1),
        ("grid", ("--lrs", "1e-3,1e-2,1e-1"), 1),
        ("compare", ("--schedules", "constant,cosine", "--seeds", "2"), 1),
        ("train", ("--seeds", "2"), 1),
    ],
)
def test_a_command_opens_the_database_a_handful_of_times_and_summarizes_each_state_once(
    lrfind: Command, config: Path, counts: dict[str, int], command: str, options: tuple[str, ...], states: int
) -> None:
    assert lrfind(command, config, *options, "--out", "run", "-q") == 0
    assert counts["connections"] <= 5
    assert counts["summaries"] == states


def test_nothing_is_known_of_the_plan_of_a_run_that_was_stopped_before_it(
    lrfind: Command, tmp_path: Path
) -> None:
    start(tmp_path / "swept", "grid").release()
    for command in ("status", "show"):
        assert lrfind(command, tmp_path / "swept") == 0
        assert "trainings: 0 so far" in lrfind.out
    assert lrfind("runs", tmp_path) == 0
    assert lrfind.out.rstrip().endswith("no lr")


def test_the_answer_of_a_find_stays_as_it_was_given_when_the_method_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = conduct(start(tmp_path / "run", "find"))
    monkeypatch.setattr(planned_training, "USUAL_STEPS", 40)
    monkeypatch.setattr("lrfind.analysis.probing.SHARPNESS", 0.5)
    assert summary_of(Run.open(tmp_path / "run")) == before
    assert before["answer"]["method_version"] == METHOD_VERSION
    assert conduct(start(tmp_path / "other", "find"))["answer"]["lr"] != before["answer"]["lr"]


def test_a_run_of_another_format_is_refused_by_its_number(tmp_path: Path) -> None:
    run = start(tmp_path / "run", "find")
    run.keep_facts(version=4, written_by="0.0.9")
    with pytest.raises(
        UsageError, match=r"was written by lrfind 0\.0\.9 \(format 4\); .* the formats 5, 6, 7 and 8\."
    ):
        Run.open(run.path)


def test_facts_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    run = start(tmp_path / "run", "grid")
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.keep_facts(planned=3, metric=float("nan"))
    assert run.facts().planned is None
