"""Final trainings: train at the chosen lr with the schedule, save the weights, resume from checkpoints."""

from __future__ import annotations

import contextlib
import hashlib
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lrfind.analysis.lanes import SETTLED, Evaluation, LaneResult, PlannedLane, planned_lanes
from lrfind.config.experiment import Experiment, check
from lrfind.errors import LrfindError, Stopped
from lrfind.experiments.checkpoint import PAUSE_STEPS, Checkpoint, remove_checkpoint
from lrfind.experiments.prepare import (
    environment,
    epoch_steps,
    evaluate_once,
    idle_watches,
    schedule_shape,
    training_conditions,
    training_steps,
)
from lrfind.experiments.spread import THREADS, failed
from lrfind.experiments.tensor_files import write_tensors
from lrfind.problem.problem import Problem, from_config
from lrfind.runs.best import conclude
from lrfind.runs.files import write_whole
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.training.calibration import computing_with
from lrfind.training.executor import Conditions, SingleExecutor
from lrfind.training.run import run_lane
from lrfind.training.team import Lost, Team, Work
from lrfind.training.watch import Observer
from lrfind.training.worker import Report, remembered


def run_training(run: Run, observer: Observer, team: Team | None = None) -> RunResult:
    """Run a final training, or continue it from its checkpoint, one seed after another.

    For each seed S, the run directory gets these files in addition to those of every run:

    - model.seedS.pt: the weights at the end of the training.
    - best.seedS.pt: the weights with the lowest validation loss; only if there is a validation split.
    - checkpoint.seedS.pt: the state to continue from; it is deleted when the training has ended.

    Args:
        run: a run directory that this process has locked.
        observer: is called as the run goes on, to show progress.
        team: the workers that train, each one seed at a time; None to train in this process.

    Raises:
        LrfindError: if the model or the data cannot be made or trained as described.
    """
    try:
        if team is None:
            _train_here(run, observer)
        else:
            _train_on(team, run, observer)
    except (KeyboardInterrupt, Stopped):
        conclude(run)
        raise
    return conclude(run)


def _train_here(run: Run, observer: Observer) -> None:
    """Train one seed after another in this process."""
    experiment = run.experiment
    training = experiment.training
    problem = from_config(experiment)
    steps = training_steps(training, problem)
    shape = schedule_shape(experiment, problem, steps)
    if run.facts().threads is None:
        _keep_facts(run, _facts_of(problem, experiment, steps), torch.get_num_threads())
    facts = run.facts()
    observer.epochs(epoch_steps(training, problem))
    conditions, watch = _conditions(experiment), observer.watch(training.seeds, steps)
    with computing_with(facts.threads or torch.get_num_threads()):
        for planned in planned_lanes({"": [experiment.optimizer.lr]}, experiment.seed, training.seeds):
            files = _Files(
                run.folder,
                planned.seed,
                facts.resolved,
                training.checkpoint_every,
                evaluated=observer.evaluated,
            )
            if run.outcomes().get(planned.lane) in SETTLED:
                remove_checkpoint(files.checkpoint.path)
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
            remove_checkpoint(files.checkpoint.path)


def _conditions(experiment: Experiment) -> Conditions:
    training = experiment.training
    pause = training.checkpoint_every or min(PAUSE_STEPS, training.eval_every or PAUSE_STEPS)
    return training_conditions(experiment, pause_every=pause)


def _facts_of(problem: Problem, experiment: Experiment, steps: int) -> dict[str, Any]:
    """Return the facts that are known before a training begins."""
    problem.setup(experiment.seed)  # this writes the notes
    metric, _ = evaluate_once(problem, experiment.seed)
    return {
        "environment": environment(problem.device),
        "data": problem.data,
        "metric": metric,
        "notes": [*problem.notes, *idle_watches(experiment.training, steps)],
        "planned": experiment.training.seeds,
    }


def _keep_facts(run: Run, known: dict[str, Any], threads: int) -> None:
    """Store what is known before a training begins, after the notes that its command has made."""
    notes = [*run.facts().notes, *known["notes"]]
    run.keep_facts(**known | {"notes": notes}, threads=threads)


