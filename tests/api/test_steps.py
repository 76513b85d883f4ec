"""`find` on losses and steps of the user's own: what it answers, what it refuses, and that it leaves no trace."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import lrfind
from lrfind.analysis.probing import TYPICAL_COST
from tests.helpers.worlds import World, data


class Adversaries:
    """A GAN on points: two optimizers, batch norm, and an average of the generator's weights."""

    def __init__(self) -> None:
        World.seed(1)
        self.generator = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        self.critic = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
        self.average = torch.optim.swa_utils.AveragedModel(self.generator)
        self.of_generator = torch.optim.Adam(self.generator.parameters(), lr=0.01)
        self.of_critic = torch.optim.Adam(self.critic.parameters(), lr=0.02)
        self.real = torch.randn(64, 2) + 2
        self.steps = 0

    def batch(self) -> Tensor:
        return self.real[torch.randint(64, (16,))]

    def step(self, real: Tensor) -> Tensor:
        self.steps += 1
        fake = self.generator(torch.randn(16, 2))
        self.of_critic.zero_grad()
        loss = functional.softplus(self.critic(fake.detach())).mean() + functional.softplus(-self.critic(real)).mean()  # fmt: skip
        loss.backward()
        self.of_critic.step()
        self.of_generator.zero_grad()
        functional.softplus(-self.critic(fake)).mean().backward()
        self.of_generator.step()
        self.average.update_parameters(self.generator)
        return loss

    def distance(self, real: Tensor) -> Tensor:
        return (self.generator(torch.randn(64, 2)).mean(0) - self.real.mean(0)).square().sum().detach()

    def train(self, steps: int) -> list[float]:
        return [self.step(self.batch()).item() for _ in range(steps)]

    def state(self, identity: bool = False) -> list[Any]:
        modules = (self.generator, self.critic, self.average)
        bits: list[Any] = [t.numpy().tobytes() for module in modules for t in module.state_dict().values()]
        bits += [
            None if p.grad is None else (identity and id(p.grad), p.grad.numpy().tobytes())
            for module in modules
            for p in module.parameters()
        ]
        bits += [m.training for module in modules for m in module.modules()]
        bits += [str(optimizer.state_dict()) for optimizer in (self.of_generator, self.of_critic)]
        return [
            *bits,
            self.steps,
            torch.get_rng_state().tolist(),
            random.getstate(),
            str(np.random.get_state()),
        ]


def ask(world: Adversaries, **options: Any) -> lrfind.Recommendation:
    options = {"data": world.batch, "steps": 60, "score": world.distance, **options}
    return lrfind.find(step=world.step, optimizers=[world.of_generator, world.of_critic], **options)


@pytest.mark.parametrize("trained", [0, 3])
def test_a_whole_step_leaves_no_trace_and_training_goes_on_bit_for_bit(trained: int) -> None:
    plain, asked = Adversaries(), Adversaries()
    expected = [*plain.train(trained), *plain.train(10)]
    World.seed(1)
    asked = Adversaries()
    losses = asked.train(trained)
    before = asked.state(identity=True)
    assert 1e-5 < ask(asked).lr < 1
    assert asked.state(identity=True) == before
    assert [*losses, *asked.train(10)] == expected
    assert asked.state() == plain.state()


def test_a_step_that_raises_in_its_middle_leaves_no_trace() -> None:
    world = Adversaries()
    world.train(3)
    update, before = world.of_generator.step, world.state()

    def failing() -> Any:
        if world.steps >= 12:
            raise ZeroDivisionError("on purpose")
        return update()

    world.of_generator.step = failing
    with pytest.raises(lrfind.LrfindError, match="ZeroDivisionError: on purpose"):
        ask(world)
    del world.of_generator.step
    assert world.state() == before


def test_all_groups_of_all_optimizers_keep_their_ratios_and_a_scheduler_in_the_step_has_no_effect() -> None:
    world, used = Adversaries(), []
    scheduler = torch.optim.lr_scheduler.ExponentialLR(world.of_generator, 0.1)

    def step(batch: Tensor) -> Tensor:
        loss = world.step(batch)
        scheduler.step()
        return loss

    for optimizer in (world.of_generator, world.of_critic):
        optimizer.register_step_post_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    with warnings.catch_warnings(action="ignore"):
        best = lrfind.find(
            step=step, optimizers=[world.of_generator, world.of_critic], data=world.batch, steps=20
        )
    pairs = {(round(of_generator, 12), round(of_critic, 12)) for of_critic, of_generator in zip(used[::2], used[1::2], strict=True)}  # fmt: skip
    assert len(pairs) > 2
    assert all(of_critic == pytest.approx(2 * of_generator) for of_generator, of_critic in pairs)
    assert (0.0, 0.0) in pairs
    assert "param group 0" in best.notes[0]
    assert scheduler.last_epoch == 0


