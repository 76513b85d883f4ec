"""One rate for each param group, from Python and from the command line."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import lrfind
from lrfind.analysis.group_rates import GroupRates
from lrfind.config.experiment import check
from lrfind.config.variants import with_multipliers
from lrfind.errors import UsageError
from lrfind.problem.param_groups import param_groups
from tests.helpers.command import Command

STEPS = 128


class Bowls(nn.Module):
    """Two parabolas with the curvatures 1 and 100: SGD is fastest at the rates 1 and 0.01."""

    def __init__(self, second: float = 100.0) -> None:
        super().__init__()
        self.flat = nn.Parameter(torch.ones(3))
        self.steep = nn.Parameter(torch.ones(3) / second**0.5)  # as high above its minimum as the other
        self.curvatures = (1.0, second)

    def forward(self, shift: Tensor) -> Tensor:
        parts = zip(self.curvatures, (self.flat, self.steep), strict=True)
        # The shift is the noise between batches.
        loss: Tensor = sum(0.5 * c * (p + 0.02 * shift / c**0.5).square().sum() for c, p in parts)
        return loss


def noise(count: int = 64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, generator=generator) for _ in range(count)]


def find(model: nn.Module, optimizers: list[torch.optim.Optimizer], **settings: Any) -> lrfind.Recommendation:
    def step(shift: Tensor) -> Tensor:
        loss = model(shift)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss.detach()

    options: dict[str, Any] = {"steps": STEPS, "groups": True, "progress": False} | settings
    return lrfind.find(step=step, data=noise(), optimizers=optimizers, **options)


def test_two_groups_get_rates_as_far_apart_as_their_curvatures() -> None:
    model = Bowls()
    groups = [{"params": [model.flat], "name": "flat"}, {"params": [model.steep], "name": "steep"}]
    best = find(model, [torch.optim.SGD(groups, lr=0.1)])
    apart = best.group_lrs["flat"] / best.group_lrs["steep"]
    assert 100 / 3.5 <= apart <= 100 * 3.5
    assert "flat" in repr(best)
    assert best.groups is not None
    assert 0 < best.groups.cost < best.cost


def test_two_optimizers_get_rates_of_their_own_which_apply_sets() -> None:
    model = Bowls()
    optimizers = [torch.optim.SGD([model.flat], lr=0.2), torch.optim.SGD([model.steep], lr=0.1)]
    schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0) for optimizer in optimizers]
    best = find(model, [*optimizers], schedule="constant")
    assert [*best.group_lrs] == ["SGD (1)", "SGD (2)"]
    best.apply(optimizers, schedulers)
    lrs = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    assert lrs == pytest.approx([*best.group_lrs.values()], rel=0.01)
    assert [scheduler.base_lrs[0] for scheduler in schedulers] == lrs
    assert lrs[0] / lrs[1] > 10  # not the 2 of before
    best.apply(optimizers, schedulers)
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == pytest.approx(lrs)
    with pytest.raises(UsageError, match="2 optimizers share the rate; found 1"):
        best.apply(optimizers[:1])
    optimizers[1].add_param_group({"params": [nn.Parameter(torch.ones(1))]})
    with pytest.raises(UsageError, match="rates are for 2 param groups"):
        best.apply(optimizers)


def test_a_group_that_does_not_matter_keeps_the_common_rate() -> None:
    model = Bowls(second=1e-6)
    groups = [{"params": [model.flat], "name": "flat"}, {"params": [model.steep], "name": "idle"}]
    best = find(model, [torch.optim.SGD(groups, lr=0.1)])
    assert best.groups is not None
    assert [rate.multiplier for rate in best.groups.rates] == [1.0, 1.0]
    assert best.groups.reason.startswith("All groups keep their ratios to the common rate")


def test_the_common_answer_is_the_same_with_and_without_groups() -> None:
    model = Bowls()
    optimizer = torch.optim.SGD([{"params": [model.flat]}, {"params": [model.steep]}], lr=0.1)
    alone, beside = find(model, [optimizer], groups=False), find(model, [optimizer])
    assert (alone.lr, alone.low, alone.high) == (beside.lr, beside.low, beside.high)
    assert alone.table.equals(beside.table)


def test_everything_is_as_it_was_bit_for_bit() -> None:
    model = Bowls()
    optimizer = torch.optim.Adam([{"params": [model.flat], "lr": 0.3}, {"params": [model.steep]}], lr=0.1)
    find(model, [optimizer], groups=False)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    random = torch.get_rng_state()
    find(model, [optimizer])
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert optimizer.state_dict() == state
    assert torch.equal(torch.get_rng_state(), random)


def test_a_group_at_lr_0_stays_frozen() -> None:
    model = Bowls()
    third = nn.Parameter(torch.ones(1))
    groups = [{"params": [model.flat]}, {"params": [model.steep]}, {"params": [third], "lr": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    best = find(model, [optimizer])
    assert [*best.group_lrs] == ["0", "1"]
    best.apply(optimizer)
    assert optimizer.param_groups[2]["lr"] == 0


def test_a_single_group_is_refused() -> None:
    model = Bowls()
    with pytest.raises(UsageError, match=r"groups: .* there is only one \(0\)"):
        find(model, [torch.optim.SGD(model.parameters(), lr=0.1)])


def test_groups_that_share_a_tensor_as_their_lr_are_refused() -> None:
    model, lr = Bowls(), torch.tensor(0.1)
    groups = [{"params": [model.flat], "lr": lr}, {"params": [model.steep], "lr": lr}]
    with pytest.raises(UsageError, match="share one tensor"):
        find(model, [torch.optim.SGD(groups, lr=0.1)])


def test_a_budget_covers_the_probes_of_groups_too() -> None:
    model = Bowls()
    optimizer = torch.optim.SGD([{"params": [model.flat]}, {"params": [model.steep]}], lr=0.1)
    assert find(model, [optimizer], budget=150).cost <= 150


def test_a_budget_that_groups_would_use_up_first_is_not_said_to_allow_refinement() -> None:
    model = Bowls(second=1e-6)
    optimizer = torch.optim.SGD([{"params": [model.flat]}, {"params": [model.steep]}], lr=0.1)
    cut, whole = (find(model, [optimizer], budget=budget) for budget in (144, 160))
    assert cut.groups is not None
    assert whole.groups is not None
    assert (cut.groups.wants_budget, whole.groups.wants_budget) == (True, False)
    assert not any("or more allows them" in note for note in cut.notes)
    (advice,) = (note for note in whole.notes if "or more allows them" in note)
    enough = int(advice.partition("a budget of ")[2].partition(" ")[0])
    assert find(model, [optimizer], budget=enough).refinement


def test_seconds_limit_the_trainings_that_confirm_the_rates_of_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = []

    def unchanged(problem: object, groups: GroupRates, *_: object, most: float, **__: object) -> GroupRates:
        limits.append(most)
        return groups

    monkeypatch.setattr("lrfind.api.calls.confirmed", unchanged)
    model = Bowls()
    optimizer = torch.optim.SGD([{"params": [model.flat]}, {"params": [model.steep]}], lr=0.1)
    find(model, [optimizer], steps=10**6, max_seconds=2)
    assert 0 <= limits[0] < 10**6


CONFIG = """
name: groups
data: {name: regression, args: {features: 8}}
model: {name: mlp, args: {hidden: [8]}}
loss: mse
optimizer:
  name: sgd
  lr: 0.1
  param_groups:
    - {name: slow, match: "*0.*", lr_multiplier: 0.03}
