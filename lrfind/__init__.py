"""Which learning rate should I use? Range tests and sweeps for PyTorch, with their uncertainty.

In a notebook:

    import lrfind
    best = lrfind.find(model, optimizer, loss_fn, loader, steps=3000, schedule="cosine")
    best.lr, best.low, best.high, best.confidence

    test = lrfind.range_test(model, optimizer, loss_fn, loader, start_lr=1e-6, end_lr=10)
    test.suggest().lr
    test.plot()

    lrfind.grid(model, optimizer, loss_fn, loader, lrs=[0.01, 0.03, 0.1], steps=3000, val=val_loader).table
    lrfind.compare(model, optimizer, loss_fn, loader, schedules=["cosine", "linear"], steps=3000)
    lrfind.Run("runs/...").summary

Importing lrfind does not import torch; that happens when one of these functions is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrfind.analysis.suggestions import Suggestion, suggest
    from lrfind.api.calls import find, range_test
    from lrfind.api.comparisons import ComparisonResult
    from lrfind.api.grids import GridResult
    from lrfind.api.range_tests import RangeTest
    from lrfind.api.results import Recommendation
    from lrfind.api.runs import Run
    from lrfind.api.sweeps import compare, grid
    from lrfind.errors import LrfindError, NoSuggestion, UsageError

__version__ = "0.1.0"
__all__ = [
    "ComparisonResult",
    "GridResult",
    "LrfindError",
    "NoSuggestion",
    "RangeTest",
    "Recommendation",
    "Run",
    "Suggestion",
    "UsageError",
    "compare",
    "find",
    "grid",
    "range_test",
    "suggest",
]

_HOMES = {
    "ComparisonResult": "lrfind.api.comparisons",
    "GridResult": "lrfind.api.grids",
    "LrfindError": "lrfind.errors",
    "NoSuggestion": "lrfind.errors",
    "RangeTest": "lrfind.api.range_tests",
    "Recommendation": "lrfind.api.results",
    "Run": "lrfind.api.runs",
    "Suggestion": "lrfind.analysis.suggestions",
    "UsageError": "lrfind.errors",
    "compare": "lrfind.api.sweeps",
    "find": "lrfind.api.calls",
    "grid": "lrfind.api.sweeps",
    "range_test": "lrfind.api.calls",
    "suggest": "lrfind.analysis.suggestions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lrfind' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
