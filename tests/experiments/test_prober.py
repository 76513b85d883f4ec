from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from lrfind.analysis.curves import Array
from lrfind.analysis.divergence import HUGE
from lrfind.analysis.lanes import Lane
from lrfind.config.experiment import check
from lrfind.errors import LrfindError, NoGradient, UsageError
from lrfind.experiments.budget import Budget
from lrfind.experiments.prober import MOST_KEPT, LaneProber
from lrfind.problem.objects import from_objects, objects_of
from lrfind.problem.problem import Problem, from_config
from lrfind.problem.snapshot import preserved
from lrfind.training.executor import Conditions
from lrfind.training.mode import Mode
from lrfind.training.run import run_lane
from tests.helpers.runs import LINEAR

MNIST = "data={name: mnist_mini, batch_size: 16}"
NONE = np.full(100, HUGE)  # no ceiling
STACKED = Mode("stacked", "asked for", threads=1, seconds_per_step=0.0, stack_size=8)
WAYS = {
    "plain": (),
    "dropout and adam": (
        MNIST,
        "loss=cross_entropy",
        "model={name: mlp, args: {hidden: [8], dropout: 0.5}}",
        "optimizer=adam",
    ),
    "batch norm and momentum": (
        MNIST,
        "loss=cross_entropy",
        "model={name: small_cnn, args: {channels: [2], hidden: 4, norm: batch}}",
        "optimizer={name: sgd, args: {momentum: 0.9}}",
    ),
    "accumulated": ("data.batch_size=8", "training.accumulate=3"),
    "float16": ("training.precision=float16",),
    "two groups": ("optimizer.param_groups=[{name: weights, match: '*weight', lr_multiplier: 0.1}]",),
}


def problem_of(*overrides: str) -> Problem:
    return from_config(check(LINEAR, overrides))


def unlimited() -> Budget:
    return Budget(math.inf)


def at_once(problem: Problem, lr: float, steps: int, seed: int = 0) -> Array:
    return run_lane(problem, Lane(0, seed, np.full(steps, lr)), Conditions(factor=HUGE, evaluated=False)).loss


@pytest.mark.parametrize("way", WAYS)
def test_a_probe_that_is_continued_is_the_training_at_once_bit_for_bit(way: str) -> None:
    problem, lrs = problem_of(*WAYS[way]), (0.003, 0.01)
    prober = LaneProber(problem, 3, unlimited())
    prober.untouched(4)
    for steps in (3, 4, 9):
        probes = prober.probe(lrs, steps, NONE)
    for lr, probe in zip(lrs, probes, strict=True):
        assert probe.loss.tolist() == at_once(problem, lr, 9, seed=3).tolist()


def test_probes_beyond_those_that_are_kept_start_again_and_are_the_same() -> None:
    problem, lrs = problem_of(), [0.01 * 2**i for i in range(MOST_KEPT + 3)]
    budget = unlimited()
    prober = LaneProber(problem, 0, budget)
    prober.probe(lrs, 3, NONE)
    taken = budget.taken
    (first,) = prober.probe(lrs[:1], 5, NONE)
    assert first.loss.tolist() == at_once(problem, lrs[0], 5).tolist()
    assert budget.taken == taken + 5  # all of it again
    prober.probe(lrs[-1:], 5, NONE)
    assert budget.taken == taken + 7


@pytest.mark.parametrize("way", ["plain", "dropout and adam", "accumulated", "two groups"])
def test_stacked_probes_are_those_that_run_alone(way: str) -> None:
    problem, lrs = problem_of(*WAYS[way]), (0.001, 0.003, 0.01)
    stacked = LaneProber(problem, 0, unlimited(), STACKED)
    stacked.probe(lrs, 3, NONE)
    kept = stacked.probe(lrs[1:], 6, NONE)
    (again,) = stacked.probe(lrs[:1], 6, NONE)  # which the stack has left behind
    for lr, probe in zip((*lrs[1:], lrs[0]), (*kept, again), strict=True):
        np.testing.assert_allclose(probe.loss, at_once(problem, lr, 6), rtol=1e-4)


def test_a_probe_ends_at_its_ceiling_and_the_others_go_on() -> None:
    for mode in (None, STACKED):
        prober = LaneProber(problem_of(), 0, unlimited(), mode)
        first = prober.untouched(1)[0]
        calm, wild = prober.probe((0.1, 50.0), 12, np.full(12, 3 * first))
        assert not calm.stopped
        assert len(calm.loss) == 12
        assert wild.stopped
        assert wild.loss[-1] > 3 * first > wild.loss[-2]
        again = prober.probe((0.1, 50.0), 16, np.full(16, 3 * first))
        assert [len(probe.loss) for probe in again] == [16, len(wild.loss)]


@pytest.mark.parametrize("way", ["plain", "dropout and adam", "batch norm and momentum", "accumulated"])
def test_the_untouched_losses_are_those_of_a_rate_that_changes_nothing(way: str) -> None:
    problem = problem_of(*WAYS[way])
    prober = LaneProber(problem, 0, unlimited())
    prober.untouched(3)
    prober.probe((0.1,), 4, NONE)
    np.testing.assert_allclose(prober.untouched(9), at_once(problem, 1e-12, 9), rtol=1e-6)


