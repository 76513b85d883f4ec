"""The content of a run at one moment: the record of what is stored, and the result, which adds a summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lrfind.analysis.lanes import SETTLED, LaneResult, PlannedLane
from lrfind.catalog import KINDS, Kind
from lrfind.config.experiment import Experiment, own_names, restored
from lrfind.config.variants import Variant, variants_of
from lrfind.errors import UsageError, in_shell
from lrfind.runs.facts import Facts, resume_command


@dataclass(frozen=True)
class RunRecord:
    """Everything that a run's database holds, read once.

    Attributes:
        path: the run directory.
        experiment: the experiment that the run was started with.
        facts: what is known of the run besides its lanes.
        plan: the planned lanes of a sweep; empty for other kinds of runs.
        lanes: the results of the lanes so far, by number.
    """

    path: Path
    experiment: Experiment
    facts: Facts
    plan: Sequence[PlannedLane]
    lanes: Sequence[LaneResult]

    @property
    def command(self) -> str:
        """The command that made the run."""
        return self.facts.command

    @property
    def kind(self) -> Kind:
        """The catalog's row of the command."""
        return KINDS[self.facts.command]

    @property
    def section(self) -> Any:
        """The section of the config that the command reads."""
        return getattr(self.experiment, self.kind.section)

    @cached_property
    def variants(self) -> list[Variant]:
        """The variants that the run compares; a single one where it compares nothing. Nothing is imported.

        Raises:
            UsageError: if an older version of lrfind made the run, and knowing them would import user's code.
        """
        if self.facts.variants:
            source = str(self.path / "resolved.yaml")
            return [Variant(name, restored(text, source)) for name, text in self.facts.variants.items()]
        if self.kind.variants is not None and own_names(self.experiment):
            raise UsageError(
                f"'{self.path}' does not say what it compares, because an older version of lrfind made it;"
                f" `lrfind resume {in_shell(self.path)} --import-root DIR` adds that."
            )
        return variants_of(self.experiment, self.command)

    @property
    def resume_command(self) -> str:
        """The command that continues the run."""
        return resume_command(self.path, self.facts)

    @property
    def planned(self) -> int:
        """The number of lanes that the run will have in all, as far as is known."""
        return max(self.facts.planned or 0, len(self.lanes), 1)

    @property
    def known_plan(self) -> int | None:
        """The same number; None if the run was stopped before anything was planned."""
        return self.planned if self.facts.planned or self.lanes else None

    @cached_property
    def unsettled(self) -> int:
        """The number of planned lanes that have not settled. Each row of a summary asks for it."""
        return self.planned - sum(lane.outcome in SETTLED for lane in self.lanes)


@dataclass(frozen=True)
class RunResult(RunRecord):
    """A record with its summary; tables, plots and texts are made from results.

    Attributes:
        summary: plain data, the content of summary.json; see `runs.summary.summarize`.
    """

    summary: dict[str, Any]

    @property
    def answer(self) -> dict[str, Any]:
        """The answer of the summary: a mapping with `lr`, which is None if there is no answer."""
        answer: dict[str, Any] = self.summary["answer"]
        return answer
