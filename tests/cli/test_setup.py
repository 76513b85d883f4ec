"""`lrfind doctor`, and completion: the names that are offered, and the scripts in real shells."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from click.shell_completion import CompletionItem, get_completion_class

from lrfind.catalog import METHODS, OPTIMIZERS
from lrfind.cli.main import cli
from lrfind.cli.setup import INSTALL
from lrfind.config.templates import templates
from tests.helpers.command import Command
from tests.helpers.runs import start

pytestmark = pytest.mark.usefixtures("here")


def offered(line: str) -> list[CompletionItem]:
    """What the Tab key offers at the end of a line."""
    kind = get_completion_class("bash")
    assert kind is not None
    *words, last = line.split(" ")[1:]
    return kind(cli, {}, "lrfind", "_LRFIND_COMPLETE").get_completions(words, last)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("lrfind ra", ["range-test"]),
        ("lrfind find --schedule cos", ["cosine", "cosine_restarts"]),
        ("lrfind compare --schedules linear,cos", ["linear,cosine", "linear,cosine_restarts"]),
        ("lrfind compare --optimizers ", [*OPTIMIZERS]),
        ("lrfind suggest run --method ", ["all", *METHODS]),
        ("lrfind init --template csv", ["csv_regression"]),
        ("lrfind export runs/x --to ml", ["mlflow"]),
        ("lrfind ls opt", ["optimizers"]),
        ("lrfind find --lanes s", ["single", "stacked"]),
        ("lrfind find ", ["mine.yaml", *templates()]),
        ("lrfind find configs/o", ["configs/other.yml"]),
    ],
)
def test_the_tab_key_offers(line: str, names: list[str]) -> None:
    Path("mine.yaml").touch()
    Path("configs").mkdir()
    Path("configs/other.yml").touch()
    assert [item.value for item in offered(line)] == names


@pytest.mark.parametrize("line", ["lrfind show ", "lrfind train --from ", "lrfind plot runs/old "])
def test_the_tab_key_offers_the_newest_run_first_and_else_directories(line: str) -> None:
    assert [(item.value, item.type) for item in offered(line)] == [("", "dir")]
    for age, name in enumerate(("new", "old")):
        start(Path("runs") / name, "find").release()
        os.utime(f"runs/{name}/run.sqlite", (1.7e9 - age, 1.7e9 - age))
    Path("runs/no-run").mkdir()
    assert [item.value for item in offered(line)] == ["runs/new", "runs/old"]
    assert [(item.value, item.type) for item in offered(f"{line}else/where")] == [("else/where", "dir")]


@pytest.fixture
def path_with_lrfind(here: Path) -> dict[str, str]:
    """An environment in which `lrfind` is a command."""
    command = here / "bin/lrfind"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lrfind "$@"\n')
    command.chmod(0o755)
    return os.environ | {"PATH": f"{command.parent}:{os.environ['PATH']}"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_after_the_line_that_installs_it(path_with_lrfind: dict[str, str]) -> None:
    profile = Path("home/.bashrc")
    profile.parent.mkdir()
    install = INSTALL["bash"].replace("~", str(profile.parent))
    script = (
        f"{install}; source {profile}; COMP_WORDS=(lrfind find --schedule wsd); COMP_CWORD=3;"
        ' $(complete -p lrfind | sed "s/.*-F \\([^ ]*\\).*/\\1/") lrfind; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=path_with_lrfind)
    assert done.stdout == "wsd\n", done.stderr


@pytest.mark.parametrize("shell", INSTALL)
def test_a_shell_understands_its_script(lrfind: Command, shell: str) -> None:
    assert lrfind("completion", shell) == 0
    assert "_LRFIND_COMPLETE" in lrfind.out
    assert lrfind.err == ""  # the line that installs it is for a terminal
    if shutil.which(shell) is not None:
        Path("script").write_text(lrfind.out)
        done = subprocess.run([shell, "-n", "script"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_doctor_finds_what_is_there(lrfind: Command) -> None:
    assert lrfind("doctor", "--json") == 0
    report = json.loads(lrfind.out)
    assert report["problems"] == []
    (device,) = [row for row in report["devices"] if row["name"] == "cpu"]
    assert device["problem"] is None
    assert {row["name"] for row in report["data"] if row["found"]} == {"mnist_mini", "text"}
    assert report["runs"]["folder"] == str(Path("runs").absolute())
    assert not Path("runs").exists()
    assert lrfind("doctor") == 0
    assert f"  torch         {torch.__version__.partition('+')[0]}" in lrfind.out
    assert lrfind.out.endswith("\nNo problem was found.\n")
    assert max(len(line) for line in lrfind.out.splitlines() if str(Path.cwd()) not in line) <= 80


def pretend_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Pretend that packages have other versions, or, with None, that they are missing."""
    real = metadata.version

    def version(name: str) -> str:
        if versions.get(name, "") is None:
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr(metadata, "version", version)


def test_doctor_names_each_needed_package_that_is_missing_or_too_old(
    lrfind: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_versions(monkeypatch, pandas=None, torch="1.13.0")
    assert lrfind("doctor") == 1
    assert "2 problems:\n" in lrfind.out
    assert "  pandas is missing: pip install 'pandas>=" in lrfind.out
    assert "  torch 1.13.0 does not fit >=" in lrfind.out


def test_a_missing_extra_is_no_problem_and_has_its_pip_line(
    lrfind: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_versions(monkeypatch, optuna=None)
    assert lrfind("doctor") == 0
    assert "  search        optuna is missing: pip install 'lrfind[search]'\n" in lrfind.out


def test_doctor_reports_a_device_that_fails_and_a_place_that_is_closed(
    lrfind: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(torch.autograd, "grad", fail)
    monkeypatch.setattr("lrfind.experiments.doctor.why_not_writable", lambda folder: errno.EROFS)
    assert lrfind("doctor", "--json") == 1
    device, place = json.loads(lrfind.out)["problems"]
    assert device == "cpu does not work: RuntimeError: no kernel image is available"
    assert place == f"{Path('runs').absolute()} cannot be written: Read-only file system"


@pytest.mark.parametrize(
    ("arguments", "environment"), [(("--no-color",), {}), ((), {"NO_COLOR": "1"})], ids=["option", "variable"]
)
def test_no_color_holds_for_one_command(
    lrfind: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], environment: dict[str, str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for call in (("doctor", "--json", *arguments), (*arguments, "doctor", "--json")):
        assert lrfind(*call) == 0
        assert json.loads(lrfind.out)["terminal"]["colours"] == "none, because of NO_COLOR or --no-color"
    assert os.environ.get("NO_COLOR") == environment.get("NO_COLOR")
