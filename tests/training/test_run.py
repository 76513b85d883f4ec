"""Lanes to results: alone, stacked and pruned give the same; what goes wrong in one stays there."""

from __future__ import annotations

import sys
import weakref
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lrfind.analysis.lanes import Lane, LaneResult, Reaction, Shape, planned_lanes
from lrfind.config.experiment import check
from lrfind.config.sections import Component, EarlyStop
from lrfind.config.shapes import shape_of
from lrfind.problem.problem import Problem, from_config
from lrfind.schedules.functions import one_cycle, one_cycle_momentum
from lrfind.schedules.reactive import plateaued
from lrfind.training.executor import Conditions
from lrfind.training.loop import train
from lrfind.training.mode import Mode
from lrfind.training.run import run_lanes, stackable_groups
from lrfind.training.stack import Stack
from tests.helpers.runs import LINEAR

SINGLE = Mode("single", "asked for", threads=1, seconds_per_step=0.0)
STACKED = replace(SINGLE, name="stacked", stack_size=99)
LRS = (1e-3, 1e-2, 0.1, 0.5, 3.0)
PLAIN = Conditions()
MLP = ["model={name: mlp, args: {hidden: [8], dropout: 0.3}}", "data.batch_size=16"]


MODES = pytest.mark.parametrize("mode", [SINGLE, STACKED], ids=["single", "stacked"])


def lanes_of(
    steps: int, seeds: int, lrs: tuple[float, ...] = LRS, schedule: str = "constant", **args: Any
) -> list[Lane]:
    shape = shape_of(Component(name=schedule, args=args), steps)
    return [lane.shaped(shape) for lane in planned_lanes({"": lrs}, 3, seeds)]


def results(
    *overrides: str, mode: Mode = SINGLE, steps: int = 40, seeds: int = 2, conditions: Conditions = PLAIN,
    lrs: tuple[float, ...] = LRS, lanes: list[Lane] | None = None, **options: Any,
) -> list[LaneResult]:  # fmt: skip
    kept: list[LaneResult] = []
    problem: Problem = from_config(check(LINEAR, overrides))
    lanes = lanes_of(steps, seeds, lrs) if lanes is None else lanes
    run_lanes(problem, lanes, conditions, mode, keep=kept.extend, **options)
    return sorted(kept, key=lambda result: result.lane)


def assert_same(a: list[LaneResult], b: list[LaneResult], rtol: float = 1e-4) -> None:
    for one, other in zip(a, b, strict=True):
        assert (one.lane, one.seed, one.peak, one.outcome, one.rung) == (
            other.lane, other.seed, other.peak, other.outcome, other.rung
        )  # fmt: skip
        assert one.lr.size == other.lr.size
        np.testing.assert_allclose(one.loss, other.loss, rtol=rtol)
        np.testing.assert_allclose(one.evaluations, other.evaluations, rtol=rtol)


@pytest.mark.parametrize("overrides", [[], [*MLP, "optimizer=adam"]], ids=str)
@pytest.mark.parametrize("conditions", [PLAIN, Conditions(eval_every=9, rungs=(10, 20))])
def test_stacked_lanes_end_as_single_ones_do(overrides: list[str], conditions: Conditions) -> None:
    lrs = LRS if not overrides else (1e-4, 1e-3, 1e-2)
    one = results(*overrides, conditions=conditions, lrs=lrs)
    assert_same(one, results(*overrides, conditions=conditions, lrs=lrs, mode=STACKED))
    assert_same(one, results(*overrides, conditions=conditions, lrs=lrs, mode=replace(STACKED, stack_size=2)))


def test_for_one_seed_every_lr_sees_the_same_weights_batches_and_masks() -> None:
    lanes = results(*MLP, lrs=(1e-9, 2e-9, 3e-9))
    for a, b in pairwise(lanes[:3]):
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)
    assert abs(lanes[0].loss - lanes[3].loss).max() > 1e-3


def test_a_lane_trained_in_parts_is_the_lane_trained_at_once() -> None:
    whole, parts = results(*MLP), results(*MLP, conditions=Conditions(eval_every=3))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a.loss, b.loss)
        assert a.val_loss == b.val_loss
    assert [e.step for e in parts[0].evaluations] == [*range(3, 40, 3), 40]


