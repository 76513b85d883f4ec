"""The house: wings whose order is the architecture. Imports only go down, and torch stays where it is needed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import lrfind
from lrfind.catalog import CATALOGS, COMMANDS, KINDS, OPTIMIZERS, SCHEDULES, optimizer_of
from lrfind.config.registry import load, resolve

ROOT = Path(lrfind.__file__).parent
GROUND = {"errors", "catalog"}
WINGS: dict[str, set[str]] = {
    "errors": set(),
    "catalog": set(),
    "analysis": GROUND,
    "schedules": GROUND | {"analysis"},
    "config": GROUND | {"analysis", "schedules"},
    "models": GROUND,
    "datasets": GROUND | {"config"},
    "problem": GROUND | {"config", "datasets"},
    "training": GROUND | {"analysis", "schedules", "config", "problem"},
    "runs": GROUND | {"analysis", "config"},
    "experiments": GROUND | {"analysis", "schedules", "config", "problem", "training", "runs"},
    "views": GROUND | {"analysis", "schedules", "config", "runs"},
    "api": GROUND | {"analysis", "config", "problem", "training", "runs", "experiments", "views"},
    "integrations": GROUND
    | {"analysis", "config", "problem", "training", "runs", "experiments", "views", "api"},
    "cli": GROUND
    | {"analysis", "schedules", "config", "problem", "training", "runs", "experiments", "views"},
    "__main__": {"cli"},
}
"""Each wing, from the ground up, and the wings that it may import."""

WITHOUT_TORCH = ("errors", "catalog", "analysis", "schedules", "config", "runs", "views", "cli")
"""The wings whose modules never import torch, nor matplotlib, when they are imported."""


def modules() -> dict[str, Path]:
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in sorted(ROOT.rglob("*.py"))}


def wing(module: str) -> str:
    return module.split(".")[0]


def imports(path: Path) -> set[str]:
    """The modules of lrfind that a file imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and wing(node.module or "") == "lrfind":
            inside = (node.module or "").removeprefix("lrfind").strip(".")
            names |= {inside} if inside else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {
                a.name.removeprefix("lrfind").strip(".") for a in node.names if wing(a.name) == "lrfind"
            }
    return names - {"", "__version__"}


def test_every_wing_is_in_the_table_and_may_import_only_wings_below_it() -> None:
    assert {wing(module) for module in modules()} == {*WINGS, "__init__"}
    order = list(WINGS)
    assert all(order.index(below) < order.index(name) for name, allowed in WINGS.items() for below in allowed)


def test_a_module_imports_only_from_wings_that_its_own_wing_may_import() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, path in modules().items()
        if module != "__init__"
        for name in imports(path)
        if wing(name) not in WINGS[wing(module)] | {wing(module)}
    ]
    assert wrong == []


def test_there_is_no_circle() -> None:
    graph = {module: imports(path) for module, path in modules().items() if module != "__init__"}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"circle: {' -> '.join([*trail, module])}"
        if module not in done:
            for inner in graph.get(module, ()):
                visit(inner, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_a_stranger_sees_at_most_seventeen_entries() -> None:
    assert len([path for path in ROOT.iterdir() if path.name != "__pycache__"]) <= 17


LISTS_OF_LIKE_THINGS = {"catalog", "config.sections", "schedules.functions"}


def test_no_module_is_longer_than_350_lines_but_lists_of_like_things() -> None:
    long = {name for name, path in modules().items() if len(path.read_text().splitlines()) > 350}
    assert long <= LISTS_OF_LIKE_THINGS


def test_every_row_of_the_catalog_resolves() -> None:
    for names in CATALOGS.values():
        assert all(callable(resolve(path)) for path in names.values())
    assert all(callable(load(path)) for path in COMMANDS.values())
    assert all(optimizer_of(resolve(row.path)) is row for row in OPTIMIZERS.values())
    for row in SCHEDULES.values():
        assert all(callable(load(path)) for path in (row.momentum, row.snippet) if path is not None)
        assert (row.watches is None) == (row.snippet is None)
    for kind in KINDS.values():
        parts = (
            kind.run,
            kind.summarize,
            kind.text,
            kind.figures,
            kind.report,
            kind.variants,
            kind.overlay,
            kind.rounds,
        )
        assert all(callable(load(path)) for path in parts if path is not None)


def test_benchmarks_import_what_there_is() -> None:
    missing = []
    for path in (ROOT.parent / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lrfind."):
                module = importlib.import_module(str(node.module))
                missing += [
                    f"{path.name}: {a.name}"
                    for a in node.names
                    if not hasattr(module, a.name)
                    and importlib.util.find_spec(f"{node.module}.{a.name}") is None
                ]
    assert missing == []


QUICK = [name for name in modules() if wing(name) in WITHOUT_TORCH]


@pytest.mark.parametrize(
    "code",
    [
        "import lrfind; lrfind.suggest; lrfind.NoSuggestion",
        "import importlib\n" + "\n".join(f"importlib.import_module('lrfind.{name}')" for name in QUICK),
        "from lrfind.cli.main import run; run(['--help'])",
        "from lrfind.cli.main import run; run(['ls', 'models'])",
        "from lrfind.cli.main import run; run(['schema'])",
        "from lrfind.cli.main import run; assert run(['check']) == 0; import sys; assert 'numpy' not in sys.modules",
    ],
    ids=["public names", "wings", "help", "ls", "schema", "check"],
)
def test_these_do_not_import_torch_or_matplotlib(code: str) -> None:
    check = f"{code}\nimport sys\nassert not {{'torch', 'torchvision', 'matplotlib', 'dask', 'distributed'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
