"""Shapes: what the schedule that a config names gives at every step of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrfind.analysis.lanes import Shape
from lrfind.config.sections import Component
from lrfind.config.shapes import patience_of, shape_of, watched_by
from lrfind.errors import UsageError
from lrfind.schedules.functions import (
    cosine,
    cyclic_momentum,
    linear,
    linear_warmup,
    multi_step,
    one_cycle,
    one_cycle_momentum,
)
from lrfind.schedules.reactive import grad_norm, reduce_on_plateau

STEPS = 40
STEP = np.arange(STEPS)


def shape(name: str, args: dict[str, Any] | None = None, epoch: int | None = None) -> Shape:
    return shape_of(Component(name=name, args=args or {}), STEPS, epoch)


def refusal(name: str, args: dict[str, Any] | None = None, epoch: int | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        shape(name, args, epoch)
    return str(caught.value)


def test_a_name_with_args_is_the_function_with_them() -> None:
    computed = shape("cosine", {"warmup": 0.25, "end": 0.1})
    np.testing.assert_array_equal(computed.multiplier, cosine(STEP, STEPS, warmup=10, end=0.1))
    assert (computed.momentum, computed.reaction) == (None, None)


@pytest.mark.parametrize(
    ("length", "steps"), [("2 epochs", 14), ("1 epoch", 7), ("0.5 epochs", 4), ("0.01 epochs", 1)]
)
def test_lengths_in_epochs_are_lengths_in_steps_also_in_lists(length: str, steps: int) -> None:
    warm = shape("linear", {"warmup": length}, epoch=7).multiplier
    np.testing.assert_array_equal(warm, linear(STEP, STEPS, warmup=steps))
    drops = shape("multi_step", {"at": [length, 30, 0.5]}, epoch=7).multiplier
    np.testing.assert_array_equal(drops, multi_step(STEP, STEPS, at=[steps, 30, 0.5]))


def test_a_join_is_its_named_parts_one_after_the_other() -> None:
    inner = {"name": "join", "args": {"parts": ["constant", "linear"], "at": ["1 epoch"]}}
    parts = ["linear_warmup", {"name": "cosine", "args": {"warmup": "0.5 epochs", "end": 0.2}}, inner]
    multiplier = shape("join", {"parts": parts, "at": ["1 epoch", 0.5]}, epoch=10).multiplier
    np.testing.assert_array_equal(multiplier[:10], linear_warmup(np.arange(10), 10))
    np.testing.assert_array_equal(multiplier[10:20], cosine(np.arange(10), 10, warmup=5, end=0.2))
    np.testing.assert_array_equal(multiplier[20:30], 1)
    np.testing.assert_array_equal(multiplier[30:], linear(np.arange(10), 10))


OWN = """
import numpy as np

def halves(step, steps, base=0.5):
    assert type(step) is int and type(steps) is int
    return base ** (step / steps)

def failing(step, steps):
    return 1 / (step - 3)

def negative(step, steps):
    return 1 - step

def vanishing(step, steps):
    return float("nan") if step else 1.0

def nothing(step, steps):
    return 0

def many(step, steps):
    return [1.0] * steps

nine = 9

