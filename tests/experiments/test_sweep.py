from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lrfind.analysis.lanes import Lane, LaneResult
from lrfind.config.experiment import check
from lrfind.errors import UsageError
from lrfind.experiments.prepare import prepare, training_steps
from lrfind.experiments.rounds import GridRounds, SearchRounds
from lrfind.runs.store import Run
from tests.helpers.runs import LINEAR, conduct

NOISELESS = "data.args={samples: 128, features: 6, noise: 0, condition: %d, seed: 1}"


def sweep(path: Path, command: str, *overrides: str, **options: Any) -> dict[str, Any]:
    return conduct(start(path, command, *overrides), **options)


def start(path: Path, command: str, *overrides: str) -> Run:
    return Run.start(path, command, check(LINEAR, overrides), LINEAR, overrides)


@pytest.mark.parametrize(("condition", "lanes"), [(10, "single"), (100, "stacked"), (1000, "single")])
def test_the_edge_of_a_grid_is_two_over_lambda_max(condition: int, lanes: str, tmp_path: Path) -> None:
    """lambda_max is 2; 0.98 of the edge stands 1,000 steps and 1.03 of it does not."""
    lrs = "grid.lrs=[0.3, 0.98, 1.03, 3]"
    found = sweep(
        tmp_path / "run",
        "grid",
        NOISELESS % condition,
        lrs,
        "training.steps=1000",
        "grid.seeds=1",
        f"grid.lanes={lanes}",
    )
    assert [rate["outcome"] for rate in found["rates"]] == ["finished", "finished", "diverged", "diverged"]
    assert found["edge"] == pytest.approx(1.0, rel=0.1)
    assert found["mode"]["name"] == lanes


@pytest.mark.parametrize("condition", [10, 100, 1000])
def test_the_best_of_a_grid_is_nearest_to_two_over_the_sum_of_extreme_curvatures(
    condition: int, tmp_path: Path
) -> None:
    ideal = 2 / (2 + 2 / condition)
    lrs = [ideal * 10 ** (k / 2) for k in (-3, -2, -1, 0, 1)]
    found = sweep(
        tmp_path / "run", "grid", NOISELESS % condition, f"training.steps={4 * condition}", f"grid.lrs={lrs}",
        "grid.judge=train_loss", "grid.seeds=1", "grid.lanes=stacked",
    )  # fmt: skip
    assert found["answer"]["lr"] == min(lrs, key=lambda lr: abs(math.log(lr / ideal)))
    assert found["judge"] == "train_loss"


def test_a_sweep_leaves_tables_a_summary_and_a_config_with_the_best_lr(tmp_path: Path) -> None:
    found = sweep(
        tmp_path / "run", "grid", "grid.lrs=[1e-3, 1e-1, 5]", "training={steps: 30, eval_every: 10}"
    )
    assert found == json.loads((tmp_path / "run/summary.json").read_text())
    assert found["answer"]["lr"] == 0.1
    assert found["answer"]["low"] <= 0.1 <= found["answer"]["high"]
    assert found["metric"] == "R^2"
    diverged = found["rates"][2]
    assert (diverged["outcome"], diverged["val_loss"], diverged["metric"]) == ("diverged", None, None)
    assert found["edge"] == pytest.approx(math.sqrt(0.5))
    lanes = pd.read_csv(tmp_path / "run/lanes.csv")
    assert lanes.outcome.tolist() == ["finished", "finished", "diverged"] * 3
    assert lanes.lr.tolist() == [1e-3, 1e-1, 5] * 3
    assert lanes.val_loss.isna().tolist() == [False, False, True] * 3
    median = lanes[lanes.lr == 0.1].val_loss.median()
    assert found["answer"]["val_loss"] == pytest.approx(median, rel=1e-12)
    steps = pd.read_csv(tmp_path / "run/steps.csv")
    assert steps[steps.lane == 0].val_loss.notna().to_numpy().nonzero()[0].tolist() == [10, 20]
    best = check((tmp_path / "run/best.yaml").read_text())
    assert best.optimizer.lr == 0.1
    assert best.model == check(LINEAR).model


def test_the_same_sweep_twice_is_the_same_to_the_last_digit(tmp_path: Path) -> None:
    ways = ["grid.lanes=stacked", "training.steps=25"]
    for name in ("a", "b"):
        sweep(tmp_path / name, "grid", *ways)
    assert (tmp_path / "a/steps.csv").read_text() == (tmp_path / "b/steps.csv").read_text()


def test_a_budget_in_epochs_is_so_many_passes_over_the_training_rows(tmp_path: Path) -> None:
    experiment = check(LINEAR, ["training.epochs=3", "data.batch_size=10"])
    prepared = prepare(experiment, "grid")
    assert prepared.outlook.steps == 3 * 6  # 64 rows
    assert prepared.outlook.cost.lane_count == 9 * 3
    with pytest.raises(UsageError, match=r"training\.epochs: the data has no length"):
        training_steps(experiment.training, replace(prepared.jobs[0].problem, batches_per_epoch=None))


class Crash(BaseException):
    """What no handler of ours sees: as if the process had died."""


