"""Param groups of a config: who is in which, and that every command keeps the ratios of their lrs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrfind.config.document import ConfigError
from lrfind.config.experiment import check
from lrfind.config.sections import OptimizerSection, RangeTestSection
from lrfind.errors import UsageError
from lrfind.experiments.range_test import range_test
from lrfind.models.mlp import MLP
from lrfind.problem.param_groups import param_groups
from lrfind.problem.problem import from_config
from lrfind.runs.store import Run
from lrfind.schedules.functions import ramp
from lrfind.training.calibration import Plan, calibrate
from lrfind.training.loop import train
from lrfind.training.stack import Stack
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, conduct

NAMES = ["layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"]
NET = "model={name: mlp, args: {hidden: [3]}}"
SLOW_FIRST = "optimizer.param_groups=[{name: slow, match: 'layers.0.*', lr_multiplier: 0.1}]"


def groups_of(*groups: dict[str, Any], model: nn.Module | None = None) -> list[dict[str, Any]]:
    section = OptimizerSection.model_validate({"name": "sgd", "lr": 0.5, "param_groups": groups})
    return param_groups(section, model or MLP(4, 1, hidden=[3]))


def members(groups: list[dict[str, Any]], model: nn.Module) -> dict[str, list[str]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {group["name"]: [names[id(p)] for p in group["params"]] for group in groups}


def test_the_first_group_that_matches_has_a_parameter_and_the_rest_stay_together() -> None:
    model = MLP(4, 1, hidden=[3])
    found = groups_of(
        {"name": "biases", "match": "*.bias"},
        {"name": "head", "match": ["nothing", "layers.2.*"], "lr_multiplier": 4.0},
        model=model,
    )
    assert members(found, model) == {
        "biases": ["layers.0.bias", "layers.2.bias"],
        "head": ["layers.2.weight"],
        "rest": ["layers.0.weight"],
    }
    assert [group["lr"] for group in found] == [0.5, 2.0, 0.5]


def test_groups_that_take_everything_leave_no_rest() -> None:
    assert [group["name"] for group in groups_of({"name": "all", "match": "*"})] == ["all"]


def test_a_frozen_group_is_not_in_the_optimizer_and_does_not_move() -> None:
    frozen = "optimizer.param_groups=[{name: first, match: 'layers.0.*', frozen: true}]"
    setup = from_config(check(LINEAR, [NET, frozen])).setup(0)
    before = {name: p.detach().clone() for name, p in setup.model.named_parameters()}
    assert members(setup.optimizer.param_groups, setup.model) == {"rest": NAMES[2:]}
    assert [p.requires_grad for p in setup.model.parameters()] == [False, False, True, True]
    list(train(setup, np.full(3, 0.1)))
    after = dict(setup.model.named_parameters())
    assert [torch.equal(before[name], after[name]) for name in NAMES] == [True, True, False, False]


def test_a_groups_own_settings_reach_the_optimizer_and_the_others_keep_the_common_ones() -> None:
    plain = "optimizer.param_groups=[{name: biases, match: '*.bias', args: {weight_decay: 0}}]"
    common = "optimizer.args={weight_decay: 0.25, momentum: 0.5}"
    groups = from_config(check(LINEAR, [NET, common, plain])).setup(0).optimizer.param_groups
    assert [(g["name"], g["weight_decay"], g["momentum"]) for g in groups] == [
        ("biases", 0, 0.5),
        ("rest", 0.25, 0.5),
    ]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"name": "conv", "match": ["conv*", "c"]}], "'conv' (conv*, c) matches no parameter that is not already in a group before it; the model has layers.0.weight, layers.0.bias, "),
        ([{"name": "a", "match": "*"}, {"name": "b", "match": "layers.2.*"}], "'b' (layers.2.*) matches no parameter that is not already in a group before"),
        ([{"name": "all", "match": "*", "frozen": True}], "nothing is left to train; leave a part unfrozen"),
    ],
)  # fmt: skip
def test_groups_that_do_not_fit_the_model_are_explained(groups: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        groups_of(*groups)
    assert str(caught.value).startswith("optimizer.param_groups: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "a"), "optimizer.param_groups: two groups are called 'a'"),
        (
            ("a", "rest"),
            "optimizer.param_groups: 'rest' is reserved for the parameters that no group matches",
        ),
    ],
)
def test_names_of_groups_that_would_be_ambiguous_are_refused(names: tuple[str, ...], message: str) -> None:
    groups = ", ".join(f"{{name: {name}, match: x}}" for name in names)
    with pytest.raises(ConfigError) as caught:
        check(LINEAR, [f"optimizer.param_groups=[{groups}]"])
    assert message in str(caught.value)


# Every command, with an optimizer that writes down the lrs which its steps use.

RECORDING = """
import torch
USED = []

class Recording(torch.optim.SGD):
    def step(self, closure=None):
        USED.append([(group["name"], group["lr"]) for group in self.param_groups])
        return super().step(closure)
