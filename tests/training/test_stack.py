"""Stacked lanes against lanes trained one by one, in float64, where they may differ only by rounding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn, optim

from lrfind.catalog import OPTIMIZERS, Precision
from lrfind.config.registry import resolve
from lrfind.models.mlp import MLP
from lrfind.problem.objects import from_objects, objects_of
from lrfind.problem.param_groups import MULTIPLIER
from lrfind.problem.setup import PLAIN, Recipe, Setup
from lrfind.problem.snapshot import preserved
from lrfind.training import stack_update
from lrfind.training.evaluation import evaluate, evaluating, score
from lrfind.training.kernels import digits_as_usual
from lrfind.training.loop import train
from lrfind.training.stack import Stack
from lrfind.training.stack_check import checked_stack
from lrfind.training.stackable import traceable, why_not_stackable

STEPS, ROWS = 8, 8
STACKABLE = [resolve(row.path) for row in OPTIMIZERS.values() if row.stackable]


class Net(nn.Module):
    """Batch norm, dropout, a frozen layer and a weight that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6, bias=False)  # before a norm, the gradient of a bias is only rounding
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.3)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.shared = nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.norm(self.first(x))).tanh()
        return self.last(self.shared(self.frozen(self.shared(x)).tanh()))


def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield (
            torch.randn(ROWS, 5, dtype=torch.float64, generator=generator),
            torch.randint(0, 3, (ROWS,), generator=generator),
        )


def setup(
    optimizer: type[optim.Optimizer] = optim.SGD,
    *,
    net: type[nn.Module] = Net,
    recipe: Recipe = PLAIN,
    **args: Any,
) -> Setup:
    torch.manual_seed(0)
    model = net().double()
    trained = [p for p in model.parameters() if p.requires_grad]
    torch.manual_seed(1)
    return Setup(model, optimizer(trained, lr=1e-3, **args), nn.functional.cross_entropy, batches(2), recipe)


def alone(
    lr: np.ndarray, *, momenta: np.ndarray | None = None, **args: Any
) -> tuple[np.ndarray, list[nn.Module]]:
    losses, models = [], []
    for lane in range(lr.shape[1]):
        parts = setup(**args)
        losses.append([step.loss for step in train(parts, lr[:, lane], momentum=momenta)])
        models.append(parts.model)
    return np.array(losses).T, models


def assert_same(stack: Stack, models: list[nn.Module]) -> None:
    for lane, model in enumerate(models):
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(
                    stack.parameters[name][lane], parameter.detach(), rtol=1e-9, atol=1e-11
                )
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(stack.buffers[name][lane], buffer, rtol=1e-9, atol=1e-11)


