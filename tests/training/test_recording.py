"""Recorded steps against steps that torch computes as usual: the same to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrfind.problem.setup import PLAIN, Recipe, Setup
from lrfind.training.backward import MOST_KINDS, Backward
from lrfind.training.loop import train
from lrfind.training.program import UnrecordableError
from lrfind.training.recording import MOST_RECORDINGS, record
from lrfind.training.stack import Stack

STEPS, ROWS = 5, 6


class Tied(nn.Sequential):
    """An autoencoder whose two layers share their weight."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(12, 12), nn.GELU(), nn.Linear(12, 12))
        self[2].weight = self[0].weight


Tied.__module__ = "torch.nn.tied"  # as if it were torch's own
RECORDED: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: nn.Sequential(nn.Linear(12, 9), nn.Dropout(0.4), nn.ReLU(), nn.Linear(9, 12)),
    "batch norm": lambda: nn.Sequential(nn.Linear(12, 9), nn.BatchNorm1d(9), nn.SiLU(), nn.Linear(9, 12)),
    "convolutions": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 3, 4)),
        nn.Conv2d(1, 4, 2).to(memory_format=torch.channels_last),
        nn.MaxPool2d(2, 1),
        nn.ConvTranspose2d(4, 2, 2),
        nn.Flatten(),
        nn.LazyLinear(12),
    ),
    "attention": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 4)), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Flatten()
    ),
    "tied": Tied,
    "group norm": lambda: nn.Sequential(nn.Linear(12, 8), nn.GroupNorm(2, 8), nn.PReLU(), nn.Linear(8, 12)),
    "frozen": lambda: nn.Sequential(nn.Linear(12, 12).requires_grad_(False), nn.Tanh(), nn.Linear(12, 12)),
}
USUAL: dict[str, Callable[[], nn.Module]] = {
    "averaging batch norm": lambda: nn.Sequential(nn.Linear(12, 12), nn.BatchNorm1d(12, momentum=None)),
    "lstm": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 4)), nn.LSTM(4, 4, batch_first=True), First(), nn.Flatten()
    ),
    "unused": lambda: nn.Sequential(nn.Linear(12, 12), Unused()),
    "in place": lambda: nn.Sequential(nn.SiLU(inplace=True), nn.Linear(12, 12)),
    "own forward": lambda: with_forward(nn.Sequential(nn.Linear(12, 12), nn.ReLU()), Growing()),
    "forward in disguise": lambda: with_forward(
        nn.Sequential(nn.Linear(12, 12), nn.ReLU()),
        wraps(nn.functional.relu)(partial(Growing.__call__, Growing())),
    ),
    "own activation": lambda: nn.Sequential(
        nn.Unflatten(1, (3, 4)),
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, activation=Growing()),
        nn.Flatten(),
    ),
    "own layer with a norm of torch": lambda: nn.utils.parametrizations.weight_norm(GrowingLinear()),
}


class Growing:
    """A function that does more at every call."""

    calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.relu() * self.calls


class GrowingLinear(nn.Linear):
    def __init__(self) -> None:
        super().__init__(12, 12)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * self.calls


def with_forward(model: nn.Sequential, forward: Any) -> nn.Sequential:
    model[1].forward = forward
    return model


class First(nn.Module):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0]


