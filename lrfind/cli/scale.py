"""The command for batch sizes: scale."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.analysis.batch_size import RULES, Scaled, scale_lr
from lrfind.catalog import OPTIMIZERS
from lrfind.cli.completion import complete_names
from lrfind.cli.help import SETTINGS, Command, option
from lrfind.cli.options import common_options, config_options, is_quiet, json_option, load, print_json
from lrfind.errors import UsageError, counted, listed, sentence
from lrfind.views.terminal import note, show

if TYPE_CHECKING:
    from lrfind.analysis.noise_scale import NoiseScale
    from lrfind.config.experiment import Experiment

MOST_STEPS = 100  # unless --steps says more


@click.command(
    cls=Command,
    examples=(
        ("lrfind scale --lr 0.1 --from-batch 128 --to-batch 1024", "sgd"),
        ("lrfind scale my.yaml --measure", "measure the noise"),
    ),
)
@option("--lr", group=SETTINGS, type=float, metavar="LR", help="The lr that is good now.")
@option(
    "--from-batch",
    group=SETTINGS,
    type=int,
    metavar="ROWS",
    help="The batch size that this lr is good for: the rows of all workers together.",
)
@option("--to-batch", group=SETTINGS, type=int, metavar="ROWS", help="The new batch size of each worker.")
@option(
    "--workers",
    group=SETTINGS,
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="The new number of workers.",
)
@option(
    "--rule",
    group=SETTINGS,
    type=click.Choice(RULES),
    default="auto",
    show_default=True,
    help="The rule; auto chooses the one for the optimizer.",
)
@option(
    "--optimizer",
    group=SETTINGS,
    metavar="NAME",
    shell_complete=complete_names(OPTIMIZERS),
    help="The optimizer; see `lrfind ls optimizers`. If omitted, sgd.",
)
@option(
    "--measure",
    group=SETTINGS,
    is_flag=True,
    help="Measure the noise scale of CONFIG's gradients, and use it.",
)
@option(
    "--steps",
    group=SETTINGS,
    type=int,
    metavar="N",
    help="The number of steps to train while measuring; if omitted, at most 100.",
)
@option(
    "--batches",
    group=SETTINGS,
    type=int,
    metavar="N",
    help="The number of batches for each measurement; if omitted, 16.",
)
@json_option
@config_options
@common_options
def scale(
    config: Path | None,
    overrides: tuple[str, ...],
    lr: float | None,
    from_batch: int | None,
    to_batch: int | None,
    workers: int,
    rule: str,
    optimizer: str | None,
    measure: bool,
    steps: int | None,
    batches: int | None,
    as_json: bool,
) -> int:
    """Scale an lr to another batch size.

    Use it when a rate is known for one batch size and you change the batch size or the number of workers.
    With --measure, it uses the noise of CONFIG's gradients; then it takes --lr, --from-batch and --optimizer
    from CONFIG unless you give them, and you may leave --to-batch out.
    """
    measured: list[NoiseScale] = []
    settings: dict[str, Any] = {}
    if measure:
        experiment, _ = load(config, overrides)
        lr = experiment.optimizer.lr if lr is None else lr
        optimizer = optimizer or experiment.optimizer.name
        settings = _settings(experiment) if optimizer == experiment.optimizer.name else {}
        # Check before the training whether the lr can be scaled.
        rows = 1 if from_batch is None else from_batch
        _scaled(lr, rows, to_batch, workers=workers, rule=rule, optimizer=optimizer)
        measured = _measure(experiment, lr, steps, 16 if batches is None else batches)
        if from_batch is None:
            from_batch = measured[0].rows * experiment.training.accumulate
        settings["noise_scale"] = next((at.scale for at in reversed(measured) if at.scale is not None), None)
    else:
        _check_arithmetic(
            {"--lr": lr, "--from-batch": from_batch, "--to-batch": to_batch},
            {"CONFIG": config, "--set": overrides or None, "--steps": steps, "--batches": batches},
        )
    assert lr is not None
    assert from_batch is not None
    total = None if to_batch is None else to_batch * workers
    scaled = _scaled(
        lr, from_batch, to_batch, workers=workers, rule=rule, optimizer=optimizer or "sgd", **settings
    )
    implied = _implied(measured, from_batch, total)
    if as_json:
        answer = None if scaled is None else asdict(scaled)
        print_json({"answer": answer, "noise_scale": [asdict(at) for at in measured], "implies": implied})
        return 0
    from lrfind.views.text.scale import noise_scale_text, scaled_text

    parts = [noise_scale_text(measured), "\n".join(implied)] if measured else []
    if scaled is not None:
        parts.append(scaled_text(scaled, lr, from_batch, total))
    show("\n\n".join(parts))
    return 0


def _check_arithmetic(needed: dict[str, Any], idle: dict[str, Any]) -> None:
    """Check, without --measure, that all numbers are given, and no option that needs --measure."""
    useless = [name for name, value in idle.items() if value is not None]
    if useless:
        raise UsageError(f"{useless[0]} is of use only with --measure; add --measure, or leave it out.")
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise UsageError(
            f"give {listed(missing)} too, or give --measure, which takes them from a config and measures its"
            " noise scale."
        )


def _scaled(lr: float, from_batch: int, to_batch: int | None, **options: Any) -> Scaled | None:
    return None if to_batch is None else scale_lr(lr, from_batch, to_batch, **options)


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Return the config's values of the settings that the rules change."""
    args = experiment.optimizer.args
    settings: dict[str, Any] = {"eps": args.get("eps")}
    if isinstance(args.get("betas"), list):  # if not, the optimizer reports the mistake
        settings["betas"] = tuple(args["betas"])
    elif "alpha" in args:
        settings["betas"] = (0.0, args["alpha"])
    return settings


def _measure(experiment: Experiment, lr: float, steps: int | None, batches: int) -> list[NoiseScale]:
    from lrfind.experiments.noise_scale import measure
    from lrfind.experiments.prepare import training_steps
    from lrfind.problem.problem import from_config
    from lrfind.training.eager import eager_optimizers

    problem = from_config(experiment)
    if steps is None:
        steps = min(training_steps(experiment.training, problem), MOST_STEPS)
    if not is_quiet():
        note(f"measuring the noise scale along {counted(steps, 'step')} at lr {lr:.3g}")
    with eager_optimizers():
        return measure(problem, experiment.seed, lr, steps=steps, batches=batches)


def _implied(measured: list[NoiseScale], batch: int, to_batch: int | None) -> list[str]:
    """Return the implications of the last noise scale that could be measured, as sentences."""
    if not measured:
        return []
    from lrfind.analysis.noise_scale import implication

    last = next((at for at in reversed(measured) if at.scale is not None), measured[-1])
    ended = measured[-1]
    cut = [f"{sentence(ended.note)}."] if ended.note and ended is not last else []
    return [*cut, *implication(last, batch, to_batch)]
