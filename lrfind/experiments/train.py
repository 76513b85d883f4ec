"""Final trainings: at the chosen lr, with the schedule, to weights in a file; resumed from checkpoints."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from lrfind.analysis.lanes import SETTLED, Evaluation, planned_lanes
from lrfind.config.experiment import Experiment
from lrfind.config.variants import Variant
from lrfind.errors import LrfindError, Stopped
from lrfind.experiments.checkpoint import load_checkpoint, save_checkpoint, write_tensors
from lrfind.experiments.prepare import (
    environment,
    evaluate_once,
    idle_watches,
    training_conditions,
    training_steps,
    variant_shape,
)
from lrfind.problem.problem import Problem, from_config
from lrfind.runs.store import Run
from lrfind.runs.summary import conclude
from lrfind.training.calibration import computing_with
from lrfind.training.run import run_lane
from lrfind.training.team import Alone
from lrfind.training.watch import WatchFor, unwatched

PAUSE_STEPS, CHECKPOINT_SECONDS = 10, 30.0
"""How often it is looked whether a checkpoint is due, and how often one is."""


def run_training(run: Run, *, watch: WatchFor = lambda lanes, steps: unwatched) -> dict[str, Any]:
    """Run a final training, or go on with it from its checkpoint, one seed after another.

    Beside what every run has, the directory gets, for each seed S that finishes, model.seedS.pt: the weights
    at the end; best.seedS.pt: those of the lowest validation loss of all evaluations, where there is a
    validation split. While a seed trains, checkpoint.seedS.pt.

    Args:
        run: a run directory, held by this process.
        watch: makes what is told of every step.

    Returns:
        The summary, as in summary.json.

    Raises:
        LrfindError: if the model or the data cannot be made or trained as described.
    """
    experiment = run.experiment
    training = experiment.training
    problem = from_config(experiment)
    steps = training_steps(training, problem)
    shape = variant_shape(Variant("", experiment), problem, steps)
    _note_facts(run, experiment, problem, steps)
    pause = training.checkpoint_every or min(PAUSE_STEPS, training.eval_every or PAUSE_STEPS)
    conditions = training_conditions(experiment, pause_every=pause)
    told = watch(training.seeds, steps)
    try:
        with computing_with(run.facts()["threads"]):
            for planned in planned_lanes({"": [experiment.optimizer.lr]}, experiment.seed, training.seeds):
                files = _Files(run, planned.seed, training.checkpoint_every)
                if run.outcomes().get(planned.lane) in SETTLED:
                    files.checkpoint.unlink(missing_ok=True)
                    continue
                try:
                    run_lane(
                        problem,
                        planned.shaped(shape),
                        conditions,
                        keep=run.add_lane,
                        watch=told,
                        begin=files.begin,
                        paused=files.paused,
                    )
                except LrfindError:
                    failed_on_the_way = run.outcomes().get(planned.lane) in SETTLED
                    if not (failed_on_the_way and any(lane.lr.size for lane in run.lanes())):
                        raise
                files.checkpoint.unlink(missing_ok=True)
    except (KeyboardInterrupt, Stopped):
        conclude(run)
        raise
    return conclude(run)


def _note_facts(run: Run, experiment: Experiment, problem: Problem, steps: int) -> None:
    """Keep what a resumed run must do alike, and what should be known of it."""
    if "threads" not in run.facts():
        problem.setup(experiment.seed)  # which makes the notes
        metric, _ = evaluate_once(problem, experiment.seed)
        run.set_fact("environment", environment(problem.device))
        run.set_fact("data", problem.data)
        run.set_fact("metric", metric)
        run.set_fact("notes", [*problem.notes, *idle_watches(experiment.training, steps)])
        run.set_fact("threads", torch.get_num_threads())


class _Files:
    """The files of one seed's training."""

    def __init__(self, run: Run, seed: int, every: int | None) -> None:
        folder, config = run.path, run.facts()["resolved"]
        self._identity = f"seed {seed} of {hashlib.sha256(config.encode()).hexdigest()}"
        self.checkpoint = folder / f"checkpoint.seed{seed}.pt"
        self._model, self._best = folder / f"model.seed{seed}.pt", folder / f"best.seed{seed}.pt"
        self._every, self._last, self._done = every, time.monotonic(), False

    def begin(self, alone: Alone) -> None:
        """Put a lane where its checkpoint was taken, if there is one."""
        if self.checkpoint.is_file():
            load_checkpoint(alone, self.checkpoint, self._identity)

    def paused(self, alone: Alone) -> None:
        """Write what is due at this step."""
        record, step = alone.record, len(alone.record.steps)
        if self._done or record.outcome not in (None, "finished"):
            return
        if _is_best(record.evaluations, step):
            write_tensors(alone.setup.model.state_dict(), self._best)
        self._done = record.outcome == "finished" or step == record.lane.lr.size
        if self._done:
            write_tensors(alone.setup.model.state_dict(), self._model)
        elif self._due(step):
            save_checkpoint(alone, self.checkpoint, self._identity)
            self._last = time.monotonic()

    def _due(self, step: int) -> bool:
        if self._every is not None:
            return step % self._every == 0
        return time.monotonic() - self._last >= CHECKPOINT_SECONDS


def _is_best(evaluations: Sequence[Evaluation], step: int) -> bool:
    """Whether the evaluation at this step, if there was one, is the lowest so far."""
    losses = [each.val_loss if math.isfinite(each.val_loss) else math.inf for each in evaluations]
    return bool(losses) and evaluations[-1].step == step and losses[-1] < min(losses[:-1], default=math.inf)
