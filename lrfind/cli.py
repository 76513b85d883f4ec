"""The command line: parse, call one function, print. Nothing slow is imported until a command needs it."""

from __future__ import annotations

import difflib
import errno
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import lrfind
from lrfind.document import ConfigError, Override
from lrfind.errors import LrfindError, Stopped, UsageError
from lrfind.listing import LISTS, listing

if TYPE_CHECKING:
    from lrfind.config import Experiment

INTERRUPTED = 130
STOPPED = 4


class _Group(click.Group):
    """A group that says which command was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            near = difflib.get_close_matches(args[0], self.commands, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" Commands: {', '.join(self.commands)}."
            ctx.fail(f"there is no command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)


def _quiet(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.ensure_object(dict)
    ctx.obj["quiet"] = ctx.obj.get("quiet", False) or value
    return bool(ctx.obj["quiet"])


quiet_option = click.option(
    "-q", "--quiet", is_flag=True, callback=_quiet, help="No progress and no notes on stderr."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
import_root_option = click.option(
    "--import-root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that holds your own modules, for names like pkg.module:attr.",
)


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """CONFIG, --set and --import-root, which every command over a config has."""
    for decorate in (
        import_root_option,
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


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(lrfind.__version__, prog_name="lrfind")
@quiet_option
def cli(quiet: bool) -> None:
    """Which learning rate should I use?

    CONFIG is a YAML experiment. Without it: lrfind.yaml in this directory, else the packaged MNIST
    experiment. Start with `lrfind range-test`, or write your own config with `lrfind init`.

    Exit codes: 0 done, 1 failed run or bug, 2 usage or config, 3 no usable lr, 4 stopped from outside,
    130 Ctrl-C.
    """


@cli.command("range-test")
@config_options
@click.option("--out", type=click.Path(path_type=Path), help="The run directory; must be new or empty.")
@click.option("--start-lr", metavar="LR", help="lr of the first step.")
@click.option("--end-lr", metavar="LR", help="lr of the last step.")
@click.option("--steps", metavar="N", help="Steps of the ramp.")
@click.option("--seeds", metavar="N", help="Lanes: own weights and batch order each.")
@click.option("--seed", metavar="N", help="Seed of the first lane.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")
@click.option("--method", metavar="NAME", help="How to suggest; see `lrfind ls methods`.")
@click.option("--edge", is_flag=True, help="Also find the real edge of stability, by bisection.")
@click.option("--grad-norm", is_flag=True, help="Also record the norm of the gradient.")
@click.option("--probe", is_flag=True, help="Also record the loss on a fixed held-out batch.")
@json_option
@quiet_option
def range_test_command(
    config: Path | None,
    overrides: tuple[str, ...],
    import_root: Path | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Ramp the learning rate and watch the loss: a curve, a number, a CSV and a plot."""
    given = [*map(Override.of, overrides), *_option_overrides(options)]
    experiment, text = _load(config, given, import_root, quiet)
    from lrfind.store import Run, default_path

    typed = [override.text for override in given]
    path = out or default_path(experiment.name, "range-test")
    run = Run.start(path, "range-test", experiment, text, typed)
    from lrfind.experiments import run_range_test
    from lrfind.plots import plot_range_test
    from lrfind.progress import progress

    section = experiment.range_test
    try:
        with progress(section.seeds, section.steps, quiet=quiet) as watch:
            summary = run_range_test(experiment, run, watch=watch)
    except (KeyboardInterrupt, Stopped):
        kept = f"what was measured is kept in {path}; `lrfind suggest {path}` reads it."
        _note(kept if path.exists() else "nothing had been measured yet.")
        raise
    plot = plot_range_test(run)
    if as_json:
        _print_json(summary)
    else:
        from lrfind.report import range_test_text

        click.echo(f"{range_test_text(summary)}\n  plot: {plot}\n  data: {path}")
    return 0 if summary["suggestion"]["lr"] is not None else 3


@cli.command()
@click.argument("source", metavar="FILE_OR_RUN", type=click.Path(path_type=Path))
@click.option("--method", default="all", metavar="NAME", help="One method's answer alone; default: all.")
@json_option
@quiet_option
def suggest(source: Path, method: str, as_json: bool, quiet: bool) -> int:
    """Recompute every suggestion from a run directory, or from a CSV with columns lr,loss."""
    from lrfind.curve_files import read_curves
    from lrfind.suggestions import method_named
    from lrfind.summaries import brief, suggestion_table

    curves, raw, default = read_curves(source)
    chosen = default if method == "all" else method_named(method).name
    methods = suggestion_table(curves, raw=raw)
    answer = methods[chosen]
    if as_json:
        _print_json({"source": str(source), "suggestion": answer, "methods": brief(methods)})
    else:
        from lrfind.report import headline, methods_text

        click.echo(headline(answer) + (f"\n\n{methods_text(methods)}" if method == "all" else ""))
    return 0 if answer["lr"] is not None else 3


