"""Command-line options that several of the scripts share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from tasks import SPLITS
from truth import TRUTH

Command = Callable[..., Any]


def task_options(command: Command) -> Command:
    """Add the options that choose tasks and their truth: `splits`, `only` and `truth`."""
    split = click.option(
        "--split",
        "splits",
        type=click.Choice(SPLITS),
        multiple=True,
        default=["judging"],
        help="The part of the tasks; may be repeated.",
    )
    only = click.option("--only", multiple=True, help="Only this task; may be repeated.")
    truth = click.option(
        "--truth", type=click.Path(path_type=Path), default=TRUTH, help="The table that truth.py made."
    )
    return split(only(truth(command)))


def workers_option(command: Command) -> Command:
    """Add the option `workers`."""
    return click.option("--workers", default=2, help="The number of processes, each with one thread.")(
        command
    )


def at_most_option(command: Command) -> Command:
    """Add the option `at_most`."""
    return click.option("--at-most", type=int, help="Only trainings of so many steps or fewer.")(command)
