"""What a command imports, and that its answer waits for nothing that comes after it."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lrfind.runs.store import Run
from tests.helpers.command import Command

COMMANDS = (
    ("find",),
    ("range-test",),
    ("grid", "--lrs", "0.01,0.1", "--seeds", "1", "--lanes", "single"),
    ("train", "--set", "optimizer.name=adamw"),
    ("check", "--batch"),
)
NEVER = {
    "dask", "distributed", "mlflow", "optuna", "pandas", "pyarrow", "scipy", "sklearn", "sympy",
    "torch._dynamo", "torch._inductor", "torchvision", "wandb",
}  # fmt: skip
AFTER_THE_ANSWER = {"PIL", "jinja2", "matplotlib"}

PROGRAM = """
import gc, io, json, sys
from lrfind.cli.main import run

class Listening(io.StringIO):
    imported = None
    def write(self, text):
        self.imported = self.imported or [*sys.modules]
        return super().write(text)

stdout, imported = sys.stdout, []
for command in json.loads(sys.argv[2]):
    sys.stdout = Listening()
    assert run([command[0], sys.argv[1], *command[1:], "-q"]) == 0, command
    imported.append(sys.stdout.imported)
stdout.write(json.dumps([*imported, [*sys.modules], gc.get_freeze_count(), gc.isenabled()]))
"""


def test_commands_import_only_what_they_need_and_to_draw_only_after_the_answer(
    config: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, config, json.dumps(COMMANDS)],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *_, last, frozen, collecting = json.loads(done.stdout)
    assert "torch" in first
    assert not {*first} & (NEVER | AFTER_THE_ANSWER)
    assert {*last} >= AFTER_THE_ANSWER
    assert not {*last} & NEVER
    assert frozen > 100_000  # objects of modules, which no collection looks at
    assert collecting


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("command", COMMANDS[:-1], ids=lambda command: command[0])
def test_the_answer_is_printed_before_anything_is_drawn(
    command: tuple[str, ...],
    options: tuple[str, ...],
    lrfind: Command,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before: list[str] = []
    monkeypatch.setattr("lrfind.views.plots.runs.plot_run", lambda *_: before.append(capsys.readouterr().out))
    name, *rest = command
    assert lrfind(name, config, *rest, *options, "--out", "run", "-q") == 0
    (answer,) = before
    if options:
        assert json.loads(answer)["answer"]["lr"] is not None
        assert lrfind.out == ""
    else:
        assert "earning rate" in answer.splitlines()[0] or "lr " in answer
        assert lrfind.out.splitlines() == ["  report: run/report.html", "  run: run"]


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (errno.EBADF, 1, "because stdout was closed"),
        (errno.ENOSPC, 4, "disk that is full. The run is stored; `lrfind show run`"),
    ],
)
def test_a_run_whose_answer_cannot_be_printed_is_complete(
    lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, message: str
) -> None:
    def fail(text: str) -> None:
        raise OSError(number, "cannot be written")

    with monkeypatch.context() as broken:
        broken.setattr("lrfind.cli.execute.show", fail)
        assert lrfind("range-test", config, "--out", "run", "-q") == code
    assert lrfind.err.startswith("error: the answer cannot be printed, ")
    assert message in lrfind.err
    assert Run.open(Path("run")).concluded
    assert Path("run/range_test.png").is_file()
    assert lrfind("show", "run", "-q") == 0
    assert "Suggested learning rate: " in lrfind.out
