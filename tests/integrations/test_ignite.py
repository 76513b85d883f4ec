from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lrfind
from lrfind.errors import UsageError
from lrfind.integrations import ignite as integration
from tests.helpers.states import bits

EPOCHS = 20


def loader() -> Any:
    make = torch.Generator().manual_seed(0)
    x = torch.randn(320, 6, generator=make)
    rows = torch.utils.data.TensorDataset(x, x[:, :3].argmax(dim=1))
    return torch.utils.data.DataLoader(rows, batch_size=32, shuffle=True)


def parts(lr: float = 1e-4, **settings: Any) -> tuple[nn.Module, torch.optim.Optimizer, Any]:
    from ignite.engine import Events, create_supervised_trainer

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss(), **settings)
    trainer.seen = []

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine: Any) -> None:
        engine.seen.append((engine.state.output, optimizer.param_groups[0]["lr"]))

    return model, optimizer, trainer


def the_plain_answer(accumulate: int = 1) -> lrfind.Recommendation:
    model, optimizer, _ = parts()
    loss_fn = nn.CrossEntropyLoss()

    def step(batches: list[Any]) -> Tensor:
        optimizer.zero_grad()
        losses = [loss_fn(model(x), y) for x, y in batches]
        mean = torch.stack(losses).mean()
        mean.backward()
        optimizer.step()
        return mean

    data = integration.Grouped(loader(), accumulate)
    steps = EPOCHS * 10 // accumulate
    return lrfind.find(step=step, data=data, optimizers=[optimizer], steps=steps)


def test_the_answer_is_that_of_the_plain_call_and_run_uses_it() -> None:
    _, optimizer, trainer = parts()
    best = integration.find(trainer, optimizer, loader(), EPOCHS)
    plain = the_plain_answer()
    assert (best.lr, best.low, best.high, best.cost) == (plain.lr, plain.low, plain.high, plain.cost)
    trainer.run(loader(), max_epochs=1)
    assert [lr for _, lr in trainer.seen] == [best.lr] * 10


def test_the_handler_finds_the_same_rate_when_the_training_begins() -> None:
    _, optimizer, trainer = parts()
    handler = integration.FindLR(optimizer)
    handler.attach(trainer)
    trainer.run(loader(), max_epochs=EPOCHS)
    assert handler.best is not None
    assert handler.best.lr == the_plain_answer().lr
    assert {lr for _, lr in trainer.seen} == {handler.best.lr}
    assert len(trainer.seen) == EPOCHS * 10


def test_a_training_is_as_if_nobody_had_asked() -> None:
    runs = []
    for asks in (False, True):
        model, optimizer, trainer = parts()
        torch.manual_seed(1)
        if asks:
            before = bits([trainer.state.__dict__, optimizer.state_dict(), model.state_dict()], set())
            integration.find(trainer, optimizer, loader(), EPOCHS)
            optimizer.param_groups[0]["lr"] = 1e-4
            assert bits([trainer.state.__dict__, optimizer.state_dict(), model.state_dict()], set()) == before
        trainer.run(loader(), max_epochs=1)
        runs.append((trainer.seen, bits([*model.state_dict().values()], set())))
    assert runs[0] == runs[1]
    assert len(runs[0][0]) == 10


def test_accumulated_batches_make_one_step() -> None:
    _, optimizer, trainer = parts(gradient_accumulation_steps=2)
    best = integration.find(trainer, optimizer, loader(), EPOCHS)
    assert best.training.steps == EPOCHS * 5
    assert best.lr == integration.find(trainer, optimizer, loader(), EPOCHS, accumulate=2).lr
    assert best.lr == pytest.approx(the_plain_answer(accumulate=2).lr, rel=0.01)


def test_a_scheduler_of_torch_counts_and_gets_the_rate() -> None:
    from ignite.engine import Events
    from ignite.handlers import LRScheduler

    _, optimizer, trainer = parts()
    linear = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=EPOCHS * 10)
    scheduler = LRScheduler(linear)
    trainer.add_event_handler(Events.ITERATION_STARTED, scheduler)
    best = integration.find(trainer, optimizer, loader(), EPOCHS, scheduler=scheduler)
    assert best.training.mean_multiplier == pytest.approx(0.5, abs=0.01)
    trainer.run(loader(), max_epochs=1)
    assert trainer.seen[0][1] == pytest.approx(best.lr)
    assert trainer.seen[9][1] == pytest.approx(best.lr * (1 - 9 / 200))


def test_a_scheduler_with_absolute_rates_is_warned_of() -> None:
    from ignite.engine import Events
    from ignite.handlers import CosineAnnealingScheduler

    _, optimizer, trainer = parts()
    trainer.add_event_handler(
        Events.ITERATION_STARTED, CosineAnnealingScheduler(optimizer, "lr", 0.1, 0.0, cycle_size=200)
    )
    with pytest.warns(UserWarning, match="CosineAnnealingScheduler, which overwrites the rate"):
        integration.find(trainer, optimizer, loader(), EPOCHS)


def test_a_step_that_returns_more_than_a_loss_needs_a_function_that_picks_it() -> None:
    whole = {"output_transform": lambda x, y, y_pred, loss: {"loss": loss, "y": y}}
    _, optimizer, trainer = parts(**whole)
    with pytest.raises(UsageError, match="returns a dict, not the loss.*loss_of="):
        integration.find(trainer, optimizer, loader(), EPOCHS)
    picked = integration.find(trainer, optimizer, loader(), EPOCHS, loss_of=lambda output: output["loss"])
    assert picked.lr == the_plain_answer().lr


def test_a_step_that_depends_on_epoch_and_iteration_sees_them_in_the_probes() -> None:
    _, optimizer, trainer = parts()
    plain, seen = trainer._process_function, list[tuple[int, int]]()

    def step(engine: Any, batch: Any) -> Any:
        seen.append((engine.state.epoch, engine.state.iteration))
        return plain(engine, batch)

    trainer._process_function = step
    integration.find(trainer, optimizer, loader(), EPOCHS)
    probe, seen[:] = seen[:16], []
    trainer.run(loader(), max_epochs=2)
    assert probe == seen[:16]


def test_handlers_of_the_users_own_events_are_called_in_the_probes() -> None:
    """A step fires such events, for example to change its gradients."""
    from ignite.engine import Engine, EventEnum, Events

    class Own(EventEnum):  # type: ignore[misc]
        BACKWARD_COMPLETED = "backward_completed"

    def rate(scale: float) -> float:
        model, _, _ = parts()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

        def step(engine: Any, batch: Any) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            engine.fire_event(Own.BACKWARD_COMPLETED)
            optimizer.step()
            return loss

        trainer = Engine(step)
        trainer.register_events(*Own)
        trainer.add_event_handler(
            Own.BACKWARD_COMPLETED, lambda: [p.grad.mul_(scale) for p in model.parameters()]
        )
        trainer.add_event_handler(Events.ITERATION_STARTED(every=1), lambda: pytest.fail("called"))
        return integration.find(trainer, optimizer, loader(), EPOCHS).lr

    assert rate(100.0) < 0.05 * rate(1.0)
