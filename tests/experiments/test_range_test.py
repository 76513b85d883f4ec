from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lrfind.analysis.divergence import DivergenceRule
from lrfind.analysis.lanes import LaneResult
from lrfind.config.experiment import check
from lrfind.config.sections import RangeTestSection
from lrfind.errors import LrfindError, NoSuggestion, UsageError
from lrfind.experiments.edge import bisect_edge
from lrfind.experiments.range_test import measure_edge, range_test
from lrfind.problem.problem import Problem, from_config
from lrfind.runs.store import Run
from lrfind.schedules.functions import ramp
from lrfind.views.text.range_test import range_test_text
from tests.helpers.runs import LINEAR, conduct

EPSILON = 2.0**-24  # a float32's rounding, relative


def least_squares(condition: float) -> Problem:
    return from_config(
        check(LINEAR, [f"data.args={{samples: 256, features: 6, noise: 0.1, condition: {condition}}}"])
    )


@pytest.mark.parametrize("condition", [10, 100, 1000])
@pytest.mark.parametrize("steps", [100, 200, 400])
def test_the_edge_of_a_ramp_is_that_of_the_recurrence_in_the_hessians_eigenbasis(
    condition: int, steps: int
) -> None:
    """Each eigendirection shrinks or grows by |1 - lr h|, and never below float32's rounding of its weight."""
    problem = least_squares(condition)
    lr = ramp(1e-4, 100, steps)
    (result,) = range_test(
        problem, RangeTestSection(start_lr=1e-4, end_lr=100.0, steps=steps, seeds=1), seed=0
    )
    setup = problem.setup(0)
    x, y = (tensor.double() for tensor in next(setup.batches))
    design = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    weight = torch.cat(
        [setup.model.affine.weight.detach().double().T, setup.model.affine.bias[:, None].double()]
    )
    best = torch.linalg.lstsq(design, y).solution
    curvature, basis = torch.linalg.eigh(2 * design.T @ design / len(x))
    error, solution = (basis.T @ (weight - best)).squeeze(), (basis.T @ best).squeeze()
    floor = (y - design @ best).square().mean().item()
    rule = DivergenceRule()
    expected = 0
    for expected, rate in enumerate(lr):  # noqa: B007 - the step at which the rule fires
        if rule.diverges(floor + 0.5 * (curvature * error.square()).sum().item()):
            break
        error = (1 - rate * curvature) * error
        rounding = EPSILON * (solution.abs() + error.abs())
        error = torch.where(error.abs() < rounding, rounding.copysign(error), error)
    assert result.outcome == "diverged"
    assert abs(len(result.lr) - 1 - expected) <= 2
    assert result.lr[-1] > 1.5 * 2 / curvature.max().item()  # an upper bound: it fires late


@pytest.mark.parametrize("condition", [10, 100, 1000])
def test_bisection_finds_the_real_edge(condition: int) -> None:
    found, cost = measure_edge(least_squares(condition), seed=0, guess=6.0)
    assert 100 < cost <= 1500
    assert found.lr == pytest.approx(1.0, rel=0.05)  # 2 / lambda_max
    assert found.stable <= 1.0 <= found.diverging * 1.001
    assert found.diverging / found.stable <= 1.05


@pytest.mark.parametrize("guess", [1e-3, 1.0, 50.0])
def test_bisection_finds_the_edge_from_any_guess(guess: float) -> None:
    assert measure_edge(least_squares(10), seed=1, guess=guess)[0].lr == pytest.approx(1.0, rel=0.05)


def test_a_rate_that_blows_the_loss_up_at_once_is_beyond_the_edge() -> None:
    """After a jump in the first steps, the loss only swings; no rule that watches its course says diverged."""
    problem = from_config(
        check(
            "{model: {name: mlp, args: {hidden: [32]}}, optimizer: adam, training: {steps: 100},"
            " loss: cross_entropy, data: {name: digits, batch_size: 64}}"
        )
    )
    edge, _ = measure_edge(problem, seed=0, guess=1.0)
    assert 0.01 < edge.stable < edge.diverging < 100


@pytest.mark.parametrize(("diverges", "words"), [(True, "at every lr tried"), (False, "at no lr tried")])
def test_bisection_says_when_there_is_no_edge(diverges: bool, words: str) -> None:
    with pytest.raises(NoSuggestion, match=words):
        bisect_edge(lambda lr: diverges, guess=1.0)