"""
Used = list[list[tuple[str, float]]]
BY_RECORDING = "optimizer={name: 'recording_for_groups:Recording', lr: 0.1}"


@pytest.fixture
def used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Used:
    """For each step of each lane, the names and lrs of the groups."""
    (tmp_path / "recording_for_groups.py").write_text(RECORDING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "recording_for_groups", raising=False)
    import recording_for_groups

    found: Used = recording_for_groups.USED
    return found


SINGLE = ("lanes=single", "seeds=1")
COMMANDS: dict[str, tuple[tuple[str, ...], set[float]]] = {
    "range-test": (("seeds=1", "end_lr=1.0"), {1e-4, 1.0}),
    "grid": (("lrs=[0.01, 0.2]", *SINGLE), {0.01, 0.2}),
    "search": (("trials=1", "start=0.2", *SINGLE), {0.2}),
    "compare": (("schedules=[constant, step_decay]", "common_peak=0.2", *SINGLE), {0.2, 0.02}),
    "train": ((), {0.1}),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_keeps_the_ratio_to_the_peak_although_the_slow_group_is_the_first(
    tmp_path: Path, used: Used, command: str
) -> None:
    options, lrs = COMMANDS[command]
    section = command.replace("-", "_")
    overrides = [NET, BY_RECORDING, SLOW_FIRST, *(f"{section}.{option}" for option in options)]
    conduct(Run.start(tmp_path / "run", command, check(LINEAR, overrides), LINEAR, overrides))
    assert {tuple(name for name, _ in step) for step in used} == {("slow", "rest")}
    slow, rest = np.array([[lr for _, lr in step] for step in used]).T
    np.testing.assert_allclose(slow, 0.1 * rest, rtol=1e-12)
    assert lrs <= {*rest.round(12)}


def test_a_range_test_of_one_group_ramps_it_and_holds_the_others(
    lrfind: Command, config: Path, used: Used
) -> None:
    groups = f"{SLOW_FIRST[:-1]}, {{name: bias, match: '*.bias', lr_multiplier: 3}}]"
    call = ("--set", NET, "--set", BY_RECORDING, "--set", groups, "-q", "--out", "run")
    assert lrfind("range-test", config, "--seeds", 1, "--end-lr", 1, "--group", "bias", *call) in (0, 3)
    slow, bias, rest = np.array([[lr for _, lr in step] for step in used]).T
    np.testing.assert_allclose(bias, ramp(1e-4, 1, 60)[: bias.size])
    np.testing.assert_allclose(slow, 0.01, rtol=1e-12)
    np.testing.assert_allclose(rest, 0.1, rtol=1e-12)
    assert lrfind("range-test", config, "--group", "bais", *call[:-2]) == 2
    assert "range_test.group: unknown param group 'bais'; did you mean bias?" in lrfind.err


def by_hand(peak: float, steps: int) -> tuple[list[float], list[Tensor]]:
    """Losses and weights of a plain torch loop whose first layer has a tenth of the lr."""
    setup = from_config(check(LINEAR, [NET])).setup(0)
    first, _, last = setup.model.layers
    groups = [{"params": first.parameters(), "lr": 0.1 * peak}, {"params": last.parameters(), "lr": peak}]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    losses = []
    for _ in range(steps):
        x, y = next(setup.batches)
        loss = nn.functional.mse_loss(setup.model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach() for p in setup.model.parameters()]


def test_a_lane_and_stacked_lanes_both_train_as_a_loop_with_those_lrs() -> None:
    experiment = check(LINEAR, [NET, SLOW_FIRST, "optimizer.args.momentum=0.9", "grid.lanes=stacked"])
    problem, peaks, steps = from_config(experiment), [0.02, 0.1], 12
    assert calibrate(problem, experiment.grid, Plan(2, steps, 1, 0.01), 0).name == "stacked"
    stack = Stack(problem.setup(0), 2)
    stacked = stack.train(np.full((steps, 2), peaks))
    for lane, peak in enumerate(peaks):
        losses, weights = by_hand(peak, steps)
        setup = problem.setup(0)
        alone = [step.loss for step in train(setup, np.full(steps, peak))]
        np.testing.assert_allclose(alone, losses, rtol=1e-5)
        np.testing.assert_allclose(stacked[:, lane], losses, rtol=1e-5)
        for (name, parameter), weight in zip(setup.model.named_parameters(), weights, strict=True):
            torch.testing.assert_close(parameter.detach(), weight, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(stack.parameters[name][lane], weight, rtol=1e-4, atol=1e-6)


def test_ramping_a_group_alone_is_not_ramping_all() -> None:
    section = RangeTestSection(start_lr=1e-3, end_lr=0.5, steps=20, seeds=1)
    experiment = check(LINEAR, [NET, SLOW_FIRST])
    losses = [
        range_test(from_config(experiment, group=group), section, 0)[0].loss
        for group in (None, "slow", "rest")
    ]
    assert losses[0][0] == losses[1][0] == losses[2][0]
    assert len({loss[-1] for loss in losses}) == 3