OPTIONS: list[dict[str, Any]] = [
    *({"optimizer": kind} for kind in STACKABLE),
    {"optimizer": optim.SGD, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    {"optimizer": optim.SGD, "momentum": 0.8, "dampening": 0.3, "fused": True},
    {"optimizer": optim.Adam, "amsgrad": True, "weight_decay": 0.1, "fused": True},
    {"optimizer": optim.AdamW, "weight_decay": 0.3, "foreach": False},
    {"optimizer": optim.RMSprop, "momentum": 0.5, "centered": True},
    {"optimizer": optim.Adagrad, "lr_decay": 0.1, "initial_accumulator_value": 0.1},
    {"optimizer": optim.SGD, "recipe": Recipe(clip_norm=0.05)},
    {"optimizer": optim.Adam, "recipe": Recipe(clip_value=0.02), "fused": True},
    {"optimizer": optim.SGD, "recipe": Recipe(accumulate=2, l1=0.03), "momentum": 0.9},
    {"optimizer": optim.AdamW, "recipe": Recipe(2, l1=0.03, clip_value=0.02, clip_norm=0.05)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
@given(lrs=st.lists(st.floats(1e-5, 1e-2), min_size=2, max_size=4), falling=st.booleans())
def test_stacked_lanes_are_lanes_one_by_one(options: dict[str, Any], lrs: list[float], falling: bool) -> None:
    assert_stacked_as_alone(
        np.outer(np.linspace(1, 0.2, STEPS) if falling else np.ones(STEPS), lrs), options, trace=False
    )


@pytest.mark.parametrize("options", OPTIONS[::4], ids=str)
def test_recorded_steps_are_steps(options: dict[str, Any]) -> None:
    assert_stacked_as_alone(np.full((STEPS, 3), [1e-4, 1e-3, 1e-2]), options, trace=True)


def assert_stacked_as_alone(lr: np.ndarray, options: dict[str, Any], trace: bool) -> None:
    losses, models = alone(lr, **options)
    stack = Stack(setup(**options), lr.shape[1], trace=trace)
    np.testing.assert_allclose(stack.train(lr), losses, rtol=1e-10)
    assert_same(stack, models)
    assert why_not_stackable(setup(**options)) is None


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.RMSprop])
def test_a_momentum_that_moves_does_so_in_every_lane(kind: type[optim.Optimizer], trace: bool) -> None:
    lr, momentum = np.full((STEPS, 3), [1e-4, 1e-3, 1e-2]), np.linspace(0.95, 0.5, STEPS)
    losses, models = alone(lr, momenta=momentum, optimizer=kind)
    stack = Stack(setup(kind), 3, trace=trace)
    parts = [stack.train(lr[part], momentum[part]) for part in (slice(3), slice(3, STEPS))]
    np.testing.assert_allclose(np.concatenate(parts), losses, rtol=1e-10)
    assert_same(stack, models)


@pytest.mark.parametrize("multipliers", [None, (0.2, 20, 2)])
def test_param_groups_keep_the_ratios_of_their_lrs(multipliers: tuple[float, ...] | None) -> None:
    def grouped() -> Setup:
        parts = setup()
        layers = dict(parts.model.named_children())
        groups = [
            {"params": layers["first"].parameters()},
            {"params": layers["frozen"].parameters(), "lr": 1e-1},  # none of them requires a gradient
            {"params": layers["last"].parameters(), "lr": 1e-2},
        ]
        for group, multiplier in zip(groups, multipliers or (), strict=multipliers is not None):
            group[MULTIPLIER] = multiplier
        return replace(parts, optimizer=optim.SGD(groups, lr=1e-3, momentum=0.9))

    lr = np.full((STEPS, 2), [1e-3, 3e-3])
    models = []
    for lane in range(2):
        parts = grouped()
        list(train(parts, lr[:, lane]))
        models.append(parts.model)
    stack = Stack(grouped(), 2)
    stack.train(lr)
    for lane, model in enumerate(models):
        parameters = dict(model.named_parameters())
        assert set(stack.parameters) == {n for n in parameters if n.startswith(("first", "last"))}
        for name, tensor in stack.parameters.items():
            torch.testing.assert_close(tensor[lane], parameters[name].detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("trace", [False, True])
def test_a_lane_that_blows_up_leaves_its_neighbours_alone(trace: bool) -> None:
    class Quadratic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) ** 3 * 10

    lr = np.full((STEPS, 3), [1e-4, 1e30, 2e-4])
    losses, models = alone(lr[:, ::2], net=Quadratic)
    stack = Stack(setup(net=Quadratic), 3, trace=trace)
    stacked_losses = stack.train(lr)
    assert not np.isfinite(stacked_losses[-1, 1])
    np.testing.assert_allclose(stacked_losses[:, ::2], losses, rtol=1e-9)
    stack.keep([0, 2])
    assert_same(stack, models)


@pytest.mark.parametrize("options", OPTIONS[:: len(OPTIONS) // 6], ids=str)
def test_a_smaller_stack_carries_the_optimizers_state(options: dict[str, Any]) -> None:
    lr = np.full((STEPS, 3), [1e-3, 3e-3, 1e-2])
    losses, models = alone(lr, **options)
    stack = Stack(setup(**options), 3, trace=True)
    stack.train(lr[:5])
    stack.keep([2, 0])
    np.testing.assert_allclose(stack.train(lr[5:, [2, 0]]), losses[5:, [2, 0]], rtol=1e-9)
    assert_same(stack, [models[2], models[0]])


@pytest.mark.parametrize("options", [row for row in OPTIONS if row.get("fused")], ids=str)
@pytest.mark.parametrize("multipliers", [(1.0, 1.0), (0.2, 20.0)])
def test_large_lanes_take_steps_of_their_own(
    options: dict[str, Any], multipliers: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"lr": 1e-3} | {
        key: value for key, value in options.items() if key not in ("optimizer", "recipe")
    }

    def parts() -> Setup:
        lane = setup(**options)
        trained = [p for p in lane.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim == axes], MULTIPLIER: multiplier}
            for axes, multiplier in zip((1, 2), multipliers, strict=True)
        ]
        return replace(lane, optimizer=type(lane.optimizer)(groups, **arguments))

    monkeypatch.setattr(stack_update, "LARGE_LANE", 0)
    lr, momentum = np.full((STEPS, 3), [1e-4, 3e-4, 1e-3]), np.linspace(0.9, 0.5, STEPS)
    losses, models = [], []
    for lane in range(3):
        one = parts()
        losses.append([step.loss for step in train(one, lr[:, lane], momentum=momentum)])
        models.append(one.model)
    stack = Stack(parts(), 3, trace=True)
    assert isinstance(stack._update, stack_update.LaneSteps)
    np.testing.assert_allclose(stack.train(lr[:5], momentum[:5]), np.transpose(losses)[:5], rtol=1e-10)
    stack.keep([2, 0])
    rest = stack.train(lr[5:, [2, 0]], momentum[5:])
    np.testing.assert_allclose(rest, np.transpose(losses)[5:, [2, 0]], rtol=1e-10)
    assert_same(stack, [models[2], models[0]])


def test_only_large_lanes_of_a_mode_that_nobody_named_take_steps_of_their_own() -> None:
    def update() -> stack_update.StackUpdate:
        torch.manual_seed(0)
        model = MLP(200, 10, (400,))
        optimizer = optim.SGD(model.parameters(), lr=0.1, fused=True)
        return Stack(Setup(model, optimizer, nn.CrossEntropyLoss(), iter(())), 2)._update

    assert isinstance(update(), stack_update.LaneSteps)
    with digits_as_usual():
        assert isinstance(update(), stack_update.CommonStep)
    assert isinstance(Stack(setup(fused=True), 2)._update, stack_update.CommonStep)


def test_evaluation_sees_each_lanes_own_weights_and_statistics() -> None:
    lr = np.full((STEPS, 2), [1e-3, 3e-2])
    held_out = [next(batches(9)) for _ in range(2)]
    stack = Stack(setup(), 2)
    stack.train(lr)
    val_loss, accuracy, metric = stack.evaluate(held_out)
    assert accuracy is not None
    assert metric == "accuracy"
    for lane in range(2):
        parts = setup()
        list(train(parts, lr[:, lane]))
        with evaluating(parts.model), torch.no_grad():
            loss, share, _ = evaluate(partial(score, parts.model, parts.loss_fn), held_out)
        assert (val_loss[lane], accuracy[lane]) == (pytest.approx(loss[0], rel=1e-9), share[0])
    assert stack.setup.model.training


def test_batches_of_many_shapes_are_trained_without_a_recording() -> None:
    def ragged() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in range(2, 20):
            x, y = next(batches(rows))
            yield x.repeat(rows, 1), y.repeat(rows)

    lr = np.full((STEPS, 2), [1e-3, 1e-2])
    expected = [[s.loss for s in train(replace(setup(), batches=ragged()), lr[:, i])] for i in range(2)]
    stack = Stack(replace(setup(), batches=ragged()), 2, trace=True)
    np.testing.assert_allclose(stack.train(lr), np.array(expected).T, rtol=1e-10)


def test_only_modules_without_python_state_are_recorded() -> None:
    def parts(model: nn.Module, loss: Any = nn.functional.cross_entropy) -> Setup:
        return Setup(model, optim.SGD(model.parameters()), loss, iter(()))

    assert traceable(parts(MLP(5, 3), nn.CrossEntropyLoss()))
    assert traceable(parts(nn.Sequential(nn.Linear(5, 3))))
    assert not traceable(parts(Net()))
    assert not traceable(parts(MLP(5, 3), lambda output, y: output.mean()))
    hooked = MLP(5, 3)
    hooked.register_forward_hook(lambda *_: None)
    assert not traceable(parts(hooked))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": optim.ASGD}, "ASGD is not an optimizer whose update is linear in the lr"),
        ({"optimizer": optim.Rprop}, "Rprop"),
        ({"optimizer": optim.Adam, "differentiable": True}, "is differentiable"),
        ({"optimizer": optim.Adam, "capturable": True}, "is capturable"),
    ],
)
def test_the_reason_against_stacking_is_given(options: dict[str, Any], words: str) -> None:
    reason = why_not_stackable(setup(**options))
    assert reason is not None
    assert words in reason


