"""The house: every module has a floor, and imports only go down."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lrfind

ROOT = Path(lrfind.__file__).parent
FLOORS = {
    "version": 0, "errors": 0, "catalog": 0,
    "analysis": 1, "schedules": 2, "config": 3,
    "models": 4, "datasets": 4, "problem": 5, "training": 6,
    "runs": 7, "experiments": 8, "views": 8,
    "api": 9, "cli": 9, "__init__": 9, "__main__": 9,
}  # fmt: skip


def modules() -> dict[str, Path]:
    return {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in ROOT.rglob("*.py")}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lrfind":
            rest = (node.module or "").removeprefix("lrfind").strip(".")
            found |= {rest} if rest else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "lrfind"]
            found |= {name.removeprefix("lrfind").strip(".") or "__init__" for name in names}
    return found


def floor(module: str) -> int:
    return FLOORS[module.split(".")[0]]


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_nothing_from_a_floor_above(module: str) -> None:
    above = {name for name in imports(modules()[module]) if floor(name) > floor(module)}
    assert above == set()


def test_there_is_no_circle() -> None:
    graph = {module: imports(path) - {"__init__"} for module, path in modules().items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"circle: {' -> '.join([*trail, module])}"
        if module not in done:
            for inner in graph.get(module, ()):
                visit(inner, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_benchmarks_import_what_there_is() -> None:
    missing = []
    for path in (ROOT.parent / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lrfind."):
                module = importlib.import_module(str(node.module))
                missing += [f"{path.name}: {a.name}" for a in node.names if not hasattr(module, a.name)]
    assert missing == []


@pytest.mark.parametrize(
    "code",
    [
        "import lrfind; lrfind.suggest; lrfind.NoSuggestion",
        *(f"import lrfind.{name}" for name, level in FLOORS.items() if level < 4),
        "from lrfind.cli.main import run; run(['--help'])",
        "from lrfind.cli.main import run; run(['ls', 'models'])",
        "from lrfind.cli.main import run; run(['schema'])",
        "from lrfind.cli.main import run; assert run(['check']) == 0; import sys; assert 'numpy' not in sys.modules",
    ],
)
def test_the_lower_floors_and_the_quick_commands_do_not_import_torch(code: str) -> None:
    check = f"{code}\nimport sys\nassert not {{'torch', 'torchvision', 'matplotlib'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