def test_lanes_that_are_pruned_against_each_other_keep_their_own_dropout_masks() -> None:
    whole = results(*MLP, lrs=(1e-3, 1e-2, 0.1))
    pruned = results(*MLP, lrs=(1e-3, 1e-2, 0.1), conditions=Conditions(rungs=(10, 20)))
    assert [result.outcome for result in pruned].count("finished") == 2
    for a, b in zip(whole, pruned, strict=True):
        np.testing.assert_array_equal(a.loss[: b.loss.size], b.loss)
        if b.outcome == "pruned":
            assert b.loss.size == (10, 20)[b.rung]
            assert b.val_loss is None


@MODES
def test_a_diverged_lane_ends_at_its_step_and_is_not_evaluated(mode: Mode) -> None:
    last = results(mode=mode, conditions=Conditions(eval_every=5))[-1]
    assert last.outcome == "diverged"
    assert 10 < last.lr.size < 40
    assert last.loss[-1] > last.loss[0]
    assert last.val_loss is last.train_loss is last.metric is None
    assert {e.step for e in last.evaluations} <= {5, 10}


FAILING = """
import torch
from torch import nn

def fails_when_large(output, y):
    loss = nn.functional.mse_loss(output, y)
    if torch.is_grad_enabled() and loss.item() > 50:
        raise FloatingPointError("too large for me")
    return loss

class Late(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.layer = nn.Linear(in_features, out_features)
        self.calls = 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 5 and torch._C._functorch.maybe_current_level() is not None:
            raise RuntimeError("no more stacking")
        return self.layer(x)
"""


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_for_lanes.py").write_text(FAILING)
    sys.path.insert(0, str(folder))


def test_a_lane_that_fails_does_not_stop_the_others() -> None:
    found = results("loss='own_for_lanes:fails_when_large'", lrs=(1e-2, 1.5, 0.1))
    assert [result.outcome for result in found] == ["finished", "failed", "finished"] * 2
    assert found[1].error.startswith("FloatingPointError: too large for me (loss: own_for_lanes:fails_when")
    assert "own_for_lanes.py:8, in fails_when_large: raise FloatingPointError" in found[1].error
    assert found[1].loss.size > 0


def test_a_stack_that_fails_on_the_way_is_run_again_lane_by_lane() -> None:
    notes: list[str] = []
    model = "model='own_for_lanes:Late'"
    found = results(model, mode=STACKED, note=notes.append)
    assert_same(found, results(model))
    assert len(notes) == 2
    assert notes[0].startswith(
        "lanes 0 to 4 ran one after another, because as a stack they failed (RuntimeError: no more"
    )


def test_a_stack_that_failed_gives_its_memory_back_before_its_lanes_run_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stacks: list[weakref.ref[Stack]] = []

    def fail(stack: Stack, *args: Any, **options: Any) -> None:
        stacks.append(weakref.ref(stack))
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Stack, "train", fail)
    held: list[bool] = []
    results(mode=STACKED, seeds=1, watch=lambda *step: held.append(stacks[0]() is not None))
    assert len(held) > 100
    assert not any(held)


@MODES
def test_an_interruption_keeps_what_was_measured(mode: Mode) -> None:
    kept: list[LaneResult] = []

    def watch(lanes: Any, step: int, losses: Any) -> None:
        if lanes[0].seed == 4 and step == 20:
            raise KeyboardInterrupt

    problem = from_config(check(LINEAR))
    with pytest.raises(KeyboardInterrupt):
        run_lanes(problem, lanes_of(40, 2), Conditions(), mode, keep=kept.extend, watch=watch)
    outcomes = [result.outcome for result in sorted(kept, key=lambda r: r.lane)]
    assert outcomes[:5] == ["finished"] * 4 + ["diverged"]
    assert "interrupted" in outcomes[5:]
    assert "finished" not in outcomes[5:]


