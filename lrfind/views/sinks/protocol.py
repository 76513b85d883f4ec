"""The protocol of a sink, and the plain data that it gets: a run, its lanes, and the end with the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class SinkRun:
    """A run that begins, or goes on after an interruption.

    Attributes:
        id: a text that no other run has; it stays the same when the run goes on.
        name: the name of the run directory.
        folder: the run directory, an absolute path.
        command: the command that made the run, such as "grid".
        experiment: the name of the experiment.
        config: the experiment with every default, as plain data.
        config_text: the same as YAML.
    """

    id: str
    name: str
    folder: Path
    command: str
    experiment: str
    config: Mapping[str, Any]
    config_text: str


@dataclass(frozen=True)
class SinkLane:
    """A lane that has come to its end.

    Attributes:
        name: a name that no other lane of the run has, of letters, digits, '.', '_' and '-'.
        settings: `lane` (its number), `seed`, `lr` (the peak; for a ramp its end), and `variant` where the
            run compares several.
        curves: name ("lr", "loss", "val_loss", ...) -> (step, value) of at most `MOST_POINTS` steps.
        results: the rest of the lane's row of lanes.csv, without what is missing.
    """

    name: str
    settings: Mapping[str, Any]
    curves: Mapping[str, Sequence[tuple[int, float]]]
    results: Mapping[str, Any]

    def by_step(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield each step that any curve has, in order, with the values of the curves there."""
        values: dict[int, dict[str, float]] = {}
        for name, curve in self.curves.items():
            for step, value in curve:
                values.setdefault(step, {})[name] = value
        yield from sorted(values.items())


@dataclass(frozen=True)
class SinkEnd:
    """The end of a run.

    Attributes:
        answer: the answer of summary.json, such as `lr`, `low`, `high`, `confidence` and `reason`.
        text: the answer as the terminal shows it.
        summary: the whole of summary.json.
        plots: the plots, as PNG files.
    """

    answer: Mapping[str, Any]
    text: str
    summary: Mapping[str, Any]
    plots: Sequence[Path]

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers of the answer."""
        return {name: float(value) for name, value in self.answer.items() if type(value) in (int, float)}

    @property
    def words(self) -> dict[str, str]:
        """The texts of the answer."""
        return {name: value for name, value in self.answer.items() if isinstance(value, str)}


class Sink(Protocol):
    """A tracker of experiments. It is made with the `args` of the config, in a process of its own.

    What it raises ends only this process; the run goes on without the sink.
    """

    def start(self, run: SinkRun) -> None:
        """Begin to write a run, or go on with it; `run.id` says which."""

    def lane(self, lane: SinkLane) -> None:
        """Write a lane. A lane whose writing was cut off comes again, as a whole."""

    def finish(self, end: SinkEnd) -> None:
        """Write the answer, once all lanes are written."""
