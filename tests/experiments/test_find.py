"""Finding a learning rate: on a user's own objects, and as a run of a config."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import lrfind
from lrfind.analysis.lanes import Lane
from lrfind.analysis.planned_training import PlannedTraining
from lrfind.analysis.verification import verified_lrs
from lrfind.config.experiment import check, dump
from lrfind.config.sections import FindSection
from lrfind.experiments.find import planned_training, probe_rates, probing_steps
from lrfind.problem.problem import from_config
from lrfind.runs.store import Run
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, conduct, summary_of
from tests.helpers.worlds import OPTIMIZERS, World, data

cross_entropy, mse_loss = nn.functional.cross_entropy, nn.functional.mse_loss


def found_in(world: World, loss_fn: Any = None, **options: Any) -> lrfind.Recommendation:
    return lrfind.find(world.model, world.optimizer, loss_fn or world.loss_fn, world.loader, **options)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_everything_is_bit_for_bit_as_it_was_and_training_goes_on_the_same(optimizer: str) -> None:
    plain, probed = World(optimizer), World(optimizer)
    assert plain.train(seed=7) == probed.train(seed=7)
    before = probed.state()
    found = found_in(probed, seeds=2, accumulate=2)
    assert found.low < found.lr < found.high
    assert probed.state() == before
    assert plain.train(seed=11) == probed.train(seed=11)
    for ours, theirs in zip(probed.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_larger_budget_refines_the_rate_and_leaves_everything_as_it_was() -> None:
    world = World("adam")
    before = world.state()
    probed = found_in(world, steps=60)
    refined = found_in(world, steps=60, budget="12x", schedule="cosine")
    assert world.state() == before
    assert probed.refinement == ()
    assert {lane.planned for lane in refined.refinement} == {60}
    assert refined.cost == sum(lane.lr.size for lane in refined.refinement) + sum(
        lane.lr.size for lane in refined.lanes if lane.peak > 0
    )
    assert refined.cost <= 720
    peaks = [lane.peak for lane in refined.refinement]
    assert min(peaks) <= refined.lr <= max(peaks)


@pytest.mark.parametrize("raised", [ZeroDivisionError, KeyboardInterrupt])
def test_everything_is_as_it_was_also_after_an_exception(raised: type[BaseException]) -> None:
    world, calls = World("adam"), list[int]()
    world.train()

    def breaks(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 20:  # in a probe
            raise raised("on purpose")
        return cross_entropy(output, y)

    before = world.state()
    expected = KeyboardInterrupt if raised is KeyboardInterrupt else lrfind.LrfindError
    with pytest.raises(expected, match="on purpose"):
        found_in(world, breaks)
    assert world.state() == before


def ascending(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    loss = cross_entropy(output, y)
    return 2 * loss.detach() - loss  # the gradient points the wrong way


@pytest.mark.parametrize(
    ("loss_fn", "reason", "costs"),
    [
        (ascending, "nothing learns: none of .* rates from .* by more than the noise", True),
        (
            lambda o, y: 0 * cross_entropy(o, y),
            r"no gradient: .* No rate changes the loss .*\. Either the gradients are zero",
            True,
        ),
        (lambda o, y: cross_entropy(o, y) / 0, "the loss of the untouched model is not finite", False),
        (lambda o, y: cross_entropy(o, y).detach(), "does not depend on any parameter", False),
    ],
    ids=["nothing learns", "zero gradients", "infinite", "no gradient"],
)
def test_a_refusal_has_a_reason_and_a_cost_and_leaves_no_trace(
    loss_fn: Callable[..., Any], reason: str, costs: bool
) -> None:
    world = World("adam")
    before = world.state()
    with pytest.raises(lrfind.NoSuggestion, match=reason) as refused:
        found_in(world, loss_fn, budget=400)
    assert (refused.value.cost > 0) is costs
    assert world.state() == before


def test_the_same_seeds_give_the_same_answer_and_others_another() -> None:
    first, again, other = (found_in(World("adam"), seed=seed) for seed in (0, 0, 1))
    assert repr(first) == repr(again)
    assert first.table.equals(again.table)
    assert not first.table.score.equals(other.table.score)


@pytest.mark.parametrize(("budget", "seeds"), [(16, 1), (50, 1), (90, 2)])
def test_a_budget_holds_for_all_seeds_and_every_step_is_counted(budget: int, seeds: int) -> None:
    found = found_in(World("adam"), budget=budget, seeds=seeds)
    refining = sum(lane.lr.size for lane in found.refinement)
    assert found.table.steps.sum() + refining == found.cost <= budget
    assert {*found.table.seed} == {*range(seeds)}


def test_no_time_at_all_is_a_refusal() -> None:
    with pytest.raises(lrfind.NoSuggestion, match="does not allow a single probe") as refused:
        found_in(World("adam"), max_seconds=1e-9)
    assert refused.value.cost == 0


def test_the_steps_are_those_of_an_epoch_and_a_schedule_moves_the_peak() -> None:
    world = World("sgd with momentum")
    assert found_in(world).training.steps == 6
    assert found_in(world, accumulate=4).training.steps == 1
    constant, cosine = (found_in(world, steps=200, schedule=name) for name in ("constant", "cosine"))
    assert 1.5 < cosine.lr / constant.lr < 2.2  # for half the mean
    assert cosine.cost == constant.cost


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(data())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: must be a whole number from 1 to 10,000,000; found 0"),
        ({"steps": 1e3}, "steps: must be a whole number"),
        ({"accumulate": 0}, "accumulate: must be at least 1; found 0"),
        ({"budget": 5}, "budget: must be a number of steps from 16 to"),
        ({"seeds": 2, "budget": 16}, "budget: must be at least 32 for 2 seeds; found 16"),
        ({"budget": "１x"}, "budget: must be a number of steps from 16 to"),
        (
            {"steps": 100, "budget": "0.001x"},
            "budget: 0.001x of a training of 100 steps is 0 steps; it must be at least 16 for 1 seed",
        ),
        ({"max_seconds": True}, "max_seconds: must be a number; found True"),
        ({"schedule": 3}, "schedule: must be a name from `lrfind ls schedules`"),
        ({"seed": -1}, "seed: must be a whole number from 0"),
        ({"max_seconds": 0}, "max_seconds: must be greater than 0; found 0"),
        ({"seeds": 0}, "seeds: must be at least 1; found 0"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean cosine"),
        (
            {"data": DataLoader(Stream(), batch_size=15)},
            "steps: the data has no length; give the number of steps",
        ),
        ({"data": data()}, "wrap it in a DataLoader"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_be_asked_says_what_can(options: dict[str, Any], message: str) -> None:
    world = World("adam")
    parts = {"model": world.model, "optimizer": world.optimizer, "loss_fn": world.loss_fn}
    with pytest.raises(lrfind.UsageError, match=message):
        lrfind.find(**({**parts, "data": world.loader} | options))


@pytest.mark.parametrize("steps", [1, 6, 11])
def test_short_trainings_are_probed_no_longer_than_they_are(steps: int) -> None:
    found = found_in(World("adam"), steps=steps, schedule="cosine", budget=100)
    assert found.table.steps.max() == max(8, steps)


class Gate(nn.Module):
    """A product of small weights: gradient descent learns only after a plateau."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((3,), 0.05))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weights.prod()