def test_a_gradient_longer_than_the_clip_is_scaled_down_to_it() -> None:
    clip = "training={steps: 9, clip_norm: 0.01}"
    found = results(clip, lrs=(1.0, 100.0), steps=9, seeds=1)
    assert_same(found, results(clip, lrs=(1.0, 100.0), steps=9, seeds=1, mode=STACKED))
    setup = from_config(check(LINEAR, [clip])).setup(3)
    before = torch.cat([p.detach().flatten() for p in setup.model.parameters()])
    list(train(setup, np.full(1, 1.0)))
    after = torch.cat([p.detach().flatten() for p in setup.model.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)


class AlwaysDrawing(nn.Module):
    """A model that drops features, and adds noise of its own, also in evaluation mode."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.affine, self.noise = nn.Linear(in_features, 1), torch.Generator().manual_seed(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dropped = nn.functional.dropout(x, 0.5, training=True)
        return self.affine(dropped) + 0.1 * torch.randn(1, generator=self.noise)


def test_an_evaluation_takes_no_random_numbers_from_the_training() -> None:
    model, plain = f"model={__name__}:AlwaysDrawing", Conditions(evaluated=False)
    expected = results(model, conditions=plain)
    found = results(model, conditions=Conditions(eval_every=3))
    for result, one in zip(found, expected, strict=True):
        assert len(result.evaluations) > 5 or result.outcome == "diverged"
        np.testing.assert_array_equal(result.loss, one.loss)


class SkipsAtRandom(nn.Module):
    """A model that leaves out a layer at random, as stochastic depth does."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(in_features, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x).relu()
        if torch.rand(()).item() < 0.5:
            hidden = hidden + self.second(hidden).relu()
        return self.head(hidden)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_layer_that_is_left_out_of_a_step_stays_as_it_is_in_a_stack_too(accumulate: int) -> None:
    decayed = "optimizer={name: sgd, args: {momentum: 0.9, weight_decay: 0.3}}"
    ways = (f"model={__name__}:SkipsAtRandom", decayed, f"training.accumulate={accumulate}")
    options: dict[str, Any] = {"lrs": (1e-3, 1e-2, 3e-2), "seeds": 1, "conditions": Conditions(eval_every=9)}
    assert_same(results(*ways, mode=STACKED, **options), results(*ways, **options))


@MODES
def test_a_plateau_lowers_each_lanes_lr_as_torchs_scheduler_does(mode: Mode) -> None:
    args = {"factor": 0.5, "patience": 1, "cooldown": 1, "threshold": 0.02}
    lanes = lanes_of(40, 1, (1e-3, 0.1, 0.4, 3.0), "reduce_on_plateau", **args)
    found = results("data.batch_size=16", lanes=lanes, mode=mode, conditions=Conditions(eval_every=3))
    problem = from_config(check(LINEAR, ["data.batch_size=16"]))
    for result in found:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=result.peak)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **args)
        val_loss = {each.step: each.val_loss for each in result.evaluations if each.step % 3 == 0}
        lrs = []
        for step in range(1, result.lr.size + 1):
            lrs.append(optimizer.param_groups[0]["lr"])
            if step in val_loss:
                scheduler.step(val_loss[step])
        np.testing.assert_allclose(result.lr, lrs, rtol=1e-12)
        again = [step.loss for step in train(problem.setup(3), result.lr)]
        np.testing.assert_allclose(result.loss, again, rtol=1e-4)  # they were used, too
    reductions = [len(set(result.lr)) - 1 for result in found[:3]]
    assert len(set(reductions)) > 1, reductions
    assert [result.outcome for result in found] == ["finished"] * 3 + ["diverged"]


@MODES
def test_a_grad_norm_schedule_clips_as_autoclip_and_trains_every_lane_alone(mode: Mode) -> None:
    lrs, notes = (0.03, 0.3), list[str]()
    rows = "data.batch_size=8"
    found = results(
        rows, lanes=lanes_of(40, 1, lrs, "grad_norm", percentile=30), mode=mode, note=notes.append,
        conditions=Conditions(eval_every=7),
    )  # fmt: skip
    assert notes == []
    for lr, result in zip(lrs, found, strict=True):
        setup = from_config(check(LINEAR, [rows])).setup(3)
        parameters, norms, losses, factors = [*setup.model.parameters()], [], [], []
        for x, y in (next(setup.batches) for _ in range(40)):
            loss = torch.nn.functional.mse_loss(setup.model(x), y)
            gradients = torch.autograd.grad(loss, parameters)
            losses.append(loss.item())
            norms.append(torch.cat([part.flatten() for part in gradients]).norm().item())
            factors.append(min(1.0, np.percentile(norms, 30) / norms[-1]))
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= lr * factors[-1] * gradient
        np.testing.assert_allclose(result.loss, losses, rtol=1e-4)
        np.testing.assert_allclose(result.lr, lr * np.array(factors), rtol=1e-4)
        np.testing.assert_allclose(result.grad_norm, norms, rtol=1e-4)  # a stack would have none
        assert min(factors) < 0.5


