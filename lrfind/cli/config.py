"""Commands for configs: check, schema, init, ls."""

from __future__ import annotations

from pathlib import Path

import click

from lrfind.catalog import CSV_CONFIG
from lrfind.cli.hints import show_next, typed_config
from lrfind.cli.listing import LISTS, listing
from lrfind.cli.options import config_options, json_option, load, print_json, quiet_option
from lrfind.config.registry import import_root
from lrfind.config.registry import load as load_name
from lrfind.errors import UsageError
from lrfind.views.terminal import show


@click.command()
@config_options
@click.option(
    "--imports",
    is_flag=True,
    help="Also import all objects that the config names (this runs your code), and check their arguments.",
)
@click.option(
    "--batch",
    is_flag=True,
    help="Also take one batch through model, loss and gradient, and one step. This implies --imports.",
)
@quiet_option
def check(
    config: Path | None,
    overrides: tuple[str, ...],
    imports: bool,
    batch: bool,
    quiet: bool,
) -> int:
    """Check a config without training: list every mistake at once, with line and column.

    With --batch, also check that data, model, loss, optimizer and schedule fit together, and report the first
    misfit with what to do.
    """
    experiment, _ = load(config, overrides, quiet)
    if batch:
        from lrfind.experiments.check import check_batch

        for line in check_batch(experiment):
            show(line)
        _show_find(config, overrides, quiet)
        return 0
    if imports:
        from lrfind.problem.components import import_names

        import_names(experiment)
    test = experiment.range_test
    show(
        f"ok: {experiment.name}: {experiment.model.name} on {experiment.data.name},"
        f" {experiment.optimizer.name}; range test of {test.seeds} x {test.steps} steps,"
        f" lr {test.start_lr:g} to {test.end_lr:g}"
    )
    _show_find(config, overrides, quiet)
    return 0


def _show_find(config: Path | None, overrides: tuple[str, ...], quiet: bool) -> None:
    """Print the command that finds the rate of a config that was checked."""
    if not quiet:
        show_next([["find", *typed_config(config, overrides)]], import_root())


@click.command()
@quiet_option
def schema(quiet: bool) -> int:
    """Print the JSON Schema of a config, for editors."""
    from lrfind.config.experiment import Experiment

    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Experiment.model_json_schema())
    return 0


@click.command()
@click.option("--template", default=None, metavar="NAME", help="The template; see `lrfind ls templates`.")
@click.option(
    "--csv",
    "table",
    metavar="TABLE",
    help="Write a config for your own CSV file instead; its columns are inspected. Give --target too.",
)
@click.option("--target", metavar="COLUMN", help="The column of the CSV file to predict.")
@click.argument("file", default=None, required=False, type=click.Path(path_type=Path))
@quiet_option
def init(template: str | None, table: str | None, target: str | None, file: Path | None, quiet: bool) -> int:
    """Write a commented config to start from (lrfind.yaml unless FILE is given)."""
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
                show(line.removeprefix("# "))
    show(f"wrote {', '.join(map(str, written))}")
    if not quiet:
        arguments = [] if path == Path(DEFAULT_FILE) else [str(path)]
        show_next([["check", *arguments, "--batch"], ["find", *arguments]])
    return 0


@click.command("ls")
@click.argument("what", type=click.Choice(LISTS))
@json_option
@quiet_option
def ls(what: str, as_json: bool, quiet: bool) -> int:
    """List the names that a config or an option can use."""
    rows = listing(what)
    if as_json:
        print_json(rows)
    else:
        width = max(map(len, rows))
        for name, summary in rows.items():
            show(f"{name:{width}}  {summary}")
    return 0
