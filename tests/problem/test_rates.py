"""How param groups share one lr, and that an applied lr reaches the training and its scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, lr_scheduler

from lrfind.errors import UsageError
from lrfind.problem.applied import apply_lr
from lrfind.problem.rates import groups_of, innermost, is_optimizer, lr_ratios, ratios_in_words


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.ones(2))


def two_groups(body: float, head: float, **settings: Any) -> SGD:
    groups = [{"params": [parameter()], "lr": body}, {"params": [parameter()], "lr": head}]
    return SGD(groups, **settings)


class Lookahead(torch.optim.Optimizer):
    """An optimizer around an optimizer, which shares its groups."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner
        super().__init__(inner.param_groups, dict(inner.defaults))
        self.param_groups = inner.param_groups


class Pair:
    """Two optimizers behind one face, which is no torch optimizer."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self.parts = [*parts]

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)


def test_the_innermost_optimizers_are_found_in_wrappers_and_lists() -> None:
    sgd, adamw = SGD([parameter()], lr=0.1), AdamW([parameter()], lr=0.2)
    assert innermost([Lookahead(Lookahead(sgd))]) == [sgd]
    assert innermost([Pair(sgd, Lookahead(adamw))]) == [sgd, adamw]
    assert lr_ratios([Pair(sgd, adamw)]) == [1, 2]
    assert len(groups_of([Lookahead(sgd)])) == 1
    assert is_optimizer(Pair(sgd))
    assert not is_optimizer(Pair())


def test_an_optimizer_without_an_lr_is_refused_with_a_reason() -> None:
    optimizer = SGD([parameter()], lr=0.1)
    optimizer.param_groups[0]["lr"] = None
    with pytest.raises(UsageError, match="SGD has no lr to set .* computes its own step sizes"):
        groups_of([optimizer])


@pytest.mark.parametrize(
    ("factors", "ratio"),
    [
        ((lambda t: 0.01, lambda t: 1.0), 0.02),  # a factor for each group changes the ratio
        ((lambda t: 0.1, lambda t: 0.1), 2.0),  # one factor for all does not
        ((lambda t: 0.0, lambda t: 0.0), 2.0),  # nor does a warmup that begins with 0
    ],
)
def test_under_a_scheduler_the_ratio_is_that_of_the_lrs_in_use(
    factors: tuple[Callable[[int], float], ...], ratio: float
) -> None:
    optimizer = two_groups(0.2, 0.1)
    lr_scheduler.LambdaLR(optimizer, [*factors])
    body, head = lr_ratios([optimizer])
    assert body / head == pytest.approx(ratio)


def test_timms_decay_over_layers_counts_before_and_after_its_scheduler_applied_it() -> None:
    before, after = two_groups(0.1, 0.1), two_groups(0.05, 0.1)
    for optimizer in (before, after):
        for group, scale in zip(optimizer.param_groups, (0.5, 1.0), strict=True):
            group["lr_scale"] = scale
        assert lr_ratios([optimizer]) == [0.5, 1.0]
    assert "before the decay over layers" in str(ratios_in_words([before]))


def test_the_group_that_the_lr_is_for_is_named() -> None:
    optimizer = two_groups(0.0, 0.1)
    optimizer.add_param_group({"params": [parameter()], "lr": 0.2, "name": "head"})
    text = ratios_in_words([optimizer])
    assert text == "The lr is that of param group 1; the groups keep their ratios (0: 0x; 1: 1x; head: 2x)"
    assert ratios_in_words([two_groups(0.1, 0.1)]) is None
    optimizer.param_groups[1]["params"][0].requires_grad_(False)
    assert "that of param group 1, which trains nothing; the groups" in str(ratios_in_words([optimizer]))


SCHEDULERS: dict[str, Callable[[Any, float], Any]] = {
    "step": lambda o, lr: lr_scheduler.StepLR(o, 2, 0.5),
    "cosine": lambda o, lr: lr_scheduler.CosineAnnealingLR(o, 10),
    "cosine with a floor": lambda o, lr: lr_scheduler.CosineAnnealingLR(o, 10, eta_min=0.3 * lr),
    "restarts with a floor": lambda o, lr: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, eta_min=0.3 * lr),
    "lambda": lambda o, lr: lr_scheduler.LambdaLR(o, lambda t: min(1.0, t / 4)),
    "one cycle": lambda o, lr: lr_scheduler.OneCycleLR(o, [2 * lr, lr], total_steps=10, cycle_momentum=False),
    "cyclic": lambda o, lr: lr_scheduler.CyclicLR(o, [0.2 * lr, 0.1 * lr], [2 * lr, lr], 3, cycle_momentum=False),
    "plateau": lambda o, lr: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=0),
    "warmup, then cosine": lambda o, lr: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.CosineAnnealingLR(o, 7)], [3]
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        (kind, taken)
        for kind in SCHEDULERS
        for taken in (0, 2)
        if taken == 0 or not kind.endswith(("plateau", "floor"))  # a floor changes the ratios on the way
    ],
)
def test_after_apply_the_lrs_are_those_of_a_training_that_began_with_the_rate(kind: str, taken: int) -> None:
    expected, applied = two_groups(0.06, 0.03), two_groups(0.8, 0.4)
    schedulers = [SCHEDULERS[kind](expected, 0.03), SCHEDULERS[kind](applied, 0.4)]

    def advance() -> list[list[float]]:
        for scheduler in schedulers:
            scheduler.step(*([1.0] if kind == "plateau" else []))
        return [[group["lr"] for group in optimizer.param_groups] for optimizer in (expected, applied)]

    for _ in range(taken):
        advance()
    apply_lr(0.06, [applied], schedulers[1])
    for _ in range(7):
        ours, theirs = advance()
        assert ours == pytest.approx(theirs)


def test_an_applied_lr_is_exact_and_reaches_tensors_and_inner_optimizers() -> None:
    optimizer = two_groups(0.2, 0.1)
    apply_lr(0.03, [Lookahead(optimizer)])
    assert [group["lr"] for group in optimizer.param_groups] == [0.03, 0.015]
    capturable = AdamW([parameter()], lr=torch.tensor(0.1), foreach=False)
    apply_lr(0.5, [capturable])
    assert float(capturable.param_groups[0]["lr"]) == 0.5


def test_a_scheduler_of_an_unknown_kind_is_refused_and_nothing_changes() -> None:
    optimizer = two_groups(0.2, 0.1)
    with pytest.raises(UsageError, match=r"create it after `best.apply\(optimizer\)`"):
        apply_lr(0.03, [optimizer], object())
    assert optimizer.param_groups[0]["lr"] == 0.2


def test_a_tensor_that_is_the_lr_of_several_groups_is_scaled_once() -> None:
    shared = torch.tensor(0.1)
    groups = [{"params": [parameter()]}, {"params": [parameter()]}]
    optimizer = AdamW(groups, lr=shared, foreach=False)
    apply_lr(0.02, [optimizer])
    assert float(shared) == pytest.approx(0.02)


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
@pytest.mark.parametrize("kind", ["cosine", "one cycle", "step"])
def test_without_a_scheduler_the_rate_holds_whatever_an_earlier_one_left(kind: str) -> None:
    optimizer = two_groups(0.8, 0.4)
    earlier = SCHEDULERS[kind](optimizer, 0.4)
    for _ in range(9 if kind == "one cycle" else 10):
        earlier.step()
    apply_lr(0.06, [optimizer])
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.06, 0.03])
    later = lr_scheduler.StepLR(optimizer, 100)
    assert later.get_last_lr() == later.base_lrs == pytest.approx([0.06, 0.03])


def test_timms_scheduler_applies_its_decay_once_to_a_rate_that_is_applied_without_it() -> None:
    optimizer = two_groups(0.05, 0.1)
    for group, scale in zip(optimizer.param_groups, (0.5, 1.0), strict=True):
        group |= {"lr_scale": scale, "initial_lr": 0.1}
    apply_lr(0.03, [optimizer])
    assert [group["initial_lr"] for group in optimizer.param_groups] == pytest.approx([0.03, 0.03])


def test_schedulers_of_several_optimizers_may_be_at_different_places() -> None:
    first, second = SGD([parameter()], lr=0.1), SGD([parameter()], lr=0.01)
    warming = lr_scheduler.LinearLR(first, 0.1, total_iters=5)
    cycling = lr_scheduler.CyclicLR(second, 0.001, 0.01, 3, cycle_momentum=False)
    assert lr_ratios([first, SGD([parameter()], lr=0.01)]) == pytest.approx([1, 0.1])
    apply_lr(0.5, [first, second], [warming, cycling])
    assert (warming.base_lrs, cycling.max_lrs) == ([0.5], pytest.approx([0.05]))
    assert (first.param_groups[0]["lr"], second.param_groups[0]["lr"]) == pytest.approx((0.05, 0.005))