def test_float16_and_a_param_group_that_moves_alone_are_not_stacked() -> None:
    assert "float16 scales the loss" in str(why_not_stackable(setup(recipe=Recipe(precision="float16"))))
    assert "only one param group moves" in str(why_not_stackable(replace(setup(), group=0)))
    assert why_not_stackable(setup(recipe=Recipe(2, "bfloat16", 0.1, 1.0, 1.0))) is None


@pytest.mark.parametrize("trace", [False, True])
def test_stacked_lanes_in_bfloat16_are_lanes_one_by_one(trace: bool) -> None:
    def parts(precision: Precision) -> Setup:
        torch.manual_seed(0)
        model = MLP(5, 3)
        in_float32 = ((x.float(), y) for x, y in batches(2))
        optimizer = optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
        return Setup(model, optimizer, nn.functional.cross_entropy, in_float32, Recipe(2, precision))

    lr = np.full((STEPS, 2), [1e-3, 3e-2])
    stack = Stack(parts("bfloat16"), 2, trace=trace)
    stacked_losses = stack.train(lr)
    assert (stacked_losses != Stack(parts("float32"), 2, trace=trace).train(lr)).all()
    for lane in range(2):
        single_setup = parts("bfloat16")
        losses = [step.loss for step in train(single_setup, lr[:, lane])]
        np.testing.assert_allclose(stacked_losses[:, lane], losses, rtol=3e-3)
        for name, parameter in single_setup.model.named_parameters():
            assert stack.parameters[name].dtype == torch.float32
            torch.testing.assert_close(stack.parameters[name][lane], parameter.detach(), rtol=0, atol=5e-3)


