"""Every command and every block of code on every page of the documentation: it is run, or at least checked."""

from __future__ import annotations

import ast
import inspect
import os
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import yaml

import lrfind
from lrfind.catalog import COMMANDS
from lrfind.cli.main import cli, run
from lrfind.config.experiment import check
from tests.helpers.documentation import PAGES, ROOT, SHELL, Block, blocks, check_command, spans, text_of
from tests.helpers.runs import LINEAR

BLOCKS = {page: blocks(page) for page in PAGES}
ALL = [block for page in PAGES for block in BLOCKS[page]]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
SMALL_DATA = ("--set", "data.batch_size=4")
SMALL = {
    "find": SMALL_DATA,
    "range-test": (*SMALL_DATA, "--set", "range_test.steps=30", "--set", "range_test.seeds=1"),
    "grid": (*SMALL_DATA, "--set", "training={steps: 8}", "--seeds", "1"),
    "search": ("--set", "training={steps: 8}", "--seeds", "1", "--trials", "4"),
    "train": ("--set", "training={steps: 8}"),
    "compare": ("--set", "training={steps: 8}", "--seeds", "2", "--set", "compare.tuning_seeds=1"),
}
"""What is added to a command of a page when it is run, so that it is quick."""

TOOLS = {".", "chmod", "dask", "done", "export", "for", "openssl", "python3", "torchrun"}
"""The first words of commands that are neither run nor checked."""


def id_of(block: Block) -> str:
    return block.place


def test_each_page_has_blocks_of_known_languages() -> None:
    assert {block.language for block in ALL} <= {*SHELL, "", "csv", "python", "text", "yaml"}
    assert [block.place for block in ALL if block.why and block.title] == []


def test_no_output_holds_a_command() -> None:
    output = [block for block in ALL if block.language in ("", "text")]
    command = re.compile(r"^(\$ |pip |make |lrfind [a-z-]+( \S|$))", flags=re.MULTILINE)
    assert [block.place for block in output if command.search(block.text)] == []


def other_command(words: list[str]) -> None:
    """Check a command of another program."""
    match words:
        case ["make", *targets]:
            assert {target for target in targets if "=" not in target} <= TARGETS
        case ["pip", "install", "."]:
            pass
        case ["pip", "install", package]:
            assert set(re.findall(r"\w+", package.removeprefix("lrfind"))) <= {*EXTRAS}, package
        case ["python", file, *_]:
            assert (ROOT / file).is_file() or any(block.title == file for block in ALL), file
        case [word, *_]:
            assert word in TOOLS, f"{word} is not known to this test"


def test_every_command_is_shown_on_a_page() -> None:
    text = " ".join(" ".join(text_of(page).split()) for page in PAGES)
    assert [name for name in COMMANDS if f"lrfind {name}" not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_in_the_text_of_a_page_exist(page: str) -> None:
    for span in spans(page):
        if re.match(r"lrfind [a-z]", span):
            check_command(span, whole=False)


OPTIONS = {
    option
    for name in cli.list_commands(click.Context(cli))
    for command in [cli.get_command(click.Context(cli), name)]
    if command is not None
    for parameter in command.params
    for option in parameter.opts
} | {"--help", "--version"}
ELSEWHERE = {
    "docs/cluster.md": {"--nthreads", "--memory-limit", "--host", "--scheduler-file", "--resources"},
    "docs/speed.md": {"--ray"},
}
"""The options of other programs that a page names."""


@pytest.mark.parametrize("page", PAGES)
def test_the_options_in_the_text_of_a_page_exist(page: str) -> None:
    named = {match[0] for span in spans(page) if (match := re.match(r"--[a-z][a-z-]*", span))}
    assert named <= OPTIONS | ELSEWHERE.get(page, set())


CHECKED = [block for block in ALL if block.why]


@pytest.mark.parametrize("block", [b for b in CHECKED if b.language in SHELL], ids=id_of)
def test_the_commands_that_are_only_checked_exist(block: Block) -> None:
    for line in block.commands:
        words = shlex.split(line, comments=True)
        if words[0] == "lrfind":
            check_command(line)
        elif block.language == "sh" and not line.startswith(" "):
            other_command(words)


@pytest.mark.parametrize("block", [b for b in CHECKED if b.language == "python"], ids=id_of)
def test_the_calls_of_lrfind_that_are_only_checked_have_its_arguments(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Call) and re.match(r"lrfind\.\w+$", ast.unparse(node.func)):
            names = {word.arg: None for word in node.keywords if word.arg is not None}
            inspect.signature(getattr(lrfind, ast.unparse(node.func)[7:])).bind(*node.args, **names)


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "yaml"], ids=id_of)
def test_a_config_or_a_part_of_one_is_right(block: Block) -> None:
    keys = set(yaml.safe_load(block.text))
    if not block.why:
        rest = [line for line in LINEAR.splitlines() if line.partition(":")[0] not in keys]
        check("\n".join([*rest, block.text]))