def gated(steps: int, budget: str | None) -> lrfind.Recommendation:
    random, model = torch.Generator().manual_seed(1), Gate()
    x = torch.randn(64, 8, 1, generator=random)
    y = x + 0.3 * torch.randn(64, 8, 1, generator=random)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    batches = [*zip(x, y, strict=True)]
    return lrfind.find(model, optimizer, mse_loss, batches, steps=steps, budget=budget, progress=False)


def test_a_short_training_that_begins_on_a_plateau_is_probed_for_more_steps_than_it_has() -> None:
    assert 100 < gated(100, None).cost <= 400


def test_a_larger_budget_trains_where_the_probes_see_nothing_fall() -> None:
    with pytest.raises(lrfind.NoSuggestion, match="lowers the loss in 16 steps by more than the noise"):
        gated(100, "1x")
    found = gated(100, "6x")
    assert found.cost <= 600
    assert min(lane.train_loss or 1.0 for lane in found.refinement) < 0.15
    assert (found.confidence, found.risk) != ("high", None)


@pytest.mark.parametrize(
    ("steps", "section", "most"),
    [
        (300, {}, (300, 800)),  # slow learners get up to four trainings, but no more than 800 steps
        (100, {"seeds": 2}, (200, 800)),
        (600, {}, (600, 600)),  # 800 would not continue probes to twice their steps
        (50, {}, (95, 200)),
        (5, {}, (95, 95)),
        (300, {"budget": "2x"}, (300, 600)),
        (300, {"budget": "3x"}, (300, 300)),  # whole trainings tell more
        (5, {"budget": 200}, (95, 95)),
        (300, {"budget": 50}, (50, 50)),
    ],
)
def test_how_many_steps_probing_may_take(steps: int, section: dict[str, Any], most: tuple[int, int]) -> None:
    assert probing_steps(FindSection(**section), steps) == most


