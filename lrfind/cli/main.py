"""The command line: its commands, and how it reports errors. Slow imports wait until they are needed."""

from __future__ import annotations

import difflib
import errno
import gc
import io
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

import lrfind
from lrfind.catalog import COMMAND_GROUPS, COMMANDS
from lrfind.cli.help import write_examples
from lrfind.cli.options import common_options
from lrfind.config.document import ConfigError
from lrfind.config.registry import load
from lrfind.errors import LrfindError, Stopped, UsageError, in_one_line
from lrfind.training.interrupts import handled
from lrfind.views.terminal import announce, leave_stdout, note

INTERRUPTED, UNREAD = 130, 141  # as shells say it of programs that SIGINT and SIGPIPE end

FIRST_STEPS = (
    ("lrfind find", "the rate of a small CNN on MNIST"),
    ("lrfind init", "a config to make your own"),
    ("lrfind script --steps 3000 -- train.py", "the rate of a script, as it is"),
    ("lrfind find --help", "the options of a command"),
)


class _Group(click.Group):
    """The commands of the catalog, each imported when it is used. For a wrong name, a near one is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the catalog."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = load(COMMANDS[cmd_name])
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the first steps, the commands in their groups, and the options."""
        write_examples(FIRST_STEPS, formatter)
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their groups, with the first sentence of each one's help."""
        summaries = {
            name: command.get_short_help_str(limit=1000)
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        }
        width = max(map(len, summaries))
        grouped = {name for names in COMMAND_GROUPS.values() for name in names}
        rest = tuple(name for name in summaries if name not in grouped)
        for title, names in (COMMAND_GROUPS | {"More": rest}).items():
            rows = [(f"{name:{width}}", summaries[name]) for name in names if name in summaries]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options before the command; one of them prints the help."""
        with _quiet_if_unread():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was typed."""
        with _quiet_if_unread():
            return super().invoke(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed, or say which was probably meant."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" The commands are: {', '.join(COMMANDS)}."
            ctx.fail(f"there is no command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)


@contextmanager
def _quiet_if_unread() -> Iterator[None]:
    """End quietly if nobody reads the output any more."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes stdout once more when it ends
        raise click.exceptions.Exit(UNREAD) from None


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(lrfind.__version__, prog_name="lrfind")
@common_options
def cli() -> None:
    """Which learning rate should I use?

    CONFIG is a YAML experiment, or the name of a template. Without it, lrfind takes lrfind.yaml in this
    directory, or else the packaged MNIST experiment. RUN is the directory of a run, such as runs/NAME.

    Exit codes: 0 done, 1 failed run or bug, 2 usage or config, 3 no usable lr, 4 stopped from outside,
    130 Ctrl-C, 141 nobody reads stdout any more.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. Every foreseen error becomes one message on stderr."""
    try:
        with handled(announce):
            typed = sys.argv[1:] if arguments is None else [*arguments]
            code = cli.main(args=typed, prog_name="lrfind", standalone_mode=False, obj={"typed": typed})
            return int(code or 0)
    except ConfigError as error:
        note(str(error))
        return error.exit_code
    except LrfindError as error:
        note(f"error: {error}")
        return error.exit_code
    except Stopped as stopped:
        note(f"stopped: {stopped}")
        return Stopped.exit_code
    except (click.Abort, KeyboardInterrupt):
        note("interrupted")
        return INTERRUPTED
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        message = re.sub(r"^Error: ", "error: ", text.getvalue(), count=1, flags=re.MULTILINE)
        note(message.rstrip("\n"))
        return error.exit_code
    except BaseException as error:
        return _exit_code_of(error)


def _exit_code_of(error: BaseException) -> int:
    """Say what any other exception means, and return the exit code; a fault of lrfind itself is raised."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        note(f"error: lrfind may not use '{error.filename}': {error.strerror}.")
        return UsageError.exit_code
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        file = error.filename or "while writing"
        note(f"error: the disk is full ({file}); free some space, then run again.")
        return Stopped.exit_code
    if isinstance(error, OSError) and error.errno == errno.EBADF:
        note("error: the answer cannot be printed, because stdout was closed; `lrfind status RUN` shows it.")
        return LrfindError.exit_code
    fault = _fault_of_users_code(error)
    if fault is None:
        raise error
    note(f"error: {fault}")
    return LrfindError.exit_code


def _fault_of_users_code(error: BaseException) -> str | None:
    """Return what to say of an exception that comes from the user's code; None if it is a fault of lrfind."""
    if "torch" not in sys.modules:
        return None  # then no code of the user's has run
    from lrfind.training.explanations.failures import own_line

    line = own_line(error)
    return f"your code failed: {in_one_line(error, 500)}\n  {line}" if line else None


def main() -> NoReturn:
    """Run the `lrfind` command. An error that is not foreseen is a bug, whose traceback is printed."""
    _replace_closed_streams()
    try:
        code = run()
    except Exception:
        note(f"{traceback.format_exc()}\nThis is a bug of lrfind or of your code.")
        code = 1
    leave_stdout()
    gc.freeze()  # Python's last collections would look at all that torch is made of, which takes 0.3 s
    sys.exit(code)


def _replace_closed_streams() -> None:
    """Open the standard streams that were closed (`2>&-`), so that no file of a run gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # libraries and users' code may write to it
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open as long as the process
