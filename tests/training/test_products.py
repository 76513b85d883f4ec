"""Matrix products by oneDNN: as exact as torch's own, and only where nothing else is asked for."""

from __future__ import annotations

import pytest
import torch

from lrfind.training import products
from lrfind.training.products import LEAST_FLOPS, fast_products, products_are_usual, products_as_usual

SIDE = round(LEAST_FLOPS ** (1 / 3)) + 8


def test_a_product_by_onednn_is_exact_in_float32_or_not_used() -> None:
    if not products._onednn_is_faster():
        assert products_are_usual()
        return
    a, b = torch.randn(2, SIDE, SIDE)
    exact = a.double() @ b.double()
    with fast_products():
        fast = a @ b
    usual = (a @ b - exact).abs().max()
    assert (fast - exact).abs().max() < 4 * usual


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let oneDNN count as faster on any machine, and return the list of the products that it would compute."""
    calls: list[str] = []

    def by_onednn(operation: object) -> object:
        return lambda *args, **kwargs: (calls.append(str(operation)), operation(*args, **kwargs))[1]

    monkeypatch.setattr(products, "_onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "_by_onednn", by_onednn)
    return calls


def test_only_large_float32_products_are_computed_by_onednn(counted: list[str]) -> None:
    big, small = torch.randn(SIDE, SIDE, requires_grad=True), torch.randn(8, 8)
    with fast_products():
        (big @ big).sum().backward()
        small @ small, big.double() @ big.double()
        torch.bmm(big[None], big[None]), torch.addmm(big[0], big, big), big * big
    assert counted == [*["aten.mm.default"] * 3, "aten.bmm.default", "aten.addmm.default"]


def test_products_as_usual_are_left_to_torch_at_any_depth(counted: list[str]) -> None:
    big = torch.randn(SIDE, SIDE)
    with products_as_usual():
        assert products_are_usual()
        with fast_products():
            big @ big
    assert not products_are_usual()
    with fast_products(allowed=False):
        big @ big
    assert counted == []


def test_the_precision_that_torch_may_use_is_put_back() -> None:
    settings = torch.backends.mkldnn.matmul
    before = settings.fp32_precision

    def product(*_: object) -> None:
        assert settings.fp32_precision == products.MAY_ROUND
        raise ValueError("no product")

    with pytest.raises(ValueError, match="no product"):
        products._by_onednn(product)()
    assert settings.fp32_precision == before