def test_lanes_are_independent_and_stop_when_they_diverge() -> None:
    results = range_test(least_squares(10), RangeTestSection(start_lr=1e-4, end_lr=100.0, seeds=3), seed=4)
    assert [(r.lane, r.seed, r.outcome) for r in results] == [
        (0, 4, "diverged"),
        (1, 5, "diverged"),
        (2, 6, "diverged"),
    ]
    assert len({r.loss[0] for r in results}) == 3
    assert all(r.lr.size < r.planned == 100 for r in results)


def test_a_lane_to_the_end_of_a_calm_range_is_finished() -> None:
    (result,) = range_test(least_squares(10), RangeTestSection(end_lr=0.1, steps=9, seeds=1), seed=0)
    assert result.outcome == "finished"
    np.testing.assert_array_equal(result.lr, ramp(1e-6, 0.1, 9))


@pytest.mark.parametrize(
    ("raised", "outcome"), [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "failed")]
)
def test_what_was_measured_before_an_end_by_force_is_kept(raised: type[BaseException], outcome: str) -> None:
    kept: list[LaneResult] = []

    def watch(lanes, step, losses) -> None:
        if (lanes[0].lane, step) == (1, 6):
            raise raised("on purpose")

    expected = KeyboardInterrupt if raised is KeyboardInterrupt else LrfindError
    with pytest.raises(expected, match="on purpose"):
        range_test(
            least_squares(10), RangeTestSection(end_lr=0.1, steps=30), seed=0, keep=kept.append, watch=watch
        )
    assert [(r.outcome, r.lr.size) for r in kept] == [("finished", 30), (outcome, 7)]


def test_a_first_step_that_fails_is_explained() -> None:
    mismatched = from_config(check(LINEAR, ["model.args.out_features=3", "loss=cross_entropy"]))
    with pytest.raises(UsageError, match="first training step failed: loss: .*\n  RuntimeError"):
        range_test(mismatched, RangeTestSection(), seed=0)


def start(path: Path, *overrides: str) -> Run:
    return Run.start(path, "range-test", check(LINEAR, overrides), LINEAR, overrides)


def test_the_same_config_and_seed_give_the_same_files(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        run = start(tmp_path / name, "range_test.grad_norm=true", "range_test.held_out=true")
        conduct(run)
        texts.append((run.path / "steps.csv").read_text())
    assert texts[0] == texts[1]
    assert texts[0].startswith("lane,seed,step,lr,loss,smoothed_loss,held_out_loss,grad_norm\n0,0,0,0.0001,")


def test_a_summary_has_the_suggestion_every_method_and_the_edge(tmp_path: Path) -> None:
    summary = conduct(start(tmp_path / "run", "range_test.edge=true"))
    assert set(summary) == {
        "schema_version", "command", "run", "import_root", "answer", "methods", "edge", "edge_reason", "lanes", "ramps", "warnings", "notes", "group", "data", "health"
    }  # fmt: skip
    assert set(summary["answer"]) == {"lr", "low", "high", "method", "reason"}
    assert summary["answer"]["low"] <= summary["answer"]["lr"] <= summary["answer"]["high"]
    assert summary["answer"]["lr"] < 1  # 2 / lambda_max
    assert summary["edge"] == pytest.approx(1.0, rel=0.05)
    assert "bisection" in summary["edge_reason"]
    assert all(set(answer) == {"lr", "reason"} for answer in summary["methods"].values())


def test_the_method_edge_answers_the_edge_that_was_measured(tmp_path: Path) -> None:
    summary = conduct(start(tmp_path / "run", "range_test.edge=true", "range_test.method=edge"))
    assert summary["answer"]["lr"] == summary["edge"] == pytest.approx(1.0, rel=0.05)
    assert "stable at" in summary["answer"]["reason"]
    assert summary["methods"]["edge"]["lr"] > 2


def test_the_text_says_how_the_suggestion_relates_to_the_measured_edge(tmp_path: Path) -> None:
    summary = conduct(start(tmp_path / "run", "range_test.edge=true"))
    share = summary["answer"]["lr"] / summary["edge"]
    assert f"the suggestion is {share:.2g} times the measured edge; its tenth" in range_test_text(summary)
    on_ramp_alone = conduct(start(tmp_path / "ramp"))
    assert "measured edge" not in range_test_text(on_ramp_alone)


def test_an_edge_that_bisection_does_not_find_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NoSuggestion("training diverges at no lr tried")

    monkeypatch.setattr("lrfind.experiments.range_test.bisect_edge", refuse)
    summary = conduct(start(tmp_path / "run", "range_test.edge=true"))
    assert "the edge was not found by bisection: training diverges at no lr tried" in summary["warnings"]
    assert summary["edge"] == summary["methods"]["edge"]["lr"]
