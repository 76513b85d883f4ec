"""The options that several commands share, how a config is loaded with them, and how JSON is printed."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.catalog import SINKS
from lrfind.cli.completion import complete_configs, complete_names, complete_runs
from lrfind.cli.help import CODE, OUTPUT, Option, option, options_of
from lrfind.config.document import Override
from lrfind.config.imports import ImportPolicy, import_policy, imports_limited_to
from lrfind.config.registry import folder_of, import_root, set_import_root
from lrfind.config.yaml12 import dump as yaml_text
from lrfind.errors import UsageError, listed
from lrfind.views.terminal import note, show, show_exactly

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment


def _quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    settings = ctx.ensure_object(dict)
    settings["quiet"] = settings.get("quiet", False) or value


def is_quiet() -> bool:
    """Return whether the running command was typed with --quiet, before or after its name."""
    return bool(click.get_current_context().ensure_object(dict).get("quiet"))


def _without_colors(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not os.environ.get("NO_COLOR"):
        os.environ["NO_COLOR"] = "1"
        ctx.call_on_close(lambda: os.environ.pop("NO_COLOR", None))


common_options = options_of(
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        callback=_quiet,
        expose_value=False,
        help="Show no progress, no notes and no lines with `next:`.",
    ),
    click.option(
        "--no-color",
        is_flag=True,
        callback=_without_colors,
        expose_value=False,
        help="Use no colours, as with the environment variable NO_COLOR.",
    ),
)
"""The options of every command. `is_quiet` says whether --quiet was given."""
json_option = option(
    "--json",
    "as_json",
    group=OUTPUT,
    is_flag=True,
    help="Print JSON, for programs. What your own code prints goes to stderr.",
)
out_option = option(
    "--out",
    group=OUTPUT,
    type=click.Path(path_type=Path),
    help="The run directory; it must be new or empty. If omitted: runs/NAME-COMMAND-TIME.",
)
dry_run_option = option(
    "--dry-run", group=OUTPUT, is_flag=True, help="Print the plan and its cost, but train nothing."
)
snippet_option = option(
    "--snippet",
    group=OUTPUT,
    is_flag=True,
    help="Also print the lines of PyTorch for this lr: optimizer and scheduler.",
)
run_argument = click.argument(
    "path", metavar="RUN", type=click.Path(path_type=Path), shell_complete=complete_runs
)


def _as_sinks(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return sinks as a config has them, in YAML; None if none was typed."""
    sinks: list[dict[str, Any]] = []
    for text in values:
        name, _, place = text.partition(":")
        built_in = bool(place) and name in SINKS
        sinks.append({"name": name, "args": {SINKS[name].place: place}} if built_in else {"name": text})
    return yaml_text(sinks, flow=True).strip() if sinks else None


to_option = option(
    "--to",
    group=OUTPUT,
    key="sinks",
    multiple=True,
    metavar="SINK",
    callback=_as_sinks,
    shell_complete=complete_names(SINKS),
    help="Also write the run to a tracker: tensorboard, mlflow or wandb (NAME:WHERE says where), or"
    " pkg.module:attr. Repeatable.",
)


report_option = option("--no-report", group=OUTPUT, is_flag=True, help="Do not write report.html at the end.")

import_options = options_of(
    option(
        "--import-root",
        group=CODE,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        callback=lambda ctx, parameter, value: set_import_root(value),
        expose_value=False,
        help="The folder that holds your own modules, for names like pkg.module:attr.",
    ),
    option(
        "--no-import-paths",
        group=CODE,
        is_flag=True,
        callback=lambda ctx, parameter, value: _limit_imports(ctx, [] if value else None),
        expose_value=False,
        help="Import no name like pkg.module:attr, only what comes with lrfind.",
    ),
    option(
        "--allow-import",
        "patterns",
        group=CODE,
        multiple=True,
        metavar="PATTERN",
        callback=lambda ctx, parameter, value: _limit_imports(ctx, [*value] or None),
        expose_value=False,
        help="Import only names that match, such as 'my_nets.*' or 'my_nets:Small*'. Repeatable.",
    ),
)
"""The options that say which code may be imported, and from where. No config can set them."""


def _limit_imports(ctx: click.Context, patterns: list[str] | None) -> None:
    """Limit imports to names that match a pattern, until the command ends; None limits nothing."""
    if patterns is None:
        return
    if import_policy().patterns is not None:
        raise click.UsageError("give --no-import-paths or --allow-import, not both.")
    ctx.with_resource(imports_limited_to(ImportPolicy(patterns)))


