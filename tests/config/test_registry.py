from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from lrfind.catalog import CATALOGS, DATASETS, MODELS, OPTIMIZERS
from lrfind.config.registry import definition, import_path, resolve
from lrfind.errors import UsageError


@pytest.mark.parametrize("path", [p for catalog in CATALOGS.values() for p in catalog.values()])
def test_every_name_resolves_and_its_signature_is_read_without_importing(path: str) -> None:
    real = [p.name for p in inspect.signature(resolve(path)).parameters.values()]
    read = definition(path)
    assert list(read.signature.parameters) == real
    assert read.is_class == inspect.isclass(resolve(path))


@pytest.mark.parametrize("path", [*MODELS.values(), *DATASETS.values()])
def test_every_built_in_says_what_it_is(path: str) -> None:
    assert definition(path).summary == inspect.getdoc(resolve(path)).splitlines()[0]


def test_reading_a_signature_imports_nothing() -> None:
    code = (
        "import sys; from lrfind.config.registry import definition;"
        f" assert definition({OPTIMIZERS['adam'].path!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_required_arguments_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_registry.py").write_text(
        "class Base:\n    def __init__(self, a, b=1, *rest, c, d=2, **more): ...\nclass Net(Base): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    parameters = definition("mine_for_registry:Net").signature.parameters
    assert list(parameters) == ["a", "b", "rest", "c", "d", "more"]
    assert [n for n, p in parameters.items() if p.default is p.empty] == ["a", "rest", "c", "more"]


def test_what_a_decorator_may_have_changed_is_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrapped_for_registry.py").write_text(
        "@wraps\ndef f(a): ...\n@dataclass\nclass D:\n    x: int\nclass E(Elsewhere): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in "fDE":
        assert definition(f"wrapped_for_registry:{name}").signature is None
    assert definition("wrapped_for_registry:missing") is None
    assert definition("no_such_module_at_all:x") is None


def test_a_near_miss_is_named() -> None:
    with pytest.raises(UsageError, match="unknown model 'small_cn'; did you mean small_cnn?"):
        import_path("model", "small_cn")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "wave.nets:Net",
            "no module 'wave.nets' on the import path. 'wave' was imported from .*wave.py; rename",
        ),
        ("nowhere_at_all.x:y", "no module 'nowhere_at_all' on the import path.*--import-root"),
        ("lrfind.models.mlp.py:MLP", r"Name a module without \.py: lrfind\.models\.mlp:MLP\."),
        ("lrfind.models.mlp:MPL", "no attribute 'MPL'; did you mean MLP"),
        ("broken_for_registry:x", "importing 'broken_for_registry' failed: ZeroDivisionError"),
        ("missing_for_registry:x", "importing 'missing_for_registry' failed: No module named 'not_there'"),
    ],
)
def test_what_cannot_be_imported_says_why(
    path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_for_registry.py").write_text("1 / 0")
    (tmp_path / "missing_for_registry.py").write_text("import not_there")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=message):
        resolve(path)