def test_lanes_of_a_users_model_with_batch_norm_pass_the_check_and_are_lanes_one_by_one() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 3)).double()
    optimizer = optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    first = batches(2)
    loader = [next(first) for _ in range(STEPS)]
    objects = objects_of(model, optimizer, nn.CrossEntropyLoss(), loader)
    with preserved(objects.trained, objects.all_data) as snapshot:
        problem = from_objects(objects, snapshot)
        assert isinstance(checked_stack(problem, 2, 0.01, 3, compile=False), Stack)
        lr = np.full((STEPS, 2), [1e-3, 3e-2])
        stack = Stack(problem.setup(3), 2)
        stacked_losses = stack.train(lr)
        for lane in range(2):
            losses = [step.loss for step in train(problem.setup(3), lr[:, lane])]
            np.testing.assert_allclose(stacked_losses[:, lane], losses, rtol=1e-10)
            for name, tensor in model.state_dict().items():
                ours = {**stack.parameters, **stack.buffers}[name][lane]
                torch.testing.assert_close(ours, tensor, rtol=1e-10, atol=1e-12)


def test_an_optimizer_with_a_past_is_not_stacked() -> None:
    used = setup(optim.Adam)
    list(train(used, np.full(2, 1e-3)))
    assert "state from earlier" in str(why_not_stackable(used))
    hooked = setup(optim.Adam)
    hooked.optimizer.register_step_post_hook(lambda *_: None)
    assert "has hooks" in str(why_not_stackable(hooked))
    assert why_not_stackable(setup(optim.Adam)) is None