def crash_at(lane: int, step: int) -> Any:
    def watch(lanes: list[Lane], at: int, losses: list[float]) -> None:
        if lanes[0].lane <= lane <= lanes[-1].lane and at == step:
            raise Crash

    return lambda count, steps: watch


WAYS = {
    "single": ("grid", "grid.lanes=single", "grid.points=4", "grid.seeds=2"),
    "stacked": ("grid", "grid.lanes=stacked", "grid.points=4", "grid.seeds=2"),
    "pruned": ("grid", "grid.lanes=single", "grid.prune=true", "grid.points=4", "grid.seeds=2"),
    "extended": ("grid", "grid.lanes=single", "grid.high=1e-3", "grid.points=3", "grid.seeds=2", "grid.extend=true"),
    "tpe": ("search", "search.lanes=single", "search.trials=8", "search.batch=2", "search.seeds=1"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("crash", [(0, 3), (5, 2), (7, 0)], ids=str)
def test_a_sweep_that_died_and_is_resumed_ends_as_one_that_did_not(
    way: tuple[str, ...], crash: tuple[int, int], tmp_path: Path
) -> None:
    sweep(tmp_path / "calm", *way)
    died = start(tmp_path / "died", *way)
    with pytest.raises(Crash):
        conduct(died, watch=crash_at(*crash))
    kept = died.outcomes()
    assert "interrupted" not in kept.values()
    seen: set[int] = set()
    again = Run.open(died.path)
    conduct(
        again, watch=lambda count, steps: lambda lanes, at, losses: seen.update(lane.lane for lane in lanes)
    )
    assert not seen & set(kept)
    assert_same_tables(tmp_path / "calm", tmp_path / "died")


def test_an_interrupted_sweep_keeps_its_half_lane_until_it_is_run_again(tmp_path: Path) -> None:
    def interrupt(count: int, steps: int) -> Any:
        def watch(lanes: list[Lane], at: int, losses: list[float]) -> None:
            if (lanes[0].lane, at) == (4, 7):
                raise KeyboardInterrupt

        return watch

    way = WAYS["single"]
    sweep(tmp_path / "calm", *way)
    run = start(tmp_path / "run", *way)
    with pytest.raises(KeyboardInterrupt):
        conduct(run, watch=interrupt)
    assert list(run.outcomes().values()) == [*["finished"] * 4, "interrupted"]
    found = json.loads((run.path / "summary.json").read_text())
    assert f"4 lanes have not ended; run `lrfind resume {run.path}` to continue." in " ".join(
        found["warnings"]
    )
    conduct(run)
    assert_same_tables(tmp_path / "calm", run.path)


def assert_same_tables(calm: Path, other: Path) -> None:
    assert (calm / "steps.csv").read_text() == (other / "steps.csv").read_text()
    tables = [pd.read_csv(path / "lanes.csv").drop(columns="train_seconds") for path in (calm, other)]
    pd.testing.assert_frame_equal(*tables)
    summaries = [json.loads((path / "summary.json").read_text()) for path in (calm, other)]
    for summary in summaries:
        del summary["run"], summary["mode"]
    assert summaries[0] == summaries[1]


def test_lanes_that_were_interrupted_while_pruned_are_pruned_together_again(tmp_path: Path) -> None:
    def interrupt(count: int, steps: int) -> Any:
        def watch(lanes: list[Lane], at: int, losses: list[float]) -> None:
            if (lanes[0].lane, at) == (6, 12):
                raise KeyboardInterrupt

        return watch

    way = ("grid", "grid.lanes=single", "grid.prune=true", "grid.low=1e-3", "grid.high=0.5", "grid.points=8")
    sweep(tmp_path / "calm", *way)
    run = start(tmp_path / "run", *way)
    with pytest.raises(KeyboardInterrupt):
        conduct(run, watch=interrupt)
    assert "pruned" not in run.outcomes().values()
    conduct(run)
    assert_same_tables(tmp_path / "calm", run.path)


def test_resuming_uses_the_stored_engine_and_never_recalibrates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(tmp_path / "run", *WAYS["stacked"])
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(5, 2))
    monkeypatch.setattr(
        "lrfind.experiments.prepare.calibrate", lambda *_, **__: pytest.fail("calibrated again")
    )
    assert conduct(run)["mode"]["name"] == "stacked"


def test_pruning_stops_the_worse_half_and_says_what_it_saved(tmp_path: Path) -> None:
    found = sweep(tmp_path / "run", "grid", "grid.prune=true", "grid.low=1e-3", "grid.high=0.5", "grid.points=4",
                  "training.steps=40")  # fmt: skip
    outcomes = [rate["outcome"] for rate in found["rates"]]
    assert outcomes.count("pruned") == 3
    assert found["pruned"]["count"] == 9
    assert found["pruned"]["share_saved"] == pytest.approx((2 * 30 + 20) / 160)
    assert found["sensitivity"] is None
    lanes = pd.read_csv(tmp_path / "run/lanes.csv")
    assert sorted(lanes[lanes.outcome == "pruned"].steps.unique()) == [10, 20]


def test_extend_goes_on_until_the_best_lr_is_inside(tmp_path: Path) -> None:
    low = sweep(tmp_path / "a", "grid", "grid.lrs=[1e-3, 1e-2]", "grid.extend=true", "training.steps=60")
    assert [rate["lr"] for rate in low["rates"]][-1] > low["answer"]["lr"] > 1e-2
    high = sweep(tmp_path / "b", "grid", "grid.lrs=[10, 100]", "grid.extend=true")
    assert high["answer"]["lr"] < 10  # all diverged, so it went down
    assert not any("--extend" in warning for warning in low["warnings"] + high["warnings"])


@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe", "gp"])
def test_a_search_tries_as_many_lrs_as_asked_and_starts_where_it_is_told(
    sampler: str, tmp_path: Path
) -> None:
    found = sweep(tmp_path / "run", "search", f"search.sampler={sampler}", "search.trials=9", "search.start=0.25",
                  "search.seeds=1", "search.low=1e-4", "search.high=10")  # fmt: skip
    lrs = pd.read_csv(tmp_path / "run/lanes.csv").lr
    assert len(lrs) == lrs.nunique() == 9
    assert lrs[0] == 0.25
    assert lrs.between(1e-4, 10).all()
    assert found["lanes"] == {"planned": 9, "settled": 9} | {
        key: found["lanes"][key] for key in ("steps", "outcomes")
    }


def test_a_search_ends_and_repeats_nothing_when_the_best_lr_lies_at_the_end_of_the_range(
    tmp_path: Path,
) -> None:
    section = check(
        LINEAR, ["search={sampler: gp, trials: 9, batch: 2, low: 1e-3, high: 0.1, seeds: 1}"]
    ).search
    rounds = SearchRounds(section, seed=0)
    lrs = rounds.first_lrs()
    while proposed := rounds.next_lrs(lrs, [finished(lr, -math.log(lr)) for lr in lrs]):
        lrs += proposed
    assert len(set(lrs)) == len(lrs) == 9


def test_a_search_without_a_validation_loss_learns_from_the_training_loss() -> None:
    section = check(LINEAR, ["search={sampler: tpe, low: 1e-4, high: 1}"]).search
    rounds = SearchRounds(section, seed=0)
    lrs = rounds.first_lrs()
    up, down = (rounds.next_lrs(lrs, [finished(lr, sign * math.log(lr)) for lr in lrs]) for sign in (1, -1))
    assert np.median(up) < np.median(down)


def finished(lr: float, loss: float) -> LaneResult:
    return LaneResult(0, 0, 2, lr, "finished", np.full(2, lr), np.array([9.0, loss]))


def test_when_every_lr_diverges_there_is_no_best_and_the_reason_is_told(tmp_path: Path) -> None:
    found = sweep(tmp_path / "run", "grid", "grid.lrs=[10, 100]")
    assert found["answer"] | {"reason": ""} == dict.fromkeys(found["answer"]) | {"reason": ""}
    assert "diverges at every lr that was tried, down to 10" in found["answer"]["reason"]
    assert not (tmp_path / "run/best.yaml").exists()


def test_data_without_a_validation_part_is_judged_by_the_training_loss(tmp_path: Path) -> None:
    import sys

    (tmp_path / "own_for_sweeps.py").write_text(
        "import torch\nfrom torch.utils.data import DataLoader, TensorDataset\n"
        "x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))\n"
        "def load(): return DataLoader(TensorDataset(x, x @ torch.ones(3, 1)), batch_size=8, shuffle=True)\n"
    )
    sys.path.insert(0, str(tmp_path))
    found = sweep(
        tmp_path / "run",
        "grid",
        "data={name: 'own_for_sweeps:load'}",
        "grid.lrs=[1e-3, 1e-1]",
        "training.epochs=2",
    )
    assert found["judge"] == "train_loss"
    assert found["answer"]["lr"] == 0.1
    assert found["answer"]["val_loss"] is None
    assert "there is no validation loss, so the final training loss decides." in found["warnings"]
    assert pd.read_csv(tmp_path / "run/lanes.csv").steps.unique().tolist() == [10]


def test_a_copied_run_goes_on_by_itself(tmp_path: Path) -> None:
    run = start(tmp_path / "run", *WAYS["single"])
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(2, 2))
    shutil.copytree(run.path, tmp_path / "copy")
    found = conduct(Run.open(tmp_path / "copy"))
    assert found["run"] == str(tmp_path / "copy")
    assert found["lanes"]["settled"] == 8
    assert len(run.lanes()) == 2


def test_lanes_of_a_grid_are_spread_evenly_and_read_cleanly(tmp_path: Path) -> None:
    experiment = check(LINEAR, ["grid.low=1e-3", "grid.high=1e-1", "grid.points=5"])
    peaks = GridRounds(experiment.grid, seed=0).first_lrs()
    assert peaks[::2] == [1e-3, 1e-2, 1e-1]
    np.testing.assert_allclose(np.diff(np.log10(peaks)), 0.5, rtol=1e-9)
