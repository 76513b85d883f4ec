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
from lrfind.errors import LrfindError, Stopped, UsageError

if TYPE_CHECKING:
    from lrfind.config import Experiment
    from lrfind.store import Run

LISTS = ("models", "datasets", "losses", "optimizers", "methods", "templates")
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
@click.option("--method", default=None, metavar="NAME", help="How to suggest; see `lrfind ls methods`.")
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
    method: str | None,
    edge: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Ramp the learning rate and watch the loss: a curve, a number, a CSV and a plot."""
    overrides = (*overrides, *_as_overrides(options))
    experiment, source = _load(config, overrides, import_root, quiet)
    from lrfind.suggestions import DEFAULT_METHOD, method_named

    chosen = method_named(method or DEFAULT_METHOD).name
    run = _new_run(out, experiment, "range-test", source, overrides)
    from lrfind.experiments import recorded_range_test
    from lrfind.plots import range_test_figure, save, view_range_test
    from lrfind.progress import progress

    section = experiment.range_test
    try:
        with progress(section.seeds, section.steps, quiet=quiet) as watch:
            summary = recorded_range_test(experiment, run, method=chosen, edge=edge, watch=watch)
    except (KeyboardInterrupt, Stopped):
        _note(f"what was measured is kept in {run.path}; `lrfind suggest {run.path}` reads it.")
        raise
    except UsageError:
        run.discard_if_empty()
        raise
    curves = [lane.curve for lane in run.lanes()]
    edge_label = "measured edge" if edge else "diverged (upper bound of the edge)"
    view = view_range_test(curves, summary["suggestion"], summary["edge"], edge_label)
    save(range_test_figure(view, experiment.name), run.path / "range_test")
    if as_json:
        _print_json(summary)
    else:
        from lrfind.report import range_test_text

        click.echo(range_test_text(summary))
        click.echo(f"  plot: {run.path / 'range_test.png'}\n  data: {run.path}")
    return 0 if summary["suggestion"]["lr"] is not None else 3


@cli.command()
@click.argument("source", metavar="FILE_OR_RUN", type=click.Path(path_type=Path))
@click.option("--method", default=None, metavar="NAME", help="One method's answer alone, or `all`.")
@json_option
@quiet_option
def suggest(source: Path, method: str | None, as_json: bool, quiet: bool) -> int:
    """Recompute every suggestion from a run directory, or from a CSV with columns lr,loss."""
    from lrfind.store import read_curves
    from lrfind.suggestions import DEFAULT_METHOD, method_named
    from lrfind.summaries import brief, suggestion_table

    everything = method is None or method == "all"
    chosen = method_named(DEFAULT_METHOD if method is None or everything else method).name
    curves, recorded = read_curves(source)
    methods = suggestion_table(curves, recorded=recorded)
    answer = methods[chosen]
    if as_json:
        _print_json({"source": str(source), "suggestion": answer, "methods": brief(methods)})
    else:
        from lrfind.report import headline, methods_text

        click.echo(headline(answer, len(curves)))
        if everything:
            click.echo("\n" + methods_text(methods))
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
    experiment, source = _load(config, overrides, import_root, quiet=True)
    if imports:
        from lrfind.problem import import_names

        import_names(experiment)
    test = experiment.range_test
    click.echo(
        f"{source}: ok: {experiment.name}: {experiment.model.name} on {experiment.data.name},"
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
    from lrfind.config import DEFAULT_FILE, DEFAULT_TEMPLATE, starter

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
    from lrfind.listing import listing

    rows = listing(what)
    if as_json:
        _print_json(rows)
    else:
        width = max(map(len, rows))
        for name, summary in rows.items():
            click.echo(f"{name:{width}}  {summary}")
    return 0


def _load(
    config: Path | None, overrides: Sequence[str], import_root: Path | None, quiet: bool
) -> tuple[Experiment, Path]:
    from lrfind.config import find_config, load

    if import_root is not None:
        sys.path.insert(0, str(import_root.resolve()))
    path, why = find_config(config)
    experiment = load(path, overrides)
    if not quiet and config is None:
        _note(f"config: {path}, {why}")
    return experiment, path


def _new_run(
    out: Path | None, experiment: Experiment, command: str, source: Path, overrides: Sequence[str]
) -> Run:
    from lrfind.config import dump, read
    from lrfind.store import Run, default_path

    given, resolved = read(source), dump(experiment)
    facts = {"command": command, "name": experiment.name, "config": given, "resolved": resolved}
    run = Run.create(
        out or default_path(experiment.name, command),
        facts | {"overrides": json.dumps(list(overrides))},
    )
    run.write("config.yaml", given)
    run.write("resolved.yaml", resolved)
    return run


_OPTION_KEYS = {"seed": "seed", "device": "device"}


def _as_overrides(options: dict[str, Any]) -> list[str]:
    """Options that stand for a value of the config, as --set would write them."""
    return [
        f"{_OPTION_KEYS.get(name, f'range_test.{name}')}={str(value).lower()}"
        for name, value in options.items()
        if value is not None and value is not False
    ]


def _note(text: str) -> None:
    click.echo(text, err=True)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def _on_sigterm(*_: Any) -> NoReturn:
    raise Stopped("stopped by SIGTERM")


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every foreseen error becomes one message on stderr."""
    from lrfind.document import ConfigError

    try:
        signal.signal(signal.SIGTERM, _on_sigterm)
        return int(cli.main(args=arguments, prog_name="lrfind", standalone_mode=False) or 0)
    except ConfigError as error:
        _note(str(error))
        return error.exit_code
    except LrfindError as error:
        _note(f"error: {error}")
        return error.exit_code
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