def objects() -> dict[str, Any]:
    """The objects that blocks of Python use: a small model, its optimizer, its loss and its data."""
    torch.manual_seed(0)
    x, model = torch.randn(128, 3), torch.nn.Linear(3, 1)
    data = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01),
        "loss_fn": torch.nn.MSELoss(),
        "loader": torch.utils.data.DataLoader(data, batch_size=32, shuffle=True),
    }


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished range test, RUN, and a finished grid, SWEEP."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(LINEAR)
    for command, name in (("range-test", "RUN"), ("grid", "SWEEP")):
        words = [command, str(folder / "tiny.yaml"), "-q", "--out", str(folder / name), *SMALL[command]]
        assert run(words) == 0
    return folder


class World:
    """The folder in which the blocks of a page are run, one after another."""

    def __init__(self, page: str, finished: Path) -> None:
        shutil.copytree(ROOT / "configs", "configs")
        shutil.copytree(ROOT / "examples", "examples")
        shutil.copytree(finished, ".", dirs_exist_ok=True)
        Path("curve.csv").write_text(
            "lr,loss\n" + "\n".join(f"{10 ** (i / 5 - 5)},{5 / (1 + i)}" for i in range(20))
        )
        starts_a_config = any(
            line.split()[:2] == ["lrfind", "init"] for b in BLOCKS[page] for line in b.commands
        )
        if not starts_a_config:
            Path("lrfind.yaml").write_text(LINEAR.replace("full", "8"))
        self.variables = {"__name__": "page"} | objects()

    def run(self, block: Block) -> None:
        """Do what a block says."""
        if block.title:
            Path(block.title).parent.mkdir(exist_ok=True)
            Path(block.title).write_text(block.text)
        elif block.language == "python" and not block.why:
            exec(compile(block.text, block.place, "exec"), self.variables)
        elif block.language in SHELL and not block.why:
            for line in block.commands:
                self.command(line)

    def command(self, line: str) -> None:
        """Run a command: one of lrfind, of a folder, or a Python program; others are checked."""
        match shlex.split(line, comments=True):
            case ["lrfind", *words]:
                check_command(line)
                self.lrfind(words[: words.index(">")] if ">" in words else words)
            case ["mkdir", folder]:
                Path(folder).mkdir()
            case ["cd", folder]:
                os.chdir(folder)
            case ["python", file] if not (ROOT / file).exists():
                runpy.run_path(file, run_name="__main__")
            case words:
                other_command(words)

    def lrfind(self, words: list[str]) -> None:
        """Run a command of lrfind, with settings that make it quick."""
        name = words[0]
        named = ["SWEEP" if word == "RUN" and name == "export" else word for word in words]
        quick = SMALL.get(name, ()) if "RUN" not in words else ()
        assert run([*named, *quick]) in (0, 3), shlex.join(words)


@pytest.fixture
def own_modules(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a page's programs import the files of its folder, and forget these modules afterwards."""
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    before = {*sys.modules}
    yield
    for name in {*sys.modules} - before:
        if str(here.parent) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


RUN_PAGES = [
    page
    for page in PAGES
    if any(not block.why and block.language in {*SHELL, "python"} for block in BLOCKS[page])
]


@pytest.mark.usefixtures("own_modules")
@pytest.mark.parametrize("page", RUN_PAGES)
def test_the_blocks_of_a_page_work_one_after_another(page: str, finished: Path) -> None:
    world = World(page, finished)
    for block in BLOCKS[page]:
        world.run(block)


def test_the_script_that_refreshes_output_runs_the_command_above_a_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from page_outputs import SHOWN, refreshed

    page = "before\n<!-- output of: lrfind --version -->\n```text\nold\n```\nafter\n"
    assert refreshed(page) == page.replace("old", f"lrfind, version {lrfind.__version__}")
    commands = [match[2] for name in PAGES for match in SHOWN.finditer(text_of(name))]
    assert len(commands) >= 5
    for command in commands:
        check_command(command)
