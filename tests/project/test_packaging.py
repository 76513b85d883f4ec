"""Configs, templates and embedded data are found from a wheel, from an sdist and from a source tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from hatchling import build
from markdown_it import MarkdownIt
from packaging.metadata import Metadata
from trove_classifiers import classifiers

import lrfind as package
from tests.helpers.command import Command

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel built from the source tree, and one built from the sdist, each unpacked."""
    folder = tmp_path_factory.mktemp("built")
    here = Path.cwd()
    sources = {"wheel": ROOT}
    try:
        os.chdir(ROOT)
        sdist = folder / build.build_sdist(str(folder))
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        sources["sdist"] = folder / sdist.name.removesuffix(".tar.gz")
        unpacked = {}
        for name, source in sources.items():
            os.chdir(source)
            target = folder / f"from-{name}"
            target.mkdir()
            wheel = target / build.build_wheel(str(target))
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(target)
            unpacked[name] = target
    finally:
        os.chdir(here)
    return unpacked


@pytest.mark.parametrize("source", ["wheel", "sdist"])
def test_an_installed_copy_has_its_configs_and_its_data(
    built: dict[str, Path], source: str, tmp_path: Path
) -> None:
    code = (
        "import lrfind, sys; from lrfind.cli.main import run; from lrfind.config.templates import templates;"
        f" assert lrfind.__file__.startswith({str(built[source])!r});"
        " print(*templates()); assert run(['check', '-q']) == 0 and run(['init']) == 0;"
        " from lrfind.datasets.mnist import mnist_mini; assert len(mnist_mini().train[0]) == 5000"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(built[source])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0].split() == sorted(
        path.stem for path in (ROOT / "configs").glob("*.yaml")
    )
    assert (tmp_path / "lrfind.yaml").read_text() == (ROOT / "configs" / "mnist_cnn.yaml").read_text()


@pytest.mark.parametrize("source", ["wheel", "sdist"])
def test_an_installed_copy_has_the_template_the_style_and_the_script_of_the_report(
    built: dict[str, Path], source: str
) -> None:
    folder = "lrfind/views/report"
    names = {path.name for path in (ROOT / folder).glob("report.*")}
    assert names == {"report.css", "report.html.jinja", "report.js"}
    assert {path.name for path in (built[source] / folder).glob("report.*")} == names


def test_the_wheel_has_the_licences(built: dict[str, Path]) -> None:
    names = {path.name for path in built["wheel"].glob("lrfind-*.dist-info/licenses/**/*") if path.is_file()}
    assert names == {"LICENSE", "MNIST_MINI.md", "SONNETS.md"}


def metadata(folder: Path) -> Metadata:
    """The metadata of a wheel, checked by the rules of the package index."""
    (file,) = folder.glob("lrfind-*.dist-info/METADATA")
    return Metadata.from_email(file.read_bytes(), validate=True)


def test_the_metadata_is_valid_and_says_what_a_user_needs(built: dict[str, Path]) -> None:
    data = metadata(built["wheel"])
    assert data.name == "lrfind"
    assert data.license_expression == "MIT"
    assert data.summary is not None
    assert data.keywords
    assert data.classifiers
    assert set(data.classifiers) <= classifiers
    assert set(data.provides_extra or ()) >= {"cluster", "docs", "search", "sinks", "sklearn"}


def test_the_readme_of_a_wheel_renders(built: dict[str, Path]) -> None:
    data = metadata(built["wheel"])
    assert data.description_content_type == "text/markdown"
    assert data.description == (ROOT / "README.md").read_text(encoding="utf-8")
    html = MarkdownIt("gfm-like", {"linkify": False}).render(data.description)
    assert len(re.findall("<table>", html)) == 3
    assert len(re.findall("<img ", html)) == 2
    assert "```" not in html


def test_every_file_that_names_the_version_names_the_same(built: dict[str, Path], lrfind: Command) -> None:
    assert lrfind("--version") == 0
    version = lrfind.out.split()[-1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(metadata(built["wheel"]).version) == version == package.__version__ == citation["version"]


def test_a_citation_has_all_that_its_format_asks_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= {*citation}
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])


def test_a_wheel_that_pip_installs_has_the_command(built: dict[str, Path], tmp_path: Path) -> None:
    (wheel,) = built["wheel"].glob("*.whl")
    place = ["--no-deps", "--no-index", "--no-compile", "--target", str(tmp_path / "installed"), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *place], check=True)
    done = subprocess.run(
        [tmp_path / "installed/bin/lrfind", "ls", "templates"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
    )
    assert done.returncode == 0, done.stderr
    assert "mnist_cnn" in done.stdout


def test_an_sdist_has_what_its_tests_and_its_site_need(built: dict[str, Path]) -> None:
    (source,) = (path for path in built["wheel"].parent.iterdir() if (path / "PKG-INFO").is_file())
    needed = (
        "docs/finding.md",
        "examples/README.md",
        "mkdocs.yml",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "tests/conftest.py",
    )
    assert [name for name in needed if not (source / name).is_file()] == []
