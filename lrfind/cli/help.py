"""The help of commands: worked examples first, then the options in groups, each with its default."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, get_args

import click

from lrfind.catalog import KINDS
from lrfind.views.terminal import only_answers_on_stdout

PLAN, SEARCH, SEEDS, SETTINGS, PLACE, OUTPUT, CODE, GENERAL = GROUPS = (
    "Training plan",
    "Search",
    "Seeds",
    "Settings",
    "Where it runs",
    "Output",
    "Config and own code",
    "General",
)
"""The groups of options, in the order of the help. An option without a group is in the last one."""

WIDEST = 28
"""The most characters of the first column; a longer option has its text on the next line."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Option(click.Option):
    """An option of a group, which may stand for a value of the config.

    Attributes:
        group: one of `GROUPS`.
        key: the key of the config, such as "training.steps"; ".seeds" is a key in the command's own section.
            None for an option that stands for no value of the config.
    """

    def __init__(
        self, param_decls: Sequence[str], *, group: str = GENERAL, key: str | None = None, **attrs: Any
    ) -> None:
        super().__init__(param_decls, **attrs)
        self.group, self.key = group, key

    def key_for(self, command: str | None) -> str | None:
        """Return the whole key of the config, for a command by its name."""
        if self.key is None or not self.key.startswith("."):
            return self.key
        return f"{KINDS[command or ''].section}{self.key}"

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option and its text, with the default that holds where the config has no value."""
        record, key = super().get_help_record(ctx), self.key_for(ctx.command.name)
        default = "" if record is None or key is None or self.is_flag else _default_of(key)
        return (record[0], f"{record[1]}  [default: {default}]") if record and default else record

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value in its type; refuse an empty path, which would stand for this directory."""
        if isinstance(self.type, click.Path) and (value == "" or (self.multiple and value and "" in value)):
            raise click.BadParameter("there is no path; give one, or leave this option out.", ctx, self)
        return super().process_value(ctx, value)


def option(*declarations: str, group: str, key: str | None = None, **attributes: Any) -> Decorator:
    """Add an option to a command; see `Option` and `click.option`."""
    return click.option(*declarations, cls=Option, group=group, key=key, **attributes)


def options_of(*decorators: Decorator) -> Decorator:
    """Return one decorator for several options, which keeps their order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def _default_of(key: str) -> str:
    """Return the default of a key of the config, as it is typed after an option; "" if there is none."""
    from lrfind.config.experiment import Experiment

    *sections, name = key.split(".")
    fields = Experiment.model_fields
    for section in sections:
        kind = fields[section].annotation
        fields = next(part for part in (kind, *get_args(kind)) if hasattr(part, "model_fields")).model_fields
    value = fields[name].default
    parts = [getattr(part, "name", part) for part in (value if isinstance(value, tuple) else (value,))]
    return ",".join(
        f"{part:g}" if isinstance(part, float) else str(part) for part in parts if part is not None
    )


class Command(click.Command):
    """A command whose help has worked examples and groups of options.

    With --json, only its answer is on stdout.

    Args:
        examples: command lines, each with a few words.
    """

    def __init__(self, *args: Any, examples: Sequence[tuple[str, str]] = (), **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; where numbers are left over, say how a list of them is typed."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if not re.search(r"extra arguments? \([\d.]", error.message):
                raise
            way = "Separate several rates with commas, as in `--lrs 1e-3,1e-2`."
            raise click.UsageError(f"{error.message}. {way}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, with a stdout that only its answer reaches if that is JSON."""
        with only_answers_on_stdout() if ctx.params.get("as_json") else nullcontext():
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, and the options in their groups."""
        write_examples(self.examples, formatter)
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                rows.setdefault(getattr(parameter, "group", GENERAL), []).append(record)
        if {"config", "seed"} <= {parameter.name for parameter in self.params}:
            formatter.write_paragraph()
            formatter.write_text(
                "An option that is left out keeps the value of CONFIG. [default: ...] holds where CONFIG has"
                " no value."
            )
        longest = max((len(first) for group in rows.values() for first, _ in group), default=0)
        width = min(longest, WIDEST)
        for name in GROUPS:
            if name in rows:
                with formatter.section(name):
                    formatter.write_dl([(f"{first:{width}}", text) for first, text in rows[name]], WIDEST)


def write_examples(examples: Sequence[tuple[str, str]], formatter: click.HelpFormatter) -> None:
    """Write command lines, each with its meaning, in two columns."""
    if not examples:
        return
    with formatter.section("Examples"):
        formatter.write_dl([*examples], col_max=60)
