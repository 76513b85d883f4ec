"""Where a run comes from: the command line, the working directory and the commit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lrfind.runs.origin import commit_of, origin
from tests.helpers.command import Command


def test_environment_json_says_how_to_run_it_again(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--out", "deep/run", "-q", "--set", "training.steps=30") == 0
    before = json.loads(Path("deep/run/environment.json").read_text())
    assert before["command"] == [
        "lrfind",
        "find",
        str(config),
        *["--out", "deep/run", "-q", "--set", "training.steps=30"],
    ]
    assert before["directory"] == "../.."
    assert before["lrfind"]
    assert before["started"][:2] == "20"
    assert lrfind("resume", "deep/run") == 0
    assert json.loads(Path("deep/run/environment.json").read_text()) == before


@pytest.mark.skipif(sys.platform != "linux", reason="the names of files are text here, not bytes")
def test_a_run_can_lie_in_a_folder_whose_name_is_no_utf_8(lrfind: Command, config: Path) -> None:
    name = os.fsdecode(b"gr\xf6sse")
    assert lrfind("find", config, "--out", name, "-q", "--set", "training.steps=30") == 0
    assert json.loads(Path(name, "environment.json").read_text())["command"][4] == "gr\\udcf6sse"
    assert "--from 'gr\\udcf6sse'" in Path(name, "best.yaml").read_text()
    assert lrfind("show", name) == 0


def test_passwords_in_addresses_are_left_out(tmp_path: Path) -> None:
    command = origin(["find", "--to", "mlflow:http://me:secret@host/path"], tmp_path)["command"]
    assert command[-1] == "mlflow:http://***@host/path"


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git to compare with")
def test_the_commit_is_the_one_that_git_says(tmp_path: Path) -> None:
    def git(*arguments: str, at: Path = tmp_path) -> str:
        quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        named = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
        done = subprocess.run(
            ["git", *named, *arguments],
            cwd=at,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | quiet,
        )
        return done.stdout.strip()

    git("init")
    assert commit_of(tmp_path) is None
    git("commit", "--allow-empty", "-m", "first")
    inner = tmp_path / "inner"
    inner.mkdir()
    first = git("rev-parse", "HEAD")
    assert commit_of(inner) == first
    git("pack-refs", "--all")
    assert commit_of(tmp_path) == first
    git("worktree", "add", "-b", "other", "../other")
    other = tmp_path.parent / "other"
    git("commit", "--allow-empty", "-m", "second", at=other)
    assert commit_of(other) == git("rev-parse", "HEAD", at=other) != first
    git("checkout", "--detach", at=other)
    assert commit_of(other) == git("rev-parse", "HEAD", at=other)