class Falling: ...
"""


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("own")
    (folder / "own_for_shapes.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


def test_a_users_function_is_asked_for_each_step_and_can_be_joined() -> None:
    args = {"base": 0.25}
    np.testing.assert_allclose(shape("own_for_shapes:halves", args).multiplier, 0.25 ** (STEP / STEPS))
    parts = ["constant", {"name": "own_for_shapes:halves", "args": args}]
    joined = shape("join", {"parts": parts, "at": [30]}).multiplier
    np.testing.assert_allclose(joined[30:], 0.25 ** (np.arange(10) / 10))


def test_one_cycle_moves_the_momentum_unless_it_is_null() -> None:
    moving = shape("one_cycle", {"rise": 0.5, "momentum": [0.9, 0.7]})
    np.testing.assert_array_equal(moving.multiplier, one_cycle(STEP, STEPS, rise=0.5))
    expected = one_cycle_momentum(STEP, STEPS, rise=0.5, momentum=(0.9, 0.7))
    np.testing.assert_array_equal(np.asarray(moving.momentum), np.asarray(expected))
    assert shape("one_cycle").momentum is not None
    still = shape("one_cycle", {"rise": 0.5, "momentum": None})
    assert still.momentum is None
    np.testing.assert_array_equal(still.multiplier, moving.multiplier)


def test_cyclic_moves_the_momentum_only_when_told_and_takes_periods_in_epochs() -> None:
    assert shape("cyclic").momentum is None
    momentum = shape("cyclic", {"period": "2 epochs", "momentum": [0.9, 0.8]}, epoch=5).momentum
    expected = cyclic_momentum(STEP, STEPS, period=10, momentum=(0.9, 0.8))
    np.testing.assert_array_equal(np.asarray(momentum), np.asarray(expected))


def test_a_schedule_that_reacts_is_flat_and_brings_its_reaction() -> None:
    plateau = shape("reduce_on_plateau", {"factor": 0.5, "patience": 1})
    losses = [3.0, 2.0, 2.0, 2.0]
    np.testing.assert_array_equal(plateau.multiplier, np.ones(STEPS))
    assert plateau.reaction is not None
    assert plateau.reaction.to == "val_loss"
    assert plateau.reaction.multiplier(losses, 0.1) == reduce_on_plateau(losses, 0.1, factor=0.5, patience=1)
    norm = shape("grad_norm", {"percentile": 50, "window": "2 epochs"}, epoch=2).reaction
    assert norm is not None
    assert norm.to == "grad_norm"
    norms = [9.0, 1.0, 1.0, 1.0, 4.0]
    assert norm.multiplier(norms, 0.1) == grad_norm(norms, 0.1, percentile=50, window=4) == 0.25


PLATEAU = {"name": "reduce_on_plateau", "args": {"factor": 0.5, "patience": 0, "warmup": 5}}


@pytest.mark.parametrize(
    ("name", "args", "start"),
    [
        ("reduce_on_plateau", {"warmup": 10}, 10),
        ("reduce_on_plateau", {"warmup": 0.25}, 10),
        ("reduce_on_plateau", {"warmup": "2 epochs"}, 14),
        ("join", {"parts": ["constant", PLATEAU], "at": [11]}, 16),
        ("join", {"parts": [{"name": "linear", "args": {"end": 0.5}}, PLATEAU], "at": [0.25]}, 15),
        ("join", {"parts": ["constant", {"name": "join", "args": {"parts": ["constant", PLATEAU], "at": [4]}}], "at": [6]}, 15),
    ],
)  # fmt: skip
@pytest.mark.parametrize("every", [1, 5, 7, 40])
def test_a_reaction_begins_after_the_warmup_and_the_earlier_parts(
    name: str, args: dict[str, Any], start: int, every: int
) -> None:
    args = {"factor": 0.5, "patience": 0} | args if name != "join" else args
    computed = shape_of(Component(name=name, args=args), STEPS, 7, every)
    assert computed.multiplier[start - 1] < 1
    np.testing.assert_array_equal(computed.multiplier[start:], 1)
    assert computed.reaction is not None
    losses = [float(number) for number in range(STEPS // every)]  # each is worse than the one before
    counted = [loss for number, loss in enumerate(losses, 1) if number * every >= start]
    expected = reduce_on_plateau(counted, 0.1, factor=0.5, patience=0)
    assert computed.reaction.multiplier(losses, 0.1) == expected
    assert (expected < 1) == (len(counted) > 1)


def test_the_gradients_of_the_warmup_do_not_count() -> None:
    computed = shape("grad_norm", {"warmup": 3, "percentile": 50})
    assert computed.multiplier[:4].tolist() == [0.25, 0.5, 0.75, 1]
    assert computed.reaction is not None
    norms = [1.0, 1.0, 9.0]
    assert computed.reaction.multiplier(norms, 0.1) == 1
    assert computed.reaction.multiplier([*norms, 2.0, 8.0], 0.1) == grad_norm([2.0, 8.0], 0.1, percentile=50)


def test_a_join_watches_what_its_last_part_watches() -> None:
    joined = Component(name="join", args={"parts": ["constant", PLATEAU], "at": [4]})
    assert (watched_by(joined), patience_of(joined)) == ("val_loss", 0)
    assert watched_by(Component(name="join", args={"parts": ["constant", "linear"], "at": [4]})) is None


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("linear", {"warmup": "2 epochs"}, "schedule: '2 epochs' needs data with a known number of steps per epoch; give the length in steps."),
        ("multi_step", {"at": [3, "2 epochs"]}, "schedule: '2 epochs' needs data"),
        ("join", {"parts": ["constant", {"name": "linear", "args": {"warmup": "2 epochs"}}], "at": [9]}, "'2 epochs' needs data"),
        ("cosine", {"warmup": 40}, "schedule: cosine: warmup must be shorter than the run, which has 40 steps"),
        ("one_cycle", {"momentum": [0.8, 0.9]}, "schedule: one_cycle: momentum must be the highest and the lowest"),
        ("reduce_on_plateau", {"patience": -1}, "schedule: reduce_on_plateau: patience must be a whole number"),
        ("join", {"parts": ["constant", "linear"], "at": [40]}, "schedule: join: at must be increasing and below 40, the number of steps"),
        ("join", {"parts": ["grad_norm", "constant"], "at": [9]}, "schedule: join: grad_norm reacts to the training, so it can only be the last part of a join."),
        ("reduce_on_plateau", {"warmup": 40}, "schedule: reduce_on_plateau: warmup must be shorter than the run, which has 40 steps"),
        ("join", {"parts": ["constant", {"name": "reduce_on_plateau", "args": {"factor": 2}}], "at": [9]}, "schedule: join: factor must be above 0 and below 1; found 2."),
        ("join", {"parts": ["constant", "cosin"], "at": [9]}, "schedule: join: unknown schedule 'cosin'; did you mean cosine"),
        ("own_for_shapes:failing", {}, "schedule: own_for_shapes:failing failed: ZeroDivisionError"),
        ("own_for_shapes:negative", {}, "schedule: own_for_shapes:negative must give a number of 0 or more for each of the 40 steps."),
        ("own_for_shapes:vanishing", {}, "must give a number of 0 or more for each of the 40 steps."),
        ("own_for_shapes:nothing", {}, "schedule: own_for_shapes:nothing is 0 at each of the 40 steps."),
        ("own_for_shapes:many", {}, "schedule: own_for_shapes:many failed: TypeError"),
        ("own_for_shapes:halves", {"bas": 1}, "schedule: own_for_shapes:halves failed: TypeError"),
        ("own_for_shapes:failing", {}, ". A schedule is a function of (step, steps) that is 1 at the peak."),
        ("own_for_shapes:nine", {}, "'own_for_shapes:nine' must be a function of (step, steps) that is 1 at the peak."),
        ("own_for_shapes:Falling", {}, "'own_for_shapes:Falling' must be a function of (step, steps)"),
        ("own_for_shapes:non", {}, "'own_for_shapes' has no attribute 'non'"),
    ],
)  # fmt: skip
def test_what_makes_no_schedule_is_explained(name: str, args: dict[str, Any], message: str) -> None:
    text = refusal(name, args)
    assert text.startswith("schedule: ")
    assert message in text
    assert "\n" not in text


def test_a_function_that_gives_the_wrong_number_of_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrfind.schedules.functions.constant", lambda step, steps: np.ones(steps - 1))
    assert refusal("constant") == (
        "schedule: constant must give a number of 0 or more for each of the 40 steps."
    )
