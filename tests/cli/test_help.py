"""`--help`: tidy at 80 columns, with groups in one order, examples that can be typed, and true defaults."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from lrfind.catalog import COMMAND_GROUPS, COMMANDS, KINDS
from lrfind.cli.help import GROUPS, Command, Option
from lrfind.cli.main import FIRST_STEPS
from lrfind.config.experiment import check
from lrfind.config.registry import load
from lrfind.runs.store import Run
from tests.helpers.command import Command as CommandLine

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(autouse=True)
def _eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def headings(text: str) -> list[str]:
    return re.findall(r"^([A-Z][^:\n]*):$", text, flags=re.MULTILINE)


def test_the_first_help_has_each_command_once_in_a_group_with_an_uncut_line(lrfind: CommandLine) -> None:
    assert lrfind("--help") == 0
    assert headings(lrfind.out) == ["Examples", *COMMAND_GROUPS, "Options"]
    for name in COMMANDS:
        (line,) = re.findall(rf"^  {name}  +(\S.*)$", lrfind.out, flags=re.MULTILINE)
        assert line.endswith(".")
        assert "..." not in line


def test_a_command_of_no_group_is_in_the_last_one(
    lrfind: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "extra", "lrfind.cli.config:schema")
    assert lrfind("--help") == 0
    assert headings(lrfind.out)[-2:] == ["More", "Options"]
    assert re.search(r"^More:\n  extra       Print the JSON Schema", lrfind.out, flags=re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_tidy(lrfind: CommandLine, name: str) -> None:
    assert lrfind(name, "--help") == 0
    assert max(map(len, lrfind.out.splitlines())) <= 80
    first, *rest = headings(lrfind.out)
    assert first == "Examples"
    assert rest == [group for group in GROUPS if group in rest]
    assert rest[-1] == "General"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_can_be_typed(name: str) -> None:
    command = load(COMMANDS[name])
    assert isinstance(command, Command)
    for line, words in command.examples:
        shell = re.search(r"lrfind [^>|)]*", line)
        assert shell is not None
        program, called, *arguments = shlex.split(shell[0])
        assert (program, called) == ("lrfind", name)
        command.make_context(name, arguments)
        assert len(f"  {line}  {words}") <= 80


def test_every_first_step_can_be_typed() -> None:
    for line, _ in FIRST_STEPS:
        _, name, *arguments = shlex.split(line)
        command = load(COMMANDS[name])
        if arguments != ["--help"]:
            assert command.make_context(name, arguments).info_name == name


KEYED = [
    (name, option)
    for name in KINDS
    for option in load(COMMANDS[name]).params
    if isinstance(option, Option) and option.key not in (None, "training.steps", "script.wait")
]


@pytest.mark.parametrize(("name", "option"), KEYED, ids=lambda value: getattr(value, "name", value))
def test_the_default_in_the_help_is_that_of_a_config_without_the_key(name: str, option: Option) -> None:
    value: Any = check("{model: linear, data: regression, loss: mse, optimizer: sgd}")
    for part in str(option.key_for(name)).split("."):
        value = getattr(value, part)
    record = option.get_help_record(click.Context(load(COMMANDS[name])))
    shown = re.search(r"\[default: (.*)\]$", record[1] if record else "")
    if option.is_flag or value in (None, ()) or option.hidden:
        assert shown is None
    else:
        assert shown is not None
        parts = [getattr(part, "name", part) for part in (value if isinstance(value, tuple) else (value,))]
        assert [type(part)(text) for part, text in zip(parts, shown[1].split(","), strict=True)] == parts


def test_a_number_of_steps_has_no_default_but_a_wait_has(lrfind: CommandLine) -> None:
    assert lrfind("find", "--help") == 0
    assert "--steps N                The number of steps of the whole training.\n" in lrfind.out
    assert lrfind("script", "--help") == 0
    assert "[default: 10]" in lrfind.out


def test_options_of_the_training_plan_mean_the_same_in_all_commands() -> None:
    texts = {
        name: {
            option.name: option.help for option in load(COMMANDS[name]).params if isinstance(option, Option)
        }
        for name in ("find", "grid", "search", "compare", "train")
    }
    for option in ("steps", "epochs", "schedule", "eval_every", "precision", "seeds", "seed", "device"):
        assert len({text[option] for text in texts.values()}) == 1


@pytest.mark.parametrize("name", ["find", "grid", "search", "compare", "train"])
def test_steps_and_epochs_exclude_each_other(lrfind: CommandLine, name: str) -> None:
    assert lrfind(name, "--steps", 3, "--epochs", 2) == 2
    assert lrfind.err == "error: give --steps or --epochs, not both.\n"


def test_a_schedule_in_a_comparison_needs_optimizers(lrfind: CommandLine) -> None:
    assert lrfind("compare", "--schedule", "cosine", "-q") == 2
    assert "give --optimizers too" in lrfind.err


@pytest.mark.parametrize(
    ("name", "module"), [("find", "find"), ("grid", "sweep"), ("search", "sweep"), ("train", "train")]
)
def test_the_options_of_the_plan_reach_the_experiment(
    lrfind: CommandLine, config: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    runs: list[Run] = []

    def start(run: Run, *_: object) -> int:
        runs.append(run)
        run.release()
        return 0

    monkeypatch.setattr(f"lrfind.cli.{module}.start", start)
    plan = ("--epochs", 7, "--schedule", "cosine", "--eval-every", 2, "--precision", "bfloat16")
    assert lrfind(name, config, *plan, "--seeds", 2, "--seed", 5) == 0
    experiment = runs[0].experiment
    training = experiment.training
    assert (training.steps, training.epochs, training.schedule.name) == (None, 7, "cosine")
    assert (training.eval_every, training.precision) == (2, "bfloat16")
    assert (getattr(experiment, KINDS[name].section).seeds, experiment.seed) == (2, 5)
