"""That an answer reaches optimizers and schedulers, whatever these have been through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, lr_scheduler

import lrfind
from lrfind.api.rates import apply_rate
from lrfind.errors import UsageError

STEPS = 60
RATE = 0.25


def sgd(lr: float = 0.1) -> SGD:
    return SGD([nn.Parameter(torch.ones(1))], lr=lr)


def course(optimizer: SGD, scheduler: Any, steps: int = STEPS) -> list[float]:
    """Return the lrs of the next steps of a training."""
    lrs = []
    for _ in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return lrs


def noam(step: int) -> float:
    return 0.125 * min((step + 1) ** -0.5, (step + 1) * 20**-1.5)


SCHEDULERS: dict[str, tuple[Callable[[SGD], Any], int]] = {  # each with the number of steps that it has taken
    "noam": (lambda o: lr_scheduler.LambdaLR(o, noam), 0),
    "late steps": (lambda o: lr_scheduler.StepLR(o, 10, 0.1), 20),
    "half a cosine": (lambda o: lr_scheduler.CosineAnnealingLR(o, 120), 60),
    "a rise": (lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 1.05), 0),
    "part of a warmup": (lambda o: lr_scheduler.LambdaLR(o, lambda step: min(1.0, (step + 1) / 200)), 0),
    "the end of a cycle": (lambda o: lr_scheduler.OneCycleLR(o, 0.3, 101, cycle_momentum=False), 40),
    "a short cycle": (lambda o: lr_scheduler.OneCycleLR(o, 0.3, 71, cycle_momentum=False), 40),
    "cosine": (lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS), 0),
}


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_the_highest_lr_of_the_planned_steps_becomes_the_rate(kind: str) -> None:
    make, taken = SCHEDULERS[kind]
    optimizer = sgd()
    scheduler = make(optimizer)
    course(optimizer, scheduler, taken)
    apply_rate(RATE, optimizer, scheduler, steps=STEPS)
    lrs = course(optimizer, scheduler, 30 if kind == "a short cycle" else STEPS)
    assert max(lrs) == pytest.approx(RATE)


def test_a_cycle_behind_another_scheduler_keeps_its_rise() -> None:
    """It has a start of its own, which is not that of the scheduler before it."""
    courses = []
    for applied in (False, True):
        optimizer = sgd()
        parts = [
            lr_scheduler.ConstantLR(optimizer, 0.1, 5),
            lr_scheduler.OneCycleLR(optimizer, 0.1, 60, cycle_momentum=False),
        ]
        scheduler = lr_scheduler.SequentialLR(optimizer, parts, [5])
        if applied:
            apply_rate(RATE, optimizer, scheduler, steps=STEPS)
        courses.append(course(optimizer, scheduler))
    assert courses[1] == pytest.approx([lr * RATE / 0.1 for lr in courses[0]])


def test_where_a_second_scheduler_moves_the_lr_too_the_rate_is_the_lr_from_which_both_start() -> None:
    optimizer = sgd()
    warmup = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    apply_rate(RATE, optimizer, scheduler, steps=STEPS)
    assert scheduler.base_lrs == [RATE]
    other = sgd()
    both = [lr_scheduler.LinearLR(other, 0.1, total_iters=5), lr_scheduler.CosineAnnealingLR(other, STEPS)]
    apply_rate(RATE, other, both, steps=STEPS)
    assert [one.base_lrs for one in both] == [[RATE], [RATE]]
    assert warmup.base_lrs == [0.1]  # it was not given


@pytest.mark.parametrize("kind", ["late steps", "half a cosine", "the end of a cycle"])
def test_a_scheduler_that_was_forgotten_can_be_given_afterwards(kind: str) -> None:
    make, taken = SCHEDULERS[kind]
    courses = []
    for forgotten in (True, False):
        optimizer = sgd()
        scheduler = make(optimizer)
        course(optimizer, scheduler, taken)
        if forgotten:
            with pytest.warns(UserWarning, match=r"give it too: apply\(optimizer, scheduler\)"):
                apply_rate(0.7, optimizer, None)
        apply_rate(RATE, optimizer, scheduler, steps=STEPS)
        courses.append(course(optimizer, scheduler, 40))
    assert courses[0] == pytest.approx(courses[1])


@pytest.mark.parametrize("kind", ["module", "scheduler", "nothing"])
def test_what_is_no_optimizer_is_refused_and_nothing_changes(kind: str) -> None:
    optimizer = sgd()
    scheduler = lr_scheduler.StepLR(optimizer, 10)
    given = {"module": nn.Linear(1, 1), "scheduler": scheduler, "nothing": None}[kind]
    with pytest.raises(
        UsageError, match=rf"takes an optimizer.*found an object of type {type(given).__name__}"
    ):
        apply_rate(RATE, given, None)
    assert optimizer.param_groups[0]["lr"] == 0.1


def question(make: Callable[[SGD], Any]) -> tuple[SGD, Any, tuple[Any, ...]]:
    """Return an optimizer, its scheduler, and what to ask about."""
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    batches = [(x[at : at + 8], x[at : at + 8].sum(1, keepdim=True)) for at in range(0, 64, 8)]
    model = nn.Linear(3, 1)
    optimizer = SGD(model.parameters(), lr=1.0)
    return optimizer, make(optimizer), (model, optimizer, nn.MSELoss(), batches)


@pytest.mark.parametrize("given", ["a scheduler", "a function that makes one"])
def test_a_schedule_that_was_given_as_a_scheduler_gets_the_rate_as_its_highest_lr(given: str) -> None:
    make = SCHEDULERS["noam"][0]
    optimizer, scheduler, objects = question(make)
    schedule = scheduler if given == "a scheduler" else make
    best = lrfind.find(*objects, steps=STEPS, schedule=schedule, progress=False)
    best.apply(optimizer, scheduler)
    assert max(course(optimizer, scheduler)) == pytest.approx(best.lr)
    optimizer, scheduler, objects = question(make)
    grid = lrfind.grid(*objects, lrs=[0.01, 0.1], steps=STEPS, seeds=1, schedule=schedule, progress=False)
    grid.apply(optimizer, scheduler)
    assert max(course(optimizer, scheduler)) == pytest.approx(grid.lr)
    optimizer, scheduler, objects = question(make)
    schedules = {"given": schedule, "nearly none": lambda step: 1.0 if step == 0 else 1e-9}
    compared = lrfind.compare(*objects, peaks=[0.1], steps=STEPS, schedules=schedules, progress=False)
    assert compared.schedule == "given"
    compared.apply(optimizer, scheduler)
    assert max(course(optimizer, scheduler)) == pytest.approx(compared.lr)


def test_optimizers_that_share_a_rate_are_given_together_and_in_their_order() -> None:
    _, _, (model, _, _, batches) = question(lambda optimizer: None)
    optimizers = [SGD([model.weight], lr=0.1), SGD([model.bias], lr=0.01)]

    def step(batch: Any) -> torch.Tensor:
        loss: torch.Tensor = nn.functional.mse_loss(model(batch[0]), batch[1])
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss

    parts: dict[str, Any] = {"step": step, "data": batches, "optimizers": optimizers, "progress": False}
    best = lrfind.find(**parts, steps=STEPS)
    results = (
        best,
        lrfind.range_test(**parts, steps=STEPS),
        lrfind.grid(**parts, steps=5, lrs=[0.01, 0.1], extend=False, seeds=1),
        lrfind.compare(**parts, steps=5, schedules=["constant", "linear"], peaks=[0.1], seeds=1),
    )
    for given, found in ((optimizers[0], "found 1"), (optimizers[::-1], "found them in another order")):
        for result in results:
            with pytest.raises(UsageError, match=f"2 optimizers share the rate; {found}. Give all of them"):
                result.apply(given)
    best.apply(optimizers)
    lrs = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    assert lrs == pytest.approx([best.lr, 0.1 * best.lr])
    cyclic = lr_scheduler.CyclicLR(optimizers[1], 0.01, 0.5, cycle_momentum=False)
    best.apply(optimizers, cyclic)
    assert (optimizers[0].param_groups[0]["lr"], cyclic.max_lrs) == (best.lr, pytest.approx([0.1 * best.lr]))
