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
    "version": 0, "errors": 0, "catalog": 0, "curves": 0, "schedules": 0, "peers": 0, "suggestions": 0, "plan": 0, "summaries": 0, "pruning": 0, "readings": 0, "samplers": 0, "stability": 0, "health": 0, "diagnosis": 0, "reactions": 0, "scaling": 0, "comparisons": 0, "probing": 0, "recommendations": 0, "verification": 0,
    "registry": 1, "core_schema": 1, "document": 1, "messages": 1, "arguments": 1, "config": 1, "sections": 1, "templates": 1, "shapes": 1, "snippets": 1,
    "models": 2, "datasets": 2, "batches": 2, "preserve": 2, "train": 2, "problem": 2, "components": 2, "randomness": 2, "streams": 2, "evaluation": 2, "stacks": 2, "calibration": 2, "weights": 2, "param_groups": 2, "noise_scale": 2, "gauge": 2,
    "fitting": 2, "explanations": 2,
    "tables": 3, "store": 3, "curve_files": 3,
    "environment": 2, "teams": 4, "lanes": 4, "range_tests": 4, "sweeps": 4, "conclusions": 4, "optuna_export": 4, "variants": 4, "peaks": 4, "preparation": 4, "trainings": 4, "checkpoints": 4, "probers": 4, "replays": 2, "finds": 4,
    "plots": 5, "reports": 5, "listing": 5,
    "progress": 6, "commands": 6, "notebook": 6, "cli": 6, "__init__": 6, "__main__": 6,
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
    for path in (ROOT.parent / "benchmarks").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lrfind."):
                module = importlib.import_module(str(node.module))
                missing += [f"{path.name}: {a.name}" for a in node.names if not hasattr(module, a.name)]
    assert missing == []


@pytest.mark.parametrize(
    "code",
    [
        "import lrfind; lrfind.suggest; lrfind.NoSuggestion",
        *(f"import lrfind.{name}" for name, level in FLOORS.items() if level < 2),
        "from lrfind.cli import run; run(['--help'])",
        "from lrfind.cli import run; run(['ls', 'models'])",
        "from lrfind.cli import run; run(['schema'])",
        "from lrfind.cli import run; assert run(['check']) == 0; import sys; assert 'numpy' not in sys.modules",
    ],
)
def test_the_lower_floors_and_the_quick_commands_do_not_import_torch(code: str) -> None:
    check = f"{code}\nimport sys\nassert not {{'torch', 'torchvision', 'matplotlib'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