@cli.command()
@config_options
@click.option("--imports", is_flag=True, help="Also import what is named (this runs your code).")
@quiet_option
def check(
    config: Path | None,
    overrides: tuple[str, ...],
    import_root: Path | None,
    imports: bool,
    quiet: bool,
) -> int:
    """Check a config without running anything: every mistake at once, with line and column."""
    experiment, _ = _load(config, overrides, import_root, quiet)
    if imports:
        from lrfind.problem import import_names

        import_names(experiment)
    test = experiment.range_test
    click.echo(
        f"ok: {experiment.name}: {experiment.model.name} on {experiment.data.name},"
        f" {experiment.optimizer.name}; range test of {test.seeds} x {test.steps} steps,"
        f" lr {test.start_lr:g} to {test.end_lr:g}"
    )
    return 0


@cli.command()
@quiet_option
def schema(quiet: bool) -> int:
    """Print the JSON Schema of a config, for editors."""
    from lrfind.config import Experiment

    _print_json({"$schema": "https://json-schema.org/draft/2020-12/schema"} | Experiment.model_json_schema())
    return 0


@cli.command()
@click.option("--template", default=None, metavar="NAME", help="See `lrfind ls templates`.")
@click.argument("file", default=None, required=False, type=click.Path(path_type=Path))
@quiet_option
def init(template: str | None, file: Path | None, quiet: bool) -> int:
    """Write a commented config to start from (lrfind.yaml unless FILE is given)."""
    from lrfind.templates import DEFAULT_FILE, DEFAULT_TEMPLATE, starter

    target = file or Path(DEFAULT_FILE)
    text = starter(template or DEFAULT_TEMPLATE)
    try:
        with target.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise UsageError(f"'{target}' exists already and is left as it is; name another FILE.") from None
    except OSError as error:
        raise UsageError(f"cannot write '{target}': {error.strerror}.") from None
    click.echo(f"wrote {target}; now: lrfind range-test {target}")
    return 0


@cli.command("ls")
@click.argument("what", type=click.Choice(LISTS))
@json_option
@quiet_option
def ls(what: str, as_json: bool, quiet: bool) -> int:
    """List the names that a config or an option may use."""
    rows = listing(what)
    if as_json:
        _print_json(rows)
    else:
        width = max(map(len, rows))
        for name, summary in rows.items():
            click.echo(f"{name:{width}}  {summary}")
    return 0


def _load(
    config: Path | None, overrides: Sequence[str | Override], import_root: Path | None, quiet: bool
) -> tuple[Experiment, str]:
    """The experiment and the text it was read from; says on stderr which config was found by itself."""
    from lrfind.config import check, read
    from lrfind.templates import find_config

    if import_root is not None:
        sys.path.insert(0, str(import_root.resolve()))
    path, why = find_config(config)
    text = read(path)
    experiment = check(text, overrides, str(path))
    if not quiet and config is None:
        _note(f"config: {path}, {why}")
    return experiment, text


def _option_overrides(options: dict[str, Any]) -> list[Override]:
    """Options that stand for a value of the config."""
    return [
        Override.option(
            f"--{name.replace('_', '-')}",
            name if name in ("seed", "device") else f"range_test.{name}",
            "true" if value is True else value,
        )
        for name, value in options.items()
        if value is not None and value is not False
    ]


def _note(text: str) -> None:
    click.echo(text, err=True)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def _on_sigterm(*_: Any) -> NoReturn:
    raise Stopped("SIGTERM")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every foreseen error becomes one message on stderr."""
    try:
        signal.signal(signal.SIGTERM, _on_sigterm)
        return int(cli.main(args=arguments, prog_name="lrfind", standalone_mode=False) or 0)
    except ConfigError as error:
        _note(str(error))
        return error.exit_code
    except LrfindError as error:
        _note(f"error: {error}")
        return error.exit_code
    except Stopped as stopped:
        _note(f"stopped: {stopped}")
        return STOPPED
    except click.Abort:
        _note("interrupted")
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _note(
            f"error: the disk is full ({error.filename or 'while writing'}); free some space and run again."
        )
        return STOPPED


def main() -> NoReturn:
    """Entry point of the `lrfind` command."""
    sys.exit(run())