config_options = options_of(
    click.argument(
        "config", required=False, type=click.Path(path_type=Path), shell_complete=complete_configs
    ),
    option(
        "--set",
        "overrides",
        group=CODE,
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a value of the config, such as optimizer.lr=1e-3. Repeatable.",
    ),
    import_options,
)
"""CONFIG, --set and the options of imports, which every command has that reads a config."""


def load(config: Path | None, overrides: Sequence[str | Override]) -> tuple[Experiment, str]:
    """Return the experiment and its text; if no config was given, say on stderr which one is used."""
    from lrfind.config.experiment import anchored, check, read
    from lrfind.config.templates import find_config

    path, why = find_config(config)
    text = read(path)
    experiment = anchored(check(text, overrides, str(path)), path.parent)
    if experiment.script is not None:
        raise UsageError(f"'{path}' is the config of a script, which only `lrfind script` starts.")
    if path != config and not is_quiet():
        note(f"config: {path}, {why}")
    return experiment, text


def refuse_unasked_imports(experiment: Experiment, run: Path, root: str | None) -> None:
    """Refuse to import code of a user that only a run directory names, unless --import-root was given.

    A run directory may come from somebody else, and an import path in it can name any function of any
    package. So the consent is never read from the directory: the command says it.

    Args:
        experiment: the experiment of the run.
        run: the run directory.
        root: the folder that the run was started with, as it says.

    Raises:
        UsageError: if there is no consent; the message names what would be imported, and the whole command.
    """
    from lrfind.config.experiment import own_names

    names = own_names(experiment)
    if not names or import_root() is not None:
        return
    where = f"the run says that {root} is the folder of this code" if root else "name the folder of this code"
    folder = root or str(folder_of(names[0]) or "DIR")
    typed: list[str] = click.get_current_context().obj["typed"]
    line = shlex.join(["lrfind", *typed, "--import-root", folder])
    raise UsageError(
        f"the run '{run}' imports and runs code that is not part of lrfind: {listed(names)}. If you trust it,"
        f" run `{line}` ({where})."
    )


def option_overrides(options: Mapping[str, Any], **spelled: str) -> list[Override]:
    """Return the options of the running command that stand for a value of the config, as overrides.

    Args:
        options: the options as typed; None or False for one that was left out.
        spelled: how users type an option that has another name than its argument.
    """
    command = click.get_current_context().command
    keys = {
        parameter.name: key
        for parameter in command.params
        if isinstance(parameter, Option) and (key := parameter.key_for(command.name)) is not None
    }
    return [
        Override.option(
            spelled.get(name, f"--{name.replace('_', '-')}"), keys[name], "true" if value is True else value
        )
        for name, value in options.items()
        if name in keys and value is not None and value is not False
    ]


def refuse_rivals(options: Mapping[str, Any], *rivals: tuple[str, str]) -> None:
    """Refuse two options that exclude each other.

    Args:
        options: the options as typed; None for one that was left out.
        rivals: pairs of options by name, such as ("steps", "epochs").

    Raises:
        UsageError: if both options of a pair were given.
    """
    for one, other in rivals:
        if options[one] is not None and options[other] is not None:
            raise UsageError(f"give --{one.replace('_', '-')} or --{other.replace('_', '-')}, not both.")


def as_list(ctx: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Return a list that was typed with or without brackets, as YAML; None if it was left out."""
    inner = "" if text is None else text.strip()
    return None if text is None else inner if inner.startswith("[") else f"[{inner}]"


def print_json(value: Any) -> None:
    """Print JSON on stdout; the value must not contain NaN."""
    show_exactly(json.dumps(value, indent=2, allow_nan=False))


def print_plan(command: str, text: str, as_json: bool, **keys: Any) -> int:
    """Print what a command would do, for --dry-run, and return the exit code.

    Args:
        command: the command.
        text: its plan in words.
        as_json: print JSON instead, with the same first four keys for every command.
        keys: `plan`, a row for each lane that is known beforehand; `cost`; `modes`; and keys that only this
            command has, which are called as in its summary.
    """
    if as_json:
        print_json({"command": command, "plan": [], "cost": None, "modes": [], **keys})
    else:
        show(text)
    return 0
