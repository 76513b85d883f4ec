"""Which learning rate should I use? Range tests and sweeps for PyTorch, with their uncertainty.

In a notebook:

    import lrfind
    best = lrfind.find(model, optimizer, loss_fn, loader, steps=3000, schedule="cosine")
    best.lr, best.low, best.high, best.confidence

    test = lrfind.range_test(model, optimizer, loss_fn, loader, start_lr=1e-6, end_lr=10)
    test.suggest().lr
    test.plot()

Importing lrfind does not import torch; that happens when `find` or `range_test` is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrfind.analysis.suggestions import Suggestion, suggest
    from lrfind.api.calls import find, range_test
    from lrfind.api.range_tests import RangeTest
    from lrfind.api.results import Recommendation
    from lrfind.errors import LrfindError, NoSuggestion, UsageError

__version__ = "0.1.0"
__all__ = [
    "LrfindError",
    "NoSuggestion",
    "RangeTest",
    "Recommendation",
    "Suggestion",
    "UsageError",
    "find",
    "range_test",
    "suggest",
]

_HOMES = {
    "LrfindError": "lrfind.errors",
    "NoSuggestion": "lrfind.errors",
    "RangeTest": "lrfind.api.range_tests",
    "Recommendation": "lrfind.api.results",
    "Suggestion": "lrfind.analysis.suggestions",
    "UsageError": "lrfind.errors",
    "find": "lrfind.api.calls",
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
