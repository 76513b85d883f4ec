"""`lrfind watch`: what it shows of a run that something else runs; and what a run says that is interrupted."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lrfind.analysis.lanes import Lane
from lrfind.cli import progress as cli_progress
from lrfind.cli import watch as cli_watch
from lrfind.cli.progress import progress
from lrfind.runs.store import Run
from lrfind.views.live.scene import Scene
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, conduct, start

GRID = "grid={lrs: [0.1, 0.01], seeds: 1, lanes: single, threads: 1}"

pytestmark = pytest.mark.usefixtures("here")


def wait_for(text: str, err: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    end = time.monotonic() + 20
    while text not in "".join(err):
        assert time.monotonic() < end, err
        err.append(capsys.readouterr().err)
        threading.Event().wait(0.01)


def test_a_run_of_another_process_is_followed_until_it_ends(
    lrfind: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conduct(start(Path("done"), "grid", GRID))
    first, second = Run.open(Path("done")).lanes()
    run = start(Path("run"), "grid", GRID)
    run.release()
    monkeypatch.setattr(cli_watch, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(cli_watch, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(cli_progress, "STORE_SECONDS", 0.0)
    err, codes, scene = list[str](), list[int](), Scene("grid")
    watcher = threading.Thread(target=lambda: codes.append(lrfind("watch", "run")))
    with run.held(), progress(run, scene, quiet=True) as observer:
        watcher.start()
        wait_for("grid: starting", err, capsys)
        step = observer.watch(2, 20)
        step([Lane(0, 0, np.full(20, 0.1))], 6, [0.5])
        wait_for("training 1  lr 0.1  step 7 of 20  loss 0.5", err, capsys)
        run.add_lanes([first, second])
        wait_for("grid: 2 of 2 trainings done", err, capsys)
    watcher.join(20)
    assert codes == [0]
    assert run.facts().progress is None
    assert "run: grid of tiny, unfinished" in lrfind.out


def test_a_run_that_nobody_runs_is_shown_at_once(lrfind: Command) -> None:
    conduct(start(Path("done"), "grid", GRID))
    assert lrfind("watch", "done") == 0
    assert "trainings: 2 of 2 (2 finished)" in lrfind.out
    assert lrfind.err == ""
    assert lrfind("watch", "xyz") == 2
    assert "there is no run directory 'xyz'; `lrfind runs .` lists those beside it." in lrfind.err
    assert lrfind("watch", "doen") == 2
    assert "there is no run directory 'doen'; did you mean done?" in lrfind.err
    assert lrfind("watch", "x" * 300) == 2
    assert "x' cannot be read: File name too long." in lrfind.err
    assert lrfind("watch", ".") == 2
    assert "It holds runs, which `lrfind runs .` lists." in lrfind.err


def test_ctrl_c_leaves_a_run_that_goes_on(lrfind: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lrfind.cli.watch.time.sleep", interrupt)
    run = start(Path("run"), "grid", GRID)
    try:
        assert lrfind("watch", "run", "-q") == 0
        assert (lrfind.out, lrfind.err) == ("", "")
        assert run.taken
    finally:
        run.release()


def test_an_interrupted_find_says_how_many_probes_it_had_and_what_is_kept(
    lrfind: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("third_for_watch.py").write_text(
        "from torch import nn\ncalls = 0\n"
        "def loss(output, y):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    if calls == 20: raise KeyboardInterrupt\n"
        "    return nn.functional.mse_loss(output, y)\n"
    )
    Path("tiny.yaml").write_text(LINEAR)
    call = ("find", "tiny.yaml", "--out", "run", "--steps", 200, "--set", "loss='third_for_watch:loss'")
    assert lrfind(*call, "--import-root", ".", "-q") == 130
    kept = "3 probes had begun, but probes are kept only when probing has ended. run keeps the plan."
    assert lrfind.err.startswith(f"{kept} Run `lrfind resume run --import-root {Path.cwd()}` to continue.\n")
