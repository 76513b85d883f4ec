"""Whether the recommended rate trains better: one epoch of MNIST with one-cycle, at several finders' rates.

    python benchmarks/quality/one_epoch.py ROOT     (the folder ROOT has MNIST/raw, or gets it)

The training is that of the small CNN of configs/mnist_cnn.yaml: one epoch of all 60,000 images, with
one-cycle as the schedule of the lr. For each seed there are four rates: that of `find` for this training,
probed on the packaged 6,000 images; that of `find` for the config's own training, from the same probes; that
of fastai's valley, on a ramp from 1e-7 to 10 with as many steps as the probes took; and 0.01. Then the model
is trained at each rate, for each seed from the same weights and on the same batches, and scored on the 10,000
test images.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import click

from lrfind.analysis.lanes import PlannedLane
from lrfind.analysis.recommendation import recommend
from lrfind.analysis.suggestions import suggest_from
from lrfind.config.experiment import check
from lrfind.config.sections import RangeTestSection
from lrfind.config.templates import starter
from lrfind.experiments.find import planned_training, probe_rates
from lrfind.experiments.prepare import schedule_shape, training_steps
from lrfind.experiments.range_test import range_test
from lrfind.problem.problem import from_config
from lrfind.training.executor import Conditions
from lrfind.training.run import run_lane

SEEDS = 3
FULL = ("data.name=mnist", "training={epochs: 1, schedule: one_cycle}", "looks=0")


@click.command()
@click.argument("root")
def main(root: str) -> None:
    """Train one epoch of MNIST at the rates of several finders; the folder ROOT has MNIST/raw, or gets it."""
    config = check(starter("mnist_cnn"), ["looks=0"])
    packaged = from_config(config)
    as_it_is_steps = training_steps(config.training, packaged)
    experiment = check(starter("mnist_cnn"), [*FULL, f"data.args={{root: '{root}'}}"])
    problem = from_config(experiment)
    steps = training_steps(experiment.training, problem)
    shape = schedule_shape(experiment, problem, steps)
    training = planned_training([problem.setup(0).optimizer], steps, float(shape.multiplier.mean()))
    scores: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        began = time.perf_counter()
        probing = probe_rates(packaged, experiment.find, seed, training)
        seconds = time.perf_counter() - began
        ramp = RangeTestSection(start_lr=1e-7, end_lr=10, steps=probing.cost, seeds=1)
        (curve,) = [lane.curve for lane in range_test(packaged, ramp, seed)]
        as_it_is = replace(training, steps=as_it_is_steps, mean_multiplier=1.0)
        rates = {
            "find": recommend(probing.results, training, probing.cost).lr,
            "find, config": recommend(probing.results, as_it_is, probing.cost).lr,
            "fastai-valley": suggest_from(curve, "fastai-valley", raw=True).lr,
            "0.01": 0.01,
        }
        click.echo(f"seed {seed}: find took {probing.cost} steps, {seconds:.1f} s")
        for name, lr in rates.items():
            lane = run_lane(problem, PlannedLane(0, seed, lr).shaped(shape), Conditions())
            scores.setdefault(name, []).append(lane.metric or 0.0)
            click.echo(f"  {name:15} lr {lr:<9.3g} accuracy {100 * (lane.metric or 0.0):.2f} %")
    click.echo(f"\nafter one epoch ({steps} steps), mean of {SEEDS} seeds:")
    for name, values in scores.items():
        wins = sum(ours > theirs for ours, theirs in zip(scores["find"], values, strict=True))
        beside = "" if name == "find" else f"   (find is higher for {wins} of {SEEDS} seeds)"
        click.echo(f"  {name:15} {100 * statistics.mean(values):.2f} %{beside}")


if __name__ == "__main__":
    main()
