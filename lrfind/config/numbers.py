"""Whole numbers that users give in Python."""

from __future__ import annotations

from numbers import Integral
from typing import Any


def whole(value: Any) -> int | None:
    """Return a whole number as an int, also one of NumPy; None for anything else, such as True and 3.0.

    >>> whole(3), whole(True), whole(3.0)
    (3, None, None)
    """
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
