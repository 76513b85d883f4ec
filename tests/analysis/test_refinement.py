"""Refinement: which trainings a budget pays for, and what they make of the answer of the probes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lrfind.analysis.lanes import Evaluation, LaneResult
from lrfind.analysis.planned_training import PER_REPETITION, PlannedTraining
from lrfind.analysis.refined import refined_answer
from lrfind.analysis.refinement import RefinePlan, next_training, refine_plan, unspent_budget

PLANNED = PlannedTraining("sgd", 400)
FIRST_LOSS, NOISE = 10.0, 0.1


def bowl(best: float) -> Callable[[float, int], float]:
    """The final loss against lr: a parabola in log10 lr whose lowest point is `best`."""
    return lambda lr, seed: min(1 + 8 * math.log10(lr / best) ** 2, FIRST_LOSS)


def trained(plan: RefinePlan, loss_at: Callable[[float, int], float]) -> list[LaneResult]:
    """Train whatever comes next until nothing does; a loss of infinity is a divergence."""
    results: list[LaneResult] = []
    noise = np.random.default_rng(0).normal(0, NOISE, plan.steps)
    while (following := next_training(plan, results, "val_loss")) is not None:
        lr, seed = following
        end = loss_at(lr, seed)
        steps = plan.steps if math.isfinite(end) else plan.steps // 10
        results.append(
            LaneResult(
                lane=len(results),
                seed=seed,
                planned=plan.steps,
                peak=lr,
                outcome="finished" if math.isfinite(end) else "diverged",
                lr=np.full(steps, lr),
                loss=FIRST_LOSS + noise[:steps] - noise[0],
                evaluations=(Evaluation(plan.steps, end, None),),
            )
        )
    return results


def answered(
    lr: float, budget: int, loss_at: Callable[[float, int], float], refusal: str | None = None
) -> tuple[list[LaneResult], dict[str, object]]:
    plan = refine_plan(lr, 16, PLANNED, budget, 0)
    assert plan is not None
    results = trained(plan, loss_at)
    return results, refined_answer(lr, "moderate", 16, PLANNED, plan, results, "val_loss", refusal=refusal)


@pytest.mark.parametrize(("budget", "steps"), [(319, None), (320, 80), (800, 200), (1200, 400), (9999, 400)])
def test_a_larger_budget_pays_for_longer_trainings(budget: int, steps: int | None) -> None:
    plan = refine_plan(0.1, 16, PLANNED, budget, 0)
    assert (plan.steps if plan else None) == steps


def test_long_trainings_are_a_little_shorter_if_the_budget_then_allows_one_more() -> None:
    long = replace(PLANNED, steps=4000)
    plans = [refine_plan(0.1, 16, long, budget, 0) for budget in (15_199, 15_200)]  # 4 x 3,800 = 0.95 x 4,000
    assert [plan.steps for plan in plans if plan is not None] == [4000, 3800]
    plan = plans[1]
    assert plan is not None
    results = trained(plan, bowl(0.1))
    assert len(results) == 4
    answer = refined_answer(0.1, "moderate", 16, long, plan, results, "val_loss")
    assert answer["confidence"] == "high"  # as that of whole trainings; the rate of the probes does not count
    assert "weight of" not in answer["reason"]


def test_trainings_that_are_hardly_longer_than_the_probes_are_not_worth_their_steps() -> None:
    assert refine_plan(0.1, 128, PLANNED, 1000, 0) is None
    assert refine_plan(0.1, 64, PLANNED, 1000, 0) is not None


@pytest.mark.parametrize("budget", [1600, 4000, 12000])
@pytest.mark.parametrize("best", [0.01, 0.05, 0.1, 0.2, 1.0])
def test_whole_trainings_lead_to_the_best_rate(best: float, budget: int) -> None:
    results, answer = answered(0.1, budget, bowl(best))
    assert len(results) * 400 <= budget
    assert abs(math.log10(float(str(answer["lr"])) / best)) < 0.15 or (budget == 1600 and best in (0.01, 1.0))
    if answer["confidence"] == "high":
        assert float(str(answer["low"])) < best < float(str(answer["high"]))


def test_rates_of_one_seed_are_tried_downward_first_and_then_between() -> None:
    results, _ = answered(1.0, 1600, bowl(1.0))
    assert [result.peak for result in results] == [1.0, 0.3162, 3.162, 0.5623]


@pytest.mark.parametrize(
    ("loss_at", "order"),
    [
        (bowl(1.0), [1.0, 0.3162, 10.0, 3.162, 0.5623]),
        (bowl(30.0), [1.0, 0.3162, 10.0, 31.62, 100.0]),
        (lambda lr, seed: bowl(0.3)(lr, seed) if lr < 0.5 else math.inf, [1.0, 0.3162, 0.1, 0.1778, 0.5623]),
    ],
)
def test_long_trainings_look_a_decade_upward_because_probes_say_little_about_them(
    loss_at: Callable[[float, int], float], order: list[float]
) -> None:
    results = trained(RefinePlan(1.0, 2000, 5 * 2000, 0), loss_at)
    assert [result.peak for result in results][:5] == order


def test_further_seeds_repeat_the_best_rates_until_they_agree() -> None:
    agreeing, _ = answered(1.0, 40_000, bowl(1.0))
    assert [result.seed for result in agreeing] == [0] * 5 + [1] * 4

    def noisy(lr: float, seed: int) -> float:
        return bowl(1.0 if seed % 2 else 0.4)(lr, seed)

    results, answer = answered(1.0, 40_000, noisy)
    assert max(result.seed for result in results) > 1
    assert 0.4 < float(str(answer["lr"])) < 1.0


def test_shorter_trainings_are_carried_over_and_weighed_with_the_probes() -> None:
    _, answer = answered(0.1, 400, bowl(0.2))  # 100 of 400 steps: the best rate of 400 is 0.44 times theirs
    far, near = math.log10(400 / 16), math.log10(4)
    weight = far**2 / (far**2 + near**2)
    expected = weight * math.log10(0.2 * 4**-0.6) + (1 - weight) * math.log10(0.1)
    assert math.log10(float(str(answer["lr"]))) == pytest.approx(expected, abs=0.08)
    assert answer["confidence"] == "moderate"


def test_shorter_trainings_pass_over_the_data_less_often_and_begin_at_a_higher_rate() -> None:
    plans = [refine_plan(0.1, 16, replace(PLANNED, epoch=epoch), 400, 0) for epoch in (4.0, 0.4)]
    starts = [plan.start for plan in plans if plan is not None]  # 100 and 1,000 passes, in a quarter of steps
    assert starts == pytest.approx([0.1 * 4**0.6, 0.1 * 4 ** (0.6 - PER_REPETITION)], rel=1e-3)


def test_rates_that_diverge_send_the_trainings_down() -> None:
    results, answer = answered(0.1, 4000, lambda lr, seed: math.inf if lr > 0.02 else bowl(0.01)(lr, seed))
    assert results[1].peak < 0.1
    assert 0.005 < float(str(answer["lr"])) < 0.02


def test_trainings_that_all_diverge_leave_no_rate() -> None:
    _, answer = answered(0.1, 1600, lambda lr, seed: math.inf)
    assert answer["lr"] is None
    assert "no training of 400 steps finished" in str(answer["reason"])


def test_trainings_that_learn_nothing_do_not_move_the_rate_but_the_confidence() -> None:
    _, answer = answered(0.1, 1600, lambda lr, seed: FIRST_LOSS - 0.001 * lr)
    assert "lr" not in answer
    assert answer["confidence"] == "low"


def test_the_best_rate_at_the_end_of_those_tried_is_doubted() -> None:
    _, answer = answered(0.1, 1200, lambda lr, seed: 5.0 + math.log10(lr))
    assert answer["confidence"] == "low"
    reason = str(answer["reason"])
    assert "nothing is known of rates beyond it. A budget that is larger by 400 steps would" in reason


def test_rates_that_end_alike_send_the_trainings_up_from_the_plateau() -> None:
    results, answer = answered(0.001, 4000, lambda lr, seed: 1.0 if 0.02 < lr < 0.2 else 9.5)
    assert [result.peak for result in results[:4]] == [0.001, 0.0003162, 0.003162, 0.01]
    assert 0.02 < float(str(answer["lr"])) < 0.2


def test_a_training_that_diverges_costs_only_the_steps_that_it_took() -> None:
    results, _ = answered(0.1, 1600, lambda lr, seed: math.inf if lr > 0.05 else bowl(0.02)(lr, seed))
    assert [result.outcome for result in results].count("finished") == 3
    assert sum(result.lr.size for result in results) <= 1600 < 400 * len(results) + 400


def test_where_the_probes_recommend_no_rate_a_fall_within_the_noise_is_none() -> None:
    _, answer = answered(0.1, 1600, lambda lr, seed: FIRST_LOSS - 2 * NOISE, "nothing learns.")
    assert answer == {"reason": "nothing learns. Trainings of 400 steps hardly lowered the loss either."}
    _, answer = answered(0.1, 1600, bowl(0.1), "nothing learns.")
    assert abs(math.log10(float(str(answer["lr"])) / 0.1)) < 0.1
    assert answer["confidence"] == "moderate"


def test_a_rate_at_which_training_diverged_does_not_stay_although_lower_ones_learn_nothing() -> None:
    _, answer = answered(0.1, 1600, lambda lr, seed: math.inf if lr > 0.05 else FIRST_LOSS)
    assert answer["lr"] is None
    assert "diverged, and lower rates hardly learn" in str(answer["reason"])


def test_a_rate_that_only_the_first_seed_trained_has_not_diverged() -> None:
    # No rate lowers the loss, and 0.01 does least harm: further seeds do not repeat 0.1, which does most.
    results, answer = answered(
        0.1, 4000, lambda lr, seed: FIRST_LOSS * (1 + 0.2 * abs(math.log10(lr / 0.01)))
    )
    assert {result.seed for result in results} == {0, 1}
    assert [result.seed for result in results if result.peak == 0.1] == [0]
    assert "lr" not in answer
    assert str(answer["reason"]).endswith("so they do not change the rate of the probes.")


def test_rates_that_all_diverge_are_followed_down_no_further_than_four_decades() -> None:
    results, _ = answered(0.1, 400 * 100, lambda lr, seed: math.inf)
    assert min(result.peak for result in results) == pytest.approx(1e-5)


def test_a_training_whose_first_loss_is_not_finite_leaves_the_others_their_say() -> None:
    def ends(lr: float, seed: int) -> float:
        return math.inf if lr > 0.5 else bowl(0.1)(lr, seed)

    plan = refine_plan(0.1, 16, PLANNED, 4000, 0)
    assert plan is not None
    results = trained(plan, ends)
    expected = refined_answer(0.1, "moderate", 16, PLANNED, plan, results, "val_loss")
    broken = replace(results[0], seed=0, peak=plan.lr(8), outcome="diverged", loss=np.array([math.nan]))
    answer = refined_answer(0.1, "moderate", 16, PLANNED, plan, [*results, broken], "val_loss")
    assert expected["lr"] is not None
    assert answer["lr"] == expected["lr"]


def test_a_budget_that_pays_for_no_training_is_told_where_it_did_not_limit_the_probes() -> None:
    long = PlannedTraining("sgd", 3000)
    (told,) = unspent_budget(long, 32, 1, cost=150, budget=1000)
    assert "left 850 steps of the budget of 1,000" in told
    assert "a budget of 1,174 steps (0.4x) or more allows them" in told
    assert refine_plan(0.1, 32, long, 1174 - 150, 0) is not None
    assert refine_plan(0.1, 32, long, 1173 - 150, 0) is None
    assert unspent_budget(long, 32, 1, cost=150, budget=700) == []  # longer probes would come first
    assert unspent_budget(long, 32, 2, cost=150, budget=1000) == []
    assert unspent_budget(long, 32, 1, cost=150, budget=1174) == []
    assert unspent_budget(long, 32, 1, cost=150, budget=None) == []
