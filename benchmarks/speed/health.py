"""How much time looks at the layers' gradients cost: the same lanes with and without the default looks.

    python benchmarks/speed/health.py [TURNS]

Everything runs in one process, in turns (with, without, with, without, ...). Each time is that of a whole
range test of a ready experiment, with its own number of steps, as one lane ("alone") or as a stack of nine
lanes ("stacked"). The figure is the median over the turns of the ratio of a turn's two times, with the
smallest and the largest ratio beside it. On a noisy machine these ratios hide the small difference that they
should show, so the looks of one lane are also timed by themselves ("counted"), as a share of the median time
of a step times the number of steps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import click
import numpy as np

from lrfind.analysis.health import look_steps
from lrfind.analysis.lanes import Lane
from lrfind.config.experiment import Experiment, check
from lrfind.config.templates import starter
from lrfind.problem.problem import Problem, from_config
from lrfind.training.executor import ON_A_RAMP
from lrfind.training.loop import gauge_of, train
from lrfind.training.run import run_lane
from lrfind.training.stack_executor import StackExecutor
from lrfind.training.stackable import why_not_stackable
from lrfind.training.watch import unwatched

EXPERIMENTS = ("linear_regression", "mnist_mlp", "mnist_cnn", "mnist_rows_lstm", "char_transformer")
LANES = 9


def alone(problem: Problem, looks: int, steps: int) -> None:
    lr = np.full(steps, 1e-5)
    run_lane(problem, Lane(0, 0, lr), replace(ON_A_RAMP, looks=looks))


def stacked(problem: Problem, looks: int, steps: int) -> None:
    lanes = [Lane(number, 0, np.full(steps, 1e-5)) for number in range(LANES)]
    conditions = replace(ON_A_RAMP, looks=looks)
    StackExecutor(problem, lanes, conditions, unwatched, compile=False).advance(steps)


def ratios(way: Callable[[Problem, int, int], None], experiment: Experiment, turns: int) -> list[float]:
    problem, steps = from_config(experiment), experiment.range_test.steps
    way(problem, experiment.looks, steps)  # not timed: the first run imports and allocates
    results = []
    for turn in range(turns):
        seconds = {}
        for looks in (0, experiment.looks) if turn % 2 else (experiment.looks, 0):
            began = time.perf_counter()
            way(problem, looks, steps)
            seconds[looks] = time.perf_counter() - began
        results.append(seconds[experiment.looks] / seconds[0])
    return results


def counted(experiment: Experiment, repeats: int = 25) -> float:
    """Time the looks of one lane by themselves, and return this as a share of the time of its steps."""
    setup, steps = from_config(experiment).setup(0), experiment.range_test.steps
    ticks = [time.perf_counter() for _ in train(setup, np.full(40, 1e-5))]
    parameters, seconds = dict(setup.model.named_parameters()), []
    for _ in range(repeats):
        looks = look_steps(steps, experiment.looks)
        gauge = gauge_of(setup, looks)
        began = time.perf_counter()
        for step in looks:
            gradients = {name: p.grad[None] for name, p in parameters.items() if p.grad is not None}
            gauge.look(step, {name: p.detach()[None] for name, p in parameters.items()}, gradients)
            gauge.updated({name: p.detach()[None] for name, p in parameters.items()})
        gauge.take()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) / (float(np.median(np.diff(ticks))) * steps)


@click.command()
@click.argument("turns", default=9)
def main(turns: int) -> None:
    """Print the time with looks as a multiple of the time without, measured in TURNS turns (9 by default)."""
    click.echo("with looks / without, median over turns [lowest, highest]")
    for name in EXPERIMENTS:
        experiment = check(starter(name))
        click.echo(f"{name:18} {'counted':8} {1 + counted(experiment):.3f}")
        for way in (alone, stacked):
            if way is stacked and why_not_stackable(from_config(experiment).setup(0)):
                continue
            results = ratios(way, experiment, turns)
            spread = f"[{min(results):.3f}, {max(results):.3f}]"
            click.echo(f"{name:18} {way.__name__:8} {statistics.median(results):.3f} {spread}")


if __name__ == "__main__":
    main()
