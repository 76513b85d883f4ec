"""The delivery of a run to its sinks, seen from the process that trains.

Each sink has a process of its own, which reads the run directory. So a sink that raises, hangs or ends its
process cannot harm a lane: the training never waits for it, and its random generators are not the sink's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lrfind.analysis.lanes import LaneResult
from lrfind.catalog import SINKS
from lrfind.config.registry import command_line, import_path, import_root
from lrfind.config.sections import Component
from lrfind.errors import UsageError, not_installed, printable, shortened
from lrfind.runs.store import Run
from lrfind.views.sinks.writer import FINISH, STORED, ledger_path

PATIENCE = 60.0
"""The seconds that the end of a run waits for a sink that gets nothing done."""
GRACE = 5.0
"""The seconds that an interrupted run leaves to a sink, to end the lane that it is writing."""


def refuse_missing(sinks: Sequence[Component]) -> None:
    """Refuse a sink whose package is not installed, or whose module there is not. Nothing is imported.

    Raises:
        UsageError: for the first such sink; the message says what to do.
    """
    for part in sinks:
        module = import_path("sink", part.name).partition(":")[0].partition(".")[0]
        row = SINKS.get(part.name)
        for package in (module,) if row is None else row.packages:
            if importlib.util.find_spec(package) is not None:
                continue
            if row is not None:
                raise not_installed(package, f"the sink {part.name}", "sinks")
            raise UsageError(
                f"the sink '{part.name}': there is no module '{package}' on the import path. If it is your"
                " own file, give its folder with --import-root DIR."
            )


def as_typed(part: Component) -> str:
    """Return a sink as `--to` takes it.

    >>> as_typed(Component(name="mlflow", args={"uri": "sqlite:///runs.db"}))
    'mlflow:sqlite:///runs.db'
    """
    row = SINKS.get(part.name)
    return part.name if row is None or [*part.args] != [row.place] else f"{part.name}:{part.args[row.place]}"


def _export_command(run: Run, part: Component) -> str:
    """Return the command that sends a run to a sink again."""
    root = None if part.name in SINKS else import_root()
    return command_line(["export", str(run.path), "--to", as_typed(part)], root)


class Delivery:
    """The delivery of a run to one sink.

    Attributes:
        part: the sink, by its name and args.
    """

    def __init__(self, run: Run, part: Component) -> None:
        self.part = part
        self._run, self._folder = run, Path.cwd()  # a user's code may change the working directory
        self._process: subprocess.Popen[bytes] | None = None
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process

    def tell(self, sign: bytes) -> None:
        """Give the process of the sink a sign, without waiting; the first one starts the process."""
        try:
            if self._process is None:
                self._process = self._started()
            assert self._process.stdin is not None
            os.write(self._process.stdin.fileno(), sign)
        except OSError:  # it has ended, or it has not read any sign for long: one is enough
            pass

    def _started(self) -> subprocess.Popen[bytes]:
        part = json.dumps({"name": self.part.name, "args": self.part.args})
        command = [sys.executable, "-P", "-m", "lrfind.views.sinks.writer", str(self._run.folder), part]
        process = subprocess.Popen(
            [*command, import_root() or ""],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=self._output,
            cwd=self._folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # a Ctrl-C in the terminal is for the run, which then stops the sink
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        return process

    def finish(self) -> str:
        """Let the sink write the rest and the answer; return why that failed, or "" if it did not."""
        self.tell(FINISH)
        if self._process is None:
            return "its process could not be started"
        self._close_signs()
        before = self._progress()
        while True:
            try:
                code = self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                if (now := self._progress()) == before:
                    self._process.kill()
                    self._process.wait()
                    return f"it wrote nothing for {PATIENCE:g} seconds"
                before = now
            else:
                return "" if code == 0 else self._last_line() or f"its process ended with the code {code}"

    def stop(self) -> None:
        """End the process of the sink; what it has not got yet, it gets when the run is resumed."""
        if self._process is not None:
            self._close_signs()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
            self._process.kill()
            self._process.wait()
        self._output.close()

    def _close_signs(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _progress(self) -> bytes:
        """Return the ledger as it is now, which changes with every lane that the sink gets."""
        try:
            return ledger_path(self._run, self.part).read_bytes()
        except OSError:
            return b""

    def _last_line(self) -> str:
        """Return the last line that the process printed."""
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").strip().splitlines()
        return shortened(printable(lines[-1].strip()), 1000) if lines else ""


@contextmanager
def delivered(run: Run, sinks: Sequence[Component]) -> Iterator[Callable[[], list[str]]]:
    """Deliver the lanes of a run to its sinks while it is trained inside the block.

    Args:
        run: the run.
        sinks: the sinks.

    Yields:
        A function to call when everything else of the run is written. It lets the sinks write the rest and
        the answer, and returns a sentence for each sink that failed.

    Raises:
        UsageError: if a sink cannot be used here; nothing has been trained then.
    """
    refuse_missing(sinks)
    deliveries = [Delivery(run, part) for part in sinks]

    def stored(results: Sequence[LaneResult]) -> None:
        for delivery in deliveries:
            delivery.tell(STORED)

    def finish() -> list[str]:
        for delivery in deliveries:
            delivery.tell(FINISH)
        reasons = [(delivery.part, delivery.finish()) for delivery in deliveries]
        return [
            f"the sink {as_typed(part)} failed: {reason.rstrip('.')}. The run is complete without it;"
            f" `{_export_command(run, part)}` writes the rest."
            for part, reason in reasons
            if reason
        ]

    run.listeners.append(stored)
    try:
        yield finish
    finally:
        run.listeners.remove(stored)
        for delivery in deliveries:
            delivery.stop()
