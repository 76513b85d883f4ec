"""Starts of a script: each in a process of its own, followed until it has its steps."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import Any

import lrfind
from lrfind.analysis.curves import Array
from lrfind.config.sections import ScriptSection
from lrfind.errors import UsageError, counted, printable
from lrfind.experiments.script import HELD
from lrfind.experiments.script.child import ENDED
from lrfind.training.interrupts import stop_if_asked

POLL = 0.02  # seconds between two looks at what a script has done
AHEAD = 0.5  # a start goes on after the steps that were asked for, for this share of the time until its first
TAIL_LINES, TAIL_BYTES = 15, 20_000  # of the script's output, in messages
UNSEEN = {"MPLBACKEND": "Agg", "PYTHONHASHSEED": "0", "WANDB_MODE": "offline"}
"""Variables that a script gets, unless they are set: no window that waits to be closed, no upload."""


@dataclass
class Start:
    """What one start of a script showed.

    Attributes:
        losses: the loss of each step.
        about: what the script told of its first optimizer; see `Recorder`. Its `lr` is None if the script
            itself raises the lr after its first step, as a warmup by hand does.
        others: its further optimizers, each with its lr as a multiple of the first one's.
        refusal: why nothing can be read; None if losses can.
        ended: how the script ended: "steps" or "stopped" by lrfind, "finished" or "failed" by itself.
        output: the last lines of its output, if it failed.
        until_first: the seconds until its first step.
        seconds: the seconds that it took.
    """

    losses: list[float] = field(default_factory=list)
    about: Mapping[str, Any] = field(default_factory=dict)
    others: list[tuple[str, float]] = field(default_factory=list)
    refusal: str | None = None
    ended: str = "stopped"
    output: str = ""
    until_first: float = math.inf
    seconds: float = 0.0

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one line of what the script told."""
        if "loss" in event:
            self.losses.append(float(event["loss"]))
        elif "optimizer" in event:
            self.about = event
        elif "raised" in event:
            self.about = {**self.about, "lr": None}
        elif "mixed" in event:
            self.about = {**self.about, "mixed": True}
        elif "other" in event:
            self.others.append((event["other"], event["ratio"]))
        elif "refusal" in event:
            self.refusal = event["refusal"]
        elif ENDED in event:
            self.ended = event[ENDED]


def start_script(
    script: ScriptSection,
    lr: float,
    seed: int,
    steps: int,
    most: int,
    *,
    ceiling: Array,
    log: Path,
    watch: Callable[[int, float], None],
) -> Start:
    """Run a script at an lr until it has made its steps, and end it.

    Args:
        script: the script.
        lr: the lr at which its optimizers are held.
        seed: the seed of Python, NumPy and torch.
        steps: the number of steps that are needed.
        most: the number of steps after which it is ended in any case. The steps between are cheap compared
            with another start, so they are taken while they last no longer than `AHEAD` of one.
        ceiling: (n,) the losses above which it is stopped, for its first steps.
        log: the file to which its output is appended.
        watch: called with the step and the loss after each step.

    Raises:
        UsageError: if it makes no step for as long as `script.wait` says.
    """
    start, began = Start(), time.monotonic()
    with _working_directory(script) as (folder, scratch), log.open("ab") as output:
        output.write(f"== lr {lr:.6g}, at most {counted(most, 'step')}\n".encode())
        output.flush()
        before, events = output.tell(), scratch / "events"
        events.touch()
        task = script.model_dump(include={"module", "folder"}) | {"script": script.path, "lr": lr}
        task |= {"args": [*absolute_args(script)], "steps": most, "seed": seed, "events": str(events)}
        process = Popen(
            [script.python, "-c", _PROGRAM.format(root=str(Path(lrfind.__file__).parents[1])),
             json.dumps(task)],
            cwd=folder, env=_environment(script, scratch), stdin=DEVNULL, stdout=output,
            stderr=STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            with events.open("rb") as lines:
                _follow(process, lines, start, steps, ceiling, script.wait * 60, watch)
        finally:
            _end(process)
        start.seconds = time.monotonic() - began
        if start.ended == "failed" or start.refusal is not None or not start.losses:
            start.output = _tail(log, before)
            start.output += _hint(script, folder, start.output)
    return start


_PROGRAM = (
    "import sys; sys.path.insert(0, {root!r}); from lrfind.experiments.script.child import main;"
    " sys.path.remove({root!r}); main()"
)
"""What the process runs: it finds lrfind wherever this process has it, and leaves the path as it was."""


def _follow(
    process: Popen[bytes],
    lines: Any,
    start: Start,
    steps: int,
    ceiling: Array,
    patience: float,
    watch: Callable[[int, float], None],
) -> None:
    """Read what a script tells until it has ended or has told enough."""
    began = heard = time.monotonic()
    enough_at, rest = math.inf, b""
    while True:
        gone = process.poll() is not None  # asked before the last look, so that no line is missed
        *whole, rest = (rest + lines.read()).split(b"\n")
        now = time.monotonic()
        for line in whole:
            count = len(start.losses)
            start.take(json.loads(line))
            if len(start.losses) > count:
                heard = now
                start.until_first = min(start.until_first, now - began)
                watch(count, start.losses[-1])
                if above(start.losses[-1], count, ceiling):
                    return
                if count + 1 == steps:
                    enough_at = now + AHEAD * start.until_first
        if start.refusal is not None or now > enough_at:
            return
        if gone:
            if start.ended == "stopped":  # it has not said how it ended
                start.ended = "failed"
            return
        if now - heard > patience:
            raise UsageError(
                f"the script made no optimizer step for {patience / 60:g} minutes (it had made"
                f" {len(start.losses)}), so it was stopped. If it needs longer, give a larger --wait."
            )
        stop_if_asked()
        time.sleep(POLL)


def above(loss: float, step: int, ceiling: Array) -> bool:
    """Return whether a loss ends its probe: it is above the ceiling of its step, or not finite."""
    return not math.isfinite(loss) or (step < len(ceiling) and loss > ceiling[step])


def _end(process: Popen[bytes]) -> None:
    """End a script and everything that it has started, such as the workers of its loaders."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


@contextmanager
def _working_directory(script: ScriptSection) -> Iterator[tuple[Path, Path]]:
    """Yield the directory that a script runs in, and a temporary one, which is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="lrfind-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        (scratch / "tmp").mkdir()
        folder = Path(script.folder) if script.here else scratch / "work"
        folder.mkdir(exist_ok=True)
        for link in () if script.here else linked_names(script):
            target = folder / link
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(script.folder, link))
        yield folder, scratch


