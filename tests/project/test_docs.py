"""The pages of docs/ against the code: names, defaults, test ids and examples."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from lrfind.catalog import OPTIMIZERS, SCHEDULES
from lrfind.config.experiment import check
from lrfind.config.registry import resolve
from lrfind.config.shapes import shape_of
from tests.helpers.runs import LINEAR

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/optimizers_and_schedules.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
SWITCHES = {"foreach", "fused", "capturable", "differentiable", "maximize"}


def table(heading: str) -> dict[str, list[str]]:
    """The cells of each row of the table below a heading, by the name in the first."""
    below = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in below.splitlines() if line.startswith("| `")]
    return {name.strip("`"): cells for name, *cells in rows}


def arguments(cell: str) -> dict[str, str]:
    """The arguments in a cell with their defaults, as Python writes them; empty where there is none."""
    return dict(re.findall(r"`(\w+)=?([^`]*)`", cell))


def functions_in(path: str) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize(("heading", "catalog"), [("Optimizers", OPTIMIZERS), ("Schedules", SCHEDULES)])
def test_a_table_has_every_name_of_the_catalog_and_a_test_for_each(
    heading: str, catalog: dict[str, object]
) -> None:
    rows = table(heading)
    assert set(rows) == set(catalog)
    assert {len(cells) for cells in rows.values()} == {5 if heading == "Optimizers" else 4}
    assert all(cells[-1].startswith("`tests/") for cells in rows.values())


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedules_arguments_and_defaults_are_those_of_the_code(name: str) -> None:
    parameters = [*inspect.signature(resolve(SCHEDULES[name].path)).parameters.values()][2:]
    expected = {p.name: "" if p.default is p.empty else repr(p.default) for p in parameters}
    told = arguments(table("Schedules")[name][1])
    assert {key: value.replace("1/3", repr(1 / 3)) for key, value in told.items()} == expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizers_arguments_and_defaults_are_torchs(name: str) -> None:
    parameters = inspect.signature(resolve(OPTIMIZERS[name].path)).parameters
    _, lr, cell, *_ = table("Optimizers")[name]
    told = {"lr": lr, **arguments(cell)}
    of_torch = {key: repr(p.default) for key, p in parameters.items() if key not in {"params", *SWITCHES}}
    assert of_torch.items() <= told.items()  # an older torch has fewer


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)(\[[^]]*\])?", PAGE)
    assert len(named) > len(SCHEDULES) + len(OPTIMIZERS)
    assert [name for path, name, _ in named if name not in functions_in(path)] == []


def keys(text: str) -> set[str]:
    return set(re.findall(r"^(\w+):", text, flags=re.MULTILINE))


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_is_a_good_part_of_a_config_and_makes_a_schedule(example: str) -> None:
    own = keys(example)
    rest = [line for line in LINEAR.splitlines() if line.partition(":")[0] not in own]
    schedule = check("\n".join([*rest, example])).training.schedule
    if ":" not in schedule.name:  # else the reader's own
        assert shape_of(schedule, 1000, 100).multiplier.max() == pytest.approx(1, rel=1e-3)


def test_the_page_has_an_example_for_each_thing_that_it_explains() -> None:
    assert len(EXAMPLES) == PAGE.count("```") // 2 >= 6
