"""Faster kernels: products by oneDNN, as exact as torch's own and only where they may be, and max-pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from lrfind.training import kernels
from lrfind.training.kernels import LEAST_FLOPS, digits_are_usual, digits_as_usual, fast_kernels

SIDE = round(LEAST_FLOPS ** (1 / 3)) + 8


def test_a_product_by_onednn_is_exact_in_float32_or_not_used() -> None:
    if not kernels._onednn_is_faster():
        assert (
            kernels.fastest(torch.ops.aten.mm.default, torch.randn(2, SIDE, SIDE))
            is torch.ops.aten.mm.default
        )
        return
    a, b = torch.randn(2, SIDE, SIDE)
    exact = a.double() @ b.double()
    with fast_kernels(allowed=True):
        fast = a @ b
    usual = (a @ b - exact).abs().max()
    assert (fast - exact).abs().max() < 4 * usual


def spy(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    """Return a function that does the same, and notes that it was called."""
    return lambda *args: (calls.append(None), function(*args))[1]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let oneDNN count as faster on any machine, and return the list of the products that it would compute."""
    calls: list[str] = []

    def by_onednn(operation: object) -> object:
        return lambda *args, **kwargs: (calls.append(str(operation)), operation(*args, **kwargs))[1]

    monkeypatch.setattr(kernels, "_onednn_is_faster", lambda: True)
    monkeypatch.setattr(kernels, "_by_onednn", by_onednn)
    return calls


def test_only_large_float32_products_are_computed_by_onednn(counted: list[str]) -> None:
    big, small = torch.randn(SIDE, SIDE, requires_grad=True), torch.randn(8, 8)
    with fast_kernels(allowed=True):
        (big @ big).sum().backward()
        small @ small, big.double() @ big.double()
        torch.bmm(big[None], big[None]), torch.addmm(big[0], big, big), big * big
    assert counted == [*["aten.mm.default"] * 3, "aten.bmm.default", "aten.addmm.default"]


def test_with_digits_as_usual_products_are_left_to_torch_at_any_depth(counted: list[str]) -> None:
    big = torch.randn(SIDE, SIDE)
    with digits_as_usual():
        assert digits_are_usual()
        with fast_kernels(allowed=True):
            big @ big
    assert not digits_are_usual()
    with fast_kernels(allowed=False):
        big @ big
    assert counted == []


def test_the_precision_that_torch_may_use_is_put_back() -> None:
    settings = torch.backends.mkldnn.matmul
    before = settings.fp32_precision

    def product(*_: object) -> None:
        assert settings.fp32_precision == kernels.MAY_ROUND
        raise ValueError("no product")

    with pytest.raises(ValueError, match="no product"):
        kernels._by_onednn(product)()
    assert settings.fp32_precision == before


@pytest.mark.parametrize("arguments", [{}, {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1}])
def test_images_are_pooled_as_channels_last_to_the_same_numbers_and_gradients(
    arguments: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 4, (16, 4, 32, 33)).float()  # with many equal numbers
    images[torch.rand_like(images) < 0.01] = float("nan")
    results, layouts = [], []
    pool = kernels.MAX_POOL
    monkeypatch.setattr(kernels, "_pooled_channels_last", spy(kernels._pooled_channels_last, layouts))
    for allowed in (False, True):
        x = images.clone().requires_grad_()
        with fast_kernels(allowed=allowed):
            maxima, places = nn.functional.max_pool2d(
                x, **({"kernel_size": 2} | arguments), return_indices=True
            )
            maxima.nan_to_num().square().sum().backward()
        results.append((maxima.nan_to_num(7.0), places, x.grad, maxima.stride(), places.stride()))
    assert len(layouts) == 1
    usual, fast = results
    assert all(torch.equal(a, b) for a, b in zip(usual[:3], fast[:3], strict=True))
    assert usual[3:] == fast[3:]
    assert kernels.fastest(pool, [images[:, :, :4, :4]]) is pool  # a small one, and not contiguous