def test_momentum_is_read_from_the_first_group_that_moves() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    still, moving = ({"params": layer.parameters()} for layer in model)
    optimizer = torch.optim.SGD([still | {"lr": 0.0}, moving | {"lr": 0.1, "momentum": 0.9}])
    assert planned_training([optimizer], 10, 1.0).momentum == 0.9


def test_the_evidence_is_a_row_a_probe_and_the_plot_shows_the_answer() -> None:
    found = found_in(World("adam"), seeds=2)
    frame = found.table
    assert [*frame] == ["seed", "lr", "steps", "score", "untouched", "stopped", "weight"]
    assert frame.groupby("seed").weight.sum().tolist() == pytest.approx([1, 1])
    assert frame.groupby("seed").lr.is_monotonic_increasing.all()
    ax = found.plot()
    assert ax.get_xscale() == "log"
    assert any(line.get_xdata()[0] == found.lr for line in ax.lines)
    _, own = plt.subplots()
    assert found.plot(own) is own
    plt.close("all")
    assert repr(found).startswith(f"Recommendation(lr={found.lr:.3g}, low=")
    assert found.reason in repr(found)


def start(path: Path, *overrides: str) -> Run:
    experiment = check(LINEAR, overrides)
    return Run.start(path, "find", experiment, dump(experiment), [])


def test_a_config_and_the_same_objects_have_the_same_answer(tmp_path: Path) -> None:
    summary = conduct(start(tmp_path / "run"))
    setup = from_config(check(LINEAR)).setup(0)
    batch = next(setup.batches)
    found = lrfind.find(setup.model, setup.optimizer, setup.loss_fn, [batch], steps=20)
    for key in ("lr", "low", "high", "confidence", "reason"):
        assert summary["answer"][key] == getattr(found, key)
    assert summary["probes"] == found.table.to_dict("records")
    assert summary["cost"] == found.cost


def test_probes_that_run_alone_use_the_threads_that_are_asked_for() -> None:
    seen = set()
    probe_rates(
        from_config(check(LINEAR)), FindSection(lanes="single", threads=2), 0, PlannedTraining("sgd", 20),
        watch=lambda lanes, step, losses: seen.add(torch.get_num_threads()),
    )  # fmt: skip
    assert seen == {2}


