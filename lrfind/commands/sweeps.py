"""Commands over sweeps: grid, search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.commands.options import (
    config_options,
    json_option,
    load,
    option_overrides,
    out_option,
    print_json,
    quiet_option,
)
from lrfind.commands.running import begin
from lrfind.document import Override
from lrfind.errors import UsageError

if TYPE_CHECKING:
    from lrfind.config import Experiment

COMMON = ("low", "high", "seeds", "lanes", "threads", "prune", "judge", "compile")
KEYS = {
    "seed": "seed",
    "device": "device",
    "steps": "training.steps",
    "epochs": "training.epochs",
    "eval_every": "training.eval_every",
}


def sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a grid and a search have in common."""
    for decorate in reversed(
        (
            config_options,
            out_option,
            click.option("--low", metavar="LR", help="The lowest lr."),
            click.option("--high", metavar="LR", help="The highest lr."),
            click.option("--seeds", metavar="N", help="Lanes per lr: own weights and batch order each."),
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
            click.option("--prune", is_flag=True, help="Stop lanes that fall behind, by successive halving."),
            click.option("--compile", is_flag=True, help="Compile stacked lanes; pays for long sweeps."),
            click.option("--dry-run", is_flag=True, help="Print every lane and the cost, and train nothing."),
            json_option,
            quiet_option,
        )
    ):
        command = decorate(command)
    return command


@click.command()
@sweep_options
@click.option("--lrs", metavar="A,B,C", help="The lrs, instead of --low, --high and --points.")
@click.option("--points", metavar="N", help="How many lrs, spaced evenly in log lr.")
@click.option("--extend", is_flag=True, help="Go on outward while the best lr is the lowest or the highest.")
def grid(lrs: str | None, **options: Any) -> int:
    """Train with every lr of a grid, from the same weights on the same batches, and compare."""
    listed = None if lrs is None else f"[{lrs.strip('[]')}]"
    return _start("grid", {"lrs": listed, **options}, ("lrs", "points", "extend"))


@click.command()
@sweep_options
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
    return _start("search", {"start": start, **options}, ("sampler", "trials", "batch", "start"))


def _suggestion_of(path: Path) -> float:
    from lrfind.conclusions import summarize
    from lrfind.store import Run

    lr = summarize(Run.open(path)).get("suggestion", {}).get("lr")
    if lr is None:
        raise UsageError(f"--from: '{path}' has no suggestion; give a range test that has one.")
    return float(lr)


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
    from lrfind.store import Run, default_path

    path = out or default_path(experiment.name, command)
    run = Run.start(path, command, experiment, text, [override.text for override in given])
    return begin(run, as_json=as_json, quiet=quiet)


def _dry_run(experiment: Experiment, command: str, as_json: bool) -> int:
    from dataclasses import asdict

    from lrfind.conclusions import sweep_section
    from lrfind.config import GridSection
    from lrfind.plan import sweep_lanes
    from lrfind.report import cost_text, table_text
    from lrfind.sweeps import first_peaks, prepare

    section = sweep_section(experiment, command)
    prepared = prepare(experiment, section)
    cost, engine = prepared.cost, prepared.engine
    lanes = sweep_lanes(first_peaks(section, experiment.seed), 1, experiment.seed, section.seeds)
    if as_json:
        rows = [{"lane": lane.lane, "seed": lane.seed, "lr": lane.peak} for lane in lanes]
        print_json({"command": command, "lanes": rows, "cost": asdict(cost), "engine": asdict(engine)})
        return 0
    click.echo(
        table_text(("lane", "seed", "lr"), [(str(n.lane), str(n.seed), f"{n.peak:.6g}") for n in lanes])
    )
    if cost.lanes > len(lanes):
        click.echo(f"... and {cost.lanes - len(lanes)} more, which {section.sampler} proposes later")  # type: ignore[attr-defined]
    if isinstance(section, GridSection) and section.extend:
        click.echo("... and more outward, while the best lr is the lowest or the highest (--extend)")
    way = "stacked" if engine.lanes == "stacked" else "one after another"
    click.echo(f"{cost_text(**vars(cost))}; lanes run {way}: {engine.why}")
    return 0
