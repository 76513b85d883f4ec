"""The defaults of the calls: those of the config, which has them for the commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

import lrfind
from lrfind.config.sections import CompareSection, FindSection, GridSection, RangeTestSection, TrainingSection

TRAINING = {"accumulate", "precision", "clip_norm", "clip_value", "eval_every"}
"""The keys of the section `training` that are arguments of calls with the same default."""


def shared(call: Callable[..., Any], section: BaseModel) -> dict[str, tuple[Any, Any]]:
    """The defaults in the call and in the config of each argument that is a key of the config too."""
    arguments, training = inspect.signature(call).parameters, TrainingSection(steps=1)
    return {
        name: (arguments[name].default, getattr(model, name))
        for model, names in ((section, type(section).model_fields), (training, TRAINING))
        for name in arguments.keys() & names
    }


@pytest.mark.parametrize(
    ("call", "section", "different"),
    [
        (lrfind.find, FindSection(), {}),
        (lrfind.range_test, RangeTestSection(), {"seeds": (1, 3)}),
        (lrfind.grid, GridSection(), {}),
        (lrfind.compare, CompareSection(), {}),
    ],
)
def test_the_defaults_of_a_call_are_those_of_the_config(
    call: Callable[..., Any], section: BaseModel, different: dict[str, tuple[Any, Any]]
) -> None:
    defaults = shared(call, section)
    if "schedules" in defaults:
        names, components = defaults.pop("schedules")
        assert names == tuple(component.name for component in components)
    assert len(defaults) >= 8
    assert {name: pair for name, pair in defaults.items() if pair[0] != pair[1]} == different
