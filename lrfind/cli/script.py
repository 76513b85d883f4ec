"""The command for a training script that nobody edits: script."""

from __future__ import annotations

import os
import re
import shutil
import sys
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.cli.execute import Output, new_run, start
from lrfind.cli.help import OUTPUT, PLACE, PLAN, SEARCH, SEEDS, Command, option
from lrfind.cli.options import (
    common_options,
    is_quiet,
    json_option,
    option_overrides,
    out_option,
    print_plan,
    report_option,
)
from lrfind.cli.trainings import schedule_option
from lrfind.errors import LrfindError, UsageError
from lrfind.views.terminal import note

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment


@click.command(
    cls=Command,
    context_settings={"allow_interspersed_args": False},
    examples=(
        ("lrfind script --steps 3000 -- train.py", "as `python train.py`"),
        ("lrfind script --steps 3000 -- train.py --epochs 3", "with its arguments"),
        ("lrfind script --steps 3000 --link data -- train.py", "it reads ./data"),
    ),
)
@click.argument("command", metavar="-- SCRIPT.py [ARGS]...", nargs=-1, required=True, type=click.UNPROCESSED)
@option(
    "--steps",
    group=PLAN,
    key="training.steps",
    metavar="N",
    required=True,
    help="The number of optimizer steps of the whole training.",
)
@schedule_option
@option(
    "--seed", group=SEEDS, key="seed", metavar="N", help="The seed of Python, NumPy and torch in every start."
)
@option(
    "--max-seconds",
    group=SEARCH,
    key=".max_seconds",
    metavar="S",
    help="The most seconds that all starts together may take, approximately.",
)
@option(
    "--here",
    group=PLACE,
    is_flag=True,
    help="Run the script in this directory. Otherwise each start has an empty temporary one.",
)
@option(
    "--link",
    "links",
    group=PLACE,
    metavar="NAME",
    multiple=True,
    help="A file or folder of this directory that the script reads by its relative path, such as data."
    " Repeatable.",
)
@option(
    "--wait",
    group=PLACE,
    key="script.wait",
    metavar="MINUTES",
    help="Stop a start that makes no optimizer step for so long.",
)
@out_option
@option("--dry-run", group=OUTPUT, is_flag=True, help="Say what would be done, but start nothing.")
@report_option
@json_option
@common_options
def script(
    command: tuple[str, ...],
    out: Path | None,
    here: bool,
    links: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    no_report: bool,
    **options: Any,
) -> int:
    """Find the learning rate of a training script, as it is.

    Use it for a training that is a program already. The script is started once for each probe. A hook on the
    optimizers of torch holds the lr, and reads the losses that `backward` is called on.
    """
    experiment, text = _experiment(command, here, links, options)
    if dry_run:
        return _dry_run(experiment, as_json)
    from lrfind.views.text.script import script_plan_text

    run = new_run(out, "script", experiment, text, [])
    if not is_quiet():
        note(script_plan_text(_plan(experiment, str(run.path / "script.log"))))
    try:
        return start(run, Output(as_json, report=not no_report))
    except LrfindError:
        if not run.path.exists() and not is_quiet():
            note(f"Nothing was measured, so {run.path} is removed.")
        raise


def _experiment(
    command: tuple[str, ...], here: bool, links: tuple[str, ...], options: dict[str, Any]
) -> tuple[Experiment, str]:
    """Return the experiment of a command line, and its text.

    Raises:
        UsageError: if the command names no script that can be started.
    """
    from lrfind.config.experiment import check, dump
    from lrfind.config.yaml12 import dump as yaml_text

    python, command = _python_of(command)
    module, path, args = _script_of(command)
    if int(os.environ.get("WORLD_SIZE", "1") or 1) > 1:
        raise UsageError("a script in several processes (torchrun) cannot be probed; start it in one.")
    missing = next((link for link in links if not Path(link).exists() or Path(link).is_absolute()), None)
    if missing is not None:
        raise UsageError(f"--link: there is no '{missing}' in this directory.")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("-._")[:80] or "script"
    section = {
        "path": str(path.absolute()),
        "module": module,
        "args": [*args],
        "folder": str(Path.cwd()),
        "python": python,
        "here": here,
        "links": [*map(os.path.normpath, links)],
    }
    text = yaml_text({"name": name, "script": section})
    experiment = check(text, option_overrides(options), f"lrfind script {path.name}")
    return experiment, dump(experiment)


def _script_of(command: tuple[str, ...]) -> tuple[str | None, Path, tuple[str, ...]]:
    """Return the module, the file and the arguments of a command line after the Python.

    Raises:
        UsageError: if it names no script.
    """
    if command[:1] == ("-m",) and len(command) > 1:
        return command[1], _file_of(command[1]), command[2:]
    if not command or command[0].startswith("-"):
        given = f"found {command[0]}" if command else "found none"
        raise UsageError(
            f"name the script, a Python file, as in `lrfind script --steps 3000 -- train.py`; {given}."
        )
    path = Path(command[0])
    if not path.is_file():
        raise UsageError(f"there is no script '{path}'; give the path of a Python file.")
    if path.suffix == ".ipynb":
        raise UsageError(
            f"'{path}' is a notebook, not a script: call lrfind.find in it, or make a script of it with"
            " `jupyter nbconvert --to script`."
        )
    return None, path, command[1:]


def _file_of(module: str) -> Path:
    """Return the file that `python -m MODULE` runs.

    Raises:
        UsageError: if there is none in this directory or on PYTHONPATH.
    """
    place = module.replace(".", "/")
    for root in (".", *os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        for name in (f"{place}.py", f"{place}/__main__.py"):
            if Path(root, name).is_file():
                return Path(root, name)
    raise UsageError(f"there is no module '{module}' in this directory or on PYTHONPATH.")


def _python_of(command: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the Python that a command line begins with, or else our own, and the rest of the line.

    The option -u is left out, because no script is buffered here.
    """
    if not re.fullmatch(r"python[\d.]*", Path(command[0]).name):
        return sys.executable, command
    python = shutil.which(command[0])
    if python is None:
        raise UsageError(f"there is no '{command[0]}'; leave it out to use {sys.executable}.")
    return str(Path(python).absolute()), tuple(dropwhile(lambda part: part == "-u", command[1:]))


def _plan(experiment: Experiment, log: str | None) -> dict[str, Any]:
    """Return the plan of a run, as `views.text.script.script_plan_text` takes it."""
    from lrfind.analysis.planned_training import PlannedTraining
    from lrfind.experiments.script.starts import absolute_args, linked_names

    section, steps = experiment.script, experiment.training.steps
    assert section is not None  # `_experiment` made it
    assert steps is not None  # the option is required
    named = [section.path] if section.module is None else ["-m", section.module]
    return {
        "command": [section.python, *named, *absolute_args(section)],
        "steps": steps,
        "schedule": experiment.training.schedule.name,
        "seed": experiment.seed,
        "most": PlannedTraining("", steps).longest,
        "here": section.here,
        "folder": section.folder,
        "links": linked_names(section),
        "log": log,
        "wait": section.wait,
    }


def _dry_run(experiment: Experiment, as_json: bool) -> int:
    """Print the plan of a run."""
    from lrfind.views.text.script import script_plan_text

    plan = _plan(experiment, None)
    text = f"{script_plan_text(plan)}\nNothing was started."
    return print_plan("script", text, as_json, script=plan)
