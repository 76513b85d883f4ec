"""Standard streams that are closed, broken, or whose messages would command the terminal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from lrfind.cli import main as cli
from tests.helpers.command import Command


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = re.sub(r"\blrfind ", f"{sys.executable} -m lrfind ", line)
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("line", "code", "out"),
    [
        ("lrfind ls models 2>&-", 0, "linear"),
        ("lrfind check none.yaml 2>&-", 2, ""),
        ("lrfind check none.yaml 2>&- 1>&- 0<&-", 2, ""),
        ("lrfind ls models >&-", 0, ""),
        ("lrfind ls models | true; exit ${PIPESTATUS[0]}", None, ""),
        ("lrfind --help | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("lrfind find --help | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("lrfind check none.yaml 2>/dev/full", 2, ""),
    ],
)
def test_a_closed_or_broken_stream_gives_no_traceback(
    tmp_path: Path, line: str, code: int | None, out: str
) -> None:
    done = shell(line, tmp_path)
    assert code is None or done.returncode == code
    assert done.stdout.startswith(out)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["find --dry-run", "find --budget 40", "scale --measure --steps 2"])
def test_json_is_alone_on_stdout_whatever_the_users_code_prints(config: Path, command: str) -> None:
    (config.parent / "talks.py").write_text(
        "import atexit, ctypes, os, sys\nfrom torch import nn\nprint('at import')\n"
        "atexit.register(print, 'at exit')\nctypes.CDLL(None).puts(b'by C')\nprint('past', file=sys.__stdout__)\n"
        "def loss(output, y):\n"
        "    print('in the loss')\n"
        "    return nn.functional.mse_loss(output, y)\n"
        "os.system('echo in a child')\n"
    )
    line = f"lrfind {command} {config.name} --json -q --import-root . --set loss=talks:loss --set data.batch_size=16"
    done = shell(line, config.parent)
    assert done.returncode == 0
    assert isinstance(json.loads(done.stdout), dict)
    assert {"at import", "in a child", "at exit", "by C", "past"} <= {*done.stderr.splitlines()}
    assert ("in the loss" in done.stderr) is ("--dry-run" not in command)


@pytest.mark.parametrize("command", ["find", "range-test"])
def test_huge_losses_leak_no_warning_of_numpy(lrfind: Command, config: Path, command: str) -> None:
    Path("huge.py").write_text(
        "from torch.nn.functional import mse_loss\n"
        "def loss(output, y): return mse_loss(output.double(), y.double()) * 1e300\n"
    )
    with warnings.catch_warnings(action="error", category=RuntimeWarning):
        code = lrfind(command, config, "-q", "--import-root", ".", "--set", "loss=huge:loss")
    assert (code, lrfind.err) == (3, "")


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "from lrfind.cli import main; main._replace_closed_streams(); print(open('file', 'w').fileno() > 2)"
    )
    done = shell(f'{sys.executable} -c "{code}" 2>&- 0<&-', tmp_path)
    assert done.stdout == "True\n"


def test_a_wrong_call_and_a_bug_are_told_escaped(
    lrfind: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lrfind("check", "--\x1b[2J") == 2
    assert "\\x1b[2J" in lrfind.err
    assert "\x1b" not in lrfind.err

    def fail() -> int:
        raise ValueError("\x1b[2J" + "x" * 1_000_000)

    monkeypatch.setattr(cli, "run", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    err = capsys.readouterr().err
    assert end.value.code == 1
    assert err.startswith("Traceback")
    assert "\x1b" not in err
    assert len(err) < 25_000


def test_a_place_is_marked_under_the_escaped_line(lrfind: Command, config: Path) -> None:
    assert lrfind("check", config, "--set", "\u202eab.c=[1") == 2
    line, caret = lrfind.err.splitlines()[1:3]
    assert line.startswith("    \\u202eab.c=[1")
    assert caret.endswith("^")


def test_many_mistakes_are_counted_and_not_all_listed(lrfind: Command) -> None:
    Path("many.yaml").write_text("".join(f"key{i}: 1\n" for i in range(500)))
    assert lrfind("check", "many.yaml") == 2
    assert lrfind.err.count("error: ") == 100
    assert lrfind.err.endswith("and 403 more mistakes\n")
