"""The range test on a user's own objects: what it answers, and that it leaves no trace."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

import lrfind
from tests.helpers.worlds import OPTIMIZERS, World, data


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("trained", [False, True])
def test_everything_is_bit_for_bit_as_it_was_and_training_goes_on_the_same(
    optimizer: str, trained: bool
) -> None:
    plain, tested = World(optimizer), World(optimizer)
    if trained:
        assert plain.train(seed=7) == tested.train(seed=7)
    before = tested.state()
    result = tested.test(seeds=2, grad_norm=True)
    assert result.losses.size >= 10
    assert tested.state() == before
    assert plain.train(seed=11) == tested.train(seed=11)
    for ours, theirs in zip(tested.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_everything_is_as_it_was_also_after_an_exception() -> None:
    world = World("adam")
    world.train()
    calls = 0

    def breaks(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 7:
            torch.set_num_threads(1)
            raise ZeroDivisionError("on purpose")
        return nn.functional.cross_entropy(output, y)

    before = world.state()
    with pytest.raises(lrfind.LrfindError, match="at step 6, lr .*ZeroDivisionError: on purpose"):
        lrfind.range_test(world.model, world.optimizer, breaks, world.loader, steps=20)
    assert world.state() == before


def test_hooks_and_a_scheduler_stay_attached() -> None:
    world = World("adam")
    scheduler = torch.optim.lr_scheduler.StepLR(world.optimizer, step_size=1, gamma=0.5)
    fired = []
    world.model.register_forward_hook(lambda *_: fired.append(1))
    world.test(steps=5)
    assert len(fired) == 6  # the first pass compares the shapes of output and y
    world.train()
    scheduler.step()
    assert world.optimizer.param_groups[0]["lr"] == 0.005


def test_the_same_seed_gives_the_same_curve_and_another_seed_another() -> None:
    world = World("adam")
    first, again, other = world.test(), world.test(), world.test(seed=1)
    np.testing.assert_array_equal(first.losses, again.losses)
    assert not np.array_equal(first.losses[:10], other.losses[:10])


def test_the_first_loss_is_that_of_the_untouched_model() -> None:
    model, rows = nn.Linear(4, 1), [(torch.ones(5, 4), torch.zeros(5, 1))]
    expected = nn.functional.mse_loss(model(rows[0][0]), rows[0][1]).item()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    result = lrfind.range_test(model, optimizer, nn.functional.mse_loss, rows, steps=10, end_lr=0.1)
    assert result.losses[0] == expected
    assert (result.lrs[0], result.lrs[-1], result.lrs.size) == (1e-6, 0.1, 10)


def test_the_lr_reported_is_what_the_optimizer_used() -> None:
    world, used = World("sgd with momentum"), []
    step = world.optimizer.step

    def recording(*arguments: Any) -> Any:
        used.append(world.optimizer.param_groups[0]["lr"])
        return step(*arguments)

    world.optimizer.step = recording
    result = world.test(end_lr=0.1)
    assert used == result.lrs.tolist()
    assert world.optimizer.step is recording


def test_several_inputs_dicts_and_data_without_length_work() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 1), nn.Linear(2, 1)

        def forward(self, a: torch.Tensor, b: torch.Tensor, y: torch.Tensor | None = None) -> Any:
            out = self.a(a) + self.b(b)
            return out if y is None else {"loss": (out - y).square().mean()}

    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            for _ in range(60):
                a, b = torch.randn(3), torch.randn(2)
                yield a, b, a.sum(dim=0, keepdim=True)

    torch.manual_seed(0)
    model = Own()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    options: dict[str, Any] = {"steps": 60, "start_lr": 1e-4, "end_lr": 30.0}
    mse = nn.functional.mse_loss
    tuples = lrfind.range_test(model, optimizer, mse, DataLoader(Endless(), batch_size=20), **options)
    a, b = torch.randn(20, 3), torch.randn(20, 2)
    batch = {"a": a, "b": b, "y": a.sum(dim=1, keepdim=True)}
    dicts = lrfind.range_test(model, optimizer, None, [batch], **options)
    for result in (tuples, dicts):
        assert 1e-3 < result.suggest().lr < 1


class Stubborn(dict):
    """A mapping that refuses to be changed, as some libraries' configs do."""

    def update(self, *_: Any, **__: Any) -> None:
        raise TypeError("frozen")

    clear = update


