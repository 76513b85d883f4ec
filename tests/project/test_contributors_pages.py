"""docs/architecture.md and CONTRIBUTING.md against the code: the names of the one, the recipes of the other."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.runs import LINEAR

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
RECIPES = dict(
    re.findall(
        r"^## Add an? (\w+)[^\n]*\n(.*?)(?=^## |\Z)",
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE | re.DOTALL,
    )
)


def names_in(path: Path) -> Iterator[str]:
    """Yield the functions and classes of a module, and the methods and attributes of its classes."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef):
                yield f"{node.name}.{inner.name}"
            if isinstance(inner, ast.AnnAssign):
                yield f"{node.name}.{ast.unparse(inner.target)}"


def test_the_tree_names_every_module_in_its_wing() -> None:
    tree = ARCHITECTURE.partition("```\nlrfind/\n")[2].partition("\ntests/")[0]
    top, *wings = re.split(r"^  (?=\w+/ )", tree, flags=re.MULTILINE)
    parts = {wing.partition("/")[0]: wing for wing in wings} | {"": top}
    modules = [p.relative_to(ROOT / "lrfind") for p in (ROOT / "lrfind").rglob("*.py")]
    assert [
        str(path)
        for path in modules
        if path.stem != "__init__"
        and not re.search(rf"\b{path.stem}\b", parts["" if len(path.parts) == 1 else path.parts[0]])
    ] == []


def test_the_functions_that_an_lr_a_find_and_a_mistake_pass_exist() -> None:
    rows = [
        line.strip("| ").split(" | ") for line in ARCHITECTURE.splitlines() if re.match(r"\| \d+ \|", line)
    ]
    assert len(rows) == 26
    for _, files, functions, _ in rows:
        paths = [p for name in re.findall(r"`([\w/]+\.py)`", files) for p in ROOT.glob(f"lrfind/**/{name}")]
        there = {name for path in paths for name in names_in(path)}
        assert set(re.findall(r"`([\w.]+)`", functions)) <= there, files


def insert(file: Path, text: str, *, before: str = "", after: str = "") -> None:
    whole = file.read_text(encoding="utf-8")
    assert whole.count(before + after) == 1, before + after
    file.write_text(whole.replace(before + after, f"{after}{text}\n{before}"), encoding="utf-8")


def follow_the_recipes(root: Path) -> None:
    """Do in a copy of the package what the numbered steps say, with the code that stands there."""
    catalog, suggestions = root / "catalog.py", root / "analysis/suggestions.py"
    code = {name: re.findall(r"```python\n(.*?)```", recipe, re.DOTALL) for name, recipe in RECIPES.items()}
    rows = {name: re.findall(r"`([^`\n]+,)`", recipe) for name, recipe in RECIPES.items()}
    new_files = {name: re.findall(r"Write `lrfind/(.+?\.py)`", recipe) for name, recipe in RECIPES.items()}
    code["command"], (row,) = code["command"][1:], code["command"][:1]
    for name in ("model", "dataset", "command"):
        for file, text in zip(new_files[name], code[name], strict=True):
            assert not (root / file).exists()
            (root / file).write_text(text, encoding="utf-8")
    insert(root / "schedules/functions.py", code["schedule"][0], before="\ndef join(")
    insert(suggestions, code["suggestion"][0], before="\ndef _lowest(")
    insert(suggestions, f"    {rows['suggestion'][0]}", after="needs_fall=False),\n")
    insert(catalog, f"    {rows['suggestion'][1]}", before='    "torch-lr-finder": "')
    insert(catalog, f"    {rows['model'][-1]}", after="\nMODELS = {\n")
    insert(catalog, f"    {rows['dataset'][-1]}", after="\nDATASETS = {\n")
    insert(catalog, f"    {rows['schedule'][-1]}", after="\nSCHEDULES = {\n")
    insert(catalog, code["optimizer"][0], after="\nOPTIMIZERS = {\n")
    insert(catalog, row, after="\nKINDS = {\n")


USES = """
from lrfind.cli.main import run
from lrfind.views.plots import runs

runs.save = lambda figure, stem: None  # rendering takes longer than all the trainings
tiny, classes = ("tiny.yaml", "-q"), ("--set", "data=spirals", "--set", "loss=cross_entropy")
print(
    run(["range-test", *tiny, "--set", "model=low_rank", "--method", "half_fall"]),
    run(["find", *tiny, *classes, "--schedule", "tanh"]),
    run(["compare", *tiny, "--optimizers", "sgd,asgd", "--lanes", "single"]),
    run(["repeat", *tiny, "--out", "repeated", "--set", "training.seeds=3"]),
    run(["resume", "repeated"]),
)
"""


def test_the_recipes_work_as_they_stand(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "lrfind", tmp_path / "lrfind", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tiny.yaml").write_text(LINEAR)
    follow_the_recipes(tmp_path / "lrfind")
    done = subprocess.run(
        [sys.executable, "-c", USES], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["0 0 0 0 0"], done.stdout + done.stderr
    assert "Final training loss" in done.stdout
