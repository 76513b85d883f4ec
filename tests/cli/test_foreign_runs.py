"""A run directory from somebody else is data: reading imports nothing, and only the command allows an import."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.command import Command

MODULE = """
from pathlib import Path
import torch
Path(__file__).with_name("imported").touch()
class Model(torch.nn.Linear):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)
class Optimizer(torch.optim.SGD): ...
def schedule(step, steps): return 1.0
def loss(output, y): return torch.nn.functional.mse_loss(output, y)
"""
OWN = {
    "find": ("--set", "model='own:Model'"),
    "range-test": ("--set", "loss='own:loss'"),
    "grid": ("--lrs", "0.01,0.1", "--set", "optimizer.name='own:Optimizer'"),
    "compare": ("--optimizers", "[sgd, 'own:Optimizer']", "--seeds", "1", "--tuning-seeds", "1"),
    "train": ("--set", "training.schedule='own:schedule'"),
}
READERS = (
    ("status", "run"), ("watch", "run"), ("runs", "."), ("plot", "run"), ("plot", "run", "--out", "one.png"),
    ("suggest", "run"), ("export", "run", "--optuna", "study.db"), ("show", "run"), ("show", "run", "--snippet"),
    ("resume", "run"),
)  # fmt: skip


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder with a user's own module, which leaves a mark when it is imported."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own.py").write_text(MODULE)
    path = [*sys.path]
    yield folder
    sys.path[:] = path
    sys.modules.pop("own", None)


def forget(folder: Path) -> None:
    """Make this a process that has never heard of the module."""
    sys.path[:] = [place for place in sys.path if place != str(folder)]
    sys.modules.pop("own", None)
    (folder / "imported").unlink()


@pytest.mark.parametrize("command", OWN)
def test_reading_a_run_imports_nothing_and_resume_asks(
    lrfind: Command, config: Path, elsewhere: Path, command: str
) -> None:
    call = (command, config, "--out", "run", *OWN[command], "-q", "--import-root", elsewhere)
    assert lrfind(*call) == 0, lrfind.err
    forget(elsewhere)
    sys.path.insert(0, str(elsewhere))  # even if it could be imported
    expected = {"export": command == "grid", "suggest": command in ("find", "range-test")}
    for reader in READERS:
        if reader[0] == "plot" and "--out" in reader and command == "find":
            continue  # it has more than one figure
        assert lrfind(*reader) == (0 if expected.get(reader[0], True) else 2), (reader, lrfind.err)
    assert not (elsewhere / "imported").exists()
    # It is as if the run had not ended.
    from lrfind.runs.store import Run

    Run.open(Path("run")).keep_facts(concluded=False)
    assert lrfind("resume", "run") == 2
    assert "imports and runs code that is not part of lrfind: own:" in lrfind.err
    assert f"run `lrfind resume run --import-root {elsewhere}`" in lrfind.err
    assert not (elsewhere / "imported").exists()
    assert lrfind("resume", "run", "--import-root", elsewhere) == 0


def test_a_run_that_names_any_function_of_python_is_not_run(
    lrfind: Command, config: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    assert lrfind("range-test", config, "--out", "run", "-q") == 0
    from lrfind.config.experiment import check
    from lrfind.runs.store import Run

    text = config.read_text().replace("model: linear", f"model: {{name: 'os:mkdir', args: {{path: {mark}}}}}")
    assert "os:mkdir" in text
    run = Run.start(Path("theirs"), "range-test", check(text), text, [])
    run.release()
    for command in ("status", "show", "plot", "resume", "suggest"):
        lrfind(command, "theirs")
    assert lrfind("resume", "theirs") == 2
    assert "os:mkdir" in lrfind.err
    assert lrfind("train", "--from", "theirs") == 2
    assert not mark.exists()


def test_a_training_from_a_run_asks_too(lrfind: Command, config: Path, elsewhere: Path) -> None:
    own = (*OWN["grid"], "--import-root", elsewhere)
    assert lrfind("grid", config, "--out", "run", *own, "-q") == 0
    forget(elsewhere)
    assert lrfind("train", "--from", "run", "--out", "trained") == 2
    assert f"run `lrfind train --from run --out trained --import-root {elsewhere}`" in lrfind.err
    assert lrfind("train", "--from", "run", "--out", "trained", "--import-root", elsewhere, "-q") == 0


def test_one_bad_run_hides_no_other(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--out", "runs/good", "-q") == 0
    from lrfind.runs.store import Run

    for name in ("older", "newer", "cut", "empty", "linked"):
        shutil.copytree("runs/good", f"runs/{name}")
    Run.open(Path("runs/older")).keep_facts(version=3)
    Run.open(Path("runs/newer")).keep_facts(version=99, written_by="7.0.0")
    database = Path("runs/cut/run.sqlite")
    database.write_bytes(database.read_bytes()[:9000])
    Path("runs/empty/run.sqlite").write_bytes(b"")
    Path("runs/linked/run.sqlite").unlink()
    Path("runs/linked/run.sqlite").symlink_to(Path("runs/good/run.sqlite").resolve())
    assert lrfind("runs") == 0
    assert len(lrfind.out.splitlines()) == 2
    assert lrfind.err.count("left out: ") == 5
    assert "'runs/newer' was written by lrfind 7.0.0 (format 99)" in lrfind.err
    shutil.rmtree("runs/good")
    assert lrfind("runs") == 2
    assert "none of the 4 runs in 'runs' can be read" in lrfind.err


def test_a_config_with_the_answer_of_a_comparison_asks_for_the_code_of_the_run_too(
    lrfind: Command, config: Path, elsewhere: Path
) -> None:
    call = ("compare", config, "--out", "run", *OWN["compare"], "-q", "--import-root", elsewhere)
    assert lrfind(*call) == 0, lrfind.err
    forget(elsewhere)
    sys.path.insert(0, str(elsewhere))
    assert lrfind("train", config, "--from", "run", "--out", "trained") in (0, 2)
    ours = "imports and runs code that is not part of lrfind: own:" in lrfind.err
    assert ours == (not Path("trained").exists())
    assert not (elsewhere / "imported").exists()
