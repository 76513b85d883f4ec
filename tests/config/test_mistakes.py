"""Mistakes in values that may have several forms: each value has one message, which names every form once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from lrfind.config.document import ConfigError, Mistake
from lrfind.config.experiment import check, section_of
from lrfind.config.mistakes import merge_unions, message_of
from lrfind.config.sections import Component, FindSection, GridSection
from lrfind.config.shapes import shape_of
from lrfind.errors import UsageError
from tests.helpers.runs import CLASSIFIER

LENGTH = "a whole number, a share such as 0.05 or a length such as '2 epochs'"


def mistakes(*overrides: str) -> list[Mistake]:
    with pytest.raises(ConfigError) as refused:
        check(CLASSIFIER, overrides, "f.yaml")
    return refused.value.mistakes


def messages(*overrides: str) -> list[str]:
    return [mistake.message for mistake in mistakes(*overrides)]


def schedule(name: str, args: str) -> list[str]:
    """Return the messages about a schedule, without the path to its args."""
    prefix = "training.schedule.args."
    return [
        message.removeprefix(prefix)
        for message in messages(f"training.schedule={{name: {name}, args: {args}}}")
    ]


def merged(annotation: Any, value: Any) -> list[str]:
    """Return what is wrong with a value, each message after the path in the value."""
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    errors = merge_unions(refused.value.errors(), annotation, value)
    return [f"{'.'.join(map(str, error['loc']))}: {message_of(error)}" for error in errors]


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("cosine", "{warmup: x}", [f"warmup: must be {LENGTH}; found the text 'x'"]),
        ("cosine", "{warmup: true}", [f"warmup: must be {LENGTH}; found true"]),
        ("cosine", "{warmup: null}", [f"warmup: must be {LENGTH}; found nothing"]),
        ("cosine", "{warmup: 2 epoch s}", [f"warmup: must be {LENGTH}; found the text '2 epoch s'"]),
        ("cosine", "{warmup: ['2 epochs']}", [f"warmup: must be {LENGTH}; found a list"]),
        (
            "exponential",
            "{every: x}",
            ["every: must be a whole number, a share such as 0.05, a length such as '2 epochs' or null;"
             " found the text 'x'"],
        ),
        ("multi_step", "{at: [0.5, x]}", [f"at.1: must be {LENGTH}; found the text 'x'"]),
        (
            "multi_step",
            "{at: [x, 1 epoch, {}]}",
            [f"at.0: must be {LENGTH}; found the text 'x'", f"at.2: must be {LENGTH}; found a mapping"],
        ),
        ("multi_step", "{at: 2 epochs}", ["at: must be a list; found the text '2 epochs'"]),
        ("one_cycle", "{momentum: x}", ["momentum: must be a list of numbers or null; found the text 'x'"]),
        ("one_cycle", "{momentum: [0.9, x]}", ["momentum.1: must be a number; found the text 'x'"]),
        ("one_cycle", "{anneal: 3}", ["anneal: must be 'cosine' or 'linear'; found 3"]),
        ("cosine", "{end: x}", ["end: must be a number; found the text 'x'"]),
        ("join", "{parts: [constant, linear], at: [x]}", [f"at.0: must be {LENGTH}; found the text 'x'"]),
        (
            "join",
            "{parts: [constant, {name: linear, args: {warmup: x}}], at: [9]}",
            [f"parts.1.args.warmup: must be {LENGTH}; found the text 'x'"],
        ),
    ],
)  # fmt: skip
def test_an_argument_of_a_schedule_has_one_message_with_every_form(
    name: str, args: str, expected: list[str]
) -> None:
    assert schedule(name, args) == expected


def test_lengths_in_epochs_are_named_only_where_they_are_allowed() -> None:
    assert check(CLASSIFIER, ["training.schedule={name: multi_step, args: {at: [0.5, 2 epochs]}}"])
    assert messages("data={name: image_folder, args: {path: x, size: 2 epochs}}") == [
        "data.args.size: must be a whole number or a list of whole numbers; found the text '2 epochs'"
    ]


def test_a_number_of_a_users_schedule_is_not_called_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_for_mistakes.py").write_text(
        "def fall(step, steps, speed: int | float = 1, steady: float | int | None = None): ...\n"
        "def net(width: int | float): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert schedule("'own_for_mistakes:fall'", "{speed: x, steady: y}") == [
        "speed: must be a number or a length such as '2 epochs'; found the text 'x'",
        "steady: must be a number, a length such as '2 epochs' or null; found the text 'y'",
    ]
    assert messages("model={name: 'own_for_mistakes:net', args: {width: x}}") == [
        "model.args.width: must be a number; found the text 'x'"
    ]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("betas: [0.9, x]", "betas.1: must be a number; found the text 'x'"),
        ("betas: x", "betas: must be a list; found the text 'x'"),
        ("betas: [0.9]", "betas: item 2 of the list is missing"),
        ("betas: [0.9, 0.9, 0.9]", "betas: must be a list of at most 2; found a list of 3"),
        ("foreach: x", "foreach: must be true, false or null; found the text 'x'"),
    ],
)
def test_an_argument_of_an_optimizer_is_told_at_its_place(args: str, expected: str) -> None:
    assert messages(f"optimizer={{name: nadam, args: {{{args}}}}}") == [f"optimizer.args.{expected}"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.batch_size=x", "must be a whole number, 'full' or null; found the text 'x'"),
        ("data.batch_size=1.5", "must be a whole number, 'full' or null; found 1.5"),
        ("data.batch_size=true", "must be a whole number, 'full' or null; found true"),
        ("data.batch_size=0", "must be a whole number greater than 0, 'full' or null; found 0"),
        ("data.validation=x", "must be a number or null; found the text 'x'"),
        ("data.validation=1", "must be less than 1; found 1"),
        ("training.eval_every=x", "must be a whole number or null; found the text 'x'"),
        ("training.eval_every=0", "must be greater than 0; found 0"),
        ("training.early_stop=x", "must be a mapping of keys to values or null; found the text 'x'"),
        ("training.schedule=3", "must be a name or a mapping of keys to values; found 3"),
        ("loss=3", "must be a name, a mapping of keys to values or null; found 3"),
        ("model=null", "must be a name or a mapping of keys to values; found nothing"),
        ("find=fast", "must be a mapping of keys to values; found the text 'fast'"),
        ("grid.lrs=x", "must be a list of numbers or null; found the text 'x'"),
        ("compare.schedules=cosine", "must be a list; found the text 'cosine'"),
        ("model.init_from=3", "must be text or null; found 3"),
        ("model.init_from=''", "must not be empty"),
    ],
)
def test_a_value_of_a_section_has_one_message_with_every_form(override: str, expected: str) -> None:
    assert messages(override) == [f"{override.partition('=')[0]}: {expected}"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("grid.lrs=[1, x]", "grid.lrs.1: must be a number; found the text 'x'"),
        (
            "compare.schedules=[cosine, 3]",
            "compare.schedules.1: must be a name or a mapping of keys to values; found 3",
        ),
        ("compare.schedules=[3]", "compare.schedules.0: must be a name or a mapping of keys to values; found 3"),
        (
            "compare.optimizers=[sgd, {name: adam, lr: x}]",
            "compare.optimizers.1.lr: must be a number or null; found the text 'x'",
        ),
        (
            "optimizer.param_groups=[{name: a, match: 3}]",
            "optimizer.param_groups.0.match: must be text or a list of texts; found 3",
        ),
        (
            "optimizer.param_groups=[{name: a, match: [b, 3]}]",
            "optimizer.param_groups.0.match.1: must be text; found 3",
        ),
        ("optimizer.param_groups=[{name: a, match: b, frozn: true}]", "unknown key 'frozn'; did you mean frozen?"),
        ("training.early_stop={patienc: 1}", "unknown key 'patienc'; did you mean patience?"),
    ],
)  # fmt: skip
def test_a_value_inside_a_list_or_an_optional_section_is_told_at_its_place(
    override: str, expected: str
) -> None:
    assert messages(override) == [expected]


def test_the_message_points_at_the_value_itself() -> None:
    override = 'training.schedule={name: multi_step, args: {at: [0.5, "x"]}}'
    (mistake,) = mistakes(override)
    assert (mistake.place.source, mistake.place.column) == ("--set", override.index('"x"') + 1)


class Point(BaseModel):
    x: int | Literal["left", "right"] | None
    y: float = 0.0


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (bool | int | str, 1.5, [": must be true, false, a whole number or text; found 1.5"]),
        (float | int | None, "x", [": must be a number or null; found the text 'x'"]),
        (Literal["a", "b"] | None, 3, [": must be 'a', 'b' or null; found 3"]),
        (Literal["a", None], 3, [": must be 'a' or null; found 3"]),
        (Literal[1, 3] | Sequence[int], "x", [": must be 1, 3 or a list of whole numbers; found the text 'x'"]),
        (int | list[int], [3, "x"], ["1: must be a whole number; found the text 'x'"]),
        (int | list[int], ["x", "y"], [f"{i}: must be a whole number; found the text '{t}'" for i, t in enumerate("xy")]),
        (list[int] | list[str], [1, "x"], [": must be a list of whole numbers or a list of texts; found a list"]),
        (str | list[int | str | None], [1, 2.5], ["1: must be a whole number, text or null; found 2.5"]),
        (str | list[list[int] | None], [[1], [2, "x"]], ["1.1: must be a whole number; found the text 'x'"]),
        (int | tuple[float, float], "x", [": must be a whole number or a list of 2 numbers; found the text 'x'"]),
        (int | tuple[str, ...], 1.5, [": must be a whole number or a list of texts; found 1.5"]),
        (int | dict[str, int], {"int": "x"}, ["int: must be a whole number; found the text 'x'"]),
        (Point | int, {"x": "up"}, ["x: must be a whole number, 'left', 'right' or null; found the text 'up'"]),
        (Point | int, "x", [": must be a mapping of keys to values or a whole number; found the text 'x'"]),
        (Annotated[int, Field(ge=2, lt=9)] | str, 1, [": must be a whole number at least 2 or text; found 1"]),
        (Annotated[int | str, Field()] | None, 1.5, [": must be a whole number, text or null; found 1.5"]),
        (int | Annotated[list[int], Field(min_length=1)], [], [": must not be empty"]),
        (list[int], "x", [": must be a list; found the text 'x'"]),
    ],
)  # fmt: skip
def test_the_branches_of_any_union_are_merged(annotation: Any, value: Any, expected: list[str]) -> None:
    assert merged(annotation, value) == expected


@pytest.mark.parametrize(
    ("override", "written"),
    [
        ("find.budget=4,5x", ["4.5x"]),
        ("optimizer.lr=0,001", ["0.001"]),
        ("grid.lrs=[0,001,0,1]", ["0.001", "0.1"]),
        ("grid.lrs=[0,0.1]", [None]),
        ("name=4,5", [None]),
    ],
)
def test_a_decimal_comma_is_named(override: str, written: list[str | None]) -> None:
    ends = [
        message.partition("; a decimal comma is not read: write ")[2] or None
        for message in messages(override)
    ]
    assert ends == written


def test_python_arguments_have_the_same_messages() -> None:
    with pytest.raises(UsageError, match=r"^budget: must be a number of steps from 16 .* such as 4x"):
        section_of(FindSection, budget="x")
    with pytest.raises(
        UsageError, match=r"^lrs\.1: must be a number; found the text 'x'; points: must be at"
    ):
        section_of(GridSection, lrs=[0.1, "x"], points=1)


def test_a_part_of_a_join_that_is_no_schedule_names_both_forms() -> None:
    text = "the part 3 of the join is not a schedule: must be a name or a mapping of keys to values; found 3"
    with pytest.raises(UsageError, match=text):
        shape_of(Component(name="join", args={"parts": ["constant", 3], "at": [9]}), 20)
    override = "training.schedule={name: join, args: {parts: [constant, 3], at: [9]}}"
    (mistake,) = mistakes(override)
    assert mistake.message == f"join: {text}"
    assert mistake.place.column == override.index("3]") + 1


TRAINING = """
model: mlp
data: mnist_mini
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1}
training:
  %s
  schedule: %s