class Odd(nn.Module):
    """Holds what a module may hold beside parameters, and changes all of it in `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.register_buffer("grown", torch.zeros(2))
        self.register_buffer("expanded", torch.zeros(1).expand(4))
        self.config = Stubborn(a=1)
        self.ordered = OrderedDict(a=1, b=2)
        self.fixed = np.zeros(2)
        self.fixed.flags.writeable = False
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.array = np.zeros(3)
        self.generator = torch.Generator().manual_seed(4)
        self.queue = deque([1, 2], maxlen=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.grown.resize_(len(self.grown) + 1)
        self.array += 1
        self.queue.append(3)
        self.ordered["n"] = 1
        self.layer.weight.requires_grad_(True)
        return self.layer(x) + torch.rand(1, generator=self.generator)


def test_odd_things_on_a_module_are_put_back_too() -> None:
    model = Odd()
    criterion = nn.BatchNorm1d(3)
    optimizer = torch.optim.SGD([*model.parameters(), *criterion.parameters()], lr=0.1)
    before = (model.layer.weight.clone(), model.generator.get_state().tolist(), id(model.grown))
    state = torch.get_rng_state()
    lrfind.range_test(model, optimizer, lambda o, y: nn.functional.cross_entropy(criterion(o), y),
                      DataLoader(data(), batch_size=30), steps=8, end_lr=0.1)  # fmt: skip
    assert torch.equal(model.layer.weight, before[0])
    assert model.generator.get_state().tolist() == before[1]
    assert (id(model.grown), model.grown.shape) == (before[2], (2,))
    assert (dict(model.config), model.array.tolist(), list(model.queue)) == ({"a": 1}, [0, 0, 0], [1, 2])
    assert list(model.ordered.items()) == [("a", 1), ("b", 2)]
    assert criterion.running_mean.tolist() == [0, 0, 0]
    assert criterion.weight.grad is None
    assert torch.equal(torch.get_rng_state(), state)


def test_a_hook_that_removes_itself_is_there_again() -> None:
    world, fired = World("adam"), []

    def once(*_: Any) -> None:
        fired.append(1)
        handle.remove()

    handle = world.model.register_forward_hook(once)
    world.test(steps=3, seeds=2, end_lr=0.1)
    world.model(torch.zeros(2, 6))
    assert len(fired) == 4  # once as shapes are compared, once in each lane, once more afterwards


def held_in(criterion: nn.Module) -> list[Any]:
    """Loss functions that hold a module in the usual ways."""

    class Holder:
        def __init__(self) -> None:
            self.inner, self.itself = criterion, self

        def __call__(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(self.inner(output), y)

    def loss(output: torch.Tensor, y: torch.Tensor, inner: nn.Module = criterion) -> torch.Tensor:
        return nn.functional.cross_entropy(inner(output), y)

    return [
        Holder(),
        Holder().__call__,
        loss,
        partial(loss, inner=criterion),
        lambda o, y: loss(o, y, criterion),
    ]


@pytest.mark.filterwarnings("ignore:the loss has weights")
@pytest.mark.parametrize("which", range(5))
def test_modules_that_a_loss_function_holds_are_put_back(which: int) -> None:
    world, criterion = World("adam"), nn.BatchNorm1d(3)
    lrfind.range_test(
        world.model, world.optimizer, held_in(criterion)[which], world.loader, steps=3, end_lr=0.1
    )
    assert criterion.running_mean.tolist() == [0, 0, 0]
    assert criterion.weight.grad is None


def test_workers_and_wrapped_data_sets_work_and_their_generators_are_put_back() -> None:
    world = World("adam")
    base = data()
    base.generator = np.random.Generator(np.random.MT19937(3))
    loader = DataLoader(Subset(base, range(60)), batch_size=15, num_workers=1, persistent_workers=True)
    state = base.generator.bit_generator.state["state"]["pos"]
    result = lrfind.range_test(world.model, world.optimizer, world.loss_fn, loader, steps=6, end_lr=0.1)
    assert result.losses.size == 6
    assert base.generator.bit_generator.state["state"]["pos"] == state
    assert loader._iterator is None


@pytest.mark.parametrize(
    ("swap", "message"),
    [
        ({"model": len}, "model must be a torch module; found an object of type builtin"),
        ({"optimizer": torch.optim.SGD}, "optimizer must be a torch optimizer; found an object of type type"),
        (
            {"optimizer": torch.nn.MSELoss()},
            "MSELoss. The order of the arguments is model, optimizer, loss_fn",
        ),
        ({"optimizer": torch.optim.SGD([torch.zeros(1)], 0.1)}, "none of the model's parameters"),
        (
            {
                "model": (empty := torch.nn.Linear(2, 1, device="meta")),
                "optimizer": torch.optim.Adam(empty.parameters()),
            },
            "the model's weight 'weight' is on the device 'meta', where weights have no values",
        ),
        ({"data": data()}, "wrap it in a DataLoader"),
        (
            {"loss_fn": [], "data": torch.nn.MSELoss()},
            "found an object of type list. The order of the arguments is model, optimizer, loss_fn, data",
        ),
        (
            {"data": 5},
            "data must yield batches, or be a function that returns the next one; found an object of type int",
        ),
    ],
)
def test_what_no_test_can_be_made_of_is_refused(swap: dict[str, Any], message: str) -> None:
    world = World("adam")
    parts = {
        "model": world.model,
        "optimizer": world.optimizer,
        "loss_fn": world.loss_fn,
        "data": world.loader,
    }
    with pytest.raises(lrfind.UsageError, match=message):
        lrfind.range_test(**(parts | swap))


def test_lbfgs_is_refused() -> None:
    world = World("adam")
    optimizer = torch.optim.LBFGS(world.model.parameters())
    with pytest.raises(lrfind.UsageError, match="LBFGS evaluates the loss several times per step"):
        lrfind.range_test(world.model, optimizer, world.loss_fn, world.loader)


def test_its_repr_is_one_line() -> None:
    text = repr(World("adam").test(steps=5, end_lr=0.1))
    assert text.startswith("RangeTest(1 lane, 5 steps, lr 1e-05 to 0.1): no suggestion: ")


def test_its_repr_has_the_range_of_the_longest_lane() -> None:
    test = World("adam").test(steps=5, end_lr=0.1)
    (lane,) = test.lanes
    short = replace(lane, lr=lane.lr[:3], loss=lane.loss[:3])
    assert repr(replace(test, lanes=[lane, short])).startswith("RangeTest(2 lanes, 5 steps, lr 1e-05 to 0.1)")


def test_a_loader_that_can_be_read_only_once_is_refused() -> None:
    world = World("adam")
    with pytest.raises(lrfind.UsageError, match="can be read only once"):
        lrfind.range_test(world.model, world.optimizer, world.loss_fn, iter(world.loader))


@pytest.mark.parametrize("search", [lrfind.find, lrfind.range_test])
def test_an_optimizer_that_climbs_is_refused_before_a_step(search: Callable[..., Any]) -> None:
    world = World("adam")
    groups = [
        {"params": [*world.model.body.parameters()]},
        {"params": [*world.model.head.parameters()], "maximize": True},
    ]
    with pytest.raises(
        lrfind.UsageError, match="the optimizer has maximize=True, so its steps raise the loss"
    ):
        search(world.model, torch.optim.SGD(groups, lr=0.1), world.loss_fn, world.loader)
    assert world.model.calls == 0


class OncePassed:
    """Batches that no `isinstance` tells from a loader, and that come once."""

    def __init__(self, *batches: Any) -> None:
        self.batches = iter(batches)

    def __iter__(self) -> Iterator[Any]:
        return self.batches


@pytest.mark.filterwarnings("ignore:the training refers to an iterator")
@pytest.mark.parametrize("search", [lrfind.find, lrfind.range_test])
def test_a_loader_that_was_exhausted_is_told_from_an_empty_one(search: Callable[..., Any]) -> None:
    world = World("adam")
    objects = world.model, world.optimizer, world.loss_fn
    with pytest.raises(lrfind.UsageError, match="yielded 6 batches, and none when it was read again: it can"):
        search(*objects, OncePassed(*world.loader), steps=20)
    with pytest.raises(lrfind.UsageError, match="yielded 1 batch, and none"):
        search(*objects, OncePassed(next(iter(world.loader))), steps=20)
    with pytest.raises(lrfind.UsageError, match="the loader yields no batches; is drop_last on"):
        search(*objects, OncePassed(), steps=20)


def test_a_model_with_lazy_layers_is_refused() -> None:
    model = nn.LazyLinear(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(lrfind.UsageError, match="run one batch through the model first"):
        lrfind.range_test(model, optimizer, nn.functional.mse_loss, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "steps: must be at least 2; found 1"),
        ({"start_lr": 0}, "start_lr: must be greater than 0; found 0"),
        ({"spacing": "cubic"}, "spacing: must be 'exponential' or 'linear'; found the text 'cubic'"),
        ({"start_lr": 20.0, "end_lr": 1.0}, r"end_lr: must be well above start_lr \(20\); found 1"),
    ],
)
def test_arguments_out_of_range_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(lrfind.UsageError, match=message):
        World("adam").test(**options)


def test_the_frame_and_the_plot_show_what_was_measured() -> None:
    world = World("adam")
    batch = next(iter(DataLoader(data(), batch_size=30)))
    result = world.test(seeds=2, steps=60, held_out_batch=batch, grad_norm=True)
    frame = result.to_frame()
    assert list(frame) == [
        "lane",
        "seed",
        "step",
        "lr",
        "loss",
        "smoothed_loss",
        "held_out_loss",
        "grad_norm",
    ]
    assert frame.loss[frame.lane == 1].tolist() == result.lanes[1].loss.tolist()
    ax = result.plot()
    assert ax.get_xscale() == "log"
    assert any(line.get_xdata()[0] == result.suggest().lr for line in ax.lines)
    _, own = plt.subplots()
    assert result.plot(own) is own
    plt.close("all")


def test_a_test_inside_no_grad_works_and_the_mode_is_kept() -> None:
    world = World("adam")
    with torch.no_grad():
        assert world.test(steps=20, end_lr=0.1).losses.size == 20
        assert not torch.is_grad_enabled()


def test_it_says_what_is_wrong_with_the_gradients() -> None:
    torch.manual_seed(0)
    layers = [part for _ in range(12) for part in (nn.Linear(8, 8), nn.Sigmoid())]
    loader = DataLoader(TensorDataset(torch.randn(64, 8), torch.randn(64, 1)), batch_size=16)
    for model, found in ((nn.Sequential(*layers, nn.Linear(8, 1)), ["vanishing"]), (nn.Linear(8, 1), [])):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        test = lrfind.range_test(model, optimizer, nn.MSELoss(), loader, steps=70)
        assert [finding.what for finding in test.findings] == found
    assert lrfind.range_test(model, optimizer, nn.MSELoss(), loader, looks=0).findings == []


def test_the_length_of_the_gradient_is_no_finding_with_adam() -> None:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(64, 8), torch.randn(64, 1)), batch_size=16)
    found = []
    for optimizer in (torch.optim.SGD, torch.optim.Adam):
        model = nn.Linear(8, 1)
        huge = lrfind.range_test(model, optimizer(model.parameters(), lr=0.1), lambda o, y: 1e4 * (o - y).square().mean(), loader, steps=50)  # fmt: skip
        found.append([finding.what for finding in huge.findings])
    assert found == [["exploding"], []]
