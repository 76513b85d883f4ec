"""The command line, called in this process."""

from __future__ import annotations

import pytest

from lrfind.cli import main as cli


class Command:
    """Runs `lrfind` in this process and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        code = cli.run([str(argument) for argument in arguments])
        self.out, self.err = self._capsys.readouterr()
        return code

    @property
    def text(self) -> str:
        """What it printed on stdout, as one line, however its lines were folded."""
        return " ".join(self.out.split())
