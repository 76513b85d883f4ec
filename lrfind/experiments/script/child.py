"""The process of a script: it installs the recorder, seeds everything and runs the script as `__main__`.

What was seen is appended to a file, one line of JSON each, which the process that started this one reads. A
file outlives `os._exit`, and no worker of a DataLoader can hold it open.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from lrfind.experiments.script.recorder import Recorder
from lrfind.problem.randomness import reseed

ENDED = "end"
"""The key of the line that says how the script ended: "steps", "finished" or "failed"."""


def main() -> NoReturn:
    """Run the script that the first argument describes, in JSON; see `run`."""
    run(json.loads(sys.argv[1]))


def run(task: Mapping[str, Any]) -> NoReturn:
    """Run a script with its lr held, until it has made its steps; then end this process.

    Args:
        task: `script`, its absolute path; `module`, its name if it is run as a module, and `folder`, where
            its packages are then; `args`, `lr`, `steps`, `seed`; `events`, the file to append to.
    """
    events = os.open(task["events"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    process, parent = os.getpid(), os.getppid()

    def tell(**values: Any) -> None:
        if os.getppid() != parent:  # lrfind was killed, so nobody would end the script
            os._exit(1)
        os.write(events, f"{json.dumps(values)}\n".encode())

    def end(how: str = "steps") -> NoReturn:
        if os.getpid() == process:
            tell(**{ENDED: how})
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the script may have closed or replaced it
                stream.flush()
        os._exit(0)  # no `except` of the script stops this, and no exit handler delays it

    recorder = Recorder(task["lr"], task["steps"], tell, end)
    recorder.install()
    reseed(task["seed"])
    sys.argv = [task["script"], *task["args"]]
    root = str(Path(task["script"]).parent) if task["module"] is None else task["folder"]
    sys.path[:] = [root, *filter(None, sys.path)]
    how = "finished"
    try:
        if task["module"] is None:
            runpy.run_path(task["script"], run_name="__main__")
        else:
            runpy.run_module(task["module"], run_name="__main__", alter_sys=True)
    except SystemExit as error:
        how = "finished" if error.code in (None, 0) else "failed"
        if how == "failed":
            last_words = error.code if isinstance(error.code, str) else f"exit code {error.code}"
            with contextlib.suppress(Exception):
                print(last_words, file=sys.__stderr__)
    except BaseException as error:
        how = "failed"
        trace = _from_script(error, task["script"])
        traceback.print_exception(type(error), error, trace, file=sys.__stderr__)
    recorder.finish()
    end(how)


def _from_script(error: BaseException, script: str) -> Any:
    """Return the traceback of an error without the frames before the script's own."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != script:
        trace = trace.tb_next
    return trace or error.__traceback__