class Unused(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x


First.__module__ = Unused.__module__ = "torch.nn.own"


def batches(seed: int, sizes: tuple[int, ...] = (ROWS,)) -> Iterator[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(100, 24, generator=generator)
    while True:
        for size in sizes:
            start = int(torch.randint(0, 90, (), generator=generator))
            yield [table[start : start + size, :12].contiguous(), table[start : start + size, 12:]]


def setup(model: Callable[[], nn.Module], recipe: Recipe = PLAIN, **options: Any) -> Setup:
    torch.manual_seed(0)
    net = model()
    net(next(batches(0))[0])
    trained = [p for p in net.parameters() if p.requires_grad]
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    return Setup(net, optimizer, nn.functional.mse_loss, batches(2, **options), recipe)


def plain(parts: Setup, clip: float | None = None) -> list[float]:
    """Train with a plain loop of torch and return the losses."""
    losses = []
    for _ in range(STEPS):
        x, y = next(parts.batches)
        with parts.casting():
            loss = parts.loss_fn(parts.model(x), y)
        parts.optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(parts.model.parameters(), clip)
        parts.optimizer.step()
        losses.append(loss.item())
    return losses


def state(parts: Setup) -> list[Tensor]:
    return [*parts.model.state_dict().values(), torch.get_rng_state()]


def assert_same(ours: Setup, theirs: Setup) -> None:
    assert all(torch.equal(a, b) for a, b in zip(state(ours), state(theirs), strict=True))


@pytest.mark.parametrize("name", [*RECORDED, *USUAL])
def test_a_recorded_step_equals_the_usual_one_to_the_last_bit(name: str) -> None:
    model = {**RECORDED, **USUAL}[name]
    reference = setup(model)
    expected = plain(reference)
    reference_state = [tensor.clone() for tensor in state(reference)]
    parts = setup(model)
    losses = [step.loss for step in train(parts, np.full(STEPS, 0.1))]
    assert losses == expected
    assert all(torch.equal(a, b) for a, b in zip(state(parts), reference_state, strict=True))
    recorded = [recordings for recordings in parts.recordings.values() if recordings]
    assert len(recorded) == (name in RECORDED)


@pytest.mark.parametrize(
    ("recipe", "clip"), [(Recipe(clip_norm=0.05), 0.05), (Recipe(precision="bfloat16"), None)]
)
def test_a_recorded_step_keeps_to_its_recipe(recipe: Recipe, clip: float | None) -> None:
    expected = plain(setup(RECORDED["dropout"], recipe), clip)
    parts = setup(RECORDED["dropout"], recipe)
    assert [step.loss for step in train(parts, np.full(STEPS, 0.1))] == expected
    assert any(parts.recordings.values())


def test_every_layout_of_a_batch_has_a_recording_of_its_own_up_to_a_number() -> None:
    sizes = tuple(range(2, 4 + MOST_RECORDINGS))
    expected = plain(setup(RECORDED["dropout"], sizes=sizes))
    parts = setup(RECORDED["dropout"], sizes=sizes)
    assert [step.loss for step in train(parts, np.full(STEPS, 0.1))] == expected
    (recordings,) = parts.recordings.values()
    assert len(recordings) == MOST_RECORDINGS


@pytest.mark.parametrize("hook", ["module", "parameter", "every module"])
def test_a_step_with_hooks_is_not_recorded(hook: str) -> None:
    parts, calls = setup(RECORDED["dropout"]), list[int]()
    if hook == "module":
        handle = parts.model[0].register_forward_hook(lambda *_: calls.append(1))
    elif hook == "parameter":
        handle = parts.model[0].weight.register_hook(lambda gradient: calls.append(1))
    else:
        handle = nn.modules.module.register_module_forward_hook(
            lambda module, *_: calls.append(1) if module is parts.model else None
        )
    with handle:
        for _ in train(parts, np.full(STEPS, 0.1)):
            pass
    assert len(calls) == STEPS


class Own(torch.optim.SGD):
    """An optimizer that keeps half of each gradient, moves a weight in memory, or freezes one."""

    def __init__(self, parameters: list[Tensor], habit: str) -> None:
        super().__init__(parameters, lr=0.1)
        self.habit, self.parameters = habit, parameters

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.parameters:
            if self.habit == "keeps" and parameter.grad is not None:
                parameter.grad.mul_(0.5)
            else:
                parameter.grad = None

    def step(self, closure: Any = None) -> None:
        super().step()
        if self.habit == "moves":
            self.parameters[0].data = self.parameters[0].data.t().contiguous().t()
        if self.habit == "freezes":
            self.parameters[0].requires_grad_(False)


class Usual(Own):
    zero_grad = torch.optim.Optimizer.zero_grad  # so that it is recorded


@pytest.mark.parametrize(("kind", "habit"), [(Own, "keeps"), (Usual, "moves"), (Usual, "freezes")])
def test_an_optimizer_may_change_more_than_the_weights(kind: type[Own], habit: str) -> None:
    both = [setup(RECORDED["batch norm"]) for _ in range(2)]
    theirs, ours = (replace(parts, optimizer=kind([*parts.model.parameters()], habit)) for parts in both)
    expected = plain(theirs)
    assert [step.loss for step in train(ours, np.full(STEPS, 0.1))] == expected
    pairs = zip(ours.model.state_dict().values(), theirs.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


CHANGES: dict[str, Callable[[Setup], object]] = {
    "rate": lambda parts: setattr(parts.model[2], "p", 0.7),
    "mode": lambda parts: parts.model[1].eval(),
    "another module": lambda parts: parts.model.__setitem__(3, nn.Tanh()),
    "loss": lambda parts: setattr(parts.loss_fn, "beta", 0.1),
    "attribute is gone": lambda parts: delattr(parts.model[3], "inplace"),
    "class weights": lambda parts: setattr(parts.loss_fn, "weight", torch.linspace(0, 2, 12)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_recorded_step_sees_what_other_code_changes_in_modules(name: str) -> None:
    def changed() -> Setup:
        parts = setup(
            lambda: nn.Sequential(
                nn.Linear(12, 9), nn.BatchNorm1d(9), nn.Dropout(0.2), nn.Softplus(), nn.Linear(9, 12)
            )
        )
        parts.model[3].inplace = True  # an attribute that torch does not read
        loss = nn.CrossEntropyLoss(torch.ones(12)) if name == "class weights" else nn.SmoothL1Loss()
        batches = drawn(parts.batches, lambda: CHANGES[name](parts))
        parts = replace(parts, loss_fn=loss, batches=batches)
        return parts

    def drawn(batches: Iterator[list[Tensor]], change: Callable[[], object]) -> Iterator[list[Tensor]]:
        for step, (x, y) in enumerate(batches):
            if step == 3:
                change()
            yield [x, y.argmax(1) if name == "class weights" else y]

    expected = plain(changed())
    ours = changed()
    assert [step.loss for step in train(ours, np.full(STEPS, 0.1))] == expected
    assert any(ours.recordings.values())
    stack = Stack(changed(), 2)
    assert np.allclose(stack.train(np.full((STEPS, 2), 0.1)).T, expected, rtol=1e-4)
    assert any(stack.setup.recordings.values()) == (name != "class weights")  # a stack cannot record these


def test_a_module_that_changes_at_every_step_is_not_recorded_for_ever() -> None:
    parts = setup(RECORDED["dropout"])
    for step in range(MOST_KINDS + 5):
        parts.model[1].p = step / 100
        Backward(parts)()
    assert len(parts.recordings) == MOST_KINDS


def test_parameters_outside_of_the_model_are_trained_as_usual() -> None:
    def run(parts: Setup, steps: Callable[[Setup], list[float]]) -> tuple[list[float], Tensor]:
        scale = nn.Parameter(torch.ones(12))
        optimizer = torch.optim.SGD([*parts.model.parameters(), scale], lr=0.1)
        drawn = ((x * scale, y) for x, y in parts.batches)
        return steps(replace(parts, optimizer=optimizer, batches=drawn)), scale

    expected, scale = run(setup(RECORDED["tied"]), plain)
    losses, ours = run(
        setup(RECORDED["tied"]), lambda parts: [s.loss for s in train(parts, np.full(STEPS, 0.1))]
    )
    assert losses == expected
    assert torch.equal(ours, scale)


def test_a_mistake_in_a_later_batch_is_raised_where_it_happens_as_usual() -> None:
    parts = setup(lambda: nn.Sequential(nn.Linear(12, 3)))
    targets = iter([0, 1, 2, 9])
    drawn = ((x, torch.full((ROWS,), next(targets))) for x, _ in parts.batches)
    parts = replace(parts, batches=drawn, loss_fn=nn.functional.cross_entropy)
    with pytest.raises(IndexError, match="out of bounds") as caught:
        [*train(parts, np.full(4, 0.1))]
    assert any(parts.recordings.values())
    assert "output_and_loss" in [entry.name for entry in caught.traceback]


@pytest.mark.parametrize("loss_fn", [torch.dist, torch.Tensor.dist, eval("lambda a, b: a.dist(b)", {})])
def test_a_loss_may_belong_to_no_module(loss_fn: Any) -> None:
    parts = replace(setup(RECORDED["tied"]), loss_fn=loss_fn)
    assert len([*train(parts, np.full(STEPS, 0.1))]) == STEPS


def test_a_mistake_in_a_batch_is_raised_as_usual_after_one_forward() -> None:
    parts = setup(RECORDED["batch norm"])
    x, _ = next(parts.batches)
    mistaken = replace(parts, batches=iter([(x, torch.randn(ROWS, 5))]))
    before = int(parts.model[1].num_batches_tracked)
    with pytest.raises(RuntimeError, match="must match"), pytest.warns(UserWarning, match="target size"):
        Backward(mistaken)()
    assert parts.model[1].num_batches_tracked == before + 1


def test_what_does_not_depend_on_the_inputs_and_what_is_equal_is_computed_once() -> None:
    x = torch.randn(3, 4)

    def step(x: Tensor) -> list[Tensor]:
        ones = torch.ones_like(x) * 2
        return [x.sin() + ones, x.sin() * x.t().reshape(3, 4), ones, x]

    outputs, replay = record(step, [x], [])
    assert all(torch.equal(a, b) for a, b in zip(outputs, step(x), strict=True))
    operations = [name for name in replay.__code__.co_names if name.startswith("object_")]
    called = [str(replay.__globals__[name]) for name in operations]
    assert sum("sin" in name for name in called) == 1
    assert not any("ones_like" in name for name in called)
    other = torch.randn(5, 4)[1:4]  # it begins elsewhere in its storage
    results = replay(other)
    assert all(torch.equal(a, b) for a, b in zip(results, step(other), strict=True))
    results[2].zero_(), results[3].zero_()  # outputs are the caller's own
    assert all(torch.equal(a, b) for a, b in zip(replay(x), step(x), strict=True))


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (lambda x: [x * float(x.sum())], "decide"),
        (lambda x: [x[x > 0]], "decide"),
        (lambda x: [x.nonzero()], "decide"),
        (lambda x: [torch.view_as_real(x.to(torch.complex64))], "view"),
        (lambda x: [x[1:].exp_()], "in place"),
    ],
)
def test_what_a_replay_would_not_repeat_is_refused(step: Callable[..., list[Tensor]], reason: str) -> None:
    state_before, x = torch.get_rng_state(), torch.randn(4)
    before = x.clone()
    with pytest.raises(UnrecordableError, match=reason):
        record(step, [x], [])
    assert torch.equal(x, before)
    assert not torch.equal(state_before, torch.get_rng_state())


def test_a_failed_recording_puts_buffers_and_generators_back() -> None:
    x, count = torch.randn(4), torch.zeros(1)

    def step(x: Tensor, count: Tensor) -> list[Tensor]:
        count += 1
        return [x * torch.rand(4) * float(x.sum())]

    before = torch.get_rng_state()
    with pytest.raises(UnrecordableError):
        record(step, [x, count], [count])
    assert count == 0
    assert torch.equal(before, torch.get_rng_state())


def test_a_replay_changes_tensors_in_place_and_draws_anew() -> None:
    def step(x: Tensor, count: Tensor) -> list[Tensor]:
        count += 1
        return [x + torch.rand(4), count * 2]

    x, count = torch.randn(4), torch.zeros(1)
    _, replay = record(step, [x, count], [count])
    assert count == 1
    torch.manual_seed(3)
    first, second = replay(x, count), replay(x, count)
    torch.manual_seed(3)
    assert torch.equal(first[0], x + torch.rand(4))
    assert torch.equal(second[0], x + torch.rand(4))
    assert (count, second[1]) == (3, 6)
