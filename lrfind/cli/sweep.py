"""Commands for trainings side by side: grid, search, compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.cli.execute import start
from lrfind.cli.options import (
    as_list,
    config_options,
    json_option,
    load,
    option_overrides,
    out_option,
    print_json,
    quiet_option,
    report_option,
    requested_team,
    team_options,
    to_option,
)
from lrfind.config.document import Override
from lrfind.errors import UsageError
from lrfind.views.terminal import show

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment

COMMON = ("seeds", "lanes", "threads", "judge", "compile")
SWEEP = ("low", "high", "prune")
KEYS = {
    "seed": "seed",
    "device": "device",
    "to": "sinks",
    "steps": "training.steps",
    "epochs": "training.epochs",
    "eval_every": "training.eval_every",
}


def range_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that a grid and a search share, besides `lane_options`."""
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
    """Add the options that all commands of this module share."""
    for decorate in reversed(
        (
            config_options,
            out_option,
            click.option(
                "--seeds", metavar="N", help="The number of seeds: each has its own weights and batch order."
            ),
            click.option("--seed", metavar="N", help="The first seed."),
            click.option("--steps", metavar="N", help="The number of training steps of each lane."),
            click.option(
                "--epochs", metavar="N", help="The length of each lane in epochs, instead of --steps."
            ),
            click.option(
                "--eval-every",
                metavar="N",
                help="The number of steps between evaluations on the validation split.",
            ),
            click.option(
                "--judge",
                metavar="LOSS",
                help="The loss that decides: the final val_loss or train_loss, or best_val_loss, the lowest"
                " validation loss of all evaluations (give --eval-every).",
            ),
            click.option("--device", metavar="NAME", help="auto, cpu, cuda or mps."),
            click.option("--lanes", metavar="MODE", help="How lanes are trained: auto, single or stacked."),
            click.option(
                "--threads",
                metavar="N",
                help="The number of torch's threads; if omitted, --lanes auto chooses it.",
            ),
            click.option(
                "--compile", is_flag=True, help="Compile stacked lanes; this saves time in long sweeps."
            ),
            team_options,
            to_option,
            report_option,
            click.option("--dry-run", is_flag=True, help="Print every lane and the cost, but train nothing."),
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
@click.option("--points", metavar="N", help="The number of lrs, spaced evenly in log lr.")
@click.option(
    "--extend", is_flag=True, help="Try further lrs as long as the best one is the lowest or the highest."
)
def grid(lrs: str | None, **options: Any) -> int:
    """Train with every lr of a grid, from the same weights on the same batches, and compare the results."""
    listed = None if lrs is None else as_list(lrs)
    return _start("grid", {"lrs": listed, **options}, (*SWEEP, "lrs", "points", "extend"))


@click.command()
@lane_options
@range_options
@click.option("--sampler", metavar="NAME", help="The sampler: random, sobol, tpe, gp or pkg.module:attr.")
@click.option("--trials", metavar="N", help="The number of lrs to try.")
@click.option("--batch", metavar="N", help="The number of lrs that a sampler proposes at a time.")
@click.option(
    "--from",
    "start_run",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="A range test's run; its suggestion is tried first.",
)
def search(start_run: Path | None, **options: Any) -> int:
    """Search for the best lr: log-uniform, Sobol, or learning from earlier trials (TPE, Gaussian process)."""
    start = None if start_run is None else repr(_suggestion_of(start_run))
    return _start("search", {"start": start, **options}, (*SWEEP, "sampler", "trials", "batch", "start"))


@click.command()
@lane_options
@click.option("--schedules", metavar="A,B,C", help="The schedules to compare; see `lrfind ls schedules`.")
@click.option(
    "--optimizers",
    metavar="A,B,C",
    help="The optimizers to compare, instead of schedules; see `lrfind ls optimizers`.",
)
@click.option("--peaks", metavar="A,B,C", help="The peak lrs to try with each schedule or optimizer.")
@click.option(
    "--tuning-seeds",
    metavar="N",
    help="The number of other seeds, which choose the best peak of each schedule or optimizer.",
)
@click.option(
    "--common-peak",
    metavar="LR",
    help="One peak for all schedules or optimizers; this favours those that it suits.",
)
def compare(schedules: str | None, optimizers: str | None, peaks: str | None, **options: Any) -> int:
    """Compare schedules or optimizers: same budget, weights and batches, each at its own best peak."""
    lists = {"schedules": schedules, "optimizers": optimizers, "peaks": peaks}
    for one, other in (("schedules", "optimizers"), ("peaks", "common_peak")):
        if lists[one] is not None and (lists | options).get(other) is not None:
            raise UsageError(f"give --{one} or --{other.replace('_', '-')}, not both.")
    listed = {name: None if text is None else as_list(text) for name, text in lists.items()}
    return _start("compare", {**listed, **options}, (*lists, "common_peak", "tuning_seeds"))


def _suggestion_of(path: Path) -> float:
    from lrfind.runs.best import answered_experiment
    from lrfind.runs.store import Run
    from lrfind.runs.summary import read_result

    result = read_result(Run.open(path))
    if result.kind.lanes != "ramps" or len(result.variants) > 1:
        raise UsageError(
            f"--from: '{path}' is not the run of a range test over only the lr; give such a run."
        )
    return answered_experiment(result).optimizer.lr


def _start(command: str, options: dict[str, Any], particular: tuple[str, ...]) -> int:
    """Start a sweep.

    Args:
        command: grid, search or compare.
        options: all options as typed.
        particular: the options that this command has besides the common ones.
    """
    config, overrides, out = options.pop("config"), options.pop("overrides"), options.pop("out")
    team = requested_team(options.pop("workers"), options.pop("cluster"))
    as_json, quiet, dry_run = options.pop("as_json"), options.pop("quiet"), options.pop("dry_run")
    no_report = options.pop("no_report")
    for one, *others in (("steps", "epochs"), ("lrs", "low", "high", "points")):
        rival = next((name for name in others if options.get(name) is not None), None)
        if options.get(one) is not None and rival:
            raise UsageError(f"give --{one} or --{rival}, not both.")
    keys = KEYS | {name: f"{command}.{name}" for name in (*COMMON, *particular)}
    typed = [*map(Override.of, overrides), *option_overrides(options, keys)]
    experiment, text = load(config, typed, quiet)
    if dry_run:
        return _dry_run(experiment, command, as_json)
    from lrfind.runs.store import Run, default_path

    path = out or default_path(experiment.name, command)
    run = Run.start(path, command, experiment, text, [override.text for override in typed])
    return start(run, as_json=as_json, quiet=quiet, no_report=no_report, team=team)


def _dry_run(experiment: Experiment, command: str, as_json: bool) -> int:
    from dataclasses import asdict

    from lrfind.config.experiment import section_for
    from lrfind.experiments.prepare import prepare
    from lrfind.experiments.rounds import rounds_of
    from lrfind.views.text.sweep import dry_run_text

    section, prepared = section_for(experiment, command), prepare(experiment, command)
    lrs = {variant.name: variant.experiment.optimizer.lr for variant in prepared.variants}
    rows = [
        {"lane": lane.lane, "variant": lane.variant, "seed": lane.seed, "lr": lane.peak}
        for lane in rounds_of(experiment, command).first(lrs)
    ]
    cost, modes = asdict(prepared.cost), [asdict(mode) for mode in prepared.modes]
    if as_json:
        print_json({"command": command, "plan": rows, "cost": cost, "modes": modes})
    else:
        show(dry_run_text(rows, section, cost, modes))
    return 0
