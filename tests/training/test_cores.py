from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lrfind.analysis.lanes import Lane, LaneResult, Shape, Watch, planned_lanes
from lrfind.config.experiment import check
from lrfind.errors import Stopped, UsageError
from lrfind.problem.problem import from_config
from lrfind.training.cores import Keep, Note, core_count, train_on_cores
from lrfind.training.executor import Conditions
from lrfind.training.interrupts import handled
from lrfind.training.mode import Mode
from lrfind.training.run import run_lanes
from lrfind.training.watch import unwatched
from tests.helpers.runs import LINEAR

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks processes that used torch")
PEAKS = [1e-3, 1e-2, 1e-1, 1.0]
CONDITIONS = Conditions(eval_every=4)


def lanes_of(seeds: int = 2, steps: int = 12) -> list[Lane]:
    return [lane.shaped(Shape(np.ones(steps))) for lane in planned_lanes({"": PEAKS}, 0, seeds)]


def results_of(mode: Mode, lanes: Sequence[Lane], conditions: Conditions = CONDITIONS) -> list[LaneResult]:
    results: list[LaneResult] = []
    run_lanes(from_config(check(LINEAR)), lanes, conditions, mode, keep=results.extend)
    return sorted(results, key=lambda result: result.lane)


def nothing(*arguments: object) -> None:
    pass


def test_several_processes_give_the_results_of_one() -> None:
    for name, size in (("single", 1), ("stacked", 2)):
        alone = Mode(name, "", threads=1, seconds_per_step=1e-3, stack_size=size)
        beside = Mode(name, "", threads=1, seconds_per_step=1e-3, stack_size=size, processes=2)
        pairs = zip(results_of(alone, lanes_of()), results_of(beside, lanes_of()), strict=True)
        for one, other in pairs:
            assert (one.lane, one.seed, one.outcome) == (other.lane, other.seed, other.outcome)
            assert one.loss.tolist() == other.loss.tolist()
            assert one.evaluations == other.evaluations


def test_lanes_that_are_pruned_against_each_other_stay_together() -> None:
    conditions = Conditions(rungs=(4, 8))
    modes = [Mode("stacked", "", 1, 1e-3, stack_size=2, processes=count) for count in (1, 2)]
    one, two = (results_of(mode, lanes_of(), conditions) for mode in modes)
    assert [result.rung for result in one] == [result.rung for result in two]
    assert any(result.rung is not None for result in two)


def test_parts_are_trained_in_other_processes_and_steps_are_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lrfind.training.cores.LOOK_SECONDS", 0.0)
    processes: set[str] = set()
    steps: list[tuple[int, int]] = []

    def train(lanes: Sequence[Lane], keep: Keep, watch: Watch, note: Note) -> None:
        note(str(os.getpid()))
        watch(lanes, 3, [0.5] * len(lanes))

    def watch(lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
        steps.extend((lane.lane, step) for lane in lanes)

    parts = [[lane] for lane in lanes_of(1)]
    train_on_cores(2, parts, train, keep=nothing, watch=watch, note=processes.add)
    assert len(processes) <= 2
    assert str(os.getpid()) not in processes
    assert sorted(steps) == [(lane, 3) for lane in range(4)]


def test_the_part_of_a_process_that_dies_is_trained_in_the_run() -> None:
    run, trained, notes = os.getpid(), list[int](), list[str]()

    def train(lanes: Sequence[Lane], keep: Keep, watch: Watch, note: Note) -> None:
        if lanes[0].lane == 1 and os.getpid() != run:
            os.kill(os.getpid(), signal.SIGKILL)
        note(f"lane {lanes[0].lane}")
        if os.getpid() == run:
            trained.append(lanes[0].lane)

    parts = [[lane] for lane in lanes_of(1)]
    train_on_cores(2, parts, train, keep=nothing, watch=unwatched, note=notes.append)
    assert trained == [1]
    (died,) = (note for note in notes if "died" in note)
    assert died.startswith("the process that trained lane 1 died")
    assert sorted(note for note in notes if note is not died) == [f"lane {lane}" for lane in range(4)]


def test_parts_that_no_process_is_left_for_are_trained_in_the_run() -> None:
    run, notes = os.getpid(), list[str]()

    def train(lanes: Sequence[Lane], keep: Keep, watch: Watch, note: Note) -> None:
        if os.getpid() != run:
            os.kill(os.getpid(), signal.SIGKILL)
        note(f"lane {lanes[0].lane}")

    parts = [[lane] for lane in lanes_of(1)]
    train_on_cores(2, parts, train, keep=nothing, watch=unwatched, note=notes.append)
    assert sorted(note for note in notes if "died" not in note) == [f"lane {lane}" for lane in range(4)]
    assert len(notes) == 6


def test_an_error_in_a_part_stops_the_others_and_is_raised() -> None:
    def train(lanes: Sequence[Lane], keep: Keep, watch: Watch, note: Note) -> None:
        if lanes[0].lane == 0:
            raise UsageError("the checkpoint belongs to other data.")
        while True:  # until the run says stop
            watch(lanes, 0, [1.0])

    parts = [[lane] for lane in lanes_of(1)]
    with pytest.raises(UsageError, match="belongs to other data"):
        train_on_cores(2, parts, train, keep=nothing, watch=unwatched, note=nothing)


def test_a_signal_stops_all_processes_and_keeps_what_they_have() -> None:
    kept: list[LaneResult] = []
    problem, lanes = from_config(check(LINEAR)), lanes_of(1, steps=10**6)
    mode = Mode("single", "", threads=1, seconds_per_step=1e-3, processes=2)
    reports: list[int] = []

    def watch(lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
        reports.append(step)
        if len(reports) == 1:  # a second signal would end the run at once
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped), handled(nothing):
        run_lanes(problem, lanes, Conditions(), mode, keep=kept.extend, watch=watch)
    assert sorted(result.lane for result in kept) == [0, 1]
    assert {result.outcome for result in kept} == {"interrupted"}
    assert all(0 < result.loss.size < 10**6 for result in kept)


def test_processes_are_forked_on_the_cpu_only() -> None:
    assert core_count(torch.device("cuda")) == 1
    if not torch.cuda.is_available():
        assert core_count(torch.device("cpu")) == len(os.sched_getaffinity(0))
