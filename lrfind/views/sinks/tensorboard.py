"""TensorBoard: event files, which `tensorboard --logdir runs` shows. They are written without torch."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lrfind.errors import import_optional
from lrfind.views.sinks.protocol import SinkEnd, SinkLane, SinkRun


class TensorBoard:
    """Event files for TensorBoard: a folder for each lane, and config, answer and plots beside them.

    Args:
        folder: the folder in which the run gets one of its own. If omitted, it is `tensorboard` in the run
            directory.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._root = folder
        self._events = import_optional(
            "tensorboard.summary.writer.event_file_writer", "the sink tensorboard", "sinks"
        )
        self._event = import_optional("tensorboard.compat.proto.event_pb2", "the sink tensorboard", "sinks")
        self._proto = import_optional("tensorboard.compat.proto.summary_pb2", "the sink tensorboard", "sinks")

    def start(self, run: SinkRun) -> None:
        """Choose the folder."""
        self._run = run
        self._folder = run.folder / "tensorboard" if self._root is None else Path(self._root) / run.name

    def lane(self, lane: SinkLane) -> None:
        """Write the curves of a lane, its final numbers, and its settings as text."""
        last = max((curve[-1][0] for curve in lane.curves.values()), default=0)
        with self._writer(self._folder / lane.name) as add:
            for step, values in lane.by_step():
                add(step, [self._number(name, value) for name, value in values.items()])
            numbers = {name: value for name, value in lane.results.items() if not isinstance(value, str)}
            add(last, [self._number(f"final/{name}", value) for name, value in numbers.items()])
            add(last, [self._text("lane", _table({**lane.settings, **lane.results}))])

    def finish(self, end: SinkEnd) -> None:
        """Write the config, the answer and the plots."""
        with self._writer(self._folder) as add:
            add(0, [self._text("config", f"```\n{self._run.config_text}\n```")])
            add(0, [self._text("answer", f"```\n{end.text}\n```")])
            add(0, [self._number(f"answer/{name}", value) for name, value in end.numbers.items()])
            add(0, [self._image(plot) for plot in end.plots])

    @contextmanager
    def _writer(self, folder: Path) -> Iterator[Any]:
        """Yield a function that adds values at a step to a new event file, the only one of the folder."""
        for old in folder.glob("events.out.tfevents.*"):  # of a process that was ended in the middle
            old.unlink()
        writer = self._events.EventFileWriter(str(folder))

        def add(step: int, values: list[Any]) -> None:
            summary = self._proto.Summary(value=values)
            writer.add_event(self._event.Event(wall_time=time.time(), step=step, summary=summary))

        try:
            yield add
        finally:
            writer.close()

    def _number(self, tag: str, value: float) -> Any:
        return self._proto.Summary.Value(tag=tag, simple_value=value)

    def _text(self, tag: str, text: str) -> Any:
        """Return a text as TensorBoard's text plugin reads it."""
        value = self._proto.Summary.Value(tag=tag)
        value.metadata.plugin_data.plugin_name = "text"
        value.tensor.dtype = 7  # DT_STRING
        value.tensor.string_val.append(text.encode())
        value.tensor.tensor_shape.dim.add().size = 1
        return value

    def _image(self, plot: Path) -> Any:
        content = plot.read_bytes()
        width, height = struct.unpack(">II", content[16:24])  # in the header of every PNG
        value = self._proto.Summary.Value(tag=f"plots/{plot.stem}")
        value.image.width, value.image.height, value.image.colorspace = width, height, 4
        value.image.encoded_image_string = content
        return value


def _table(values: Mapping[str, Any]) -> str:
    """Return values as a table in Markdown."""
    rows = [f"| {name} | {value} |" for name, value in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])
