"""Comparisons: who stands where, on seeds that did not choose the peaks, and over whom that is sure."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lrfind.analysis.comparisons import standings, verdict
from lrfind.analysis.lanes import Evaluation, LaneResult, PlannedLane
from lrfind.catalog import OPTIMIZERS
from lrfind.config.experiment import check, dump
from lrfind.experiments.rounds import CompareRounds
from lrfind.runs.store import Run
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, conduct, summarized


def result(
    lane: PlannedLane, loss: float, outcome: Any = "finished", train_loss: float | None = None
) -> LaneResult:
    curve = np.linspace(2.0, loss if train_loss is None else train_loss, 40)
    return LaneResult(
        lane.lane, lane.seed, 40, lane.peak, outcome, np.full(40, lane.peak), curve,
        evaluations=(Evaluation(40, loss, None),), variant=lane.variant,
    )  # fmt: skip


def finished(variant: str, losses: list[float], peak: float = 0.1) -> list[LaneResult]:
    return [result(PlannedLane(i, i, peak, variant), loss) for i, loss in enumerate(losses)]


def test_the_ranking_is_by_the_mean_and_the_noise_is_that_of_a_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    seeds = rng.normal(1.0, 0.3, 5)  # what a seed does to all variants alike
    losses = {
        "a": seeds,
        "b": seeds + 0.05 + rng.normal(0, 0.01, 5),  # small beside the spread, and sure
        "c": seeds + 0.10 + rng.normal(0, 0.20, 5),  # not sure
    }
    lanes = [lane for name, values in losses.items() for lane in finished(name, values.tolist())]
    found = {each.variant: each for each in standings(lanes, list(losses), "val_loss", 5)}
    order = sorted(losses, key=lambda name: losses[name].mean())
    first = losses[order[0]]
    assert [found[name].rank for name in order] == [1, 2, 3]
    for name in order[1:]:
        test = stats.ttest_rel(losses[name], first)
        assert found[name].worse is bool(test.pvalue < 0.05 and test.statistic > 0)
        np.testing.assert_allclose(found[name].gaps, losses[name] - first)
    assert (order[0], found["b"].worse, found["c"].worse) == ("a", True, False)


def test_the_verdict_says_who_is_beaten_and_who_is_not_told_apart() -> None:
    noise = [0.0, 0.01, -0.01, 0.005, 0.0]
    a = [0.5 + n for n in (0.1, -0.1, 0.0, 0.2, 0.0)]
    b = [loss + 0.3 + n for loss, n in zip(a, noise, strict=True)]
    c = [loss + 10 * n for loss, n in zip(a, noise, strict=True)]
    lanes = [*finished("constant", b), *finished("cosine", a), *finished("linear", c)]
    ranking = standings(lanes, ["constant", "cosine", "linear"], "val_loss", 5)
    assert verdict(ranking) == (
        f"'{ranking[0].variant}' ended with the lowest loss; the difference to 'constant' is larger than the noise"
        f" between seeds; with 5 seeds, the difference to '{ranking[1].variant}' is within the noise, and"
        " more seeds would tell."
    )


def test_variants_that_trained_alike_are_not_said_to_need_more_seeds() -> None:
    lanes = [lane for name in "ab" for lane in finished(name, [1.0, 2.0])]
    assert verdict(standings(lanes, ["a", "b"], "val_loss", 5)) == (
        "'a' ended with the lowest loss; 'b' ended with exactly the same losses."
    )


def test_a_variant_that_diverged_at_its_best_peak_stands_last_and_is_told() -> None:
    lanes = [*finished("constant", [0.5, 0.6]), *finished("linear", [0.1, 0.2])]
    lanes[2] = result(PlannedLane(2, 0, 0.1, "linear"), math.nan, "diverged")
    tuning = [result(PlannedLane(9, 2, 0.1, "linear"), 0.1)]
    found = summarized("compare", [*lanes, *tuning], "compare={schedules: [linear, constant], seeds: 2}")
    assert [row["variant"] for row in found["standings"]] == ["constant", "linear"]
    assert found["standings"][1]["rank"] is None
    assert found["answer"]["variant"] == "constant"
    assert "linear diverged at its best peak, 0.1, so it has no rank." in found["warnings"]


def test_peaks_are_chosen_on_other_seeds_than_those_that_are_compared() -> None:
    """Round after round against a known loss: a parabola in log lr, whose minimum lies outside of the start."""
    section = check(LINEAR, ["compare={seeds: 3, tuning_seeds: 2}"]).compare
    best = {"near": 0.1, "far": 3.0}
    rounds = CompareRounds(section, seed=7)
    plan = rounds.first(dict.fromkeys(best, 0.1))
    assert {lane.peak for lane in plan} == {0.0316, 0.1, 0.316}
    assert {lane.seed for lane in plan} == {10, 11}
    while True:
        results = [result(lane, 0.1 + math.log10(lane.peak / best[lane.variant]) ** 2) for lane in plan]
        more = rounds.next(plan, results)
        if not more:
            break
        assert more[0].lane == len(plan)
        plan = [*plan, *more]
    tuned = [lane for lane in plan if lane.seed >= 10]
    assert {lane.peak for lane in tuned if lane.variant == "near"} == {0.0316, 0.1, 0.316}
    assert {lane.peak for lane in tuned if lane.variant == "far"} == {0.0316, 0.1, 0.316, 1.0, 3.16, 10.0}
    compared = [(lane.variant, lane.seed, lane.peak) for lane in plan if lane.seed < 10]
    assert compared == [
        (name, seed, peak) for seed in (7, 8, 9) for name, peak in (("near", 0.1), ("far", 3.16))
    ]


@pytest.mark.parametrize("given", ["compare.common_peak=0.2", "compare.peaks=[0.2]"])
def test_one_peak_for_all_needs_no_tuning(given: str) -> None:
    section = check(LINEAR, [given]).compare
    rounds = CompareRounds(section, seed=0)
    plan = rounds.first({"a": 0.1, "b": 0.1})
    assert {lane.peak for lane in plan} == {0.2}
    assert [lane.seed for lane in plan] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert rounds.next(plan, [result(lane, 1.0) for lane in plan]) == []


def test_a_loss_that_is_not_finite_for_one_seed_costs_the_rank_and_is_told() -> None:
    lanes = [*finished("constant", [0.5, 0.6, 0.5]), *finished("linear", [0.1, 0.2, math.nan], 0.2)]
    found = summarized("compare", lanes, "compare={schedules: [constant, linear], seeds: 3}")
    assert found["standings"][1]["rank"] is None
    assert "linear ended with a loss that is not finite for one seed or more at its best peak" in " ".join(
        found["warnings"]
    )


def test_peaks_that_all_diverge_are_the_end_of_a_comparison(lrfind: Command, config: Path) -> None:
    way = ("--schedules", "constant,cosine", "--peaks", "1e10,1e20", "--lanes", "single")
    assert lrfind("compare", config, *way, "--out", "run", "-q") == 3
    assert "no variant finished at any peak" in lrfind.out
    assert "trainings: 8 of 8" in lrfind.out
    assert "not run yet" not in lrfind.out


def compare(path: Path, *overrides: str) -> dict[str, Any]:
    experiment = check(LINEAR, overrides)
    return conduct(Run.start(path, "compare", experiment, dump(experiment), []))


def test_for_one_seed_all_schedules_begin_with_the_same_weights_and_batches(tmp_path: Path) -> None:
    way = "compare={schedules: [constant, cosine, one_cycle], seeds: 2, tuning_seeds: 1, lanes: single}"
    compare(tmp_path / "run", way, "data.batch_size=8", "optimizer.args.momentum=0.9")
    steps = pd.read_csv(tmp_path / "run/steps.csv")
    lanes = pd.read_csv(tmp_path / "run/lanes.csv")
    first = steps[steps.step == 0].merge(lanes[["lane", "variant"]])
    assert (first.groupby("seed").loss.nunique() == 1).all()
    assert set(first.variant) == {"constant", "cosine", "one_cycle"}
    moved = steps.merge(lanes[["lane", "variant"]]).groupby("variant").momentum.nunique()
    assert moved["one_cycle"] > 1
    assert moved[["constant", "cosine"]].tolist() == [0, 0]


def test_stacked_and_single_lanes_give_the_same_comparison(tmp_path: Path) -> None:
    way = "compare={schedules: [constant, cosine, one_cycle], seeds: 2, tuning_seeds: 1, peaks: [0.03, 0.1]}"
    tables = []
    for lanes in ("single", "stacked"):
        compare(tmp_path / lanes, way, f"compare.lanes={lanes}", "optimizer.args.momentum=0.9")
        tables.append(pd.read_csv(tmp_path / lanes / "lanes.csv").drop(columns="train_seconds"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-4)


def test_every_optimizer_of_the_catalog_is_compared_at_its_own_lr(tmp_path: Path) -> None:
    names = ", ".join([*OPTIMIZERS, "'torch.optim:ASGD'"])
    found = compare(
        tmp_path / "run", f"compare={{optimizers: [{names}], seeds: 1, tuning_seeds: 1}}", "training.steps=8"
    )
    assert {row["variant"] for row in found["standings"]} == {*OPTIMIZERS, "ASGD"}
    assert all(row["lr"] is not None for row in found["standings"])
    tried = {row["variant"]: [peak["lr"] for peak in row["peaks"]] for row in found["standings"]}
    assert 0.1 in tried["sgd"]  # the config's own
    assert 1.0 in tried["adadelta"]  # its default
    assert 1e-3 in tried["adam"]


@pytest.mark.rendered
def test_compare_says_who_won_and_leaves_a_plot_and_the_winners_config(lrfind: Command, config: Path) -> None:
    way = ("--schedules", "constant, {name: cosine, args: {warmup: 2}}", "--seeds", 3, "--lanes", "single")
    assert lrfind("compare", config, *way, "--out", "run", "--eval-every", 5) == 0
    best = check(Path("run/best.yaml").read_text())
    summary = json.loads(Path("run/summary.json").read_text())
    assert lrfind.text.startswith(summary["verdict"])
    assert "each at its own best peak" in lrfind.out
    assert best.training.schedule.name == summary["answer"]["variant"]
    assert best.optimizer.lr == summary["answer"]["lr"]
    assert Path("run/comparison.png").read_bytes().startswith(b"\x89PNG")
    rows = summary["standings"]
    assert {"early", "middle", "train_loss", "val_loss", "metric", "area", "rank", "spread"} <= set(rows[0])
    assert lrfind("train", "--from", "run", "--out", "trained", "-q") == 0
    assert check(Path("trained/resolved.yaml").read_text()).training.schedule == best.training.schedule
    assert lrfind("train", config, "--from", "run", "--out", "also", "-q") == 0
    assert check(Path("also/resolved.yaml").read_text()).training.schedule == best.training.schedule


@pytest.mark.parametrize("option", ["--common-peak", "--peaks"])
def test_one_common_peak_is_called_unfair(option: str, lrfind: Command, config: Path) -> None:
    way = ("--schedules", "constant,linear", option, 0.1, "--lanes", "single", "--seeds", 2)
    assert lrfind("compare", config, *way) == 0
    assert "at one common peak" in lrfind.out
    assert "all variants have the same peak 0.1, which favours those that it suits" in lrfind.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--schedules", "cosin"], "unknown schedule 'cosin'; did you mean cosine"),
        (["--schedules", "cosine", "--optimizers", "sgd"], "give --schedules or --optimizers, not both"),
        (["--peaks", "0.1", "--common-peak", "0.1"], "give --peaks or --common-peak, not both"),
        (["--schedules", "cosine"], "there is only cosine; name at least two"),
        (["--schedules", "cosine,cosine"], "'cosine' is listed twice"),
        (["--schedules", "constant,{name: cosine, args: {warmup: 30}}"], "cosine: warmup must be"),
        (["--schedules", "constant,reduce_on_plateau"], "eval_every"),
        (["--optimizers", "adagrad,sgd", "--set", "training.schedule={name: one_cycle, args: {momentum: [0.9, 0.8]}}"], "has no momentum that a schedule could change"),
    ],
)  # fmt: skip
def test_a_wrong_comparison_is_exit_2_with_a_message(
    options: list[str], message: str, lrfind: Command, config: Path
) -> None:
    assert lrfind("compare", config, *options, "--lanes", "single") == 2
    assert message in lrfind.err
    assert not Path("runs").is_dir() or not list(Path("runs").iterdir())


def test_an_interrupted_comparison_goes_on_to_the_same_tables(tmp_path: Path) -> None:
    way = ("compare={schedules: [constant, cosine], seeds: 2, tuning_seeds: 1, lanes: single}",)

    def interrupt(lanes: int, steps: int) -> Any:
        def watch(together: Any, step: int, losses: Any) -> None:
            if (together[0].lane, step) == (7, 3):
                raise KeyboardInterrupt

        return watch

    compare(tmp_path / "calm", *way)
    experiment = check(LINEAR, way)
    run = Run.start(tmp_path / "run", "compare", experiment, dump(experiment), [])
    with pytest.raises(KeyboardInterrupt):
        conduct(run, watch=interrupt)
    conduct(run)
    assert (tmp_path / "run/steps.csv").read_text() == (tmp_path / "calm/steps.csv").read_text()


def test_an_unfinished_comparison_compares_the_seeds_that_all_variants_have() -> None:
    lanes = [*finished("a", [1.0, 9.0]), *finished("b", [2.0])]  # the second seed is hard, for a as for b
    first, second = standings(lanes, ["a", "b"], "val_loss", 5)
    assert (first.variant, first.loss, second.loss) == ("a", 1.0, 2.0)
    assert verdict([first, second], seeds=5) == (
        "'a' ended with the lowest loss so far, with 1 of 5 seeds; with one seed, nothing is known of the"
        " noise in the difference to 'b'."
    )


def test_nothing_is_ranked_before_every_variant_has_run() -> None:
    tuned = [result(PlannedLane(0, 5, 0.1, name), 1.0) for name in "ab"]
    for lanes in (finished("a", [1.0, 2.0]), [*tuned, *finished("a", [1.0, 2.0])]):
        assert {standing.rank for standing in standings(lanes, ["a", "b"], "val_loss", 5)} == {None}
