"""Text from configs, data and code reaches the terminal and the files as text: it is shown, never obeyed."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from lrfind.errors import in_one_line, printable
from lrfind.views import terminal
from lrfind.views.text.layout import table_text

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\r\u202eabc\u2066\u200b\udcff\x00 [red]bold[/red] :smile: $x^{$"
ESCAPED = r"\x1b]0;title\x07\x1b[2J\x9b31m\r\u202eabc\u2066\u200b\udcff\x00 [red]bold[/red] :smile: $x^{$"


def test_answers_and_notes_escape_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show(HOSTILE)
    terminal.note(HOSTILE)
    assert capsys.readouterr() == (f"{ESCAPED}\n", f"{ESCAPED}\n")


def test_every_line_break_and_tab_of_an_answer_stays(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show("a\n\tb é 中 😀")
    assert capsys.readouterr().out == "a\n\tb é 中 😀\n"


def test_long_messages_are_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.note("x" * 10_000_000)
    terminal.show("\n".join(["short", "y" * 10_000_000]))
    out, err = capsys.readouterr()
    assert len(err) < terminal.LONGEST_NOTE + 100
    assert out.startswith("short\nyyy")
    assert len(out) < terminal.LONGEST_LINE + 100
    assert "characters left out" in out


def test_an_exception_in_one_line_is_bounded_and_never_fails() -> None:
    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert in_one_line(UnspeakableError()) == "UnspeakableError: (its text cannot be read: RuntimeError)"
    assert len(in_one_line(ValueError("\x1b" * 10_000_000))) < 1100
    assert in_one_line(ValueError(HOSTILE)).isprintable()


def test_a_character_that_the_terminal_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.show("é 中")
    assert stream.buffer.getvalue() == b"\\xe9 \\u4e2d\n"  # type: ignore[attr-defined]


def test_a_stderr_that_nobody_reads_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    for stream in (Broken(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        terminal.note("progress")


def test_a_table_shows_markup_and_emoji_codes_as_they_are() -> None:
    assert table_text(["[b]name[/b]"], [[HOSTILE]], width=200).splitlines() == ["[b]name[/b]", ESCAPED]


def test_nothing_else_in_the_package_prints() -> None:
    root = Path(terminal.__file__).parents[1]
    printing = re.compile(r"click\.s?echo\(|(?<![\w.])print\(|sys\.std(out|err)\.write")
    of_a_users_script = root / "experiments/script/child.py"
    doors = (Path(terminal.__file__), of_a_users_script)
    modules = [path for path in root.rglob("*.py") if path not in doors]
    assert [p.name for p in modules if any(map(printing.search, code_of(p)))] == []


def code_of(path: Path) -> list[str]:
    """The lines of a module, without those of doctests."""
    return [line for line in path.read_text().splitlines() if not line.lstrip().startswith(">>>")]


def test_every_escaped_text_is_printable() -> None:
    every = "".join(map(chr, range(0x3000))) + "\udcff\ufeff\U000e0041"
    left = [c for c in printable(every) if not c.isprintable() and c not in "\n\t"]
    assert all(c.isspace() or c == "\xad" or not c.encode("utf-8", "replace")[0] < 0x80 for c in left)