"""


def refused(schedule: str, length: str = "steps: 40", *overrides: str) -> list[tuple[int, int, str]]:
    """Return the line, the column and the message of every mistake in a config with a schedule."""
    try:
        check(TRAINING % (length, schedule), overrides, "f.yaml")
    except ConfigError as error:
        return [(m.place.line, m.place.column, m.message) for m in error.mistakes]
    return []


def at(schedule: str, text: str) -> tuple[int, int]:
    """Return the place of a text inside the schedule of `TRAINING`."""
    return 8, 13 + schedule.index(text)


MISFITS = [
    ("{name: one_cycle, args: {rise: 1.5}}", "1.5", "one_cycle: rise must be above 0 and at most 1; found 1.5"),
    ("{name: cosine, args: {end: 2}}", "2", "cosine: end must be a share of the peak, from 0 to 1; found 2"),
    ("{name: step_decay, args: {factor: -1}}", "-1", "step_decay: factor must be above 0 and at most 1; found -1"),
    ("{name: polynomial, args: {power: -1}}", "-1", "polynomial: power must be a positive number; found -1"),
    ("{name: cyclic, args: {momentum: [0.85, 0.95]}}", "[", "cyclic: momentum must be the highest and the lowest momentum, both at least 0 and below 1; found [0.85, 0.95]"),
    ("{name: reduce_on_plateau, args: {factor: 2}}", "2", "reduce_on_plateau: factor must be above 0 and below 1; found 2"),
    ("{name: grad_norm, args: {window: 0}}", "0}", "grad_norm: window must be a whole number of at least 1; found 0"),
    ("{name: join, args: {at: [0.5], parts: [constant, {name: linear, args: {end: 3}}]}}", "3}", "join: end must be a share of the peak, from 0 to 1; found 3"),
    ("{name: join, args: {at: [0.5, 0.6], parts: [constant, linear]}}", "[0.5", "join: join needs one entry of `at` for each border between two parts; found 2 entries for 2 parts"),
    ("{name: join, args: {at: [0.5], parts: [grad_norm, linear]}}", "grad", "join: grad_norm reacts to the training, so it can only be the last part of a join"),
]  # fmt: skip
"""Schedules that no training can have, whatever its length: the schedule, the place, the message."""


@pytest.mark.parametrize("length", ["steps: 40", "epochs: 3", "steps: x"])
@pytest.mark.parametrize(("schedule", "text", "message"), MISFITS)
def test_an_argument_that_only_the_schedule_refuses_is_a_mistake_at_its_place(
    schedule: str, text: str, message: str, length: str
) -> None:
    found = refused(schedule, length, "training.eval_every=10")
    assert (*at(schedule, text), message) in found
    assert len(found) == 1 + (length == "steps: x")


@pytest.mark.parametrize(
    ("schedule", "text", "message"),
    [
        ("{name: cosine, args: {warmup: 500}}", "500", "cosine: warmup must be shorter than the run, which has 40 steps; found 500"),
        ("{name: grad_norm, args: {warmup: 40}}", "40", "grad_norm: warmup must be shorter than the run, which has 40 steps; found 40"),
        ("{name: wsd, args: {warmup: 0.9, decay: 0.5}}", "0.5", "wsd: decay must be at most the 4 steps that the warmup leaves; found 0.5"),
        ("{name: join, args: {at: [200], parts: [constant, cosine]}}", "[200", "join: at must be increasing and below 40, the number of steps; found [200]"),
        ("{name: cosine_restarts, args: {period: 8, growth: 0.5}}", "0.5", "cosine_restarts: growth must be larger, because period 5 would be shorter than one step; found 0.5"),
        ("{name: join, args: {at: [30], parts: [constant, {name: linear, args: {warmup: 12}}]}}", "12", "join: warmup must be shorter than the run, which has 10 steps; found 12"),
    ],
)  # fmt: skip
def test_an_argument_that_does_not_fit_the_number_of_steps_is_a_mistake(
    schedule: str, text: str, message: str
) -> None:
    assert refused(schedule) == [(*at(schedule, text), message)]


@pytest.mark.parametrize(
    ("schedule", "argument"),
    [
        ("{name: cosine, args: {warmup: 50 epochs}}", "warmup"),
        ("{name: wsd, args: {warmup: 0.9, decay: 0.5}}", "decay"),
        ("{name: multi_step, args: {at: [0.5], warmup: 3 epochs}}", "warmup"),
    ],
)
def test_a_length_that_no_length_of_an_epoch_makes_fit_is_a_mistake(schedule: str, argument: str) -> None:
    (mistake,) = refused(schedule, "epochs: 3")
    assert mistake[2] == (
        f"{schedule[7 : schedule.index(',')]}: {argument} does not fit the length of the training, whatever the"
        " number of steps in an epoch is"
    )


def test_a_length_in_epochs_may_fit_any_number_of_steps() -> None:
    assert refused("{name: cosine, args: {warmup: 50 epochs}}", "steps: 40") == []  # with short epochs
    assert refused("{name: cosine, args: {warmup: 500}}", "steps: 501") == []


@pytest.mark.parametrize("length", ["epochs: 3", "epochs: 30"])
@pytest.mark.parametrize(
    "schedule",
    [
        "{name: cosine, args: {warmup: 500}}",
        "{name: cosine, args: {warmup: 2 epochs}}",
        "{name: multi_step, args: {at: [1 epoch, 2 epochs, 0.9]}}",
        "{name: join, args: {at: [200], parts: [constant, cosine]}}",
        "{name: cosine_restarts, args: {period: 20, growth: 0.5}}",
        "{name: 'nowhere:own', args: {rise: 7}}",
        "{name: join, args: {at: [9], parts: ['nowhere:own', grad_norm]}}",
    ],
)
def test_a_schedule_that_may_fit_the_data_is_no_mistake(schedule: str, length: str) -> None:
    assert refused(schedule, length) == []


def test_the_mistakes_of_schedules_stand_beside_all_others_each_once() -> None:
    compared = "compare={schedules: [{name: cosine, args: {warmup: 41}}, {name: wsd, args: {decay: x}}, reduce_on_plateau]}"
    found = refused("{name: one_cycle, args: {rise: 2}}", "steps: 40", compared, "seed=-1")
    assert [message for *_, message in found] == [
        "seed: must be at least 0; found -1",
        "cosine: warmup must be shorter than the run, which has 40 steps; found 41",
        f"compare.schedules.1.args.decay: must be {LENGTH}; found the text 'x'",
        "reduce_on_plateau watches the validation loss; give training.eval_every, the number of steps between"
        " evaluations",
        "one_cycle: rise must be above 0 and at most 1; found 2",
    ]


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["optimizer=adagrad"], ["adagrad"]),
        (["optimizer=adamw"], []),
        (["optimizer=adagrad", "compare={optimizers: [sgd, adadelta]}"], ["adagrad", "adadelta"]),
        (["optimizer='nowhere:Own'"], []),
    ],
)
def test_a_momentum_is_refused_for_each_optimizer_without_one(overrides: list[str], names: list[str]) -> None:
    schedule = "{name: one_cycle, args: {momentum: [0.9, 0.8]}}"
    assert [
        message.split(" has no momentum")[0] for *_, message in refused(schedule, "steps: 40", *overrides)
    ] == [f"one_cycle: {name}" for name in names]
    assert refused("{name: one_cycle, args: {momentum: null}}", "steps: 40", *overrides) == []
    assert refused("one_cycle", "steps: 40", *overrides) == []


def test_schedules_are_checked_without_torch() -> None:
    code = (
        "import sys; from lrfind.config.experiment import check\n"
        f"text = {TRAINING % ('steps: 40', '{name: wsd, args: {warmup: 50}}')!r}\n"
        "try:\n    check(text)\nexcept Exception as error:\n    assert 'warmup must be shorter' in str(error)\n"
        "assert 'numpy' in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_join_that_ends_with_a_plateau_needs_evaluations() -> None:
    schedule = "{name: join, args: {at: [9], parts: [constant, reduce_on_plateau]}}"
    (mistake,) = refused(schedule)
    assert mistake[:2] == (8, 13)
    assert mistake[2].startswith("join watches the validation loss; give training.eval_every")
    assert refused(schedule, "steps: 40", "training.eval_every=10") == []


def test_a_whole_number_with_commas_between_thousands_is_told_without_them() -> None:
    (message,) = messages("seed=3,000")
    assert message.endswith("found the text '3,000'; write it without commas: 3000")
