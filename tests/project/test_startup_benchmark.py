"""The benchmark of the start-up: how it divides the time of a find, and what its ratios are to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SPEED = Path(__file__).parents[2] / "benchmarks/speed"


@pytest.fixture
def startup(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SPEED))
    import startup

    return startup


def test_time_is_divided_into_stages_and_imports_without_counting_a_second_twice(startup: Any) -> None:
    lines = [
        "import time: self [us] | cumulative | imported package",
        "import time:    500000 |     500000 | site",
        "stage: begin other 101.0",
        "stage: begin data 102.0",
        "import time:   1000000 |    1000000 |   torch._C",
        "import time:    250000 |    1250000 | torch",
        "stage: begin store 104.0",
        "stage: end store 104.5",
        "stage: end data 105.0",
        "a note on stderr",
        "stage: end other 106.0",
    ]
    stages, packages = startup.divided(lines, 100.0, 107.0)
    assert stages == {
        "start of Python": 0.5, "other": 2.0, "data": 1.25, "store": 0.5, "end of Python": 1.0,
    }  # fmt: skip
    assert packages == {"site": 0.5, "torch._C": 1.0, "torch": 0.25}
    assert stages.total() + packages.total() == 7.0


def test_ratios_are_taken_turn_by_turn(startup: Any) -> None:
    rows = startup.rows_of(
        {("import torch", "whole"): [1.0, 2.0, 4.0], ("lrfind find", "answer"): [2.0, 6.0, 4.0]}
    )
    assert [(row.seconds, row.ratio) for row in rows] == [(2.0, 1.0), (4.0, 2.0)]


def test_each_stage_is_a_function_that_there_is(startup: Any) -> None:
    from importlib import import_module
    from operator import attrgetter

    for functions in startup.STAGES.values():
        for path in functions:
            module, _, name = path.partition(":")
            assert callable(attrgetter(name)(import_module(module)))
