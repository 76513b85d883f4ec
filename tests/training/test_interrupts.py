"""Signals: none is lost, a run stops between two steps, and a second one stops it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lrfind.errors import Stopped
from lrfind.training.interrupts import SIGNALS, deferred, handled, stop_if_asked, unheard_by_children
from lrfind.training.team import Team, Work
from tests.helpers.command import Command

SENDS = """
import os, signal
import torch
from torch import nn

class Sender:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})

calls = 0

def loss(output, y):
    global calls
    calls += output.requires_grad
    if {when}:
        {action}
    return nn.functional.mse_loss(output, y)
"""
WAY = ("--set", "training={steps: 40, eval_every: 10, checkpoint_every: 7}", "--import-root", ".")
EXITS = {"SIGINT": (130, "interrupted"), "SIGTERM": (4, "stopped: SIGTERM"), "SIGHUP": (4, "stopped: SIGHUP")}


def ignore(text: str) -> None:
    """Tell nobody."""


def write_loss(module: str, name: str, when: str, action: str) -> None:
    Path(f"{module}.py").write_text(SENDS.format(name=name, when=when, action=action))


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_that_comes_in_a_del_stops_the_run_after_the_step(
    name: str, lrfind: Command, config: Path
) -> None:
    module = f"sends_{name.lower()}"
    write_loss(module, name, "calls == 18 and output.requires_grad", "Sender()")
    before = [signal.getsignal(getattr(signal, each)) for each in SIGNALS]
    code = lrfind("train", config, *WAY, "--set", f"loss='{module}:loss'", "--out", "run")
    assert (code, lrfind.err.splitlines()[-1]) == EXITS[name]
    assert "what was measured is kept in run. Run `lrfind resume run" in lrfind.err
    assert len(pd.read_csv("run/steps.csv")) == 18
    assert before == [signal.getsignal(getattr(signal, each)) for each in SIGNALS]
    assert lrfind("resume", "run", "--import-root", ".") == 0
    assert len(pd.read_csv("run/steps.csv")) == 40


def test_a_signal_in_an_evaluation_stops_the_run_there(lrfind: Command, config: Path) -> None:
    write_loss("sends_evaluated", "SIGTERM", "calls == 20 and not output.requires_grad", "Sender()")
    assert lrfind("train", config, *WAY, "--set", "loss='sends_evaluated:loss'", "--out", "run") == 4
    assert len(pd.read_csv("run/steps.csv")) == 20


def test_a_second_ctrl_c_stops_at_once(lrfind: Command, config: Path) -> None:
    twice = "[os.kill(os.getpid(), signal.SIGINT) for _ in range(2)]; globals().update(calls=1000)"
    write_loss("sends_twice", "SIGINT", "calls == 18", twice)
    assert lrfind("train", config, *WAY, "--set", "loss='sends_twice:loss'", "--out", "run") == 130
    assert sys.modules["sends_twice"].calls == 18  # the line was not finished
    assert len(pd.read_csv("run/steps.csv")) == 17


def run_with(
    work: Callable[[], None], *, training: bool = True, tell: Callable[[str], None] = ignore
) -> None:
    with handled(tell), deferred() if training else contextlib.nullcontext():
        work()


def send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))


def test_a_ctrl_c_says_how_to_stop_at_once_and_waits_for_the_step() -> None:
    lines: list[str] = []

    def work() -> None:
        send("SIGINT")
        lines.append("still in the step")
        stop_if_asked()
        lines.append("in the next step")

    with pytest.raises(KeyboardInterrupt):
        run_with(work, tell=lines.append)
    assert lines == ["stopping after this step; press Ctrl-C again to stop at once", "still in the step"]


def test_outside_of_training_a_signal_stops_at_once() -> None:
    lines: list[str] = []
    with pytest.raises(Stopped, match="SIGTERM"):
        run_with(lambda: lines.append(str(send("SIGTERM"))), training=False)
    assert lines == []


def test_a_signal_in_the_last_step_is_not_lost() -> None:
    with pytest.raises(Stopped, match="SIGHUP"):
        run_with(lambda: send("SIGHUP"))


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled(ignore):
            os.kill(os.getpid(), signal.SIGHUP)
            stop_if_asked()
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_workers_of_a_loader_end_as_usual_and_do_not_take_a_ctrl_c_for_theirs() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(8, 1)), batch_size=1, num_workers=1)
    counts = []

    def work() -> None:
        batches = iter(loader)
        next(batches)
        os.kill(batches._workers[0].pid, signal.SIGINT)  # type: ignore[attr-defined]
        counts.append(sum(1 for _ in batches))
        batches = iter(loader)
        send("SIGTERM")
        del batches  # which ends the worker
        stop_if_asked()
        counts.append(0)

    with pytest.raises(Stopped):
        run_with(work)
    assert counts == [7]


def test_a_process_that_the_users_code_forks_does_not_go_on_with_the_run(
    lrfind: Command, config: Path
) -> None:
    write_loss("forks_itself", "SIGTERM", "calls == 30 and output.requires_grad", "os.fork()")
    done = subprocess.run(
        [sys.executable, "-m", "lrfind", "train", config, *WAY, "--set", "loss='forks_itself:loss'",
         "--out", "run"],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: your code calls os.fork") == 1
    assert done.stdout.count("Trained at learning rate") == 1
    assert len(pd.read_csv("run/steps.csv")) == 40


def test_a_ctrl_c_that_other_code_swallowed_stops_what_waits_for_workers() -> None:
    client = SimpleNamespace(subscribe_topic=lambda topic, handler: None, status="closed")
    with handled(lambda text: None):
        with contextlib.suppress(KeyboardInterrupt):  # as the import of a module written in C may do
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            next(Team(client, [], print).results([Work("nowhere:nothing", {})]))


def test_a_process_that_is_started_unheard_survives_the_ctrl_c_of_a_terminal() -> None:
    with unheard_by_children():
        sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    sleeper.send_signal(signal.SIGINT)
    sleeper.communicate(b"\n")
    assert sleeper.returncode == 0
