"""Commands for configs: check, schema, init, ls."""

from __future__ import annotations

from pathlib import Path

import click

from lrfind.catalog import CSV_CONFIG
from lrfind.cli.completion import complete_templates
from lrfind.cli.help import SETTINGS, Command, option
from lrfind.cli.hints import own_folder, show_next, typed_config, typed_path
from lrfind.cli.listing import LISTS, listing
from lrfind.cli.options import common_options, config_options, is_quiet, json_option, load, print_json
from lrfind.config.registry import import_root
from lrfind.config.registry import load as load_name
from lrfind.errors import UsageError
from lrfind.views.terminal import show, show_line


@click.command(
    cls=Command,
    examples=(
        ("lrfind check my.yaml", "in under half a second"),
        ("lrfind check my.yaml --batch", "with one batch and one step"),
        ("lrfind check my.yaml --set optimizer.lr=1e-3", "with a change"),
    ),
)
@option(
    "--imports",
    group=SETTINGS,
    is_flag=True,
    help="Also import all objects that the config names (this runs your code), and check their arguments.",
)
@option(
    "--batch",
    group=SETTINGS,
    is_flag=True,
    help="Also take one batch through model, loss and gradient, and one step. This implies --imports.",
)
@config_options
@common_options
def check(
    config: Path | None,
    overrides: tuple[str, ...],
    imports: bool,
    batch: bool,
) -> int:
    """Check a config without training, and list every mistake.

    Each mistake has its line and column. With --batch, also check that data, model, loss, optimizer and
    schedule fit together, and report the first misfit with what to do.
    """
    experiment, _ = load(config, overrides)
    root = import_root() or own_folder(experiment, config)
    if batch:
        from lrfind.experiments.check import check_batch
        from lrfind.training.eager import eager_optimizers

        with eager_optimizers():
            for line in check_batch(experiment):
                show_line(line)
        _show_next(["find"], config, overrides, root)
        return 0
    if imports:
        from lrfind.problem.components import import_names

        import_names(experiment)
    test = experiment.range_test
    show_line(
        f"ok: {experiment.name}: {experiment.model.name} on {experiment.data.name},"
        f" {experiment.optimizer.name}; range test of {test.seeds} x {test.steps} steps,"
        f" lr {test.start_lr:g} to {test.end_lr:g}"
    )
    _show_next(["check", "--batch"], config, overrides, root)
    return 0


def _show_next(command: list[str], config: Path | None, overrides: tuple[str, ...], root: str | None) -> None:
    """Print the command that comes after this one, with the same config."""
    if not is_quiet():
        name, *options = command
        show_next([[name, *typed_config(config, overrides), *options]], root)


@click.command(
    cls=Command, examples=(("lrfind schema > lrfind.schema.json", "for the YAML extension of an editor"),)
)
@common_options
def schema() -> int:
    """Print the JSON Schema of a config, for editors.

    An editor that knows the schema completes the keys of a config and marks mistakes.
    """
    from lrfind.config.experiment import Experiment

    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Experiment.model_json_schema())
    return 0


@click.command(
    cls=Command,
    examples=(
        ("lrfind init", "lrfind.yaml, a small CNN"),
        ("lrfind init --csv houses.csv --target price", "your own table"),
        ("lrfind init --template csv_regression my.yaml", "an example with a table"),
    ),
)
@option(
    "--template",
    group=SETTINGS,
    metavar="NAME",
    shell_complete=complete_templates,
    help="The template; see `lrfind ls templates`. If omitted, a small CNN on MNIST.",
)
@option(
    "--csv",
    "table",
    group=SETTINGS,
    metavar="TABLE",
    help="Write a config for your own CSV file instead; its columns are inspected. Give --target too.",
)
@option("--target", group=SETTINGS, metavar="COLUMN", help="The column of the CSV file to predict.")
@click.argument("file", default=None, required=False, type=click.Path(path_type=Path))
@common_options
def init(template: str | None, table: str | None, target: str | None, file: Path | None) -> int:
    """Write a commented config to start from.

    It is written as FILE, or else as lrfind.yaml, which all commands take when no CONFIG is given.
    """
    from lrfind.config.templates import DEFAULT_FILE, DEFAULT_TEMPLATE, write_new, write_template

    path = file or Path(DEFAULT_FILE)
    if table is None and target is None:
        written = write_template(template or DEFAULT_TEMPLATE, path)
    elif table is None or target is None or template is not None:
        raise UsageError("give --csv TABLE and --target COLUMN together, without --template.")
    else:
        text = load_name(CSV_CONFIG)(table, target)
        write_new({path: text.encode()})
        written = [path]
        for line in text.splitlines():
            if line.startswith("# "):
                show_line(line.removeprefix("# "))
    show(f"wrote {', '.join(map(str, written))}")
    if not is_quiet():
        arguments = [] if path == Path(DEFAULT_FILE) else [typed_path(path)]
        show_next([["check", *arguments, "--batch"], ["find", *arguments]])
    return 0


@click.command(
    "ls",
    cls=Command,
    examples=(
        ("lrfind ls", "what can be listed"),
        ("lrfind ls schedules", "the schedules, a line each"),
        ("lrfind ls models --json", "for programs"),
    ),
)
@click.argument("what", metavar="[WHAT]", required=False, type=click.Choice([*LISTS]))
@json_option
@common_options
def ls(what: str | None, as_json: bool) -> int:
    """List the names that a config or an option can use.

    Without WHAT, it says what can be listed.
    """
    rows = LISTS if what is None else listing(what)
    if as_json:
        print_json(rows)
    else:
        width = max(map(len, rows))
        for name, summary in rows.items():
            show_line(f"{name:{width}}  {summary}", rest=" " * (width + 2))
    return 0
