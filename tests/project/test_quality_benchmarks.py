"""The quality benchmarks: judge.py on a constant answer, and what searches.py counts, sees and trains."""

from __future__ import annotations

import csv
import importlib
import itertools
import math
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from lrfind.problem.problem import Problem, from_config

QUALITY = Path(__file__).parents[2] / "benchmarks/quality"
TASK, STEPS = "linear_sgd", 300  # trained with SGD at batch size 32


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests import the modules of the benchmarks, which import each other."""
    monkeypatch.syspath_prepend(str(QUALITY))


def part(name: str) -> ModuleType:
    return importlib.import_module(name)


def regret_by_hand(schedule: str, lr: float) -> float:
    """The regret of an lr between two rates of the truth, from the rows of truth.csv."""
    losses, first = defaultdict(list), []
    with (QUALITY / "truth.csv").open() as file:
        for row in csv.DictReader(file):
            if (row["task"], row["schedule"], row["steps"]) == (TASK, schedule, str(STEPS)):
                untouched = float(row["first_loss"])
                first.append(untouched)
                losses[float(row["lr"])].append(min(float(row["val_loss"] or "inf"), untouched))
    means = {rate: sum(values) / len(values) for rate, values in losses.items()}
    below, above = max(rate for rate in means if rate <= lr), min(rate for rate in means if rate > lr)
    share = math.log(lr / below) / math.log(above / below)
    loss = (1 - share) * means[below] + share * means[above]
    best = min(means.values())
    return (loss - best) / (sum(first) / len(first) - best)


def test_the_judge_gives_a_constant_answer_the_regret_that_the_truth_has_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constant_answer.py").write_text("def suggest(problem, budget):\n    return 0.013\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    out, plot = tmp_path / "judged.csv", tmp_path / "profile.png"
    arguments = ["--method", "constant_answer:suggest", "--split", "design", "--only", TASK, "--at-most"]
    arguments += [str(STEPS), "--workers", "1", "--out", str(out), "--plot", str(plot), "--budget", "64"]
    done = CliRunner().invoke(part("judge").main, arguments, catch_exceptions=False)
    judged = pd.read_csv(out)
    constant = judged[judged.method == "constant_answer:suggest"].set_index("schedule").regret
    assert set(constant.index) == {"constant", "cosine"}
    for schedule, regret in constant.items():
        assert regret == pytest.approx(regret_by_hand(str(schedule), 0.013), rel=1e-4)
    assert f"{constant.mean():.3f}" in done.output
    assert set(judged.method) == {"constant_answer:suggest", "lrfind find"}
    assert plot.stat().st_size > 5000


def test_a_judged_method_gets_parts_that_train_and_its_steps_are_counted() -> None:
    judge, tasks, regret = part("judge"), part("tasks"), part("regret")
    (task,) = [task for task in tasks.read_tasks("design") if task.name == TASK]
    cell = regret.read_cells(QUALITY / "truth.csv", [task])[0]
    seen = []

    def suggest(problem, budget):  # type: ignore[no-untyped-def]
        seen.extend([problem.steps, problem.schedule, problem.optimizer_name, budget, len(problem.loader)])
        losses = []
        for trial in (problem, problem.anew()):
            trial.set_lr(0.1)
            for inputs, targets in itertools.islice(trial.loader, 20):
                loss = trial.loss_fn(trial.model(inputs), targets)
                trial.optimizer.zero_grad()
                loss.backward()
                trial.optimizer.step()
                losses.append(loss.item())
        assert losses[:20] == losses[20:]
        assert losses[19] < losses[0]
        return 0.1

    problem = from_config(task.experiment)
    assert judge._suggested(suggest, problem, task, cell, 100, 40) == (0.1, 40)
    assert seen == [STEPS, cell.schedule, "sgd", 40, STEPS]


def test_a_method_that_raises_or_gives_no_usable_rate_has_no_answer() -> None:
    judge, tasks, regret = part("judge"), part("tasks"), part("regret")
    (task,) = [task for task in tasks.read_tasks("design") if task.name == TASK]
    cell, problem = regret.read_cells(QUALITY / "truth.csv", [task])[0], from_config(task.experiment)
    for answer in (None, math.nan, -1.0, 1 / 3):
        usable = answer == 1 / 3
        got = judge._suggested(lambda *_, lr=answer: lr, problem, task, cell, 100, 40)
        assert got == ((1 / 3 if usable else None), 0)
    assert judge._suggested(lambda problem, budget: {}["lr"], problem, task, cell, 100, 40) == (None, 0)


def truth_of(losses: dict[int, list[float]], rates: list[float]) -> pd.DataFrame:
    """Rows of a truth whose untouched model has the loss 1."""
    columns = ["task", "schedule", "steps", "lr", "seed", "outcome", "val_loss", "first_loss"]
    rows = [
        ("made_up", "constant", 100, lr, seed, "finished", loss, 1.0)
        for seed, values in losses.items()
        for lr, loss in zip(rates, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=columns)


def test_a_search_is_judged_by_the_seeds_that_it_did_not_see() -> None:
    searches = part("table_searches")
    rates = [1e-4, 1e-3, 1e-2, 1e-1]
    truth = truth_of({0: [0.9, 0.2, 0.6, 0.8], 1: [0.9, 0.7, 0.4, 0.3], 2: [0.9, 0.5, 0.2, 0.5]}, rates)
    answers = searches.judged_by_others(truth, searches.decade_grid, -3.0, run=0)
    # Seed 0 prefers 1e-3, whose mean loss with the seeds 1 and 2 is 0.6; their best one is 0.3, at 1e-2.
    assert answers[-1][:2] == (20, 7)
    assert answers[-1][2] == pytest.approx((0.6 - 0.3) / (1 - 0.3))
    other = searches.judged_by_others(truth, searches.decade_grid, -3.0, run=1)
    # Seed 1 prefers 1e-1; the seeds 0 and 2 have 0.65 there, and at best 0.35, at 1e-3.
    assert other[-1][2] == pytest.approx((0.65 - 0.35) / (1 - 0.35))


def test_a_hill_climb_stops_where_both_neighbours_are_worse() -> None:
    searches, random = part("table_searches"), np.random.default_rng(0)

    def valley(log_lr: float) -> float:
        return abs(log_lr + 1.5) / 10

    tried = searches.hill_climb(valley, -3.0, random)
    assert tried == [-3.0, -2.5, -2.0, -1.5, -1.0]
    assert searches.hill_climb(valley, -1.0, random) == [-1.0, -0.5, -1.5, -2.0]


def test_a_hill_climb_leaves_a_start_where_nothing_is_learned() -> None:
    searches = part("table_searches")
    tried = searches.hill_climb(lambda x: min(abs(x + 5), 1.0), -3.0, np.random.default_rng(0))
    assert min(tried, key=lambda x: abs(x + 5)) == -5.0
    assert len(tried) < searches.TRAININGS[-1]


@pytest.fixture
def problem() -> Problem:
    (task,) = [task for task in part("tasks").read_tasks("design") if task.name == TASK]
    return from_config(task.experiment)


def test_schedule_free_is_evaluated_with_the_weights_that_it_averages(problem: Problem) -> None:
    from schedulefree import AdamWScheduleFree

    free, steps = part("lr_free"), 40
    loss, cost = free.train_free(free.LR_FREE["schedule-free"], problem, 100, np.ones(steps), {})

    setup = problem.setup(100)
    optimizer = AdamWScheduleFree(setup.model.parameters(), lr=1e-2, warmup_steps=10)
    optimizer.train()
    for batch in itertools.islice(setup.batches, steps):
        optimizer.zero_grad()
        setup.loss_fn(setup.model(batch[0]), batch[1]).backward()
        optimizer.step()
    optimizer.eval()
    assert problem.validation is not None
    batches = list(problem.validation())
    rows = sum(len(targets) for _, targets in batches)
    with torch.no_grad():
        by_hand = sum(setup.loss_fn(setup.model(x), y).item() * len(y) for x, y in batches) / rows
    assert loss == pytest.approx(by_hand, rel=1e-5)
    assert cost == steps


def test_an_optimizer_that_fails_has_no_loss_and_the_regret_of_one_that_learns_nothing(
    problem: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    free, cell = part("lr_free"), part("regret").Cell("", "", 1, np.zeros(1), np.zeros(1), 2.0, 0.5)

    def failing(*_: object) -> torch.Tensor:
        raise ValueError("nans detected")

    method = free.Method("", free.schedule_free, free.SGD, step=failing)
    loss, _ = free.train_free(method, problem, 100, np.ones(5), {})
    assert math.isnan(loss)
    assert "nans detected" in capsys.readouterr().err
    assert cell.regret_of_loss(loss) == 1
    assert [cell.regret_of_loss(value) for value in (0.4, 0.8, 9.0)] == [0, pytest.approx(0.2), 1]


@pytest.mark.parametrize("method", ["TPE, Hyperband", "ASHA"])
def test_a_study_answers_within_each_budget(problem: Problem, method: str) -> None:
    studies, steps = part("studies"), 27
    spent = studies.run_study(method, problem, np.ones(steps), -3.0, 100)
    assert [trainings for trainings, *_ in spent.answers] == [1, 4, 10]
    for trainings, lr, taken, evaluations in spent.answers:
        assert trainings * steps - steps < taken <= trainings * steps
        assert 1e-6 <= lr <= 1
        assert evaluations >= trainings
    ended = {lr: loss for rung, loss, lr in spent.losses if rung == 9}
    assert spent.answers[-1][1] == min(ended, key=ended.__getitem__)


def test_runs_that_the_file_has_are_not_made_again(tmp_path: Path) -> None:
    rows, cell_type = part("rows"), part("regret").Cell
    (task,) = [task for task in part("tasks").read_tasks("design") if task.name == TASK]
    cell = cell_type(TASK, "constant", STEPS, np.zeros(1), np.zeros(1), 1.0, 0.0)
    runs = [rows.Run(cell, number, budget) for number in (0, 1) for budget in (32, 300)]
    job = rows.Job(task, "ours", runs, QUALITY / "truth.csv")
    rows.add_rows([rows.Row(*cell.name, "ours", 0, 32, 32.0, 0.25)], tmp_path / "rows.csv")
    rows.add_rows([rows.Row(*cell.name, "climb", 1, 300, 300.0, 0.5)], tmp_path / "rows.csv")
    left = rows.missing(job, rows.read_rows(tmp_path / "rows.csv")).runs
    assert [(run.number, run.budget) for run in left] == [(0, 300), (1, 32), (1, 300)]
    assert rows.missing(job, rows.read_rows(tmp_path / "none.csv")).runs == runs
