"""The options that several commands share, and how a config is loaded with them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.catalog import SINKS
from lrfind.config.document import Override
from lrfind.config.imports import ImportPolicy, import_policy, imports_limited_to
from lrfind.config.registry import folder_of, import_root, set_import_root
from lrfind.config.yaml12 import dump as yaml_text
from lrfind.errors import UsageError, listed
from lrfind.views.terminal import note, show_exactly

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment
    from lrfind.training.assembly import TeamRequest

MOST_WORKERS = 1000


def _quiet(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.ensure_object(dict)
    ctx.obj["quiet"] = ctx.obj.get("quiet", False) or value
    return bool(ctx.obj["quiet"])


quiet_option = click.option(
    "-q", "--quiet", is_flag=True, callback=_quiet, help="Show no progress and no notes on stderr."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
report_option = click.option("--no-report", is_flag=True, help="Do not write report.html at the end.")
out_option = click.option(
    "--out", type=click.Path(path_type=Path), help="The run directory; it must be new or empty."
)


def _as_sinks(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> str | None:
    """Return sinks as a config has them, in YAML; None if none was typed."""
    sinks: list[dict[str, Any]] = []
    for text in values:
        name, _, place = text.partition(":")
        built_in = bool(place) and name in SINKS
        sinks.append({"name": name, "args": {SINKS[name].place: place}} if built_in else {"name": text})
    return yaml_text(sinks, flow=True).strip() if sinks else None


to_option = click.option(
    "--to",
    multiple=True,
    metavar="SINK",
    callback=_as_sinks,
    help="Also write the run to a tracker: tensorboard, mlflow or wandb (NAME:WHERE says where), or"
    " pkg.module:attr. Repeatable.",
)


def import_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which code may be imported, and from where. No config can set them."""
    for decorate in (
        click.option(
            "--allow-import",
            "patterns",
            multiple=True,
            metavar="PATTERN",
            callback=lambda ctx, parameter, value: _limit_imports(ctx, [*value] or None),
            expose_value=False,
            help="Import only names that match, such as 'my_nets.*' or 'my_nets:Small*'. Repeatable.",
        ),
        click.option(
            "--no-import-paths",
            is_flag=True,
            callback=lambda ctx, parameter, value: _limit_imports(ctx, [] if value else None),
            expose_value=False,
            help="Import no name like pkg.module:attr, only what comes with lrfind.",
        ),
        click.option(
            "--import-root",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            callback=lambda ctx, parameter, value: set_import_root(value),
            expose_value=False,
            help="The folder that holds your own modules, for names like pkg.module:attr.",
        ),
    ):
        command = decorate(command)
    return command


def _limit_imports(ctx: click.Context, patterns: list[str] | None) -> None:
    """Limit imports to names that match a pattern, until the command ends; None limits nothing."""
    if patterns is None:
        return
    if import_policy().patterns is not None:
        raise click.UsageError("give --no-import-paths or --allow-import, not both.")
    ctx.with_resource(imports_limited_to(ImportPolicy(patterns)))


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add CONFIG, --set and the options of imports, which every command that reads a config has."""
    for decorate in (
        import_options,
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Override a value of the config, e.g. optimizer.lr=1e-3. Repeatable.",
        ),
        click.argument("config", required=False, type=click.Path(path_type=Path)),
    ):
        command = decorate(command)
    return command


def team_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --workers and --cluster, which every command has that can train in several processes."""
    for decorate in (
        click.option(
            "--cluster",
            metavar="ADDRESS|FILE",
            help="Train on the workers of a running Dask scheduler: tcp://HOST:PORT, or its scheduler file.",
        ),
        click.option(
            "--workers",
            metavar="N|auto",
            help="Train in N processes of this machine, with one thread each; auto takes one for each GPU or"
            " core.",
        ),
    ):
        command = decorate(command)
    return command


def requested_team(workers: str | None, cluster: str | None) -> TeamRequest | None:
    """Return the workers that the options ask for; None to train in this process.

    Raises:
        UsageError: if both options were given, or the number of workers is not one.
    """
    if workers is None and cluster is None:
        return None
    if workers is not None and cluster is not None:
        raise UsageError("give --workers or --cluster, not both.")
    if workers not in (None, "auto") and not (workers.isdecimal() and 1 <= int(workers) <= MOST_WORKERS):
        raise UsageError(f"--workers: '{workers}' is not auto, nor a number from 1 to {MOST_WORKERS:,}.")
    from lrfind.training.assembly import TeamRequest

    root = import_root()
    count = None if workers is None else 0 if workers == "auto" else int(workers)
    return TeamRequest(count, cluster, () if root is None else (root,))


def load(config: Path | None, overrides: Sequence[str | Override], quiet: bool) -> tuple[Experiment, str]:
    """Return the experiment and its text; if no config was given, say on stderr which one is used."""
    from lrfind.config.experiment import anchored, check, read
    from lrfind.config.templates import find_config

    path, why = find_config(config)
    text = read(path)
    experiment = anchored(check(text, overrides, str(path)), path.parent)
    if experiment.script is not None:
        raise UsageError(f"'{path}' is the config of a script, which only `lrfind script` starts.")
    if not quiet and config is None:
        note(f"config: {path}, {why}")
    return experiment, text


def refuse_unasked_imports(
    experiment: Experiment, run: Path, root: str | None, command: Sequence[str]
) -> None:
    """Refuse to import code of a user that only a run directory names, unless --import-root was given.

    A run directory may come from somebody else, and an import path in it can name any function of any
    package. So the consent is never read from the directory: the command says it.

    Args:
        experiment: the experiment of the run.
        run: the run directory.
        root: the folder that the run was started with, as it says.
        command: the command without --import-root.

    Raises:
        UsageError: if there is no consent; the message names what would be imported, and the whole command.
    """
    from lrfind.config.experiment import own_names

    names = own_names(experiment)
    if not names or import_root() is not None:
        return
    where = f"the run says that {root} is the folder of this code" if root else "name the folder of this code"
    folder = root or str(folder_of(names[0]) or "DIR")
    line = shlex.join(["lrfind", *command, "--import-root", folder])
    raise UsageError(
        f"the run '{run}' imports and runs code that is not part of lrfind: {listed(names)}. If you trust it,"
        f" run `{line}` ({where})."
    )


def option_overrides(options: Mapping[str, Any], keys: Mapping[str, str]) -> list[Override]:
    """Return the options that stand for a value of the config, as overrides.

    Args:
        options: the options as typed; None or False for one that was left out.
        keys: option -> key of the config.
    """
    return [
        Override.option(f"--{name.replace('_', '-')}", keys[name], "true" if value is True else value)
        for name, value in options.items()
        if value is not None and value is not False
    ]


def as_list(text: str) -> str:
    """Return a list that was typed with or without brackets, as YAML."""
    inner = text.strip()
    return inner if inner.startswith("[") else f"[{inner}]"


def print_json(value: Any) -> None:
    """Print JSON on stdout; the value must not contain NaN."""
    show_exactly(json.dumps(value, indent=2, allow_nan=False))
