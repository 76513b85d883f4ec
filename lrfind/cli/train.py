"""The command over a final training: train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.cli.execute import begin
from lrfind.cli.options import (
    config_options,
    json_option,
    load,
    note,
    option_overrides,
    out_option,
    quiet_option,
)
from lrfind.config.document import Override
from lrfind.errors import UsageError

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment

KEYS = {
    "lr": "optimizer.lr",
    "seed": "seed",
    "device": "device",
    **{
        name: f"training.{name}"
        for name in ("schedule", "steps", "epochs", "seeds", "eval_every", "checkpoint_every", "precision")
    },
    "init_from": "model.init_from",
}


@click.command()
@config_options
@out_option
@click.option("--lr", metavar="LR", help="The learning rate: the peak of the schedule.")
@click.option(
    "--from",
    "found_by",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Take what a run found; without CONFIG, also its config.",
)
@click.option("--schedule", metavar="NAME", help="See `lrfind ls schedules`; or {name: ..., args: ...}.")
@click.option("--steps", metavar="N", help="Training steps.")
@click.option("--epochs", metavar="N", help="The same in epochs.")
@click.option("--seeds", metavar="N", help="How many trainings: own weights and batch order each.")
@click.option("--seed", metavar="N", help="The first seed.")
@click.option("--eval-every", metavar="N", help="Steps between evaluations on the validation split.")
@click.option("--checkpoint-every", metavar="N", help="Steps between checkpoints; else every half minute.")
@click.option("--precision", metavar="NAME", help="float32, bfloat16 or float16.")
@click.option("--init-from", metavar="FILE", help="A state dict to start from.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")
@json_option
@quiet_option
def train(
    config: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    found_by: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Train at the chosen learning rate, with schedule, validation and checkpoints, to weights in a file."""
    if options["steps"] is not None and options["epochs"] is not None:
        raise UsageError("give --steps or --epochs, not both.")
    given = [*map(Override.of, overrides), *option_overrides(options, KEYS)]
    if found_by is not None and options["lr"] is not None:
        raise UsageError("give --lr or --from, not both.")
    from lrfind.runs.store import Run, default_path

    if found_by is None:
        experiment, text = load(config, given, quiet)
    else:
        experiment, text = _as_found(found_by, config, given, quiet)
    path = out or default_path(experiment.name, "train")
    run = Run.start(path, "train", experiment, text, [override.text for override in given])
    if not quiet and found_by is not None:
        lr = f"{experiment.optimizer.lr:.3g}"
        note(f"from {found_by}: lr {lr}, schedule {experiment.training.schedule.name}")
    return begin(run, as_json=as_json, quiet=quiet)


def _as_found(
    found_by: Path, config: Path | None, given: list[Override], quiet: bool
) -> tuple[Experiment, str]:
    """A config with what a run found: the run's own, or the one given."""
    from lrfind.config.experiment import check, dump
    from lrfind.config.variants import variants_of
    from lrfind.config.yaml12 import dump as yaml_text
    from lrfind.runs.store import Run
    from lrfind.runs.summary import found_experiment

    run = Run.open(found_by)
    found = found_experiment(run)
    if config is None:
        text = dump(found)
        return check(text, given, f"{found_by} (its config)"), text
    overrides = [Override.option("--from", "optimizer.lr", repr(found.optimizer.lr))]
    compared = variants_of(run.experiment, run.facts()["command"])
    if len(compared) > 1:  # then the lr alone is half of the answer
        plain = found.model_dump(mode="json", exclude_none=True)
        parts = {"optimizer": plain["optimizer"], "training.schedule": plain["training"]["schedule"]}
        overrides = [
            Override.option("--from", key, yaml_text(part, flow=True)) for key, part in parts.items()
        ]
    return load(config, [*overrides, *given], quiet)