def sgd() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1)], 0.1)


def regression() -> tuple[nn.Module, torch.optim.Optimizer, list[Any]]:
    torch.manual_seed(0)
    x = torch.randn(8, 16, 4)
    return (
        nn.Linear(4, 1),
        sgd(),
        [(part, part.sum(1, keepdim=True)) for part in x],
    )


@pytest.mark.parametrize("form", ["loss", "step", "function as data"])
def test_a_loss_and_a_step_give_the_answer_of_loss_fn(form: str) -> None:
    model, _, batches = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    expected = lrfind.find(model, optimizer, nn.MSELoss(), batches, steps=800)  # 100 passes over the batches
    place = -1

    def step(batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = functional.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    def next_batch() -> Any:
        nonlocal place
        place += 1
        return batches[place % len(batches)]

    if form == "step":
        best = lrfind.find(step=step, data=batches, optimizers=[optimizer], steps=800)
    else:
        source = next_batch if form == "function as data" else batches
        best = lrfind.find(model, optimizer, data=source, steps=800, loss=lambda b: functional.mse_loss(model(b[0]), b[1]))  # fmt: skip
    assert (best.lr, best.low, best.high) == (expected.lr, expected.low, expected.high)
    assert [probe.loss.tolist() for probe in best.lanes] == [probe.loss.tolist() for probe in expected.lanes]


def test_a_step_with_a_closure_is_asked_and_lbfgs_at_lr_0_does_not_move() -> None:
    model, _, batches = regression()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=4)

    def step(batch: Any) -> Any:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = functional.mse_loss(model(batch[0]), batch[1])
            loss.backward()
            return loss

        return optimizer.step(closure)

    best = lrfind.find(step=step, data=batches, optimizers=[optimizer], steps=40)
    assert best.lr > 0.05
    untouched = [lane for lane in best.lanes if lane.peak == 0]
    assert len({round(float(loss), 6) for loss in untouched[0].loss[::8]}) == 1  # batch 0 again and again


def test_a_step_that_moves_at_lr_0_is_refused() -> None:
    model, _, batches = regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(batch: Any) -> Tensor:
        loss = functional.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
        return loss

    with pytest.raises(lrfind.UsageError, match="changes weights although the lr of all optimizers is 0"):
        lrfind.find(step=step, data=batches, optimizers=[optimizer], steps=40)