VERIFIED = "find={verify: true, verify_seeds: 2, lanes: single}"


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A find that was verified and came to its end."""
    run = start(tmp_path_factory.mktemp("calm") / "run", VERIFIED)
    conduct(run)
    return run


def test_the_summary_is_read_from_the_store_and_the_best_config_has_the_lr(calm: Run) -> None:
    summary = summary_of(calm)
    assert summary == summary_of(Run.open(calm.path)) == json.loads((calm.path / "summary.json").read_text())
    best = yaml.safe_load((calm.path / "best.yaml").read_text())
    assert best["optimizer"]["lr"] == summary["answer"]["lr"]


def test_verification_trains_at_three_rates_and_takes_the_measured_best(calm: Run) -> None:
    summary = summary_of(calm)
    proof, lr = summary["verification"], summary["answer"]["lr"]
    assert (proof["verdict"], proof["lr"], proof["steps"]) == ("moves", lr, 20)
    assert {row["lr"] for row in proof["trainings"]} == {*verified_lrs(proof["of"])}
    ends = {
        rate: np.median([row["val_loss"] for row in proof["trainings"] if row["lr"] == rate])
        for rate in verified_lrs(proof["of"])
    }
    assert lr == min(ends, key=ends.get)
    assert len(proof["trainings"]) == 6
    assert summary["lanes"]["settled"] == summary["lanes"]["planned"] == 6 + 1 + len(summary["probes"])


def interrupted_at(stage: str) -> Any:
    """What is told of every step, until it raises: in the third probe, or in the second seed's trainings."""
    told = 0

    def begin(lanes: int, steps: int) -> Any:
        nonlocal told
        told += 1
        at, seen = told, 0

        def watch(lanes: list[Lane], step: int, losses: list[float]) -> None:
            nonlocal seen
            seen += 1
            if stage == "probes" and at == 1 and seen == 20:
                raise KeyboardInterrupt
            if stage == "trainings" and at == 2 and lanes[0].seed == 1 and step == 9:
                raise KeyboardInterrupt

        return watch

    return begin


@pytest.mark.parametrize("stage", ["probes", "trainings"])
def test_a_find_that_was_interrupted_goes_on_to_the_same_answer(
    stage: str, calm: Run, tmp_path: Path
) -> None:
    whole, run = summary_of(calm), start(tmp_path / "run", VERIFIED)
    with pytest.raises(KeyboardInterrupt):
        conduct(run, watch=interrupted_at(stage))
    cut = json.loads((run.path / "summary.json").read_text())
    assert not (run.path / "best.yaml").exists()
    if stage == "probes":
        assert (cut["answer"]["lr"], cut["answer"]["reason"]) == (None, "probing has not ended.")
    else:
        assert cut["answer"]["lr"] == whole["verification"]["of"]
        assert cut["verification"]["verdict"] is None
        assert 3 <= len(cut["verification"]["trainings"]) < 6
    probes = [lane.loss.tolist() for lane in run.lanes() if lane.variant == ""]
    summary = conduct(run)
    assert {**summary, "run": None} == {**whole, "run": None}
    if stage == "trainings":  # the probes were kept
        assert [lane.loss.tolist() for lane in run.lanes() if lane.variant == ""] == probes


def test_a_training_with_another_plan_gets_the_rate_of_that_plan(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--steps", 400, "-q", "--out", "found") == 0
    lr = json.loads((config.parent / "found" / "summary.json").read_text())["answer"]["lr"]
    assert lrfind("train", "--from", "found", "--steps", 40, "-q", "--json", "--out", "same") == 0
    moved = json.loads(lrfind.out)["answer"]["lr"]
    # 40 steps count as 100, and each of the 400 steps is a pass over the data.
    assert moved == pytest.approx(lr * 4 ** (0.6 + 0.9), rel=0.01)
    assert lrfind("train", "--from", "found", "--epochs", 2, "-q", "--out", "unknown") == 2
    assert "give the plan in steps (--steps)" in lrfind.err
    assert lrfind("train", "--from", "found", "--set", "optimizer=adagrad", "-q", "--out", "other") == 2
    assert "found a rate for" in lrfind.err
