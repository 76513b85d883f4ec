from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from lrfind.analysis.curves import Curve
from lrfind.runs.files import write_whole
from lrfind.views.plots import runs as plots
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR

# A test that takes long on a busy machine is no failure; and the same examples are tried on every machine.
settings.register_profile("lrfind", deadline=None, derandomize=True)
settings.load_profile("lrfind")
os.environ["MPLBACKEND"] = "Agg"
CACHE = os.environ["LRFIND_CACHE_DIR"] = tempfile.mkdtemp(prefix="lrfind-tests-")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
os.environ["OMP_NUM_THREADS"] = "1"  # tiny tensors; and several threads wait long on a busy machine


def pytest_unconfigure() -> None:
    """Remove the cache of this process when its tests have ended."""
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(autouse=True)
def _unrendered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are built, but not rendered, which takes a second each, unless a test is marked `rendered`."""

    def save(figure: object, stem: Path) -> None:
        for suffix in (".png", ".svg"):
            write_whole(Path(f"{stem}{suffix}"), b"not rendered")

    if "rendered" not in request.keywords:
        monkeypatch.setattr(plots, "save", save)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A config that runs in a few hundredths of a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(LINEAR)
    return path


@pytest.fixture
def golden() -> Callable[..., Curve]:
    """A curve that falls around 1e-3, is lowest at 0.026 and blows up; `noise` is a standard deviation."""

    def make(noise: float = 0.0) -> Curve:
        lr = 1e-7 * 1e8 ** (np.arange(100) / 99)
        x = np.log10(lr)
        loss = 2.3 - 1.8 / (1 + np.exp(-3 * (x + 3))) + np.exp(3 * (x + 0.3))
        return Curve.of(lr, loss + noise * np.random.default_rng(0).standard_normal(100))

    return make


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lrfind(capsys: pytest.CaptureFixture[str], here: Path) -> Command:
    """The command line, in an empty working directory."""
    return Command(capsys)
