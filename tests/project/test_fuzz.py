"""Random configs and curves, a few of each; `benchmarks/reliability/fuzz.py` tries thousands."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import fuzz

few = settings(max_examples=60, derandomize=True, deadline=None, database=None)


@settings(few, max_examples=40)
@given(st.integers(0, 2**32).map(Random))
def test_a_config_is_right_or_has_mistakes_with_places_and_a_right_one_is_read_again(random: Random) -> None:
    assert fuzz.checked(*fuzz.config_text(random)) in ("right", "wrong")


def test_many_of_the_drawn_configs_are_right() -> None:
    outcomes = [fuzz.checked(*fuzz.config_text(Random(seed))) for seed in range(40)]
    assert 4 < outcomes.count("right") < 30


@pytest.mark.filterwarnings("error")
@few
@given(st.integers(0, 2**32).map(Random))
def test_a_method_answers_within_the_range_of_any_curve_or_refuses(random: Random) -> None:
    fuzz.asked(random)


@settings(few, max_examples=20)
@given(st.integers(0, 2**32).map(Random))
def test_answers_follow_a_factor_and_a_shift_of_the_loss_and_a_factor_of_the_lr(random: Random) -> None:
    assert fuzz.followed(random) == 25
