"""The process of one sink: it reads the lanes of a run as they are stored, and hands them to the sink.

The driver starts it as `python -m lrfind.views.sinks.writer RUN SINK ROOT`, where SINK is the JSON of the
sink's name and args, and ROOT the folder of the user's own modules or "". The signs `STORED` and `FINISH`
come on stdin. At the end of stdin the process ends. A ledger in the run directory says what the sink has got.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import traceback
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lrfind.analysis.lanes import SETTLED, LaneResult
from lrfind.analysis.trends import spread_places
from lrfind.config.experiment import dump
from lrfind.config.registry import import_path, load, resolve, set_import_root
from lrfind.config.sections import Component
from lrfind.errors import UsageError, as_exception, in_one_line
from lrfind.runs.files import write_whole
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result
from lrfind.runs.tables import lanes_frame
from lrfind.views.sinks.protocol import Sink, SinkEnd, SinkLane, SinkRun
from lrfind.views.terminal import note

STORED, FINISH = b".", b"!"
MOST_POINTS = 1000
"""The most points of a curve that a sink gets."""
SETTINGS = ("lane", "variant", "seed", "lr")
CURVES = ("lr", "loss", "held_out_loss", "grad_norm", "momentum", "skipped")


@dataclass
class Ledger:
    """What a sink has got of a run; a file, so that nothing is written twice.

    Attributes:
        id: the id of the run in the sink.
        folder: the working directory, at which relative paths of the sink begin.
        lanes: the numbers of the lanes that the sink has got.
        finished: whether it has got the answer.
    """

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    folder: str = field(default_factory=lambda: str(Path.cwd()))
    lanes: list[int] = field(default_factory=list)
    finished: bool = False


def ledger_path(run: Run, part: Component) -> Path:
    """Return the file of the ledger of a sink, which its name and its args choose."""
    text = json.dumps([part.name, part.args], sort_keys=True)
    name = re.sub(r"[^\w.]+", "-", part.name)[:50]
    return run.folder / "sinks" / f"{name}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}.json"


def read_ledger(path: Path) -> Ledger:
    """Read a ledger; without a file that lrfind wrote, begin a new one."""
    try:
        return Ledger(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Ledger()


class Writing:
    """The writing of one run to one sink, which begins when there is something to write."""

    def __init__(self, run: Run, part: Component) -> None:
        self._run, self._part, self._file = run, part, ledger_path(run, part)
        self._ledger = read_ledger(self._file)
        self._made: Sink | None = None

    def lanes(self) -> None:
        """Write every lane that has settled and that the sink has not got yet."""
        for number, outcome in self._run.outcomes().items():
            if outcome in SETTLED and number not in self._ledger.lanes:
                sink = self._sink()
                sink.lane(sink_lane(self._run.lane(number)))
                self._ledger.lanes.append(number)
                self._keep()

    def finish(self) -> None:
        """Write the answer, unless the sink has got it."""
        if not self._ledger.finished:
            self._sink().finish(sink_end(read_result(self._run), self._run))
            self._ledger.finished = True
            self._keep()

    def _sink(self) -> Sink:
        if self._made is None:
            os.chdir(self._ledger.folder)
            self._file.parent.mkdir(exist_ok=True)
            self._keep()  # before the sink learns the id
            make = resolve(import_path("sink", self._part.name))
            self._made = make(**self._part.args)
            self._made.start(sink_run(self._run, self._ledger.id))
        return self._made

    def _keep(self) -> None:
        write_whole(self._file, json.dumps(asdict(self._ledger)))


def sink_run(run: Run, name: str) -> SinkRun:
    """Describe a run for a sink, in which it has the id `name`."""
    experiment = run.experiment
    config = experiment.model_dump(mode="json", exclude_none=True)
    command = run.facts().command
    return SinkRun(name, run.folder.name, run.folder, command, experiment.name, config, dump(experiment))


def sink_lane(result: LaneResult) -> SinkLane:
    """Describe a lane for a sink."""
    (row,) = lanes_frame([result]).to_dict("records")
    curves: dict[str, list[tuple[int, float]]] = {}
    for name in CURVES:
        column = getattr(result, name)
        if column is not None:
            curves[name] = [(step, float(column[step])) for step in spread_places(len(column), MOST_POINTS)]
    looks = [result.evaluations[place] for place in spread_places(len(result.evaluations), MOST_POINTS)]
    curves["val_loss"] = [(look.step, look.val_loss) for look in looks]
    curves["metric"] = [(look.step, look.metric) for look in looks if look.metric is not None]
    parts = [f"lane-{result.lane:03d}", result.variant, f"lr-{result.peak:.3g}", f"seed-{result.seed}"]
    return SinkLane(
        re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(part[:40] for part in parts if part)),
        {str(name): value for name, value in row.items() if name in SETTINGS},
        {name: curve for name, curve in curves.items() if curve},
        {str(name): value for name, value in row.items() if name not in SETTINGS and value == value},
    )


def sink_end(result: RunResult, run: Run) -> SinkEnd:
    """Describe the end of a run for a sink."""
    text = load(result.kind.text)(result.summary)
    return SinkEnd(result.answer, text, result.summary, sorted(run.folder.glob("*.png")))


def serve(writing: Writing, signs: Iterator[bytes]) -> None:
    """Write what is new at each sign of the driver, and all the rest at the last one."""
    for sign in signs:
        writing.lanes()
        if FINISH in sign:
            writing.finish()
            return


def _signs() -> Iterator[bytes]:
    while sign := os.read(0, 1 << 16):
        yield sign


def main(arguments: Sequence[str]) -> int:
    """Run the process of a sink, and return its exit code; the last line on stderr says why it failed."""
    path, text, root = arguments
    description: dict[str, Any] = json.loads(text)
    try:
        with as_exception():
            set_import_root(Path(root) if root else None)
            serve(Writing(Run.open(Path(path)), Component(**description)), _signs())
    except UsageError as error:
        note(str(error))
        return 1
    except Exception as error:
        note(f"{traceback.format_exc()}\n{in_one_line(error)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
