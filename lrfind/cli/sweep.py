"""Commands for trainings side by side: grid, search, compare."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from lrfind.catalog import OPTIMIZERS, SAMPLERS, SCHEDULES, Judge
from lrfind.cli.completion import complete_names, complete_runs
from lrfind.cli.execute import Output, new_run, start
from lrfind.cli.help import PLACE, SEARCH, Command, option, options_of
from lrfind.cli.hints import typed_path
from lrfind.cli.options import (
    as_list,
    common_options,
    config_options,
    dry_run_option,
    json_option,
    load,
    option_overrides,
    out_option,
    print_plan,
    refuse_rivals,
    refuse_unasked_imports,
    report_option,
    snippet_option,
    to_option,
)
from lrfind.cli.trainings import (
    device_option,
    lanes_option,
    plan_options,
    requested_team,
    seed_options,
    team_options,
)
from lrfind.config.document import Override
from lrfind.errors import UsageError

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment
    from lrfind.runs.result import RunResult

range_options = options_of(
    option("--low", group=SEARCH, key=".low", metavar="LR", help="The lowest lr."),
    option("--high", group=SEARCH, key=".high", metavar="LR", help="The highest lr."),
    option(
        "--prune",
        group=SEARCH,
        key=".prune",
        is_flag=True,
        help="Stop lanes that fall behind, by successive halving.",
    ),
)
"""The options that a grid and a search share, besides `lane_options`."""

lane_options = options_of(
    plan_options,
    seed_options,
    option(
        "--judge",
        group=SEARCH,
        key=".judge",
        metavar="LOSS",
        shell_complete=complete_names(get_args(Judge)),
        help="The loss that decides: the final val_loss or train_loss, or best_val_loss, the lowest"
        " validation loss of all evaluations (give --eval-every).",
    ),
    device_option,
    lanes_option,
    option(
        "--threads",
        group=PLACE,
        key=".threads",
        metavar="N",
        help="The number of torch's threads; if omitted, --lanes auto chooses it.",
    ),
    option(
        "--compile",
        group=PLACE,
        key=".compile",
        is_flag=True,
        help="Compile stacked lanes; this saves time in long sweeps.",
    ),
    team_options,
    out_option,
    dry_run_option,
    snippet_option,
    to_option,
    report_option,
    json_option,
    config_options,
    common_options,
)
"""The options that all commands of this module share."""


@click.command(
    cls=Command,
    examples=(
        ("lrfind grid my.yaml --lrs 1e-3,1e-2,1e-1", "three rates"),
        ("lrfind grid my.yaml --low 1e-4 --high 1 --points 9", "even in log lr"),
        ("lrfind grid my.yaml --dry-run", "the cost, beforehand"),
    ),
)
@option(
    "--lrs",
    group=SEARCH,
    key=".lrs",
    metavar="A,B,C",
    callback=as_list,
    help="The lrs, instead of --low, --high and --points.",
)
@range_options
@option(
    "--points",
    group=SEARCH,
    key=".points",
    metavar="N",
    help="The number of lrs, spaced evenly in log lr.",
)
@option(
    "--extend",
    group=SEARCH,
    key=".extend",
    is_flag=True,
    help="Try further lrs as long as the best one is the lowest or the highest.",
)
@lane_options
def grid(**options: Any) -> int:
    """Train at every lr of a grid, and compare the final losses.

    All trainings start from the same weights and see the same batches. Use it to measure what `lrfind find`
    estimates; it costs many whole trainings.
    """
    refuse_rivals(options, ("lrs", "low"), ("lrs", "high"), ("lrs", "points"))
    return _start("grid", options)


@click.command(
    cls=Command,
    examples=(
        ("lrfind search my.yaml --sampler random --trials 12", "12 random rates"),
        ("lrfind search my.yaml --low 1e-4 --high 1", "learn from trials (TPE)"),
        ("lrfind search my.yaml --from runs/ramp", "begin at that answer"),
    ),
)
@option(
    "--sampler",
    group=SEARCH,
    key=".sampler",
    metavar="NAME",
    shell_complete=complete_names(SAMPLERS),
    help="The sampler: random, sobol, tpe, gp or pkg.module:attr.",
)
@range_options
@option("--trials", group=SEARCH, key=".trials", metavar="N", help="The number of lrs to try.")
@option(
    "--batch",
    group=SEARCH,
    key=".batch",
    metavar="N",
    help="The number of lrs that a sampler proposes at a time.",
)
@option(
    "--from",
    "start_run",
    group=SEARCH,
    type=click.Path(path_type=Path),
    metavar="RUN",
    shell_complete=complete_runs,
    help="A run with an answer, which is tried first. Without CONFIG, the config is that of the run.",
)
@lane_options
def search(start_run: Path | None, **options: Any) -> int:
    """Search for the best lr with whole trainings.

    The samplers random and sobol spread the lrs in advance; tpe and gp (a Gaussian process) learn from the
    trials so far. Use it where a grid is too coarse or costs too much.
    """
    if start_run is None:
        return _start("search", options)
    from lrfind.config.experiment import dump
    from lrfind.runs.best import answered_experiment

    result = _with_one_rate(start_run)
    answered, own = answered_experiment(result), None
    if options["config"] is None:
        refuse_unasked_imports(answered, start_run, result.facts.import_root)
        own = dump(answered), f"{start_run} (its config)"
    return _start(
        "search", options, [Override.option("--from", "search.start", repr(answered.optimizer.lr))], own
    )


@click.command(
    cls=Command,
    examples=(
        ("lrfind compare my.yaml", "four usual schedules"),
        ("lrfind compare my.yaml --schedules constant,cosine", "these two"),
        ("lrfind compare my.yaml --optimizers sgd,adamw", "optimizers"),
    ),
)
@option(
    "--schedules",
    group=SEARCH,
    key=".schedules",
    metavar="A,B,C",
    callback=as_list,
    shell_complete=complete_names(SCHEDULES),
    help="The schedules to compare; see `lrfind ls schedules`.",
)
@option(
    "--optimizers",
    group=SEARCH,
    key=".optimizers",
    metavar="A,B,C",
    callback=as_list,
    shell_complete=complete_names(OPTIMIZERS),
    help="The optimizers to compare, instead of schedules; see `lrfind ls optimizers`.",
)
@option(
    "--peaks",
    group=SEARCH,
    key=".peaks",
    metavar="A,B,C",
    callback=as_list,
    help="The peak lrs to try with each schedule or optimizer.",
)
@option(
    "--common-peak",
    group=SEARCH,
    key=".common_peak",
    metavar="LR",
    help="One peak for all schedules or optimizers; this favours those that it suits.",
)
@option(
    "--tuning-seeds",
    group=SEARCH,
    key=".tuning_seeds",
    metavar="N",
    help="The number of other seeds, which choose the best peak of each schedule or optimizer.",
)
@lane_options
def compare(**options: Any) -> int:
    """Compare schedules or optimizers, each at its own best lr.

    All have the same budget, weights and batches. Some seeds choose the best peak lr of each, and other seeds
    are compared.
    """
    refuse_rivals(options, ("schedules", "optimizers"), ("peaks", "common_peak"))
    return _start("compare", options)


def _with_one_rate(path: Path) -> RunResult:
    """Return the result of a run, whose answer must be one rate for its whole config."""
    from lrfind.runs.store import Run
    from lrfind.runs.summary import read_result

    result = read_result(Run.open(path))
    if result.command == "train":
        lr, config = result.experiment.optimizer.lr, shlex.quote(typed_path(path / "resolved.yaml"))
        raise UsageError(
            f"--from: '{path}', a run of `lrfind train`, recommends no learning rate; to begin at the one"
            f" that it trained with, run `lrfind search {config} --set search.start={lr!r}`."
        )
    if len(result.variants) > 1 or not result.kind.recommends:
        raise UsageError(
            f"--from: the answer of '{path}', a run of `lrfind {result.command}`, is not one learning rate;"
            " give a run of find, range-test (without --over), grid or search."
        )
    return result


def _start(
    command: str,
    options: dict[str, Any],
    more: Sequence[Override] = (),
    own: tuple[str, str] | None = None,
) -> int:
    """Start a sweep.

    Args:
        command: grid, search or compare.
        options: all options as typed.
        more: further overrides of the config.
        own: the text of a config to use instead of the file that was typed, and where it comes from.
    """
    from lrfind.config.experiment import check

    refuse_rivals(options, ("steps", "epochs"))
    config, overrides, out = options.pop("config"), options.pop("overrides"), options.pop("out")
    team = requested_team(options.pop("workers"), options.pop("cluster"))
    as_json, snippet = options.pop("as_json"), options.pop("snippet")
    no_report = options.pop("no_report")
    typed = [*map(Override.of, overrides), *option_overrides(options), *more]
    if own is None:
        experiment, text = load(config, typed)
    else:
        text, origin = own
        experiment = check(text, typed, origin)
    if command == "compare" and options["schedule"] is not None and not experiment.compare.optimizers:
        raise UsageError(
            "--schedule is the schedule of all optimizers that are compared; give --optimizers too, or give"
            " --schedules to compare schedules."
        )
    if options["dry_run"]:
        return _dry_run(experiment, command, as_json)
    run = new_run(out, command, experiment, text, typed)
    return start(run, Output(as_json, snippet, report=not no_report), team)


def _dry_run(experiment: Experiment, command: str, as_json: bool) -> int:
    from dataclasses import asdict

    from lrfind.config.experiment import section_for
    from lrfind.config.variants import variants_of
    from lrfind.experiments.prepare import prepare
    from lrfind.experiments.rounds import rounds_of
    from lrfind.views.text.sweep import dry_run_text

    outlook = prepare(experiment, command).outlook
    lrs = {variant.name: variant.experiment.optimizer.lr for variant in variants_of(experiment, command)}
    rows = [
        {"lane": lane.lane, "variant": lane.variant, "seed": lane.seed, "lr": lane.peak}
        for lane in rounds_of(experiment, command).first(lrs)
    ]
    cost, modes = asdict(outlook.cost), [asdict(mode) for mode in outlook.modes]
    text = dry_run_text(rows, section_for(experiment, command), cost, modes)
    return print_plan(command, text, as_json, plan=rows, cost=cost, modes=modes)
