from __future__ import annotations

import numpy as np
import pytest

from lrfind.schedules import ramp


@pytest.mark.parametrize("shape", ["exponential", "linear"])
@pytest.mark.parametrize("steps", [2, 7, 100])
def test_a_ramp_reaches_both_ends_exactly(shape: str, steps: int) -> None:
    lr = ramp(1e-6, 3.3, steps, shape=shape)
    assert (lr[0], lr[-1], lr.size) == (1e-6, 3.3, steps)


def test_an_exponential_ramp_has_equal_ratios_and_a_linear_one_equal_differences() -> None:
    exponential, linear = ramp(1e-6, 10, 50), ramp(1e-6, 10, 50, shape="linear")
    np.testing.assert_allclose(exponential[1:] / exponential[:-1], 1e7 ** (1 / 49), rtol=1e-12)
    np.testing.assert_allclose(np.diff(linear), (10 - 1e-6) / 49, rtol=1e-9)