def test_an_optimizer_that_is_not_named_and_an_iterator_are_reported_before_the_first_step() -> None:
    world = Adversaries()
    with pytest.warns(UserWarning, match="the step refers to Adam, which `optimizers` does not name"):
        lrfind.range_test(
            step=world.step, optimizers=[world.of_generator], data=world.batch, steps=5, end_lr=0.1
        )
    batches = iter([torch.randn(16, 2) for _ in range(200)])
    with pytest.warns(UserWarning, match=r"an iterator \(list_iterator\), which lrfind cannot set back"):
        ask(world, data=lambda: next(batches))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step": 3}, "step must be a function of a batch; found an object of type int"),
        (
            {"step": len, "optimizers": [3]},
            "optimizers must be the list of the torch optimizers that the step",
        ),
        ({"step": len}, "optimizers must be the list"),
        (
            {"step": lambda: None},
            "function of one batch. .* step=lambda batch: step\\(\\), data=lambda: None",
        ),
        ({"step": len, "optimizers": [sgd()], "data": None}, "data is missing: .* data=lambda: None"),
        (
            {"optimizer": [sgd(), sgd()]},
            r"an object of type list. Of several, give the whole step: .*=\[...\]",
        ),
        ({"data": pd.DataFrame({"x": [1.0]})}, r"data is a DataFrame, which yields its names, .*\(x, y\)"),
        ({"data": {"x": torch.zeros(3)}}, r"data is a dict, which yields its names, not batches"),
        (
            {"data": (np.zeros((4, 3)), np.zeros(4))},
            r"data holds arrays, not batches; make tensors of them, and cut",
        ),
        ({"step": len, "loss_fn": len}, "step and loss: give only one"),
        ({"step": len, "clip_norm": 1.0}, "a step of your own does these itself"),
        ({"score": len}, "belong to step; give the step too"),
        ({"loss": nn.MSELoss()}, r"loss must be a function of one batch .* \(output, y\) as loss_fn"),
        ({"loss": len, "loss_fn": nn.MSELoss()}, "loss and loss_fn: give only one"),
        ({"loss_fn": nn.MSELoss}, r"MSELoss is a class; give an instance of it: MSELoss\(\)"),
        ({"clip_norm": -1.0}, "clip_norm: must be"),
        ({"precision": "half"}, "precision: "),
        (
            {"data": torch.zeros(3, 4)},
            r"data holds tensors, not batches; .* DataLoader\(TensorDataset\(x, y\)",
        ),
        ({"schedule": 3}, r"schedule: must be a name from `lrfind ls schedules`, \(name, args\)"),
        (
            {"schedule": ("cosine", {"warm": 1})},
            "schedule: cosine: unknown argument 'warm'; did you mean warmup",
        ),
        (
            {"schedule": ("one_cycle", {"pct_start": 0.3})},
            "one_cycle: unknown argument 'pct_start'; .* start",
        ),
        ({"schedule": lambda step: -1.0}, "schedule: it must give a finite lr of 0 or more at every step"),
        (
            {"schedule": lambda step: step.no},
            "Called with step 0: AttributeError.* Called with an optimizer: ",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_with_the_way_out(
    arguments: dict[str, Any], message: str
) -> None:
    model, _, batches = regression()
    parts = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
        "data": batches,
        "steps": 20,
    }
    if "step" in arguments:
        parts = {"data": batches, "steps": 20}
    with pytest.raises(lrfind.UsageError, match=message):
        lrfind.find(**(parts | arguments))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            lambda loss: None,
            "step must return one number.* it returned NoneType. End the function with `return",
        ),
        (lambda loss: torch.zeros(2), r"it returned a tensor of shape \(2,\)"),
    ],
)
def test_what_a_step_must_return_is_said(returned: Callable[[Tensor], Any], message: str) -> None:
    model, _, batches = regression()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(batch: Any) -> Any:
        loss = functional.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return returned(loss)

    with pytest.raises(lrfind.UsageError, match=message):
        lrfind.find(step=step, data=batches, optimizers=[optimizer], steps=20)


@pytest.mark.parametrize("function", [lrfind.find, lrfind.range_test])
def test_a_step_that_accumulates_over_its_calls_is_told_how_many_make_an_update(
    function: Callable[..., Any],
) -> None:
    model, _, batches = regression()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    calls = [0]

    def step(batch: Any) -> Tensor:
        loss = functional.mse_loss(model(batch[0]), batch[1])
        (loss / 4).backward()
        calls[0] += 1
        if calls[0] % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    arguments = {"step": step, "data": batches, "optimizers": [optimizer], "steps": 40}
    with pytest.raises(lrfind.UsageError, match="once in 4 calls, but accumulate is 1: give accumulate=4"):
        function(**arguments)
    with pytest.raises(lrfind.UsageError, match="once in 4 calls, but accumulate is 8: give accumulate=4"):
        function(**arguments, accumulate=8)
    of_step = function(**arguments, accumulate=4)
    same = function(model, optimizer, nn.MSELoss(), batches, steps=40, accumulate=4)
    for lane, other in zip(of_step.lanes, same.lanes, strict=True):
        np.testing.assert_allclose(lane.loss, other.loss, rtol=1e-4)


