"""The command over batch sizes: scale."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.analysis.batch_size import RULES, Scaled, scale_lr
from lrfind.cli.options import (
    config_options,
    json_option,
    load,
    note,
    print_json,
    quiet_option,
)
from lrfind.errors import UsageError

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment
    from lrfind.experiments.noise_scale import NoiseScale

MOST_STEPS = 100  # unless --steps says more


@click.command()
@config_options
@click.option("--lr", type=float, metavar="LR", help="The lr that is good now.")
@click.option("--from-batch", type=int, metavar="ROWS", help="The batch size that it is good at, in all.")
@click.option("--to-batch", type=int, metavar="ROWS", help="The batch size to come, of each worker.")
@click.option("--workers", type=int, default=1, metavar="N", help="Workers to come; default: 1.")
@click.option("--rule", type=click.Choice(RULES), default="auto", help="auto: by the optimizer.")
@click.option("--optimizer", metavar="NAME", help="See `lrfind ls optimizers`; default: sgd.")
@click.option("--measure", is_flag=True, help="Measure the noise scale of CONFIG, and use it.")
@click.option("--steps", type=int, metavar="N", help="Steps to train meanwhile; default: at most 100.")
@click.option("--batches", type=int, metavar="N", help="Batches to measure at a time; default: 16.")
@json_option
@quiet_option
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
    quiet: bool,
) -> int:
    """Scale a learning rate to another batch size; with --measure, by the noise of CONFIG's gradients.

    With --measure, --lr, --from-batch and --optimizer are those of CONFIG unless given, and --to-batch may
    be left out.
    """
    measured: list[NoiseScale] = []
    known: dict[str, Any] = {}
    if measure:
        experiment, _ = load(config, overrides, quiet)
        lr = experiment.optimizer.lr if lr is None else lr
        optimizer = optimizer or experiment.optimizer.name
        known = _settings(experiment) if optimizer == experiment.optimizer.name else {}
        rows = 1 if from_batch is None else from_batch  # what cannot be scaled is said before the training
        _scaled(lr, rows, to_batch, workers=workers, rule=rule, optimizer=optimizer)
        measured = _measure(experiment, lr, steps, 16 if batches is None else batches, quiet)
        if from_batch is None:
            from_batch = measured[0].rows * experiment.training.accumulate
        known["noise_scale"] = next((at.scale for at in reversed(measured) if at.scale is not None), None)
    else:
        _check_arithmetic(
            {"--lr": lr, "--from-batch": from_batch, "--to-batch": to_batch},
            {"CONFIG": config, "--set": overrides or None, "--steps": steps, "--batches": batches},
        )
    assert lr is not None
    assert from_batch is not None
    total = None if to_batch is None else to_batch * workers
    scaled = _scaled(
        lr, from_batch, to_batch, workers=workers, rule=rule, optimizer=optimizer or "sgd", **known
    )
    implied = _implied(measured, from_batch, total)
    if as_json:
        print_json(
            {
                "scaled": None if scaled is None else asdict(scaled),
                "noise_scale": [asdict(at) for at in measured],
                "implies": implied,
            }
        )
        return 0
    parts = []
    if measured:
        parts += [_measured_text(measured), "\n".join(implied)]
    if scaled is not None:
        parts.append(_scaled_text(scaled, lr, from_batch, total))
    click.echo("\n\n".join(parts))
    return 0


def _check_arithmetic(needed: dict[str, Any], idle: dict[str, Any]) -> None:
    """Without --measure, all the numbers must be given, and nothing is read or trained."""
    given = [name for name, value in idle.items() if value is not None]
    if given:
        raise UsageError(f"{given[0]} is of use with --measure alone; add that, or leave it out.")
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise UsageError(
            f"give {', '.join(missing)} too; or --measure, which takes them from a config and measures its"
            " noise scale."
        )


def _scaled(lr: float, from_batch: int, to_batch: int | None, **options: Any) -> Scaled | None:
    return None if to_batch is None else scale_lr(lr, from_batch, to_batch, **options)


def _settings(experiment: Experiment) -> dict[str, Any]:
    """What a config says of the settings that the rules change."""
    args = experiment.optimizer.args
    known: dict[str, Any] = {"eps": args.get("eps")}
    if isinstance(args.get("betas"), list):  # or else the optimizer says what is wrong
        known["betas"] = tuple(args["betas"])
    elif "alpha" in args:
        known["betas"] = (0.0, args["alpha"])
    return known


def _measure(
    experiment: Experiment, lr: float, steps: int | None, batches: int, quiet: bool
) -> list[NoiseScale]:
    from lrfind.experiments.noise_scale import measure
    from lrfind.experiments.prepare import training_steps
    from lrfind.problem.problem import from_config

    problem = from_config(experiment)
    if steps is None:
        steps = min(training_steps(experiment.training, problem), MOST_STEPS)
    if not quiet:
        note(f"measuring the noise scale along {steps} steps at lr {lr:.3g}")
    return measure(problem, experiment.seed, lr, steps=steps, batches=batches)


def _implied(measured: list[NoiseScale], batch: int, to_batch: int | None) -> list[str]:
    """What the last noise scale that is known implies."""
    if not measured:
        return []
    from lrfind.experiments.noise_scale import implication

    last = next((at for at in reversed(measured) if at.scale is not None), measured[-1])
    ended = measured[-1]
    cut = [f"{ended.note[0].upper()}{ended.note[1:]}."] if ended.note and ended is not last else []
    return [*cut, *implication(last, batch, to_batch)]


def _measured_text(measured: list[NoiseScale]) -> str:
    from lrfind.views.text.parts import number, table_text

    def cell(value: float | None) -> str:
        return "-" if value is None else number(value)

    rows = []
    for at in measured:
        between = "-"
        if at.low is not None:
            between = f"{cell(at.low)} to {cell(at.high)}" if at.high else f"above {cell(at.low)}"
        rows.append([str(at.step), cell(at.scale), between, cell(at.gradient), cell(at.trace)])
    first = measured[0]
    header = ("step", "scale", "95 %", "|G|^2", "tr(Sigma)")
    lines = [
        f"Gradient noise scale, in rows ({first.batches} batches of {first.rows} at a time)",
        "",
        *(f"  {line}" for line in table_text(header, rows).splitlines()),
        *(f"  step {at.step}: {at.note}" for at in measured if at.note),
    ]
    return "\n".join(lines)


def _scaled_text(scaled: Scaled, lr: float, from_batch: int, total: int | None) -> str:
    lines = [
        f"Learning rate for batches of {total}: {scaled.lr:.4g}",
        f"  from {lr:.4g} at {from_batch}: batch size x {scaled.batch_factor:.4g}, lr x {scaled.factor:.4g}",
        f"  rule: {scaled.rule}, {scaled.source}",
    ]
    if scaled.settings:
        lines.append(f"  with it: {', '.join(f'{k} {_plain(v)}' for k, v in scaled.settings.items())}")
    if scaled.warmup:
        lines.append(f"  warmup: {scaled.warmup}")
    return "\n".join([*lines, *(f"note: {text}" for text in scaled.notes)])


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_plain, value))})"
    return f"{value:.6g}"
