"""The command that most people begin with: find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lrfind.cli.execute import start
from lrfind.cli.options import (
    config_options,
    json_option,
    load,
    option_overrides,
    out_option,
    quiet_option,
    requested_team,
    team_options,
)
from lrfind.config.document import Override
from lrfind.errors import UsageError

KEYS = {
    "seed": "seed",
    "device": "device",
    "steps": "training.steps",
    "schedule": "training.schedule",
    **{
        name: f"find.{name}"
        for name in ("seeds", "budget", "max_seconds", "lanes", "verify", "verify_share", "verify_seeds")
    },
}


@click.command()
@config_options
@out_option
@click.option("--steps", metavar="T", help="The number of steps of the training that you plan.")
@click.option(
    "--schedule", metavar="NAME", help="The schedule of the planned training; see `lrfind ls schedules`."
)
@click.option("--budget", metavar="N", help="The most gradient steps that all probes together may take.")
@click.option(
    "--max-seconds", metavar="S", help="The most seconds that all probes together may take, approximately."
)
@click.option(
    "--seeds",
    metavar="N",
    help="The number of seeds to probe with: each has its own weights and batch order.",
)
@click.option("--seed", metavar="N", help="The first seed.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")
@click.option("--lanes", metavar="MODE", help="How probes are trained: auto, single or stacked.")
@click.option(
    "--verify",
    is_flag=True,
    help="Then verify the answer: train at this lr, at a third of it and at three times it.",
)
@click.option(
    "--verify-share",
    metavar="X",
    help="The length of the verifying trainings, as a share of the planned training.",
)
@click.option(
    "--verify-seeds", metavar="N", help="The number of verifying trainings at each of the three rates."
)
@click.option(
    "--snippet", is_flag=True, help="Also print the lines of PyTorch for this lr: optimizer and scheduler."
)
@team_options
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
    **options: Any,
) -> int:
    """Find the learning rate to train with: a number, its interval, and the reason."""
    team = requested_team(workers, cluster)
    typed = [*map(Override.of, overrides), *option_overrides(options, KEYS)]
    experiment, text = load(config, typed, quiet)
    if team is not None and not experiment.find.verify:
        raise UsageError("--workers and --cluster share out the verifying trainings; give --verify too.")
    from lrfind.runs.store import Run, default_path

    path = out or default_path(experiment.name, "find")
    run = Run.start(path, "find", experiment, text, [override.text for override in typed])
    return start(run, as_json=as_json, quiet=quiet, snippet=snippet, team=team)