@MODES
def test_a_lane_stops_early_at_the_evaluation_where_its_loss_has_levelled_out(mode: Mode) -> None:
    early = EarlyStop(patience=2, threshold=0.01)
    options = {"lrs": (1e-3, 0.05, 0.3, 0.5, 1e9), "seeds": 1, "mode": mode}
    whole = results(**options, conditions=Conditions(eval_every=2))
    found = results(**options, conditions=Conditions(eval_every=2, early_stop=early))
    ends = []
    for full, result in zip(whole, found, strict=True):
        losses = [each.val_loss for each in full.evaluations]
        levelled = (n for n in range(len(losses)) if plateaued(losses[: n + 1], patience=2, threshold=0.01))
        ends.append(next((full.evaluations[n].step for n in levelled), full.lr.size))
        assert (result.outcome, result.lr.size, result.planned) == (full.outcome, ends[-1], 40)
        np.testing.assert_allclose(result.loss, full.loss[: ends[-1]], rtol=1e-4)
        np.testing.assert_allclose(result.evaluations, full.evaluations[: len(result.evaluations)], rtol=1e-4)
        if result.outcome == "finished":
            assert result.evaluations[-1].step == ends[-1]
            assert result.val_loss == result.evaluations[-1].val_loss
    assert [result.outcome for result in found] == ["finished"] * 4 + ["diverged"]
    assert len(set(ends)) > 3, ends


def test_lanes_whose_momentum_moves_are_stacked_apart_from_the_others() -> None:
    kinds = ("constant", "one_cycle")
    lrs, sgd = (1e-2, 0.1), "optimizer={name: sgd, args: {momentum: 0.9}}"
    shapes = {kind: shape_of(Component(name=kind), 40) for kind in kinds}
    plan = planned_lanes(dict.fromkeys(kinds, lrs), 3, 2)
    lanes = [lane.shaped(shapes[lane.variant]) for lane in plan]
    together: set[tuple[str, ...]] = set()
    one = results(sgd, lanes=lanes)
    found = results(
        sgd, lanes=lanes, mode=STACKED, conditions=Conditions(eval_every=15),
        watch=lambda lanes, step, losses: together.add(tuple(lane.variant for lane in lanes)),
    )  # fmt: skip
    assert together == {("constant",) * 2, ("one_cycle",) * 2}
    t = np.arange(40.0)
    for result, single in zip(found, one, strict=True):
        assert result.variant == single.variant
        np.testing.assert_allclose(result.loss, single.loss, rtol=1e-4)
        assert result.val_loss == pytest.approx(single.val_loss, rel=1e-4)
        if result.variant == "constant":
            assert result.momentum is None
        else:
            np.testing.assert_array_equal(result.momentum, one_cycle_momentum(t, 40))
            np.testing.assert_array_equal(result.lr, result.peak * one_cycle(t, 40))
    by_themselves = results(sgd, lanes=[lane for lane in lanes if lane.momentum is None])
    constant = [result for result in one if result.variant == "constant"]
    for result, expected in zip(constant, by_themselves, strict=True):
        np.testing.assert_array_equal(result.loss, expected.loss)  # at the optimizer's own momentum


def test_lanes_that_may_be_one_stack_are_brought_together_wherever_they_stand() -> None:
    moved = Shape(np.ones(4), momentum=np.full(4, 0.9))
    reacting = Shape(np.ones(4), reaction=Reaction("grad_norm", lambda norms, peak: 1.0))
    shapes = {"a": Shape(np.ones(4)), "b": moved, "c": reacting, "d": Shape(np.ones(4)), "e": moved}
    planned = planned_lanes(dict.fromkeys(shapes, (0.1, 0.2)), 3, 2)
    found = stackable_groups([lane.shaped(shapes[lane.variant]) for lane in planned])
    assert [[(lane.seed, lane.variant) for lane in company] for company in found] == [
        [(seed, name) for name in names for _ in range(2)]
        for seed in (3, 4)
        for names in ("ad", "b", "c", "e")
    ]
