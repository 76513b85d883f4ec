"""Statistics over seeds: the interval of a mean."""

from __future__ import annotations

import math

from lrfind.analysis.curves import Array

T_95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t, two-sided 95 %, for 1 to 10 degrees of freedom; see `t_95`."""


def half_width(gaps: Array) -> float | None:
    """Return half the width of the 95 % interval of the mean, by Student's t; None for fewer than 2 gaps."""
    if gaps.size < 2:
        return None
    return float(t_95(gaps.size - 1) * gaps.std(ddof=1) / math.sqrt(gaps.size))


def t_95(degrees: int) -> float:
    """Return Student's t, two-sided 95 %; for more than 10 degrees of freedom it is correct to within 1 %.

    >>> t_95(4), round(t_95(20), 3)
    (2.776, 2.095)
    """
    return T_95[degrees - 1] if degrees <= len(T_95) else 1.96 + 2.7 / degrees
