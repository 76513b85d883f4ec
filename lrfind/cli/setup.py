"""Commands for the set-up: doctor, completion."""

from __future__ import annotations

import os
import sys

import click
from click.shell_completion import get_completion_class

from lrfind.cli.help import Command
from lrfind.cli.options import common_options, is_quiet, json_option, print_json
from lrfind.errors import counted
from lrfind.views.terminal import columns, note, show, show_exactly, stdout

INSTALL = {
    "bash": "echo 'eval \"$(lrfind completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(lrfind completion zsh)\"' >> ~/.zshrc",
    "fish": "lrfind completion fish > ~/.config/fish/completions/lrfind.fish",
}
"""For each shell, the line that installs its completion for good."""


@click.command(
    cls=Command,
    examples=(
        ("lrfind doctor", "for people"),
        ("lrfind doctor --json", "for a report of a bug"),
        ("lrfind doctor --forget", "time stacked and single lanes anew"),
    ),
)
@click.option("--forget", is_flag=True, help="Delete the timings of modes that sweeps have remembered.")
@json_option
@common_options
def doctor(forget: bool, as_json: bool) -> int:
    """Say what is installed, what works here, and what is missing.

    It looks at packages, devices, data, the place of runs, the config that would be used, and the terminal.
    The exit code is 1 if something that lrfind needs is broken.
    """
    from lrfind.experiments.doctor import examine
    from lrfind.training.remembered import forget_timings

    if forget:
        count = forget_timings()
        if not is_quiet():
            note(f"{counted(count, 'remembered timing')} deleted")
    report = examine() | {"terminal": _terminal()}
    if as_json:
        print_json(report)
    else:
        from lrfind.views.text.doctor import doctor_text

        show(doctor_text(report))
    return 1 if report["problems"] else 0


def _terminal() -> dict[str, object]:
    """Return what lrfind takes the terminal for."""
    from rich.console import Console

    console = Console(stderr=True)
    colours = console.color_system or "none, because stderr is no terminal"
    if os.environ.get("NO_COLOR"):
        colours = "none, because of NO_COLOR or --no-color"
    return {
        "width": columns(stdout()),
        "encoding": getattr(stdout(), "encoding", None) or "unknown",
        "colours": colours,
    }


@click.command(
    cls=Command,
    examples=(
        ('eval "$(lrfind completion bash)"', "in this shell only"),
        *((line, "") for line in INSTALL.values()),
    ),
)
@click.argument("shell", type=click.Choice([*INSTALL]))
@common_options
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the script with which a shell completes lrfind's names.

    The Tab key then completes commands, options, names such as those of schedules and templates, and runs.
    The last three examples install it for good, in bash, zsh and fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # the choices are click's shells
    show_exactly(kind(context.find_root().command, {}, "lrfind", "_LRFIND_COMPLETE").source())
    if not is_quiet() and sys.stdout.isatty():
        note(f"To install it: {INSTALL[shell]}")
    return 0
