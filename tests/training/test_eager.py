"""torch without its compiler: optimizers take the same steps, and torch is the same afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
import torch
from torch import optim
from torch.optim.optimizer import register_optimizer_step_post_hook

from lrfind.catalog import OPTIMIZERS
from lrfind.config.registry import resolve
from lrfind.training import eager, work
from lrfind.training.eager import eager_gradients, eager_optimizers

METHODS = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


@pytest.fixture(autouse=True)
def _as_if_the_compiler_were_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the block change torch, also after another test has imported the compiler."""
    monkeypatch.setattr(eager, "COMPILER", "torch._dynamo_that_nobody_has_imported")


def weights_after_training(kind: Any, plain: bool) -> list[torch.Tensor]:
    """Return the weights after each of six steps; after the third one, the state is saved and loaded."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3, generator=generator))
    bias = torch.nn.Parameter(torch.randn(3, generator=generator))
    after = []
    with nullcontext() if plain else eager_optimizers():
        optimizer = kind([weight], lr=0.05)
        optimizer.add_param_group({"params": [bias], "lr": 0.01})
        for step in range(6):
            optimizer.zero_grad()
            (torch.randn(2, 4, generator=generator) @ weight + bias).square().sum().backward()
            optimizer.step()
            if step == 2:
                optimizer.load_state_dict(optimizer.state_dict())
            after += [weight.detach().clone(), bias.detach().clone()]
    return after


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_the_same_steps_bit_for_bit(name: str) -> None:
    kind = resolve(OPTIMIZERS[name].path)
    pairs = zip(weights_after_training(kind, True), weights_after_training(kind, False), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def methods() -> Iterator[Any]:
    yield from (vars(optim.Optimizer)[name] for name in METHODS)
    yield from (kind.step for kind in (optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad))


def test_the_methods_of_torch_are_others_inside_the_block_and_the_same_after_it() -> None:
    for kind in (optim.SGD, optim.Adam, optim.Adagrad):  # with the first optimizer torch changes its class
        kind([torch.zeros(1)])
    before = [*methods()]
    with suppress(KeyboardInterrupt), eager_optimizers():
        assert not any(one is other for one, other in zip(before, methods(), strict=True))
        raise KeyboardInterrupt
    assert all(one is other for one, other in zip(before, methods(), strict=True))


@pytest.mark.parametrize(
    ("name", "value"), [("COMPILER", "torch"), ("WITHOUT_GRADIENTS", "another"), ("UNTRACED", "another")]
)
def test_nothing_changes_with_the_compiler_or_where_torch_wraps_in_another_way(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, name, value)
    optim.SGD([torch.zeros(1)])
    step, zero_grad = optim.SGD.step, optim.Optimizer.zero_grad
    with eager_optimizers():
        assert (optim.SGD.step is step) is (name != "UNTRACED")
        assert (optim.Optimizer.zero_grad is zero_grad) is (name != "WITHOUT_GRADIENTS")


def test_hooks_are_called_once_for_each_step_inside_the_block_and_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if hasattr(optim.ASGD.step, "hooked"):  # as if no optimizer of this class was made before
        monkeypatch.setattr(optim.ASGD, "step", optim.ASGD.step.__wrapped__)
    calls: list[str] = []
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    handle = register_optimizer_step_post_hook(lambda *_: calls.append("all"))
    try:
        with eager_optimizers():
            optimizer = optim.ASGD([weight])
            optimizer.register_step_pre_hook(lambda *_: calls.append("own"))
            optimizer.step()
        optimizer.step()
        optim.ASGD([weight]).step()
    finally:
        handle.remove()
    assert calls == ["own", "all", "own", "all", "all"]


def test_a_step_that_is_to_be_differentiable_is_recorded() -> None:
    with eager_optimizers():
        for differentiable in (False, True):
            leaf = torch.ones(1, requires_grad=True)
            weight = leaf.clone() if differentiable else leaf
            weight.grad = torch.ones(1)
            optimizer = optim.SGD([weight], lr=0.1, differentiable=differentiable)
            optimizer.step()
            assert (weight.grad_fn is not None) is differentiable
            assert torch.is_grad_enabled()


def test_counting_the_work_of_a_step_does_not_import_the_compiler() -> None:
    assert eager._eager(optim.Optimizer.zero_grad) is not None
    assert eager._eager(work._Counter.__torch_dispatch__) is None


def test_gradients_of_functions_do_not_need_the_compiler() -> None:
    x = torch.randn(3)
    with suppress(KeyboardInterrupt), eager_gradients():
        assert not hasattr(torch._dynamo, "compile")
        assert torch.equal(torch.func.grad(lambda x: x.square().sum())(x), 2 * x)
        raise KeyboardInterrupt
    assert "_dynamo" not in vars(torch)  # it is imported when it is asked for
    assert hasattr(torch._dynamo, "optimize")
