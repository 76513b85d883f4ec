"""The command that people begin with: find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lrfind.cli.execute import begin
from lrfind.cli.options import (
    config_options,
    json_option,
    load,
    option_overrides,
    out_option,
    quiet_option,
)
from lrfind.config.document import Override

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
@click.option("--steps", metavar="T", help="Steps of the training that the rate is for.")
@click.option("--schedule", metavar="NAME", help="Its schedule; see `lrfind ls schedules`.")
@click.option("--budget", metavar="N", help="Gradient steps that the probes may take.")
@click.option("--max-seconds", metavar="S", help="Seconds that they may take, about.")
@click.option("--seeds", metavar="N", help="Searches: own weights and batch order each.")
@click.option("--seed", metavar="N", help="Seed of the first one.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")
@click.option("--lanes", metavar="WAY", help="auto, single or stacked: how probes are trained.")
@click.option("--verify", is_flag=True, help="Then train at a third, at once and at three times the answer.")
@click.option("--verify-share", metavar="X", help="Of the training's steps, in those trainings.")
@click.option("--verify-seeds", metavar="N", help="Trainings at each of the three.")
@click.option("--snippet", is_flag=True, help="Also print PyTorch lines: optimizer and scheduler at this lr.")
@json_option
@quiet_option
def find(
    config: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    quiet: bool,
    snippet: bool,
    **options: Any,
) -> int:
    """Find the learning rate to train with: a number, its interval, and why."""
    given = [*map(Override.of, overrides), *option_overrides(options, KEYS)]
    experiment, text = load(config, given, quiet)
    from lrfind.runs.store import Run, default_path

    path = out or default_path(experiment.name, "find")
    run = Run.start(path, "find", experiment, text, [override.text for override in given])
    return begin(run, as_json=as_json, quiet=quiet, snippet=snippet)