def test_the_lanes_hold_all_that_was_measured() -> None:
    prober = LaneProber(problem_of(), 5, unlimited(), first=7)
    prober.untouched(4)
    prober.probe((0.1, 50.0), 12, np.full(12, 1e3))
    untouched, calm, wild = prober.lanes
    assert [lane.lane for lane in prober.lanes] == [7, 8, 9]
    assert {lane.seed for lane in prober.lanes} == {5}
    assert (untouched.peak, calm.peak, wild.peak) == (0.0, 0.1, 50.0)
    assert (calm.outcome, wild.outcome) == ("finished", "diverged")
    assert untouched.loss.size == 4


def test_every_gradient_is_counted_and_a_budget_in_steps_is_known_beforehand() -> None:
    budget = Budget(20)
    prober = LaneProber(problem_of(), 0, budget)
    prober.untouched(8)
    assert budget.taken == 0
    prober.probe((0.1, 0.2), 8, NONE)
    assert budget.taken == 16
    assert prober.affords([0.1, 0.2], 10)
    assert not prober.affords([0.1, 0.2], 11)


def test_batches_that_would_fill_the_memory_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    prober = LaneProber(problem_of(), 0, unlimited())
    prober.untouched(8)
    assert prober.affords([0.1], 100)
    monkeypatch.setattr("lrfind.experiments.prober.MOST_BYTES", 10 * 64 * (4 + 1) * 4)  # ten batches
    assert prober.affords([0.1], 10)
    assert not prober.affords([0.1], 11)


def test_a_model_may_change_its_batch_and_the_next_probe_does_not_see_it() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 1))
    loader = [{"x": torch.ones(4, 3), "y": torch.ones(4, 1)}]

    def run(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return model(x.sub_(0.5))

    class Changing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return run(x, y)

    outer = Changing()
    optimizer = torch.optim.SGD(outer.parameters(), lr=0.1)
    loss = lambda output, batch: (output - batch.pop("y")).square().mean()  # noqa: E731
    objects = objects_of(outer, optimizer, loss, loader)
    with preserved(objects.trained, [loader]) as snapshot:
        prober = LaneProber(from_objects(objects, snapshot), 0, unlimited())
        assert len({*prober.untouched(3).tolist()}) == 1
        first, second = prober.probe((1e-9, 2e-9), 3, NONE)
        np.testing.assert_allclose(first.loss, second.loss, rtol=1e-5)


def test_a_budget_in_seconds_goes_by_the_pace_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    budget = Budget(math.inf, seconds=10, began=100.0)
    assert budget.affords(10**6)  # nothing is known yet
    budget.expected = 2.0
    assert budget.affords(5)
    assert not budget.affords(6)
    budget.taken, now[0] = 10, 104.0
    assert budget.affords(15)
    assert not budget.affords(16)


def test_a_users_objects_are_probed_from_their_weights_and_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    loader = [(torch.randn(4, 3), torch.randn(4, 1)) for _ in range(3)]
    objects = objects_of(model, optimizer, nn.MSELoss(), loader)
    with preserved(objects.trained, [loader]) as snapshot:
        problem = from_objects(objects, snapshot)
        prober = LaneProber(problem, 1, unlimited())
        prober.probe((0.01, 0.1), 3, NONE)
        probe, _ = prober.probe((0.01, 0.1), 7, NONE)
        assert probe.loss.tolist() == at_once(problem, 0.01, 7, seed=1).tolist()


def test_what_does_not_fit_together_is_explained_and_no_gradient_is_a_refusal() -> None:
    with pytest.raises(UsageError, match="the first training step failed"):
        LaneProber(
            problem_of("loss=cross_entropy", MNIST, "model.args.in_features=3"), 0, unlimited()
        ).untouched(1)
    prober = LaneProber(problem_of(), 0, unlimited())
    prober.untouched(3)
    prober._replay._source = iter([object()] * 9)
    with pytest.raises(LrfindError, match="the untouched model failed at step 3"):
        prober.untouched(4)
    prober = LaneProber(problem_of(), 0, unlimited())
    prober.probe((0.1,), 2, NONE)
    prober._replay._source = iter([object()] * 9)
    with pytest.raises(LrfindError, match=r"a probe at lr 0.1 failed at step 2|yields a object"):
        prober.probe((0.1,), 4, NONE)
    frozen = problem_of()
    plain = frozen.setup

    def detached(seed: int) -> object:
        setup = plain(seed)
        setup.model.register_forward_hook(lambda module, inputs, output: output.detach())
        return setup

    object.__setattr__(frozen, "setup", detached)
    with pytest.raises(NoGradient, match="does not depend on any parameter"):
        LaneProber(frozen, 0, unlimited()).probe((0.1,), 2, NONE)


def test_the_probes_of_a_round_keep_their_state_so_that_no_step_is_taken_twice() -> None:
    budget = unlimited()
    prober = LaneProber(problem_of(), 0, budget)
    rates = [1e-3 * (n + 1) for n in range(7)]
    prober.probe(rates, 3, NONE)
    prober.probe(rates[:5], 4, NONE)
    before = budget.taken
    left = sum(prober._left(lr, 6) for lr in rates[:5])
    prober.probe(rates[:5], 6, NONE)
    assert budget.taken - before == left
