"""Sweeps that are judged by the lowest validation loss of each training, as early stopping would."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lrfind.analysis.lanes import Evaluation, LaneResult
from lrfind.config.experiment import check
from lrfind.errors import UsageError
from lrfind.experiments.prepare import prepare, require_evaluations, training_conditions
from lrfind.experiments.rounds import SearchRounds
from lrfind.runs.store import Run
from lrfind.views.text.sweep import sweep_text
from tests.helpers.runs import LINEAR, conduct, start


def sweep(path: Path, command: str, *overrides: str) -> dict[str, Any]:
    return conduct(start(path, command, *overrides))


def finished(lr: float, loss: float) -> LaneResult:
    return LaneResult(0, 0, 2, lr, "finished", np.full(2, lr), np.array([9.0, loss]))


JUDGED = "grid={judge: best_val_loss, lrs: [1e-3, 1e-1], seeds: 2, lanes: single%s}"
RISING = (
    "data={name: regression, batch_size: full, args: {samples: 24, features: 20, noise: 3, condition: 4}}"
)
"""Few noisy rows: least squares fits their noise, so the validation loss falls first and then rises."""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["training={steps: 20, eval_every: 20}"],
            "evaluated only at their end, after 20 steps; evaluate them more",
        ),
        (
            ["training={steps: 20, eval_every: 8}", "grid.prune=true"],
            "first after 5 steps; evaluate at least",
        ),
    ],
)
def test_judging_by_the_lowest_validation_loss_needs_evaluations_on_the_way(
    changes: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(check(LINEAR, ["training.eval_every=5", JUDGED % "", *changes]), "grid")


def test_judging_by_the_lowest_validation_loss_needs_a_validation_part() -> None:
    experiment = check(LINEAR, ["training.eval_every=5", JUDGED % ""])
    problem = prepare(experiment, "grid").jobs[0].problem
    with pytest.raises(UsageError, match="the data has no validation part"):
        require_evaluations(replace(problem, validation=None), training_conditions(experiment), 20)


def test_a_grid_by_the_lowest_validation_loss_takes_the_lowest_evaluation_of_each_lane(
    tmp_path: Path,
) -> None:
    training = "training={steps: 200, eval_every: 10}"
    found = sweep(tmp_path / "run", "grid", RISING, training, JUDGED % "")
    lanes, steps = (pd.read_csv(tmp_path / f"run/{name}.csv") for name in ("lanes", "steps"))
    for _, row in lanes.iterrows():
        course = steps[steps.lane == row.lane].set_index("step").val_loss.dropna()
        course[200] = row.val_loss
        assert (row.best_val_loss, row.best_val_step) == (course.min(), course.idxmin())
    assert (lanes.best_val_loss < lanes.val_loss).any()
    medians = lanes.groupby("lr").best_val_loss.median()
    assert (found["answer"]["lr"], found["answer"]["best_val_loss"]) == (medians.idxmin(), medians.min())
    assert found["judge"] == "best_val_loss"
    rates = [{**rate, "best_val_step": 12345} for rate in found["rates"]]
    assert " 12345 " in sweep_text({**found, "rates": rates})  # and not 1.23e+04


def test_pruning_goes_by_the_loss_that_judges(tmp_path: Path) -> None:
    training = "training={steps: 200, eval_every: 10}"
    pruned = {}
    for judge in ("best_val_loss", "val_loss"):
        way = ("grid.seeds=1", "grid.lanes=single", "grid.lrs=[1e-3, 1e-2, 0.1, 0.5]")
        found = sweep(
            tmp_path / judge, "grid", RISING, training, *way, f"grid.judge={judge}", "grid.prune=true"
        )
        pruned[judge] = [rate["lr"] for rate in found["rates"] if rate["outcome"] == "pruned"]
    whole = sweep(tmp_path / "whole", "grid", RISING, training, *way, "grid.judge=best_val_loss")
    at_rung = {}
    for rate, lane in zip(whole["rates"], Run.open(tmp_path / "whole").lanes(), strict=True):
        at_rung[rate["lr"]] = min(point.val_loss for point in lane.evaluations if point.step <= 50)
    assert not {*sorted(at_rung, key=at_rung.__getitem__)[:1]} & {*pruned["best_val_loss"]}
    assert pruned["best_val_loss"] != pruned["val_loss"]


def test_a_search_learns_from_the_lowest_validation_loss() -> None:
    overrides = ["training.eval_every=1", "search={sampler: tpe, low: 1e-4, high: 1, judge: best_val_loss}"]
    rounds = SearchRounds(check(LINEAR, overrides).search, seed=0)
    lrs = rounds.first_lrs()

    def evaluated(lr: float, sign: int) -> LaneResult:
        points = (Evaluation(1, sign * math.log(lr), None), Evaluation(2, 99.0, None))
        return replace(finished(lr, 1.0), evaluations=points)

    up, down = (rounds.next_lrs(lrs, [evaluated(lr, sign) for lr in lrs]) for sign in (1, -1))
    assert np.median(up) < np.median(down)


def test_only_sweeps_are_judged_by_the_lowest_validation_loss() -> None:
    with pytest.raises(UsageError, match="must be 'val_loss' or 'train_loss'"):
        check(LINEAR, ["training.eval_every=5", "find.judge=best_val_loss"])
