"""The experiments: plan, run, keep, suggest. Everything that a command does, without its printing."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from lrfind.config import Experiment, RangeTestSection
from lrfind.curves import AT_A_CONSTANT_LR, ON_A_RAMP, DivergenceRule
from lrfind.errors import LrfindError, NoSuggestion, Stopped, UsageError
from lrfind.plan import Lane, LaneResult, Outcome, range_test_lanes
from lrfind.problem import Problem, from_config
from lrfind.schedules import ramp
from lrfind.stability import TRIAL_STEPS, Edge, bisect_edge
from lrfind.store import Run
from lrfind.summaries import range_test_summary
from lrfind.train import Step, train
from lrfind.version import VERSION


class Watch(Protocol):
    """Told of every step, for a progress display; must return quickly."""

    def __call__(self, lane: Lane, step: Step) -> None:
        """Take note of a step."""


def _unwatched(lane: Lane, step: Step) -> None:
    pass


def range_test(
    problem: Problem,
    section: RangeTestSection,
    seed: int,
    *,
    keep: Callable[[LaneResult], None] = lambda result: None,
    watch: Watch = _unwatched,
) -> list[LaneResult]:
    """Run a range test, lane after lane.

    Args:
        problem: what to train.
        section: the ramp and the number of seeds.
        seed: of the first lane.
        keep: given each lane's result as soon as the lane ends; also a lane that was interrupted or failed,
            before the exception goes on.
        watch: told of every step.

    Returns:
        One result per lane.
    """
    lr = ramp(section.start_lr, section.end_lr, section.steps, shape=section.shape)
    results = []
    for lane in range_test_lanes(lr, seed, section.seeds):
        results.append(run_lane(problem, lane, grad_norm=section.grad_norm, keep=keep, watch=watch))
    return results


def run_lane(
    problem: Problem,
    lane: Lane,
    *,
    grad_norm: bool = False,
    factor: float = ON_A_RAMP,
    keep: Callable[[LaneResult], None] = lambda result: None,
    watch: Watch = _unwatched,
) -> LaneResult:
    """Train one lane to its end or its divergence.

    Args:
        problem: what to train.
        lane: its seed and lrs.
        grad_norm: also measure the norm of the gradient.
        factor: of `DivergenceRule`.
        keep: as for `range_test`.
        watch: as for `range_test`.

    Raises:
        LrfindError: if training raises; the lane is kept as failed, with what it had measured.
    """
    steps: list[Step] = []
    rule, began = DivergenceRule(factor), time.perf_counter()

    def result(outcome: Outcome, error: str | None = None) -> LaneResult:
        return _lane_result(lane, steps, outcome, time.perf_counter() - began, error)

    outcome: Outcome = "finished"
    try:
        for step in train(problem.setup(lane.seed), lane.lr, grad_norm=grad_norm):
            steps.append(step)
            watch(lane, step)
            if rule.diverges(step.loss):
                outcome = "diverged"
                break
    except (KeyboardInterrupt, Stopped):
        keep(result("interrupted"))
        raise
    except (Exception, SystemExit) as error:
        keep(result("failed", f"{type(error).__name__}: {error}"))
        if isinstance(error, LrfindError):
            raise
        raise _training_failed(lane, len(steps), error) from error
    done = result(outcome)
    keep(done)
    return done


def _training_failed(lane: Lane, step: int, error: BaseException) -> LrfindError:
    text = " ".join(str(error).split())
    if step == 0:
        return UsageError(
            f"the first training step failed: {type(error).__name__}: {text}\nCheck that model, data and"
            " loss fit together (shapes, dtypes, number of outputs)."
        )
    return LrfindError(
        f"training failed in lane {lane.lane} (seed {lane.seed}) at step {step}, lr {lane.lr[step]:.3g}:"
        f" {type(error).__name__}: {text}"
    )


def _lane_result(
    lane: Lane, steps: Sequence[Step], outcome: Outcome, seconds: float, error: str | None
) -> LaneResult:
    def column(values: list[Any]) -> Any:
        return None if not values or values[0] is None else np.array(values, dtype=np.float64)

    return LaneResult(
        lane=lane.lane,
        seed=lane.seed,
        planned=lane.lr.size,
        peak=float(lane.lr.max()),
        outcome=outcome,
        lr=np.array([step.lr for step in steps], dtype=np.float64),
        loss=np.array([step.loss for step in steps], dtype=np.float64),
        probe_loss=column([step.probe_loss for step in steps]),
        grad_norm=column([step.grad_norm for step in steps]),
        seconds=seconds,
        error=error,
    )


def measure_edge(problem: Problem, seed: int, guess: float) -> tuple[Edge, int]:
    """Bisect for the real edge of stability, with short lanes at a constant lr from the weights of `seed`.

    Returns:
        The edge, and the training steps that it took to find.

    Raises:
        NoSuggestion: if every lr diverges, or none.
    """
    cost = 0

    def diverges(lr: float) -> bool:
        nonlocal cost
        lane = Lane(0, seed, np.full(TRIAL_STEPS, lr))
        trial = run_lane(problem, lane, factor=AT_A_CONSTANT_LR)
        cost += trial.lr.size
        return trial.outcome == "diverged"

    return bisect_edge(diverges, guess), cost


def run_range_test(experiment: Experiment, run: Run, *, watch: Watch = _unwatched) -> dict[str, Any]:
    """Run a config's range test and keep it: lanes in the database, CSVs and summary.json beside it.

    What was measured is kept and exported also when it is interrupted or fails; a run in which nothing was
    measured is discarded.

    Args:
        experiment: the config.
        run: a new run directory.
        watch: told of every step.

    Returns:
        The summary, as in summary.json.
    """
    section = experiment.range_test
    try:
        problem = from_config(experiment, probe=section.probe)
        run.add_fact("environment", environment(problem))
        results = range_test(problem, section, experiment.seed, keep=run.add_lane, watch=watch)
        if section.edge:
            guess = min((float(r.lr[-1]) for r in results if r.outcome == "diverged"), default=section.end_lr)
            run.add_fact("edge", _edge_fact(problem, experiment.seed, guess))
    except BaseException:
        if not run.discard_if_empty():
            with contextlib.suppress(OSError):
                _conclude(run, section.method)
        raise
    return _conclude(run, section.method)


def _edge_fact(problem: Problem, seed: int, guess: float) -> dict[str, Any]:
    try:
        found, cost = measure_edge(problem, seed, guess)
    except NoSuggestion as refused:
        return {"lr": None, "is": f"not found by bisection: {refused.reason}"}
    ends = f"stable at {found.stable:.4g}, diverging at {found.diverging:.4g}"
    return {"lr": found.lr, "is": f"measured by bisection in {cost} steps: {ends}"}


def _conclude(run: Run, method: str) -> dict[str, Any]:
    """Export the tables and the summary from the database."""
    run.export()
    facts = run.facts()
    summary = range_test_summary(run.lanes(), str(run.path), method, facts.get("edge"))
    run.write_json("environment.json", facts["environment"])
    run.write_json("summary.json", summary)
    return summary


def environment(problem: Problem) -> dict[str, Any]:
    """What a run ran on, as far as it can change the numbers."""
    return {
        "lrfind": VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": str(problem.device),
        "threads": torch.get_num_threads(),
    }
