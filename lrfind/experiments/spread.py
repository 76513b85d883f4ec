"""Lanes on a team: what the driver of a run asks its workers for, and what they do then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np

from lrfind.analysis.lanes import LaneResult, PlannedLane, Watch
from lrfind.catalog import KINDS
from lrfind.config.experiment import Experiment, check, section_for
from lrfind.config.registry import load
from lrfind.experiments.prepare import Outlook, Prepared, Trainable
from lrfind.training.mode import Mode
from lrfind.training.run import run_lanes, units
from lrfind.training.team import Lost, Team, Work
from lrfind.training.worker import Report, remembered

THREADS = 1  # of a worker's torch, unless the config gives another number


@dataclass(frozen=True)
class LaneSource:
    """The lanes of a run, as a worker can make them again.

    Attributes:
        config: the text of the run's resolved config.
        command: the command of the run.
        modes: the mode of each job; empty while they are still to be chosen.
        prepare: the import path of the function that prepares the lanes.
    """

    config: str
    command: str
    modes: tuple[Mode, ...] = ()
    prepare: str = "lrfind.experiments.prepare:prepare"


def one_threaded(experiment: Experiment, command: str) -> Experiment:
    """Return the experiment with one thread for each lane or stack, unless it gives a number of threads."""
    name, section = KINDS[command].section, section_for(experiment, command)
    if section.threads is not None:
        return experiment
    return experiment.model_copy(update={name: section.model_copy(update={"threads": THREADS})})


def outlook_of(team: Team, source: LaneSource) -> Outlook:
    """Have a worker load the data, choose the modes unless they are given, and estimate the cost."""
    outlook: Outlook = team.ask(f"{__name__}:look_ahead", source=source)
    cost = replace(outlook.cost, seconds=outlook.cost.seconds / max(team.size, 1))
    return replace(outlook, cost=cost)


def spread_lanes(
    team: Team,
    source: LaneSource,
    planned: Sequence[PlannedLane],
    steps: int,
    *,
    keep: Callable[[Sequence[LaneResult]], None],
    watch: Watch,
    note: Callable[[str], None],
) -> None:
    """Train planned lanes on a team, and give them to `keep` as they end.

    The workers train the same stacks as one process would, so the results are the same. Lanes that are
    pruned against each other train in one worker. If a stack ends every worker that tries it, its lanes are
    trained one by one; a lane that does so ends as failed.

    Args:
        team: the workers.
        source: what the lanes belong to, with its modes.
        planned: the lanes.
        steps: T, the number of steps of each lane.
        keep: called with the results of lanes that were trained together.
        watch: called with the steps that workers report.
        note: called with a sentence for the user.
    """
    parts, pruned = team.ask(f"{__name__}:divide", source=source, planned=[*planned])
    while parts:
        works = [Work(f"{__name__}:train", {"source": source, "planned": part}) for part in parts]
        parts = []
        with closing(team.results(works, watch)) as results:
            for work, value in results:
                lanes = work.arguments["planned"]
                if not isinstance(value, Lost):
                    results_of_part, notes = value
                    keep(results_of_part)
                    for text in notes:
                        note(text)
                elif len(lanes) > 1 and not pruned:
                    parts += [[lane] for lane in lanes]
                    note(
                        f"lanes {lanes[0].lane} to {lanes[-1].lane} ran one by one, because as a stack"
                        f" {value.reason}."
                    )
                else:
                    keep([failed(lane, steps, value) for lane in lanes])


def failed(lane: PlannedLane, steps: int, lost: Lost) -> LaneResult:
    """Return the result of a lane that ended every worker that tried it."""
    nothing, error = np.empty(0), f"{lost.reason}."
    return LaneResult(
        lane.lane, lane.seed, steps, lane.peak, "failed", nothing, nothing, error=error, variant=lane.variant
    )


def look_ahead(report: Report, source: LaneSource) -> Outlook:
    """Prepare a sweep on a worker; return what the driver has to know."""
    prepared = _trainable(source)
    assert isinstance(prepared, Prepared)
    return prepared.outlook


def divide(
    report: Report, source: LaneSource, planned: Sequence[PlannedLane]
) -> tuple[list[list[PlannedLane]], bool]:
    """Divide lanes into parts that are trained independently; return them, and whether lanes are pruned."""
    trainable, by_number = _trainable(source), {lane.lane: lane for lane in planned}
    parts = [
        [by_number[lane.lane] for stack in unit for lane in stack]
        for job in trainable.jobs
        for unit in units(job.lanes(planned), trainable.conditions, job.mode)
    ]
    return parts, bool(trainable.conditions.rungs)


def train(
    report: Report, source: LaneSource, planned: Sequence[PlannedLane]
) -> tuple[list[LaneResult], list[str]]:
    """Train the lanes of one part on a worker; return their results, and notes for the user."""
    trainable, results, notes = _trainable(source), list[LaneResult](), list[str]()
    (job,) = (job for job in trainable.jobs if planned[0].variant in job.shapes)
    run_lanes(
        job.problem,
        job.lanes(planned),
        trainable.conditions,
        job.mode,
        keep=results.extend,
        watch=report.watch,
        note=notes.append,
    )
    return results, notes


def _trainable(source: LaneSource) -> Trainable:
    """Return the lanes' problems and conditions, which this process keeps for the driver's session."""

    def prepare() -> Trainable:
        experiment = one_threaded(check(source.config), source.command)
        prepared: Trainable = load(source.prepare)(experiment, source.command, source.modes)
        return prepared

    trainable: Trainable = remembered((source.config, source.command), prepare)
    if not source.modes:
        return trainable
    jobs = [replace(job, mode=mode) for job, mode in zip(trainable.jobs, source.modes, strict=True)]
    return replace(trainable, jobs=jobs)