def _environment(script: ScriptSection, scratch: Path) -> dict[str, str]:
    """Return the environment of a script: ours, without what would reach outside of the scratch directory."""
    environment = UNSEEN | os.environ | {"TMPDIR": str(scratch / "tmp"), "PYTHONUNBUFFERED": "1"}
    environment[HELD] = "1"
    if path := os.environ.get("PYTHONPATH"):
        parts = [str(Path(script.folder, part)) for part in path.split(os.pathsep) if part]
        environment["PYTHONPATH"] = os.pathsep.join(parts)
    return environment


def _exists(script: ScriptSection, text: str) -> bool:
    """Return whether a text is the relative path of something in the directory of the command."""
    try:
        return (
            text not in ("", ".", "..")
            and not Path(text).is_absolute()
            and Path(script.folder, text).exists()
        )
    except (OSError, ValueError):  # a name that is too long, or has a null byte
        return False


def _is_word(text: str) -> bool:
    """Return whether a text may mean something else than a path: a word, without a folder or an ending."""
    return "/" not in text and os.sep not in text and "." not in text


def absolute_args(script: ScriptSection) -> Sequence[str]:
    """Return the arguments of a script, with absolute paths of the files and folders that they name.

    The value in `--option=value` counts too. A word such as `data` may mean something else than a path, so it
    stays as it is; see `linked_names`.
    """
    if script.here:
        return script.args
    args = []
    for arg in script.args:
        option, equals, value = arg.partition("=") if arg.startswith("-") else ("", "", arg)
        if _exists(script, value) and not _is_word(value):
            value = str(Path(script.folder, value))
        args.append(f"{option}{equals}{value}")
    return args


def linked_names(script: ScriptSection) -> list[str]:
    """Return what the working directory of a script has a link to: --link, and words that name something."""
    values = [arg.partition("=")[2] if arg.startswith("-") else arg for arg in script.args]
    words = [value for value in values if _is_word(value) and _exists(script, value)]
    return [*dict.fromkeys([*script.links, *words])]


def _hint(script: ScriptSection, work: Path, output: str) -> str:
    """Return what to do if a script did not find a file that is in the directory of the command.

    The file is named by Python's own message, or by the last line of the output, in whatever words. It may
    also be a module, for a script that puts its working directory on the import path.
    """
    if script.here or not output:
        return ""
    words = re.findall(r"[^\s'\"`,:;()\[\]]+", output.splitlines()[-1])
    names = [
        *re.findall(r"No such file or directory: '([^'\n]+)'", output),
        *(word.rstrip(".") for word in words if not _is_word(word)),
        *(f"{name}{end}" for name in re.findall(r"No module named '(\w+)", output) for end in ("", ".py")),
    ]
    known = {*linked_names(script), os.path.relpath(script.path, script.folder)}
    for missing in names:
        path = os.path.normpath(missing.removeprefix(f"{work}{os.sep}"))
        if not _exists(script, path):
            continue
        first = Path(path).parts[0]
        if known.isdisjoint((first, path)):
            return (
                f"\n  It is in {script.folder}, but the script runs in an empty directory: give --link"
                f" {first}, or --here."
            )
    return ""


def _tail(log: Path, begin: int) -> str:
    """Return the last lines of what was written to a log, from a place on."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(begin, file.tell() - TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    return "\n".join(f"  {printable(line)}" for line in text.splitlines()[-TAIL_LINES:])
