"""Commands over trainings side by side: grid, search, compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.cli.execute import begin
from lrfind.cli.options import (
    as_list,
    config_options,
    json_option,
    load,
    option_overrides,
    out_option,
    print_json,
    quiet_option,
)
from lrfind.config.document import Override
from lrfind.errors import UsageError

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment

COMMON = ("seeds", "lanes", "threads", "judge", "compile")
SWEEP = ("low", "high", "prune")
KEYS = {
    "seed": "seed",
    "device": "device",
    "steps": "training.steps",
    "epochs": "training.epochs",
    "eval_every": "training.eval_every",
}


def range_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a grid and a search have in common, besides `lane_options`."""
    for decorate in reversed(
        (
            click.option("--low", metavar="LR", help="The lowest lr."),
            click.option("--high", metavar="LR", help="The highest lr."),
            click.option("--prune", is_flag=True, help="Stop lanes that fall behind, by successive halving."),
        )
    ):
        command = decorate(command)
    return command


def lane_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What all of these commands have in common."""
    for decorate in reversed(
        (
            config_options,
            out_option,
            click.option("--seeds", metavar="N", help="How many seeds: own weights and batch order each."),
            click.option("--seed", metavar="N", help="The first seed."),
            click.option("--steps", metavar="N", help="Training steps of a lane."),
            click.option("--epochs", metavar="N", help="The same in epochs."),
            click.option(
                "--eval-every", metavar="N", help="Steps between evaluations on the validation split."
            ),
            click.option("--judge", metavar="LOSS", help="val_loss or train_loss: which final loss decides."),
            click.option("--device", metavar="NAME", help="auto, cpu, cuda or mps."),
            click.option("--lanes", metavar="WAY", help="auto, single or stacked: how lanes are trained."),
            click.option("--threads", metavar="N", help="Threads of torch; measured if --lanes is auto."),
            click.option("--compile", is_flag=True, help="Compile stacked lanes; pays for long sweeps."),
            click.option("--dry-run", is_flag=True, help="Print every lane and the cost, and train nothing."),
            json_option,
            quiet_option,
        )
    ):
        command = decorate(command)
    return command


@click.command()
@lane_options
@range_options
@click.option("--lrs", metavar="A,B,C", help="The lrs, instead of --low, --high and --points.")
@click.option("--points", metavar="N", help="How many lrs, spaced evenly in log lr.")
@click.option("--extend", is_flag=True, help="Go on outward while the best lr is the lowest or the highest.")
def grid(lrs: str | None, **options: Any) -> int:
    """Train with every lr of a grid, from the same weights on the same batches, and compare."""
    listed = None if lrs is None else as_list(lrs)
    return _start("grid", {"lrs": listed, **options}, (*SWEEP, "lrs", "points", "extend"))


@click.command()
@lane_options
@range_options
@click.option("--sampler", metavar="NAME", help="random, sobol, tpe or gp.")
@click.option("--trials", metavar="N", help="How many lrs to try.")
@click.option("--batch", metavar="N", help="lrs that tpe and gp propose at a time.")
@click.option(
    "--from",
    "start_run",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="A range test, whose suggestion is tried first.",
)
def search(start_run: Path | None, **options: Any) -> int:
    """Search for the best lr: log-uniform, Sobol, or learning from what was tried (TPE, Gaussian process)."""
    start = None if start_run is None else repr(_suggestion_of(start_run))
    return _start("search", {"start": start, **options}, (*SWEEP, "sampler", "trials", "batch", "start"))


@click.command()
@lane_options
@click.option("--schedules", metavar="A,B,C", help="What to compare; see `lrfind ls schedules`.")
@click.option("--optimizers", metavar="A,B,C", help="What to compare instead; see `lrfind ls optimizers`.")
@click.option("--peaks", metavar="A,B,C", help="The peak lrs that each is tried with.")
@click.option("--tuning-seeds", metavar="N", help="How many other seeds choose each one's best peak.")
@click.option("--common-peak", metavar="LR", help="One peak for all; fair only to those that it suits.")
def compare(schedules: str | None, optimizers: str | None, peaks: str | None, **options: Any) -> int:
    """Compare schedules, or optimizers: same budget, weights and batches, each at its own best peak."""
    lists = {"schedules": schedules, "optimizers": optimizers, "peaks": peaks}
    for one, other in (("schedules", "optimizers"), ("peaks", "common_peak")):
        if lists[one] is not None and (lists | options).get(other) is not None:
            raise UsageError(f"give --{one} or --{other.replace('_', '-')}, not both.")
    listed = {name: None if text is None else as_list(text) for name, text in lists.items()}
    return _start("compare", {**listed, **options}, (*lists, "common_peak", "tuning_seeds"))


def _suggestion_of(path: Path) -> float:
    from lrfind.config.variants import variants_of
    from lrfind.runs.store import Run
    from lrfind.runs.summary import found_experiment

    run = Run.open(path)
    command = run.facts()["command"]
    if command != "range-test" or len(variants_of(run.experiment, command)) > 1:
        raise UsageError(f"--from: '{path}' is no range test over the lr alone; give one of these.")
    return found_experiment(run).optimizer.lr


def _start(command: str, options: dict[str, Any], own: tuple[str, ...]) -> int:
    """Start a sweep; `own` are the options that this command alone has."""
    config, overrides, out = options.pop("config"), options.pop("overrides"), options.pop("out")
    as_json, quiet, dry_run = options.pop("as_json"), options.pop("quiet"), options.pop("dry_run")
    for one, *others in (("steps", "epochs"), ("lrs", "low", "high", "points")):
        rival = next((name for name in others if options.get(name) is not None), None)
        if options.get(one) is not None and rival:
            raise UsageError(f"give --{one} or --{rival}, not both.")
    keys = KEYS | {name: f"{command}.{name}" for name in (*COMMON, *own)}
    given = [*map(Override.of, overrides), *option_overrides(options, keys)]
    experiment, text = load(config, given, quiet)
    if dry_run:
        return _dry_run(experiment, command, as_json)
    from lrfind.runs.store import Run, default_path

    path = out or default_path(experiment.name, command)
    run = Run.start(path, command, experiment, text, [override.text for override in given])
    return begin(run, as_json=as_json, quiet=quiet)


def _dry_run(experiment: Experiment, command: str, as_json: bool) -> int:
    from dataclasses import asdict

    from lrfind.config.experiment import lanes_section
    from lrfind.config.sections import CompareSection, GridSection, SearchSection
    from lrfind.experiments.prepare import prepare
    from lrfind.experiments.rounds import first_round
    from lrfind.views.text.parts import table_text
    from lrfind.views.text.sweep import cost_text, engine_text

    section = lanes_section(experiment, command)
    prepared = prepare(experiment, command)
    cost, engines = prepared.cost, prepared.engines
    lrs = {variant.name: variant.experiment.optimizer.lr for variant in prepared.variants}
    lanes = first_round(section, lrs, experiment.seed)
    if as_json:
        rows = [{"lane": n.lane, "variant": n.variant, "seed": n.seed, "lr": n.peak} for n in lanes]
        ways = [asdict(engine) for engine in engines]
        print_json({"command": command, "lanes": rows, "cost": asdict(cost), "engines": ways})
        return 0
    shown = [(str(n.lane), n.variant, str(n.seed), f"{n.peak:.6g}") for n in lanes]
    click.echo(table_text(("lane", "", "seed", "lr"), shown))
    if isinstance(section, SearchSection) and cost.lanes > len(lanes):
        click.echo(f"... and {cost.lanes - len(lanes)} more, which {section.sampler} proposes later")
    if isinstance(section, GridSection) and section.extend:
        click.echo("... and more outward, while the best lr is the lowest or the highest (--extend)")
    if isinstance(section, CompareSection) and section.one_peak is None:
        if section.peaks is None:
            click.echo("... and more outward, while the best peak of one is its lowest or its highest")
        click.echo(f"... and then {section.seeds} other seeds of each at its best peak, which are compared")
    click.echo(f"{cost_text(**vars(cost))}; {engine_text(engines)}")
    return 0
