"""Configs, templates and embedded data are found from a wheel, from an sdist and from a source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling import build

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