training: {steps: 64, schedule: cosine}
"""


def test_a_multiplier_of_the_rest_becomes_a_group() -> None:
    experiment = with_multipliers(check(CONFIG, [], "c"), {"slow": 10.0, "rest": 0.1})
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    groups = param_groups(experiment.optimizer, model)
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("slow", pytest.approx(0.03)),
        ("others", pytest.approx(0.01)),
    ]


def test_train_uses_the_rates_of_the_groups(
    lrfind: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def favoured(problem: object, groups: GroupRates, *_: object, **__: object) -> GroupRates:
        rates = [replace(rate, multiplier=3.16 if rate.name == "slow" else 1.0) for rate in groups.rates]
        return replace(groups, rates=rates, multipliers=[rate.multiplier for rate in rates])

    monkeypatch.setattr("lrfind.experiments.find.confirmed", favoured)
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG)
    assert lrfind("find", str(config), "--groups", "--snippet", "--out", "found", "--json") == 0, lrfind.err
    summary = json.loads(lrfind.out)
    slow = next(rate for rate in summary["groups"]["rates"] if rate["name"] == "slow")
    assert slow["multiplier"] > 1
    best = yaml.safe_load(Path("found/best.yaml").read_text())["optimizer"]
    multiplier = best["param_groups"][0]["lr_multiplier"]
    assert multiplier == pytest.approx(0.03 * slow["multiplier"])
    assert f"{multiplier!r} * peak" in summary["snippet"]
    for more in ([], [str(config)]):
        assert lrfind("train", *more, "--from", "found", "--out", f"t{len(more)}", "-q") == 0, lrfind.err
        trained = yaml.safe_load((Path(f"t{len(more)}") / "resolved.yaml").read_text())["optimizer"]
        assert trained["param_groups"][0]["lr_multiplier"] == multiplier
        assert trained["lr"] == summary["answer"]["lr"]


def test_a_config_with_a_single_group_is_refused(lrfind: Command, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG[: CONFIG.index("  param_groups")] + "training: {steps: 64}\n")
    assert lrfind("find", str(config), "--groups", "--out", "found") == 2
    assert "param groups" in lrfind.err


def test_a_dry_run_tells_the_most_that_the_rates_of_groups_cost(lrfind: Command, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(CONFIG)
    # The common probes have 60 steps here, so those of the groups have more than usual and reach their limit.
    asked = ["find", str(config), "--groups", "--steps", "60", "--schedule", "constant", "--json"]
    assert lrfind(*asked, "--dry-run") == 0, lrfind.err
    most = json.loads(lrfind.out)["cost"]["groups"]
    assert lrfind(*asked, "--out", "found", "-q") == 0, lrfind.err
    groups = json.loads(lrfind.out)["groups"]
    assert groups["steps"] == 60, groups
    assert groups["cost"] <= most
    assert most == 9 * 2 * 16 + 60 + 60
