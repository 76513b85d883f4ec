"""Sweeps whose training loss falls while the validation loss does not follow: what the answer is called, and why."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lrfind.analysis.lanes import Evaluation, LaneResult
from lrfind.analysis.overfitting import overfits
from lrfind.views.text.compare import comparison_text
from lrfind.views.text.sweep import sweep_text
from tests.helpers.runs import summarized

STEPS = 40


def lane(lr: float, train: float, *val: float, seed: int = 0, shift: float = 0.0, noise: float = 0.0, **more: Any) -> LaneResult:  # fmt: skip
    """Return a lane whose training loss falls from 3 evenly; its validation losses are spread over the steps."""
    loss = np.linspace(3.0, train, STEPS) + shift + noise * np.random.default_rng(seed).normal(size=STEPS)
    loss[-4:] = train + shift
    evaluations = tuple(Evaluation((n + 1) * STEPS // len(val), v + shift, -v) for n, v in enumerate(val))
    return LaneResult(
        0, seed, STEPS, lr, "finished", np.full(STEPS, lr), loss, evaluations=evaluations, **more
    )


def grid(*lanes: LaneResult, judge: str = "val_loss") -> dict[str, Any]:
    summary = summarized("grid", lanes, "training.eval_every=10", f"grid.judge={judge}")
    json.dumps(summary, allow_nan=False)
    return summary


def verdicts(summary: dict[str, Any]) -> list[str]:
    return [rate["verdict"] for rate in summary["rates"]]


def headline(summary: dict[str, Any]) -> str:
    return sweep_text(summary).partition("\n")[0]


PLATEAU = [lane(1e-3, 0.3, 5.0), lane(1e-2, 0.1, 6.4), lane(0.1, 2.6, 2.85)]
"""The lowest final validation loss is that of the rate that learned nearly nothing."""


def test_a_rate_that_only_learned_less_than_overfitting_ones_is_not_called_best() -> None:
    summary = grid(*PLATEAU)
    text = sweep_text(summary)
    assert (summary["answer"]["lr"], summary["answer"]["doubt"]) == (0.1, "learned less")
    assert "best" not in text.replace("best_val_loss", "").lower()
    assert "every rate that learned overfits" in headline(summary)
    assert verdicts(summary) == ["overfits", "overfits", "lowest"]
    assert "lowest: the lowest loss, but only because it learned little" in text
    assert summary["overfitting"] == {"lrs": [1e-3, 1e-2], "everywhere": True}
    warning = " ".join(summary["warnings"])
    assert "lr 0.1 ended lower only because it learned less" in warning
    assert "the training loss fell from 3 to 0.3, and the validation loss ended at 5" in warning
    assert "--judge best_val_loss --eval-every 4" in warning
    assert "--extend" not in warning  # further out, rates learn even less


def test_where_the_validation_loss_was_lowest_is_told_and_judging_by_it_lifts_the_doubt() -> None:
    lanes = [lane(1e-3, 1.5, 2.6, 2.4, 2.3, 2.5), lane(1e-2, 0.2, 2.1, 2.2, 2.9, 3.9)]
    by_end, by_lowest = grid(*lanes), grid(*lanes, judge="best_val_loss")
    assert (by_end["answer"]["lr"], by_end["answer"]["doubt"]) == (1e-3, "overfits everywhere")
    assert headline(by_end) == "Learning rate: 0.001, but training overfits at every rate that learned"
    assert "it was lowest (2.3) at step 30 of 40" in " ".join(by_end["warnings"])
    answer = by_lowest["answer"]
    assert (answer["lr"], answer["best_val_loss"], answer["best_val_step"]) == (1e-2, 2.1, 10)
    assert (answer["val_loss"], answer["train_loss"], answer["metric"]) == (3.9, 0.2, -2.1)
    assert headline(by_lowest) == "Best learning rate: 0.01, by one seed"
    assert "lowest validation loss 2.1, at step 10 (the lowest of 2 rates)" in sweep_text(by_lowest)
    assert "Train for about 10 steps, or stop early (training.early_stop)" in " ".join(by_lowest["warnings"])


@pytest.mark.parametrize("shift", [0.0, 100.0, -5.0])
@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (0.2, [3.4], True),  # the validation loss did not follow
        (0.2, [1.0, 0.4, 0.5], False),  # it rose by less than a twentieth of its fall
        (0.2, [1.0, 0.4, 0.8], True),  # it rose by more
        (2.9, [1.0, 0.4, 2.9], False),  # the training loss rose too: this is no overfitting
        (0.2, [0.4], False),
    ],
)
def test_overfitting_does_not_depend_on_a_constant(
    train: float, val: list[float], expected: bool, shift: float
) -> None:
    drawn = lane(0.1, train, *val, shift=shift, noise=0.05)
    if train == 2.9:
        drawn.loss[3:30] = 0.5 + shift
    assert overfits(drawn) is expected


def test_a_training_that_generalises_or_learns_nothing_is_not_called_overfitting() -> None:
    assert grid(lane(0.1, 0.2, 0.4))["overfitting"] == {"lrs": [], "everywhere": False}
    summary = grid(lane(0.1, 2.95, 3.0, noise=0.2))
    assert "overfits" not in " ".join(summary["warnings"])
    assert "Train longer" in summary["answer"]["reason"]


def test_a_rate_is_not_best_if_the_loss_fell_by_no_more_than_its_noise() -> None:
    flat = [lane(lr, 2.98, val, noise=0.3) for lr, val in ((0.01, 2.99), (0.1, 2.98))]
    summary = grid(*flat)
    assert summary["answer"]["lr"] is None
    assert headline(summary).startswith("No best learning rate: the loss hardly fell beside its noise")
    falling = [lane(lr, 2.2, val, noise=0.3) for lr, val in ((0.01, 2.9), (0.1, 2.2))]
    assert grid(*falling)["answer"]["doubt"] == "one seed"  # over 40 steps, the fall is sure


def test_rates_beyond_the_edge_that_finish_are_past_it_and_no_answer() -> None:
    rows = ((0.01, 1.0, 1.0), (0.1, 1.2, 1.2), (1.0, 40.0, 40.0), (10.0, 175.0, 175.0))
    summary = grid(*(lane(lr, train, val) for lr, train, val in rows))
    assert summary["edge"] == pytest.approx(math.sqrt(0.1 * 1.0))
    assert verdicts(summary) == ["lowest", "higher", "rose", "rose"]
    risen = grid(*(lane(lr, train, val) for lr, train, val in rows[2:]))
    assert risen["answer"]["lr"] is None
    assert risen["answer"]["reason"].startswith("the loss rose at every rate. At lr 1, which ended lowest,")


def test_a_rate_below_the_best_one_is_not_past_the_edge_because_its_first_batch_was_easy() -> None:
    loss = np.array([1.0, *np.full(STEPS - 1, 5.0)])  # nothing is learned; the first batch was an easy one
    summary = grid(replace(lane(1e-4, 5.0, 5.0), loss=loss), lane(0.1, 0.1, 0.1), lane(1.0, 9.0, 9.0))
    assert verdicts(summary) == ["higher", "lowest", "rose"]
    assert summary["edge"] == pytest.approx(math.sqrt(0.1 * 1.0))


def test_a_low_rate_whose_validation_rows_are_only_harder_does_not_overfit() -> None:
    summary = grid(lane(1e-4, 2.9, 3.3), lane(0.1, 0.2, 0.5))
    assert verdicts(summary) == ["higher", "lowest"]
    assert summary["answer"]["doubt"] == "one seed"


def test_overfitting_elsewhere_is_told_and_does_not_touch_the_best_rate() -> None:
    lanes = [lane(lr, train, val, seed=seed) for seed in (0, 1, 2) for lr, train, val in ((0.01, 0.9, 1.0 + seed / 1e3), (0.1, 0.1, 4.0))]  # fmt: skip
    summary = grid(*lanes)
    assert headline(summary) == "Best learning rate: 0.01"
    assert verdicts(summary) == ["best", "overfits"]
    assert "training overfits at lr 0.1: at lr 0.1 the training loss fell" in " ".join(summary["warnings"])


@pytest.mark.parametrize(
    ("losses", "words", "doubt"),
    [
        ([[1.0, 1.0, 1.0], [1.01, 1.0, 1.02]], ["best, tied", "tied"], "tied"),
        ([[1.0, 1.0, 1.0], [1.01, 1.011, 1.012]], ["best", "usable"], None),
        ([[1.0, 1.0, 1.0], [1.8, 0.9, 2.5]], ["best", "maybe worse"], None),
        ([[1.0, 1.0, 1.0], [1.8, 1.8, 1.81]], ["best", "worse"], None),
        ([[1.0], [1.01]], ["lowest", "close"], "one seed"),
        ([[1.0], [1.8]], ["lowest", "higher"], "one seed"),
        ([[3.5], [4.0]], ["lowest", "no fall"], "no fall"),
        ([[1.0], [math.nan]], ["lowest", "not finite"], "one seed"),
    ],
)
def test_each_rate_has_one_verdict_and_the_answer_its_gravest_doubt(
    losses: list[list[float]], words: list[str], doubt: str | None
) -> None:
    lanes = [
        lane(lr, 0.95, loss, seed=seed)
        for lr, of_rate in zip((0.01, 0.1), losses, strict=True)
        for seed, loss in enumerate(of_rate)
    ]
    if doubt == "no fall":
        lanes = [lane(lane_.peak, 4.0, lane_.evaluations[-1].val_loss) for lane_ in lanes]
    summary = grid(*lanes)
    assert (verdicts(summary), summary["answer"]["doubt"]) == (words, doubt)
    assert summary["answer"]["verdict"] == (None if doubt == "no fall" else words[0])
    assert all(len(line) <= 80 for line in sweep_text(summary).split("\n\n")[0].splitlines())


def test_ties_name_their_rates_the_rule_and_what_would_tell() -> None:
    lanes = [lane(lr, 0.95, loss, seed=seed) for lr, of_rate in ((0.01, (1.0, 1.0)), (0.1, (1.01, 1.0))) for seed, loss in enumerate(of_rate)]  # fmt: skip
    summary = grid(*lanes)
    assert headline(summary) == "Best learning rate: 0.01, tied with 0.1"
    (tie,) = [warning for warning in summary["warnings"] if "tied" in warning]
    assert tie == (
        "lr 0.01 and 0.1 are tied: with 2 seeds, their differences are small, and within the noise (paired t-test"
        " at 95 %). The one with the lowest median loss is answered, 0.01; more seeds would tell (--seeds 4)."
    )
    alone = " ".join(grid(*[lane for lane in lanes if lane.seed == 0])["warnings"])
    assert "lr 0.1 ended nearly as low and may be as good" in alone


def sweep_of(*rows: list[float | str]) -> str:
    """Return the text of a grid with one seed a row and one rate a column; a text is the outcome of a lane."""
    lanes = [
        lane(0.01 * 2**place, 0.95, 1.0 if isinstance(end, str) else end, seed=seed)
        for seed, row in enumerate(rows)
        for place, end in enumerate(row)
    ]
    ends = [end if isinstance(end, str) else "finished" for row in rows for end in row]
    lanes = [replace(lane, outcome=end) for lane, end in zip(lanes, ends, strict=True)]
    return " ".join(sweep_text(grid(*lanes)).split())


def test_seeds_that_end_lower_where_other_seeds_do_not_end_are_told() -> None:
    text = sweep_of([1.0, 0.9], [1.0, 1.4], [1.0, "diverged"])
    assert (
        "seeds: with 2 of the 3, this rate has the lowest loss; with 1, no rate that finished with all seeds"
        " has it" in text
    )
    text = sweep_of([1.0, 1.1, 0.9], [1.1, 1.0, 1.4], [1.0, 1.1, "diverged"])
    assert (
        "the rate with the lowest loss is 0.01 to 0.02; with 1, no rate that finished with all seeds has it"
        in text
    )
    assert "with each of the 2, this rate has the lowest loss usable" in sweep_of([1.0, 2.0], [1.0, 2.0])


def test_nothing_is_claimed_of_the_end_of_pruned_and_failed_rates() -> None:
    text = sweep_of(["pruned", 1.0, "failed", 1.9])
    assert "(the lowest of 2 rates, not counting 1 pruned and 1 failed)" in text
    assert "usable: only this rate is known to be; 0.01 was pruned and 0.04 failed" in text
    text = sweep_of(["pruned", 1.0, "pruned"])
    assert "(the only rate, not counting 2 pruned)" in text
    assert "usable: only this rate is known to be; 0.01 and 0.04 were pruned" in text
    assert "usable: only this rate; the next ones reached less" in sweep_of([1.9, 1.0, 1.9])


def test_a_sweep_that_has_ended_without_a_best_rate_says_why() -> None:
    text = sweep_of(["diverged", "diverged", "pruned"])
    assert "training diverged at lr 0.01 and 0.02, and the other rates were pruned; try lower ones." in text
    text = sweep_of([1.0, "pruned"], ["pruned", 1.0])
    assert "every lr was pruned with half of the seeds or more; run it without --prune." in text
    text = sweep_of([1.0, math.nan], [math.nan, 1.0])
    assert "no lr ended with a finite loss for more than half of the seeds; look for NaN and inf" in text


def test_with_several_seeds_of_which_one_is_common_the_noise_is_not_that_of_one_seed() -> None:
    text = sweep_of([1.0, 1.01, "pruned"], [1.0, "pruned", 1.5], ["pruned", 1.01, 1.5])
    assert (
        "close: higher by little; fewer than two seeds ended at both rates, so the noise is not known" in text
    )
    assert "higher: the loss is higher; fewer than two seeds ended at both rates" in text


def test_a_comparison_is_judged_by_the_lowest_validation_loss_and_tells_overfitting() -> None:
    lanes = [
        lane(0.1, 0.2, lowest, 3.0, end, seed=seed, variant=name)
        for seed in (0, 1)
        for name, lowest, end in (("constant", 2.0, 4.0), ("linear", 2.2, 3.5))
    ]
    way = ("compare={schedules: [constant, linear], seeds: 2, common_peak: 0.1}", "training.eval_every=10")
    by_end, by_lowest = (summarized("compare", lanes, *way, f"compare.judge={judge}") for judge in ("val_loss", "best_val_loss"))  # fmt: skip
    assert (by_end["answer"]["variant"], by_lowest["answer"]["variant"]) == ("linear", "constant")
    assert "'linear' ended with the lowest loss; but training overfits with it" in by_end["verdict"]
    assert "training overfits with every variant: with linear, at lr 0.1" in " ".join(by_end["warnings"])
    assert by_lowest["verdict"].startswith("'constant' reached the lowest validation loss")
    row = by_lowest["standings"][0]
    assert (row["best_val_loss"], row["best_val_step"]) == (2.0, 13)
    assert "lowest val loss  at step" in comparison_text(by_lowest)


@pytest.mark.parametrize("command", ["grid", "compare", "train"])
def test_steps_that_float16_skipped_are_told(command: str) -> None:
    lanes = [lane(lr, 0.95, 1.0) for lr in (0.1, 0.2)]
    lanes = [replace(each, variant="constant", skipped=np.arange(STEPS) < 9) for each in lanes]
    warnings = summarized(command, lanes, "compare={schedules: [constant, linear], seeds: 1}")["warnings"]
    assert "18 of 80 steps were skipped because float16 overflowed (see steps.csv)." in warnings


@pytest.mark.parametrize("command", ["grid", "compare", "find"])
def test_trainings_that_stopped_early_are_told_where_they_are_compared(command: str) -> None:
    lanes = [replace(lane(lr, 0.95, 1.0), variant="constant") for lr in (0.1, 0.2)]
    options = "compare={schedules: [constant, linear], seeds: 1}"
    assert not any("early_stop" in text for text in summarized(command, lanes, options)["warnings"])
    lanes[1] = replace(lanes[1], lr=lanes[1].lr[:15], loss=lanes[1].loss[:15])
    assert (
        f"early_stop ended 1 of 2 trainings at step 15 of {STEPS}, so not all of them are compared after the"
        " same number of steps."
    ) in summarized(command, lanes, options)["warnings"]
    lanes[0] = replace(lanes[0], lr=lanes[1].lr, loss=lanes[1].loss)
    assert (
        f"early_stop ended 2 of 2 trainings at step 15 of {STEPS}."
        in summarized(command, lanes, options)["warnings"]
    )
