"""The pages of the documentation: their blocks of code, and the commands in their text.

- A block with a title is a file: it is written into the working directory.
- A block of `sh` has commands, one of `python` statements, one of `yaml` a config or a part of one. Blocks are
  run, in their order, in one folder for each page, unless `<!-- checked only: WHY -->` stands above them.
- Every other block is output.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from lrfind.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "SECURITY.md",
        ROOT / "examples/README.md",
        *(ROOT / "docs").glob("*.md"),
    )
]

FENCE = re.compile(
    r"(?:^ *<!-- checked only: (?P<why>[^\n]*) -->\n)?"
    r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^(?P=indent)```$',
    flags=re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code of a page.

    Attributes:
        place: the page and the line.
        language: what stands after the fence.
        title: the name of the file that the block is; empty for none.
        why: the reason why the block is only checked; empty if it is run.
        text: the lines of the block.
    """

    place: str
    language: str
    title: str
    why: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a block of `sh`, each in one line, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if shlex.split(line, comments=True)] if self.language in SHELL else []


SHELL = {"sh", "bash", "console"}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page."""
    text = text_of(page)
    return [
        Block(
            f"{page}:{text[: match.start()].count(chr(10)) + 1}",
            match["language"],
            match["title"] or "",
            match["why"] or "",
            textwrap.dedent(match["text"]),
        )
        for match in FENCE.finditer(text)
    ]


def spans(page: str) -> Iterator[str]:
    """Yield the code within the text of a page, each in one line."""
    text = FENCE.sub("", text_of(page))
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text):
        yield " ".join(span.split())


def check_command(line: str, *, whole: bool = True) -> None:
    """Parse a command of lrfind as click does, but call nothing.

    Args:
        line: the command as it is typed; parts in brackets, such as `[RUN ...]`, and `...` are left out.
        whole: whether nothing may be missing. Within a text, `lrfind resume` is the name of a command.

    Raises:
        click.UsageError: if a command, an option or a value of one does not exist.
    """
    words = [
        word for word in shlex.split(re.sub(r"\[[A-Z][^]]*\]", "", line), comments=True) if word != "..."
    ]
    words = words[1 : next((words.index(end) for end in (">", "&") if end in words), None)]
    context = click.Context(cli, info_name="lrfind")
    if words[:1] == ["--version"]:
        return
    name, command, rest = cli.resolve_command(context, words)
    assert command is not None
    inner = click.Context(command, context, name)
    try:
        values, left, _ = command.make_parser(inner).parse_args(rest)
    except click.BadOptionUsage:  # the value of an option is missing
        if whole:
            raise
        return
    if left:
        raise click.UsageError(f"{line}: too many arguments: {left}")
    for parameter in command.params:
        value = values.get(parameter.name)
        typed = value not in (None, (), []) and "UNSET" not in repr(value)
        if typed and not isinstance(parameter.type, click.Path):
            parameter.type_cast_value(inner, value)
        if whole and parameter.required and not typed:
            raise click.UsageError(f"{line}: {parameter.name} is missing")
