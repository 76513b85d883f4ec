"""Sweeps: whole trainings side by side, round after round, until there are no more peaks to try."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from lrfind.analysis.lanes import SETTLED, PlannedLane
from lrfind.config.experiment import Experiment, lanes_section
from lrfind.config.variants import Variant
from lrfind.errors import Stopped
from lrfind.experiments.prepare import Prepared, environment, prepare
from lrfind.experiments.rounds import first_round, next_round
from lrfind.runs.store import Run
from lrfind.runs.summary import conclude
from lrfind.training.calibration import Engine, computing_with
from lrfind.training.run import run_lanes
from lrfind.training.watch import WatchFor, unwatched


def run_sweep(
    run: Run,
    *,
    watch: WatchFor = lambda lanes, steps: unwatched,
    note: Callable[[Prepared], None] = lambda prepared: None,
) -> dict[str, Any]:
    """Run a grid, a search or a comparison, or go on with it: what has settled is kept, the rest is run.

    Args:
        run: a run directory, held by this process.
        watch: makes what is told of every step.
        note: told of the engine and the cost, before the first lane.

    Returns:
        The summary, as in summary.json.

    Raises:
        LrfindError: if the model or the data cannot be made or trained as described.
    """
    experiment, facts = run.experiment, run.facts()
    command = facts["command"]
    try:
        stored = [Engine(**each) for each in facts.get("engines", ())]
        prepared = prepare(experiment, command, stored)
        if not stored:
            run.set_fact("environment", environment(prepared.problems[0].device))
            run.set_fact("data", prepared.problems[0].data)
            run.set_fact("metric", prepared.metric)
            run.set_fact("engines", [asdict(engine) for engine in prepared.engines])
            run.set_fact("notes", [*prepared.notes])
        note(prepared)
        while planned := next_lanes(run, experiment, command, prepared.variants):
            told = watch(max(prepared.cost.lanes, planned[-1].lane + 1), prepared.steps)
            for place, of_one in groupby(planned, key=lambda lane: prepared.place(lane.variant)):
                engine = prepared.engines[place]
                with computing_with(engine.threads):
                    run_lanes(
                        prepared.problems[place],
                        [lane.shaped(prepared.shapes[lane.variant]) for lane in of_one],
                        prepared.conditions,
                        engine,
                        keep=run.add_lanes,
                        watch=told,
                        note=lambda text: run.set_fact("notes", [*run.facts().get("notes", ()), text]),
                    )
    except (KeyboardInterrupt, Stopped):
        conclude(run)
        raise
    return conclude(run)


def next_lanes(
    run: Run, experiment: Experiment, command: str, variants: Sequence[Variant]
) -> list[PlannedLane]:
    """The planned lanes that have not settled, or else those of a new round, which are planned here."""
    plan, outcomes = run.plan(), run.outcomes()
    pending = [lane for lane in plan if outcomes.get(lane.lane) not in SETTLED]
    if pending:
        return pending
    section, seed = lanes_section(experiment, command), experiment.seed
    if plan:
        lanes = next_round(section, plan, run.lanes(), seed)
    else:
        lanes = first_round(section, {each.name: each.experiment.optimizer.lr for each in variants}, seed)
    run.add_plan(lanes)
    return lanes
