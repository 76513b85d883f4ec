"""The command that most people begin with: find."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.cli.execute import start
from lrfind.cli.options import (
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

KEYS = {
    "seed": "seed",
    "device": "device",
    "to": "sinks",
    "steps": "training.steps",
    "schedule": "training.schedule",
    **{
        name: f"find.{name}"
        for name in (
            "seeds",
            "budget",
            "max_seconds",
            "groups",
            "lanes",
            "verify",
            "verify_share",
            "verify_seeds",
            "verify_beyond",
        )
    },
}


class FindCommand(click.Command):
    """The command `find`, whose option --verify may have a number after it, which is never CONFIG."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, with `--verify 5` as `--verify --verify-beyond 5`."""
        spelled = []
        for before, arg in zip(["", *args], args, strict=False):
            number = before == "--verify" and re.fullmatch(r"\d+(\.\d+)?", arg)
            spelled += ["--verify-beyond", arg] if number else [arg]
        return super().parse_args(ctx, spelled)


@click.command(cls=FindCommand)
@config_options
@out_option
@click.option("--steps", metavar="T", help="The number of steps of the training that you plan.")
@click.option(
    "--schedule", metavar="NAME", help="The schedule of the planned training; see `lrfind ls schedules`."
)
@click.option(
    "--budget",
    metavar="N",
    help="How much to spend: a number of gradient steps, or a number of trainings such as 4x. What the probes"
    " leave goes to trainings that refine their answer.",
)
@click.option("--max-seconds", metavar="S", help="How many seconds to spend in the same way, approximately.")
@click.option(
    "--seeds",
    metavar="N",
    help="The number of seeds to probe with: each has its own weights and batch order.",
)
@click.option("--seed", metavar="N", help="The first seed.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")
@click.option(
    "--groups",
    is_flag=True,
    help="Then find one rate for each param group too; needs optimizer.param_groups in the config.",
)
@click.option("--lanes", metavar="MODE", help="How probes are trained: auto, single or stacked.")
@click.option(
    "--verify",
    is_flag=True,
    help="Then verify the answer: train at this lr, at a third of it and at three times it. With a number"
    " after it, as in --verify 5, train at so many times the answer too.",
)
@click.option("--verify-beyond", hidden=True)
@click.option(
    "--verify-share",
    metavar="X",
    help="The length of the verifying trainings, as a share of the planned training.",
)
@click.option(
    "--verify-seeds", metavar="N", help="The number of verifying trainings at each rate; 3 by default."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and its cost, but train nothing.")
@click.option(
    "--snippet", is_flag=True, help="Also print the lines of PyTorch for this lr: optimizer and scheduler."
)
@team_options
@to_option
@report_option
@json_option
@quiet_option
def find(
    config: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    quiet: bool,
    workers: str | None,
    cluster: str | None,
    snippet: bool,
    no_report: bool,
    dry_run: bool,
    **options: Any,
) -> int:
    """Find the learning rate to train with: a number, its interval, and the reason."""
    team = requested_team(workers, cluster)
    typed = [*map(Override.of, overrides), *option_overrides(options, KEYS)]
    experiment, text = load(config, typed, quiet)
    if team is not None and not experiment.find.verify:
        raise UsageError("--workers and --cluster share out the verifying trainings; give --verify too.")
    if dry_run:
        return _dry_run(experiment, as_json)
    from lrfind.runs.store import Run, default_path

    path = out or default_path(experiment.name, "find")
    run = Run.start(path, "find", experiment, text, [override.text for override in typed])
    return start(run, as_json=as_json, quiet=quiet, snippet=snippet, no_report=no_report, team=team)


def _dry_run(experiment: Experiment, as_json: bool) -> int:
    """Print the plan of a `find`."""
    from dataclasses import asdict

    from lrfind.experiments.find import plan_find
    from lrfind.problem.problem import from_config
    from lrfind.views.text.find import find_plan_text

    plan = asdict(plan_find(from_config(experiment), experiment))
    plan["schedule"] = experiment.training.schedule.name
    if as_json:
        print_json(plan)
    else:
        show(find_plan_text(plan))
    return 0