def _train_on(team: Team, run: Run, observer: Observer) -> None:
    """Train the seeds on a team. The workers send their files, and only this process writes into the run."""
    experiment, facts = run.experiment, run.facts()
    steps, known = team.ask(f"{__name__}:look_ahead", config=facts.resolved)
    if facts.threads is None:
        _keep_facts(run, known, THREADS)
    facts, works = run.facts(), []
    for planned in planned_lanes({"": [experiment.optimizer.lr]}, experiment.seed, experiment.training.seeds):
        if run.outcomes().get(planned.lane) in SETTLED:
            remove_checkpoint(run.folder / f"checkpoint.seed{planned.seed}.pt")
        else:
            files = _contents(run.folder, f"*.seed{planned.seed}.pt")
            arguments = {
                "config": facts.resolved,
                "planned": planned,
                "threads": facts.threads,
                "files": files,
            }
            works.append(Work(f"{__name__}:train_seed", arguments))

    def heard(event: Sequence[Any]) -> None:
        kind, *content = event
        if kind == "evaluation":
            lane, step, val_loss = content
            observer.evaluated(lane, Evaluation(step, val_loss, None))
            return
        address, folder = content
        _write_files(run.folder, team.fetch(address, f"{__name__}:sent_files", folder) or {})

    watch, error = observer.watch(experiment.training.seeds, steps), None
    with contextlib.closing(team.results(works, watch, heard)) as results:
        for work, value in results:
            planned = work.arguments["planned"]
            if isinstance(value, Lost):
                run.add_lane(failed(planned, steps, value))
                continue
            result, files, failure = value
            error = error or failure
            _write_files(run.folder, files)
            run.add_lane(result)
            remove_checkpoint(run.folder / f"checkpoint.seed{planned.seed}.pt")
    if error is not None and not any(lane.lr.size for lane in run.lanes()):
        raise LrfindError(error)


def look_ahead(report: Report, config: str) -> tuple[int, dict[str, Any]]:
    """Return, from a worker, the steps of a training and the facts that are known before it begins."""
    experiment, problem, steps = _on_a_worker(config)
    schedule_shape(experiment, problem, steps)
    return steps, _facts_of(problem, experiment, steps)


def train_seed(
    report: Report, config: str, planned: PlannedLane, threads: int, files: Mapping[str, bytes]
) -> tuple[LaneResult, dict[str, bytes], str | None]:
    """Train one seed on a worker.

    Args:
        report: tells the driver of each new checkpoint, which it then fetches.
        config: the text of the run's resolved config.
        planned: the lane.
        threads: the number of threads to compute with.
        files: the files of this seed that the run has already, by their names.

    Returns:
        The lane's result, the contents of the files of its weights, and the message of its failure.
    """
    experiment, problem, steps = _on_a_worker(config)
    lane = planned.shaped(schedule_shape(experiment, problem, steps))
    results, failure = list[LaneResult](), None
    with tempfile.TemporaryDirectory(dir=report.folder) as name, computing_with(threads):
        folder = Path(name)
        _write_files(folder, files)
        seed_files = _Files(
            folder,
            planned.seed,
            config,
            experiment.training.checkpoint_every,
            saved=lambda: report.send("checkpoint", report.address, name),
            evaluated=lambda lane, evaluation: report.send(
                "evaluation", lane, evaluation.step, evaluation.val_loss
            ),
        )
        try:
            run_lane(
                problem,
                lane,
                _conditions(experiment),
                keep=results.append,
                watch=report.watch,
                begin=seed_files.checkpoint.begin,
                paused=seed_files.paused,
            )
        except LrfindError as error:
            if not results:
                raise
            failure = str(error)
        remove_checkpoint(seed_files.checkpoint.path)
        return results[0], _contents(folder), failure


def sent_files(folder: str) -> dict[str, bytes]:
    """Return the contents of the files of a seed that a worker trains, by their names."""
    return _contents(Path(folder))


def _on_a_worker(config: str) -> tuple[Experiment, Problem, int]:
    """Return the experiment, its problem, which this process keeps, and T."""
    experiment = check(config)
    problem: Problem = remembered(("train", config), lambda: from_config(experiment))
    return experiment, problem, training_steps(experiment.training, problem)


def _contents(folder: Path, pattern: str = "*.pt") -> dict[str, bytes]:
    """Return the contents of files, by name; a checkpoint comes first, so that no other file is older."""
    files = sorted(folder.glob(pattern), key=lambda file: not file.name.startswith("checkpoint"))
    return {file.name: file.read_bytes() for file in files}


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files whole or not at all, the checkpoint last, because it needs the others."""
    for name in sorted(files, key=lambda name: name.startswith("checkpoint")):
        write_whole(folder / name, files[name])


class _Files:
    """The files of one seed's training."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        config: str,
        every: int | None,
        saved: Callable[[], None] = lambda: None,
        evaluated: Callable[[int, Evaluation], None] = lambda lane, evaluation: None,
    ) -> None:
        identity = f"seed {seed} of {hashlib.sha256(config.encode()).hexdigest()}"
        self.checkpoint = Checkpoint(folder / f"checkpoint.seed{seed}.pt", identity, every, saved)
        self._model, self._best = folder / f"model.seed{seed}.pt", folder / f"best.seed{seed}.pt"
        self._done, self._evaluated = False, evaluated

    def paused(self, executor: SingleExecutor) -> None:
        """Report the evaluation at this step, and write the files that are due."""
        record, step = executor.record, len(executor.record.steps)
        if record.evaluations and record.evaluations[-1].step == step:
            self._evaluated(record.lane.lane, record.evaluations[-1])
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
