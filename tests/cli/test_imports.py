"""`--no-import-paths` and `--allow-import`: what a config may import, decided on the command line alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lrfind.catalog import COMMANDS
from lrfind.cli.main import cli
from lrfind.config.imports import ImportPolicy, import_policy
from lrfind.config.registry import load
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, start

OWN = LINEAR.replace("model: linear", "model: own_nets:Net")
NET = "import torch\nprint('imported')\nclass Net(torch.nn.Linear):\n    def __init__(self, in_features, out_features):\n        super().__init__(in_features, out_features)\n"

READING_ONLY = {
    "status", "watch", "show", "report", "runs", "plot", "suggest", "repair", "init", "ls", "schema", "doctor",
    "completion", "script",
}  # fmt: skip
"""Commands that import nothing that a config names; a script is started in a process of its own."""


@pytest.fixture(autouse=True)
def _own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_nets.py").write_text(NET)
    Path("own.yaml").write_text(OWN)
    monkeypatch.syspath_prepend(here)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)


def test_every_command_that_may_import_has_the_options() -> None:
    options = {
        name: {option for parameter in load(path).params for option in parameter.opts}
        for name, path in COMMANDS.items()
    }
    wanted = {"--no-import-paths", "--allow-import", "--import-root"}
    assert {name for name, names in options.items() if wanted <= names} == set(COMMANDS) - READING_ONLY
    assert set(COMMANDS) == set(cli.list_commands(None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [("check", "--imports"), ("find",), ("range-test",), ("train",), ("grid", "--dry-run"), ("compare",), ("search",), ("scale", "--measure")],
)  # fmt: skip
def test_a_forbidden_name_is_refused_at_its_place_and_not_imported(
    lrfind: Command, arguments: tuple[str, ...]
) -> None:
    command, *options = arguments
    assert lrfind(command, "own.yaml", *options, "--no-import-paths") == 2
    assert lrfind.err.startswith(
        "own.yaml:3:8: error: model: importing the model 'own_nets:Net' is forbidden by --no-import-paths"
    )
    assert "own_nets" not in sys.modules
    assert not Path("runs").exists()


def test_resume_holds_to_the_options_too(lrfind: Command) -> None:
    start(Path("run"), "range-test", config=OWN)
    assert lrfind("resume", "run", "--import-root", ".", "--no-import-paths") == 2
    assert "importing the model 'own_nets:Net' is forbidden by --no-import-paths" in lrfind.err
    assert "own_nets" not in sys.modules


def test_the_policy_ends_with_its_command(lrfind: Command) -> None:
    assert lrfind("check", "own.yaml", "--allow-import", "other") == 2
    assert "does not match --allow-import 'other'" in lrfind.err
    assert import_policy() == ImportPolicy()
    assert lrfind("check", "own.yaml", "--allow-import", "other", "--allow-import", "own_*") == 0
    assert lrfind("check", "own.yaml") == 0


def test_the_two_options_exclude_each_other(lrfind: Command) -> None:
    assert lrfind("check", "own.yaml", "--no-import-paths", "--allow-import", "own_nets") == 2
    assert "give --no-import-paths or --allow-import, not both" in lrfind.err


@pytest.mark.parametrize("key", ["no_import_paths", "allow_import", "import_root"])
def test_no_config_can_set_them(lrfind: Command, key: str) -> None:
    assert lrfind("check", "own.yaml", "--set", f"{key}=x") == 2
    assert f"unknown key '{key}'" in lrfind.err


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("data.name", "data: {name: 'evil:data'}"),
        ("loss.step", "loss: {step: 'evil:step'}"),
        ("optimizer.name", "optimizer: {name: 'evil:opt'}"),
        ("training.schedule.args.parts.1", "training: {steps: 9, schedule: {name: join, args: {at: [3], parts: [constant, 'evil:s']}}}"),
        ("compare.optimizers.1.name", "compare: {optimizers: [sgd, {name: 'evil:opt'}]}"),
        ("compare.schedules.0", "compare: {schedules: ['evil:s', constant]}"),
    ],
)  # fmt: skip
def test_every_place_that_names_code_is_refused(lrfind: Command, place: str, text: str) -> None:
    key = text.partition(":")[0]
    Path("evil.yaml").write_text(
        "".join(f"{line}\n" for line in LINEAR.splitlines() if not line.startswith(f"{key}:")) + text
    )
    assert lrfind("check", "evil.yaml", "--no-import-paths") == 2
    assert f"error: {place}: importing the " in lrfind.err


@pytest.mark.parametrize(
    ("pattern", "path", "allowed"),
    [
        ("nets", "nets:Small", True),
        ("nets", "nets.small:Small", False),
        ("nets.*", "nets.small:Small", True),
        ("nets:*", "nets:Small", True),
        ("nets:*", "nets:os.system", False),
        ("nets", "nets:os.system", False),
        ("nets:os.*", "nets:os.system", True),
        ("nets:Small*", "nets:Large", False),
        ("*", "any.thing:at_all", True),
        ("n.ts", "nets:Small", False),
        ("", "nets:Small", False),
    ],
)
def test_a_pattern_is_matched_in_its_whole_length(pattern: str, path: str, allowed: bool) -> None:
    assert ImportPolicy([pattern]).allows(path) == allowed
