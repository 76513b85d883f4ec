"""Final trainings: train at the chosen lr with the schedule, save the weights, resume from checkpoints."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch

from lrfind.analysis.lanes import SETTLED, Evaluation, planned_lanes
from lrfind.errors import LrfindError, Stopped
from lrfind.experiments.checkpoint import PAUSE_STEPS, Checkpoint, write_tensors
from lrfind.experiments.prepare import (
    environment,
    evaluate_once,
    idle_watches,
    schedule_shape,
    training_conditions,
    training_steps,
)
from lrfind.problem.problem import Problem, from_config
from lrfind.runs.best import conclude
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.training.calibration import computing_with
from lrfind.training.executor import SingleExecutor
from lrfind.training.run import run_lane
from lrfind.training.watch import Observer


def run_training(run: Run, observer: Observer) -> RunResult:
    """Run a final training, or continue it from its checkpoint, one seed after another.

    For each seed S, the run directory gets these files in addition to those of every run:

    - model.seedS.pt: the weights at the end of the training.
    - best.seedS.pt: the weights with the lowest validation loss; only if there is a validation split.
    - checkpoint.seedS.pt: the state to continue from; it is deleted when the training has ended.

    Args:
        run: a run directory that this process has locked.
        observer: is called as the run goes on, to show progress.

    Raises:
        LrfindError: if the model or the data cannot be made or trained as described.
    """
    experiment = run.experiment
    training = experiment.training
    problem = from_config(experiment)
    steps = training_steps(training, problem)
    shape = schedule_shape(experiment, problem, steps)
    threads = _keep_facts(run, problem, steps)
    pause = training.checkpoint_every or min(PAUSE_STEPS, training.eval_every or PAUSE_STEPS)
    conditions = training_conditions(experiment, pause_every=pause)
    watch = observer.watch(training.seeds, steps)
    try:
        with computing_with(threads):
            for planned in planned_lanes({"": [experiment.optimizer.lr]}, experiment.seed, training.seeds):
                files = _Files(run, planned.seed, training.checkpoint_every)
                if run.outcomes().get(planned.lane) in SETTLED:
                    files.checkpoint.path.unlink(missing_ok=True)
                    continue
                try:
                    run_lane(
                        problem,
                        planned.shaped(shape),
                        conditions,
                        keep=run.add_lane,
                        watch=watch,
                        begin=files.checkpoint.begin,
                        paused=files.paused,
                    )
                except LrfindError:
                    failed_on_the_way = run.outcomes().get(planned.lane) in SETTLED
                    if not (failed_on_the_way and any(lane.lr.size for lane in run.lanes())):
                        raise
                files.checkpoint.path.unlink(missing_ok=True)
    except (KeyboardInterrupt, Stopped):
        conclude(run)
        raise
    return conclude(run)


def _keep_facts(run: Run, problem: Problem, steps: int) -> int:
    """Store the facts that are known before a training begins; return the number of threads to compute with.

    A resumed run computes with as many threads as before.
    """
    stored, experiment = run.facts().threads, run.experiment
    if stored is not None:
        return stored
    problem.setup(experiment.seed)  # this writes the notes
    metric, _ = evaluate_once(problem, experiment.seed)
    threads = torch.get_num_threads()
    run.keep_facts(
        environment=environment(problem.device),
        data=problem.data,
        metric=metric,
        notes=[*problem.notes, *idle_watches(experiment.training, steps)],
        planned=experiment.training.seeds,
        threads=threads,
    )
    return threads


class _Files:
    """The files of one seed's training."""

    def __init__(self, run: Run, seed: int, every: int | None) -> None:
        folder, config = run.folder, run.facts().resolved
        identity = f"seed {seed} of {hashlib.sha256(config.encode()).hexdigest()}"
        self.checkpoint = Checkpoint(folder / f"checkpoint.seed{seed}.pt", identity, every)
        self._model, self._best = folder / f"model.seed{seed}.pt", folder / f"best.seed{seed}.pt"
        self._done = False

    def paused(self, executor: SingleExecutor) -> None:
        """Write the files that are due at this step."""
        record, step = executor.record, len(executor.record.steps)
        if self._done or record.outcome not in (None, "finished"):
            return
        if _is_best(record.evaluations, step):
            write_tensors(executor.setup.model.state_dict(), self._best)
        self._done = record.outcome == "finished" or step == record.lane.lr.size
        if self._done:
            write_tensors(executor.setup.model.state_dict(), self._model)
        else:
            self.checkpoint.paused(executor)


def _is_best(evaluations: Sequence[Evaluation], step: int) -> bool:
    """Return whether there was an evaluation at this step, and it is the lowest so far."""
    losses = [e.val_loss if math.isfinite(e.val_loss) else math.inf for e in evaluations]
    return bool(losses) and evaluations[-1].step == step and losses[-1] < min(losses[:-1], default=math.inf)
