"""The steps that are taken without what torch does around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from lrfind.training.update import clear_gradients, plain_step

Make = Callable[[list[nn.Parameter]], optim.Optimizer]


def weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5, 3), (5,), (2, 5))]


def trained(make: Make, step_of: Callable[[optim.Optimizer], Callable[[], Any]]) -> list[Tensor]:
    """Return weights, and all tensors of the optimizer's state, after four steps with given gradients."""
    parameters, generator = weights(), torch.Generator().manual_seed(1)
    optimizer = make(parameters)
    step = step_of(optimizer)
    for _ in range(4):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        step()
    assert all(parameter.requires_grad for parameter in parameters)
    states = [value for p in parameters for value in optimizer.state[p].values() if isinstance(value, Tensor)]
    return [*(parameter.detach() for parameter in parameters), *states]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01),
        lambda p: optim.SGD(p, 0.1, momentum=0.9, fused=True),
        lambda p: optim.AdamW(p, 0.1, fused=True),
        lambda p: optim.Adam([{"params": p[:1], "lr": 0.3}, {"params": p[1:]}], 0.1, foreach=True),
        lambda p: optim.RMSprop(p, 0.1, centered=True),
        lambda p: optim.NAdam(p, 0.1),
    ],
)
def test_a_plain_step_equals_the_step_of_torch_to_the_last_bit(make: Make) -> None:
    plain, usual = trained(make, plain_step), trained(make, lambda optimizer: optimizer.step)
    assert len(plain) == len(usual) > 3
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(plain, usual, strict=True))


@pytest.mark.parametrize(
    "options", [{}, {"dampening": 0.4, "weight_decay": 0.1}, {"nesterov": True}], ids=str
)
def test_a_fused_step_takes_parameters_whose_first_gradient_comes_later(options: dict[str, Any]) -> None:
    results = []
    for fused in (True, False):
        parameters, generator = weights(), torch.Generator().manual_seed(1)
        groups = [{"params": parameters[:1], "momentum": 0.0}, {"params": parameters[1:], "momentum": 0.9}]
        if options.get("nesterov"):
            groups[0]["nesterov"] = False
        optimizer = optim.SGD(groups, 0.1, fused=fused, foreach=False, **{"momentum": 0.9, **options})
        step = plain_step(optimizer) if fused else optimizer.step  # that of torch fails where it is fused
        for number in range(5):
            for place, parameter in enumerate(parameters):
                gradient = torch.randn(parameter.shape, generator=generator)
                parameter.grad = gradient if number >= 2 * (place - 1) else None
            given = [parameter.grad for parameter in parameters]
            step()
            assert all(parameter.grad is own for parameter, own in zip(parameters, given, strict=True))
        results.append([parameter.detach() for parameter in parameters])
    torch.testing.assert_close(*results)


def test_a_plain_step_leaves_out_what_torch_does_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(optim.Optimizer, "_optimizer_step_code", lambda self: calls.append(self))
    optimizer = optim.SGD(weights(), 0.1)
    plain_step(optimizer)()
    assert not calls
    optimizer.step()
    assert calls == [optimizer]


@pytest.mark.parametrize("register", ["register_step_pre_hook", "register_step_post_hook"])
def test_hooks_of_an_optimizer_are_called(register: str) -> None:
    optimizer, calls = optim.SGD(weights(), 0.1), list[Any]()
    getattr(optimizer, register)(lambda *arguments: calls.append(arguments[0]))
    plain_step(optimizer)()
    assert calls == [optimizer]


def test_a_step_that_somebody_put_into_an_optimizer_or_its_class_is_called() -> None:
    class Counting(optim.SGD):
        steps = 0

        def step(self, closure: Any = None) -> Any:
            self.steps += 1
            return super().step(closure)

    own, scheduled = Counting(weights(), 0.1), optim.SGD(weights(), 0.1)
    plain_step(own)()
    assert own.steps == 1
    scheduler = optim.lr_scheduler.StepLR(scheduled, 1)
    plain_step(scheduled)()
    scheduler.step()  # which warns where the optimizer has taken no step, and warnings are errors


def test_gradients_are_cleared_by_an_optimizers_own_zero_grad_where_it_has_one() -> None:
    class Keeping(optim.SGD):
        def zero_grad(self, set_to_none: bool = True) -> None:
            pass

    for kind, cleared in ((optim.SGD, True), (Keeping, False)):
        parameters = weights()
        parameters[0].grad = torch.ones(5, 3)
        clear_gradients(kind(parameters, 0.1), parameters)
        assert (parameters[0].grad is None) == cleared
