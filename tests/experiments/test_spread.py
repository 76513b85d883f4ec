"""Lanes on workers: the same tables as in one process, whatever becomes of a worker or of the scheduler."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from lrfind.analysis.lanes import LaneResult, PlannedLane
from lrfind.catalog import KINDS
from lrfind.config.registry import load
from lrfind.errors import LrfindError
from lrfind.experiments.spread import LaneSource, spread_lanes
from lrfind.runs.store import Run
from lrfind.training.assembly import TeamRequest, assembled, visible_gpus
from lrfind.training.team import Lost, Team, Work
from lrfind.training.watch import Observer, unwatched
from tests.helpers.command import Command
from tests.helpers.runs import conduct, start

MODULE = """
import os
from pathlib import Path
import torch

class Dies(torch.nn.Linear):
    def __init__(self, in_features, out_features, flag):
        super().__init__(in_features, out_features)
        self.flag, self.steps = Path(flag), 0

    def forward(self, x):
        self.steps += self.training
        if self.steps == 7 and not self.flag.exists():
            self.flag.touch()
            os._exit(3)
        return super().forward(x)

def refuses(in_features, out_features):
    raise RuntimeError("this model is refused")
"""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roots")
    (folder / "of_a_user.py").write_text(MODULE)
    return folder


@pytest.fixture(scope="module")
def team(roots: Path) -> Iterator[Team]:
    """Two workers, which all tests of this file share."""
    said: list[str] = []
    with assembled(TeamRequest(workers=2, import_roots=(str(roots),)), say=said.append) as workers:
        assert said == ["workers: 2 on this machine, each with one thread"]
        yield workers


def conduct_on(team: Team, run: Run) -> dict[str, Any]:
    summary: dict[str, Any] = load(KINDS[run.facts().command].run)(run, Observer(), team).summary
    return summary


def assert_same_tables(one: Path, other: Path) -> None:
    assert (one / "steps.csv").read_bytes() == (other / "steps.csv").read_bytes()
    lanes, others = (pd.read_csv(path / "lanes.csv", dtype=str) for path in (one, other))
    assert lanes.drop(columns="train_seconds").equals(others.drop(columns="train_seconds"))


WAYS = {
    "single": ("grid", "grid.lanes=single", "grid.points=4", "grid.seeds=2"),
    "stacked": ("grid", "grid.lanes=stacked", "grid.points=4", "grid.seeds=2"),
    "pruned": ("grid", "grid.lanes=single", "grid.prune=true", "grid.points=4", "grid.seeds=2"),
    "extended": ("grid", "grid.lanes=single", "grid.high=1e-3", "grid.points=2", "grid.seeds=1", "grid.extend=true"),
    "random": ("search", "search.lanes=single", "search.sampler=random", "search.trials=4", "search.seeds=1"),
    "tpe": ("search", "search.lanes=single", "search.trials=8", "search.batch=2", "search.seeds=1"),
    "compare": ("compare", "compare.optimizers=[sgd, adam]", "compare.lanes=single", "compare.peaks=[0.01, 0.1]", "compare.seeds=1"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_two_workers_give_the_tables_of_one_process(way: tuple[str, ...], team: Team, tmp_path: Path) -> None:
    command, *overrides = way
    ways = (command, *overrides, f"{command}.threads=1", "training.eval_every=8")
    here, there = start(tmp_path / "here", *ways), start(tmp_path / "there", *ways)
    summary, of_workers = conduct(here), conduct_on(team, there)
    assert_same_tables(here.path, there.path)
    assert summary["answer"] == of_workers["answer"]
    assert here.facts().data == there.facts().data
    assert [mode["name"] for mode in here.facts().modes] == [mode["name"] for mode in there.facts().modes]


def test_seeds_trained_by_workers_leave_the_weights_of_one_process(team: Team, tmp_path: Path) -> None:
    ways = ("train", "training={steps: 20, eval_every: 5, seeds: 2, checkpoint_every: 5}")
    here, there = start(tmp_path / "here", *ways), start(tmp_path / "there", *ways)
    conduct(here)
    conduct_on(team, there)
    assert_same_tables(here.path, there.path)
    files = {file.name for file in here.path.glob("*.pt")}
    assert {file.name for file in there.path.glob("*.pt")} == files
    for name in files:
        ours, theirs = (torch.load(path / name) for path in (here.path, there.path))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_rate_verified_by_workers_gets_the_verdict_of_one_process(team: Team, tmp_path: Path) -> None:
    ways = ("find", "find={verify: true, verify_seeds: 2, threads: 1, lanes: single}")
    here, there = start(tmp_path / "here", *ways), start(tmp_path / "there", *ways)
    assert conduct(here)["verification"] == conduct_on(team, there)["verification"]
    assert_same_tables(here.path, there.path)


def test_a_worker_that_dies_within_a_lane_changes_nothing(team: Team, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    model = f"model={{name: 'of_a_user:Dies', args: {{in_features: 4, out_features: 1, flag: {flag}}}}}"
    ways = ("grid", model, "grid.lrs=[0.01, 0.1, 0.3]", "grid.seeds=1", "grid.lanes=single", "grid.threads=1")
    there, again = start(tmp_path / "there", *ways), start(tmp_path / "again", *ways)
    conduct_on(team, there)
    assert flag.exists()
    conduct_on(team, again)
    assert_same_tables(again.path, there.path)
    assert {*there.outcomes().values()} == {"finished"}


def test_what_a_user_s_model_raises_in_a_worker_is_told_as_in_this_process(
    team: Team, roots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(roots))
    ways = ("grid", "model=of_a_user:refuses", "grid.seeds=1")
    with pytest.raises(LrfindError) as here:
        conduct(start(tmp_path / "here", *ways))
    with pytest.raises(LrfindError) as there:
        conduct_on(team, start(tmp_path / "there", *ways))
    assert "this model is refused" in str(there.value)
    assert str(there.value) == str(here.value)


class Dask:
    """A scheduler and a worker, started by hand."""

    def __init__(self, folder: Path) -> None:
        module = [sys.executable, "-m", "dask"]
        quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.file = folder / "scheduler.json"
        scheduler = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        worker = ["worker", "--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        where = ["--scheduler-file", str(self.file)]
        self.processes = [
            subprocess.Popen([*module, *arguments, *where], **quiet)  # type: ignore[call-overload]
            for arguments in (scheduler, worker)
        ]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def test_a_run_that_lost_its_scheduler_is_continued_on_another_cluster(
    team: Team, lrfind: Command, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dask = Dask(tmp_path)
    from distributed import Client

    Client(scheduler_file=str(dask.file), timeout=20, set_as_default=False).close()  # it has begun
    add_lanes: Callable[..., None] = Run.add_lanes

    def add_and_kill(run: Run, results: Sequence[LaneResult], **facts: Any) -> None:
        add_lanes(run, results, **facts)
        dask.kill()

    options = ("--lanes", "single", "--threads", "1", "--set", "grid.points=3", "--seeds", "1", "-q")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "add_lanes", add_and_kill)
        try:
            assert lrfind("grid", config, *options, "--cluster", dask.file, "--out", "lost") == 4
        finally:
            dask.kill()
    assert "connection to the scheduler" in lrfind.err
    run = Run.open(Path("lost"))
    assert [*run.outcomes().values()] == ["finished"]
    address = team.address
    assert lrfind("resume", "lost", "--cluster", address, "-q") == 0
    assert lrfind("grid", config, *options, "--out", "calm") == 0
    assert_same_tables(Path("calm"), Path("lost"))


class Doomed(Team):
    """Workers that a stack, and lane 1, end."""

    def __init__(self) -> None:
        pass

    def ask(self, function: str, **arguments: Any) -> Any:
        return [arguments["planned"]], False

    def results(self, works: Sequence[Work], *_: Any) -> Any:
        for work in works:
            lanes = work.arguments["planned"]
            if len(lanes) > 1 or lanes[0].lane == 1:
                yield work, Lost("4 workers died")
            else:
                yield work, ([f"result of lane {lanes[0].lane}"], [])


def test_only_the_lane_that_ends_its_workers_fails_and_says_so() -> None:
    kept: list[Any] = []
    notes: list[str] = []
    planned = [PlannedLane(number, 0, 0.1) for number in range(3)]
    spread_lanes(
        Doomed(), LaneSource("", "grid"), planned, 20, keep=kept.extend, watch=unwatched, note=notes.append
    )
    assert [kept[0], kept[2]] == ["result of lane 0", "result of lane 2"]
    assert (kept[1].lane, kept[1].outcome, kept[1].planned, kept[1].error) == (
        1,
        "failed",
        20,
        "4 workers died.",
    )
    assert notes == ["lanes 0 to 2 ran one by one, because as a stack 4 workers died."]


def test_without_the_extra_the_message_says_how_to_install_it(
    lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert lrfind("grid", config, "--workers", "2", "--out", "run", "-q") == 2
    assert "--workers needs distributed, which is not installed: pip install 'lrfind[cluster]'" in lrfind.err
    assert not Path("run").exists()
    assert lrfind("grid", config, "--set", "grid.points=2", "--seeds", "1", "-q") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("grid", "--workers", "0"), "--workers: '0' is not auto, nor a number from 1 to 1,000."),
        (
            ("grid", "--workers", "2", "--cluster", "tcp://127.0.0.1:1"),
            "give --workers or --cluster, not both.",
        ),
        (("grid", "--cluster", "nowhere.json"), "--cluster: there is no file 'nowhere.json'"),
        (("find", "--workers", "2"), "give --verify too"),
    ],
    ids=str,
)
def test_options_that_name_no_workers_are_refused(
    lrfind: Command, config: Path, options: tuple[str, ...], message: str
) -> None:
    command, *rest = options
    assert lrfind(command, config, *rest, "--out", "run") == 2
    assert message in lrfind.err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("given", "count", "gpus"),
    [(None, 2, ["0", "1"]), ("2,5", 2, ["2", "5"]), ("3,-1,4", 1, ["3"]), ("", 0, [])],
)
def test_workers_share_the_gpus_that_the_driver_may_use(
    given: str | None, count: int, gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert visible_gpus() == gpus
