"""The programs of docs/integrations.md: they run as they stand, and their trainings use the rate."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs/integrations.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
MOST_LINES = 2
pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers:UserWarning"),
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning"),
]


def program(name: str) -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", SECTIONS[name], flags=re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_program_runs_and_its_training_uses_the_rate(
    name: str, here: Path, request: pytest.FixtureRequest
) -> None:
    if name == "fastai":
        request.getfixturevalue("fastai")
    variables: dict[str, Any] = {"__name__": "program"}
    exec(compile(program(name), f"{name} of docs/integrations.md", "exec"), variables)
    assert variables["used"] == pytest.approx(variables["best"].lr, rel=1e-6)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_program_needs_at_most_two_lines_for_lrfind(name: str) -> None:
    """The import and the lines that only read the answer do not count."""
    statements = [
        ast.unparse(node) for node in ast.parse(program(name)).body if not isinstance(node, ast.ImportFrom)
    ]
    glue = [
        line for line in statements if re.search(r"\b(find|FindLR|search|best)\b", line.partition("\n")[0])
    ]
    reading = [
        line for line in glue if re.match(r"best = search\.best|import lrfind|trainer = Trainer", line)
    ]
    assert 1 <= len(glue) - len(reading) <= MOST_LINES