def test_a_step_that_now_and_then_makes_no_update_is_asked() -> None:
    model, _, batches = regression()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    calls = [0]

    def step(batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = functional.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        calls[0] += 1
        if calls[0] > 2 and calls[0] % 5:  # as with a buffer that must fill first, and with skipped batches
            optimizer.step()
        return loss

    assert lrfind.find(step=step, data=batches, optimizers=[optimizer], steps=40).lr > 0


def test_a_forward_pass_that_needs_gradients_is_asked() -> None:
    class Decay(nn.Module):
        """u' = -u with u(0) = 1, by the residual of the equation (Raissi et al. 2017)."""

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = x.detach().requires_grad_()
            u = self.net(x)
            (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            return (slope + u).square().mean() + (self.net(torch.zeros(1, 1)) - 1).square().mean()

    torch.manual_seed(0)
    model = Decay()
    best = lrfind.find(model, torch.optim.Adam(model.parameters()), None, [torch.rand(32, 1)], steps=100)
    assert 1e-4 < best.lr < 1


def test_float16_precision_comes_with_a_loss_scaler_and_clipping_with_accumulation() -> None:
    world = World("adam")
    options: dict[str, Any] = {
        "steps": 40,
        "clip_norm": 0.5,
        "clip_value": 0.1,
        "accumulate": 2,
        "precision": "bfloat16",
    }
    before = world.state()
    assert 1e-5 < lrfind.find(world.model, world.optimizer, world.loss_fn, world.loader, **options).lr < 10
    tested = world.test(steps=10, end_lr=0.1, precision="bfloat16", accumulate=2)
    assert world.state() == before
    assert world.test(steps=10, end_lr=0.1).losses[0] != tested.losses[0]


def test_an_autocast_around_the_call_gives_the_curve_of_that_precision() -> None:
    world = World("adam")
    expected = world.test(steps=20, end_lr=1.0, precision="bfloat16", looks=0).losses
    with torch.autocast("cpu", torch.bfloat16):
        world.model(data().tensors[0])  # fills the cache of converted weights
        np.testing.assert_array_equal(world.test(steps=20, end_lr=1.0, looks=0).losses, expected)
        assert torch.is_autocast_cache_enabled()


@pytest.mark.parametrize("steps", [30, 60, 120])
def test_the_default_search_of_what_learns_fast_is_cheap(steps: int) -> None:
    world = World("adam")
    best = lrfind.find(world.model, world.optimizer, world.loss_fn, world.loader, steps=steps)
    assert best.cost <= max(steps, 2 * TYPICAL_COST)


def test_progress_is_shown_on_stderr_only_when_it_takes_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World("adam")
    lrfind.find(world.model, world.optimizer, world.loss_fn, world.loader, steps=30)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("lrfind.views.progress.QUIET_SECONDS", -1.0)
    monkeypatch.setattr("lrfind.views.progress.EVERY_SECONDS", -1.0)
    lrfind.find(world.model, world.optimizer, world.loss_fn, world.loader, steps=30)
    out, err = capsys.readouterr()
    assert out == ""
    assert "find: 1 probe, " in err
    assert "lr 0.01  step 1  loss " in err


def test_a_scheduler_that_moves_once_per_epoch_is_noticed() -> None:
    world = World("sgd with momentum")
    objects = world.model, world.optimizer, world.loss_fn, world.loader
    epoch = len(world.loader)
    scheduler = torch.optim.lr_scheduler.StepLR(world.optimizer, 3)
    best = lrfind.find(*objects, steps=10 * epoch, schedule=scheduler)
    (note,) = best.notes
    assert f"In {10 * epoch - 9} of the {10 * epoch} steps" in note
    assert f"schedule=lambda step: 0.1 ** (step // {epoch} // 30)" in note
    function = lrfind.find(*objects, steps=10 * epoch, schedule=lambda step: 0.1 ** (step // epoch // 3))
    assert not any("per epoch" in note for note in function.notes)


def test_whole_trainings_verify_a_rate_and_their_cost_is_counted() -> None:
    world = World("adam")
    objects = world.model, world.optimizer, world.loss_fn, world.loader
    before = world.state()
    plain = lrfind.find(*objects, steps=40)
    best = lrfind.find(*objects, steps=40, verify=True, verify_seeds=2, schedule="linear")
    assert world.state() == before
    assert best.verdict is not None
    assert len(best.verification) == 6
    assert best.cost > plain.cost + 40
    assert best.lr in {lane.peak for lane in best.verification}
    beyond = lrfind.find(*objects, steps=40, verify=5, verify_seeds=1)
    assert len(beyond.verification) == 4
    with pytest.raises(lrfind.UsageError, match="verify_beyond: must be greater than 3"):
        lrfind.find(*objects, steps=40, verify=2)


def test_a_rate_moves_to_another_plan_by_the_fitted_model() -> None:
    world = World("sgd with momentum")
    best = lrfind.find(world.model, world.optimizer, world.loss_fn, world.loader, steps=400)
    longer = best.for_plan(steps=4000)
    repeated = 4000 / len(world.loader) / 100  # times a hundred passes; 400 steps are no hundred
    assert longer.lr == pytest.approx(best.lr * 10**-0.6 * repeated**-0.9, rel=0.01)
    assert longer.high / longer.low == pytest.approx(best.high / best.low, rel=0.02)
    assert longer.confidence != "high"
    assert "was recommended for 400 steps of sgd with momentum 0.9, at a constant lr" in longer.reason
    assert "for 4,000 steps of sgd with momentum 0.9, at a constant lr." in repr(longer)
    cosine = best.for_plan(schedule=("cosine", {}))
    assert cosine.lr == pytest.approx(best.lr * 2**0.89, rel=0.01)
    assert "for 400 steps of sgd with momentum 0.9, cosine schedule." in repr(cosine)
    own = best.for_plan(schedule=lambda step: 1 - step / 400)
    assert "for 400 steps of sgd with momentum 0.9, with a schedule whose mean is 0.5x its peak." in repr(own)
    assert best.for_plan(steps=400) is best


def test_a_scheduler_that_nobody_named_is_told() -> None:
    world = World("adam")
    objects = world.model, world.optimizer, world.loss_fn, world.loader
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(world.optimizer, 40)
    assert any("give schedule=scheduler" in note for note in lrfind.find(*objects, steps=40).notes)
    assert lrfind.find(*objects, steps=40, schedule=scheduler).notes == []
    assert "is for one epoch, which has" in lrfind.find(*objects, schedule=scheduler).notes[0]


def test_a_rate_reaches_the_optimizer_and_an_attached_scheduler_is_asked_for() -> None:
    world = World("adam")
    best = lrfind.find(world.model, world.optimizer, world.loss_fn, world.loader, steps=40)
    best.apply(world.optimizer)
    assert world.optimizer.param_groups[0]["lr"] == best.lr
    tested = world.test()
    tested.apply(world.optimizer)
    assert world.optimizer.param_groups[0]["lr"] == tested.suggest().lr
    scheduler = torch.optim.lr_scheduler.OneCycleLR(world.optimizer, max_lr=1.0, total_steps=20)
    with pytest.warns(
        UserWarning, match=r"will overwrite the lr at its next step; .* apply\(optimizer, scheduler\)"
    ):
        best.apply(world.optimizer)
    best.apply(world.optimizer, scheduler)
    assert world.optimizer.param_groups[0]["max_lr"] == pytest.approx(best.lr)


def test_batches_that_are_filled_into_the_same_memory_give_the_same_answer() -> None:
    def asked(again: bool) -> float:
        model, _, batches = regression()
        memory = [torch.empty_like(part) for part in batches[0]]

        class Refilled:
            def __iter__(self) -> Any:
                for batch in batches:
                    for part, values in zip(memory, batch, strict=True):
                        part.copy_(values)
                    yield memory if again else batch

        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return lrfind.find(model, optimizer, nn.MSELoss(), Refilled(), steps=300).lr

    assert asked(again=True) == asked(again=False)


def test_an_optimizer_without_regard_to_its_lr_is_refused() -> None:
    class Fixed(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for parameter in self.param_groups[0]["params"]:
                parameter.sub_(0.01 * parameter.grad)

    model, _, batches = regression()
    with pytest.raises(
        lrfind.NoSuggestion, match="the lr has no effect: the losses are the same at all rates"
    ):
        lrfind.find(model, Fixed(model.parameters(), lr=0.1), nn.MSELoss(), batches, steps=100)


def test_a_pass_of_the_users_own_with_persistent_workers_goes_on() -> None:
    world = World("adam")
    loader = torch.utils.data.DataLoader(data(), batch_size=15, num_workers=1, persistent_workers=True)
    batches = iter(loader)
    next(batches)
    lrfind.find(world.model, world.optimizer, world.loss_fn, loader, steps=30)
    assert len([*batches]) == 5


def test_a_whole_step_at_lr_0_counts_too() -> None:
    world = Adversaries()
    taken: list[int] = []

    def step(batch: Tensor) -> Tensor:
        taken.append(1)
        return world.step(batch)

    optimizers = [world.of_generator, world.of_critic]
    best = lrfind.find(step=step, optimizers=optimizers, data=world.batch, steps=60, score=world.distance)
    assert len(taken) == best.cost <= TYPICAL_COST


def test_silence_is_broken_by_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrfind.views import progress

    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.0)
    with progress.call_progress(True, "find"):
        waited = torch.utils.data.DataLoader(data(), batch_size=15, num_workers=1)
        assert len([*waited]) == 6
    assert "no step has ended" in capsys.readouterr().err


def test_a_data_set_with_columns_in_place_of_its_loader_is_refused() -> None:
    class Table:
        column_names = ("x", "label")

        def __getitem__(self, row: int) -> Any:
            return {"x": torch.zeros(3), "label": 0}

    model, _, _ = regression()
    with pytest.raises(
        lrfind.UsageError, match="a Table with columns, which yields single rows; wrap it in a loader"
    ):
        lrfind.find(model, torch.optim.SGD(model.parameters(), 0.1), nn.MSELoss(), Table(), steps=20)
