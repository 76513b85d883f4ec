"""Scripts of users, run in a fork of this process: torch is imported already, so a start takes no time."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import torch
import torch._dynamo  # every optimizer imports it, and so would each fork

from lrfind.config.sections import ScriptSection
from lrfind.experiments.script import child
from lrfind.experiments.script.starts import Start, start_script


class Forked:
    """Stands in for `subprocess.Popen`: the process that would be started is a fork of this one."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: Any, **_: Any
    ) -> None:
        self.returncode: int | None = None
        with warnings.catch_warnings(action="ignore"):  # the fork computes with one thread
            self.pid = os.fork()
        if self.pid:
            return
        try:
            os.setsid()
            os.chdir(cwd)
            for number in (1, 2):
                os.dup2(stdout.fileno(), number)
            sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            warnings.simplefilter("default")
            torch.set_num_threads(1)
            os.environ.update(env)
            child.run(json.loads(command[-1]))
        finally:
            os._exit(70)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def section(path: Path, *args: str, **settings: Any) -> ScriptSection:
    """The section of a script in its own folder."""
    return ScriptSection(
        path=str(path), args=args, folder=str(path.parent), python=sys.executable, **settings
    )


def written(folder: Path, code: str, name: str = "train.py") -> Path:
    """Write a script."""
    path = folder / name
    path.write_text(dedent(code))
    return path


def started(
    path: Path, *args: str, lr: float = 0.1, steps: int = 6, most: int | None = None, **settings: Any
) -> Start:
    """Start a script once, with seed 0, and no more steps than asked for."""
    return start_script(
        section(path, *args, **settings), lr, 0, steps, most or steps,
        ceiling=np.zeros(0), log=path.with_suffix(".log"), watch=lambda step, loss: None,
    )  # fmt: skip
