from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfind.config.document import Override, parse
from lrfind.config.yaml12 import dump


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-2.", -2.0),
        ("-.inf", -math.inf),
        ("12", 12),
        ("-0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("017", 17),
        ("on", "on"),
        ("yes", "yes"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("'1e-3'", "1e-3"),
        ("<<", "<<"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    document = parse(f"key: {text}", "f")
    assert document.mistakes == []
    assert document.value == {"key": value}
    assert type(document.value["key"]) is type(value)


@given(st.floats(allow_nan=False))
def test_a_float_survives(value: float) -> None:
    text = repr(value).replace("inf", ".inf")
    assert parse(f"a: {text}", "f").value["a"] == value


def only_mistake(text: str) -> str:
    (mistake,) = parse(text, "f.yaml").mistakes
    return str(mistake)


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("a:\n\tb: 1\n", "f.yaml:2:1: error: a tab is not allowed"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: error: duplicate key 'a'; it is already in line 1"),
        ("a: b: c", "f.yaml:1:5: error: unexpected ':'"),
        ("a: !!python/name:os.system x", "f.yaml:1:4: error: the tag"),
        ("a: \x01", "f.yaml:1:4: error: the character"),
        ("a: &a [*a]", "f.yaml:1:1: error: nested more than"),
        ("[" * 5000, "f.yaml:1:1: error: nested too deeply"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: error: a second document begins here"),
        ("a: [1, 2", "f.yaml:1:9: error: expected ',' or ']'"),
        ("? [a]\n: 1", "f.yaml:1:3: error: a key must be plain text"),
        ("x" * 1_000_001, "f.yaml:1:1: error: larger than 1,000,000 bytes"),
    ],
)
def test_a_mistake_is_pointed_at(text: str, head: str) -> None:
    assert only_mistake(text).startswith(head)


def test_aliases_cannot_expand_without_end() -> None:
    levels = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "more than 50,000 values" in only_mistake("\n".join(levels))


def test_a_mistake_shows_its_line_with_a_caret_below() -> None:
    first, line, caret = only_mistake("good: 1\n  bad: 2").split("\n")
    assert line == "      bad: 2"
    assert caret.index("^") - 4 == int(first.split(":")[2]) - 1


def test_an_override_replaces_a_value_and_stands_at_the_argument() -> None:
    document = parse("model: mlp\na: {b: 1, c: 2}", "f")
    for argument in ("a.b=1e-3", "model.args.hidden=[8, 4]", "new.deep.key=x"):
        document.set(Override.of(argument))
    assert document.value == {
        "model": {"name": "mlp", "args": {"hidden": [8, 4]}},
        "a": {"b": 1e-3, "c": 2},
        "new": {"deep": {"key": "x"}},
    }
    place = document.place(("model", "args", "hidden", 1))
    assert (place.source, place.column, place.text) == ("--set", 23, "model.args.hidden=[8, 4]")


@pytest.mark.parametrize(
    ("argument", "head"),
    [
        ("a.b", "--set:1:1: error: expected KEY.KEY=VALUE"),
        ("=3", "--set:1:1: error: expected KEY.KEY=VALUE"),
        ("a..b=1", "--set:1:1: error: expected KEY.KEY=VALUE"),
        ("a.b=[1", "--set:1:7: error: expected ',' or ']'"),
        ("l.7=1", "--set:1:1: error: there is no item '7' in a list of 2 items"),
        ("l.²=1", "--set:1:1: error: there is no item '²' in a list of 2 items"),
    ],
)
def test_an_override_that_is_none_is_a_mistake_at_the_argument(argument: str, head: str) -> None:
    document = parse("a: 1\nl: [1, 2]", "f")
    document.set(Override.of(argument))
    (mistake,) = document.mistakes
    assert str(mistake).startswith(head)
    assert document.value == {"a": 1, "l": [1, 2]}


def test_an_item_of_a_list_can_be_overridden_and_an_option_is_pointed_at_as_typed() -> None:
    document = parse("l: [1, 2]", "f")
    document.set(Override.of("l.1=5"))
    document.set(Override.option("--steps", "range_test.steps", "many"))
    assert document.value == {"l": [1, 5], "range_test": {"steps": "many"}}
    place = document.place(("range_test", "steps"))
    assert (place.source, place.column, place.text) == ("--steps", 9, "--steps many")


@given(st.text(max_size=60))
def test_any_text_gives_a_value_or_mistakes(text: str) -> None:
    document = parse(text, "f")
    assert all(str(mistake).startswith("f:") for mistake in document.mistakes)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=10,
)


@given(VALUES)
def test_what_was_dumped_is_read_the_same_by_every_loader(value: object) -> None:
    for text in (dump({"a": value}), dump({"a": value}, flow=True)):
        fast, slow = parse(text, "f", dumped=True), parse(text, "f")
        assert (fast.value, list(map(str, fast.mistakes))) == (slow.value, list(map(str, slow.mistakes)))
        assert slow.mistakes or slow.value == {"a": value}


def test_what_was_not_dumped_is_read_as_any_other_text() -> None:
    document = parse("a: \tb: c\n", "f", dumped=True)
    assert document.value == parse("a: \tb: c\n", "f").value
    assert parse("a: [1", "f", dumped=True).mistakes == parse("a: [1", "f").mistakes
