"""How long a whole sweep over learning rates takes, beside loops as they are usually written.

    python benchmarks/speed/sweep.py [--turns 5] [--threads N] [--ray]     (needs the extra `bench`)

There are three cases, a linear regression, an MLP and a CNN. Everything runs in one process with one seed.
All ways have the same model, rates, steps, batch size and optimizer, at rates at which nothing diverges, and
evaluate once on the validation split after the training at each rate. The ways are:

lrfind lanes       The training alone: `run_lanes`, with the data loaded and the mode calibrated before the
                   clock. The calibration also chooses the number of threads; all other ways use torch's own
                   number, or --threads.
lrfind sweep       All that `lrfind grid` does except plots and start-up: it loads the data, calibrates,
                   trains, fills the database and writes the tables.
preloaded loop     The data is in tensors before the clock, batches are taken by index, and the optimizer is
                   `torch.optim.SGD` with its default settings.
DataLoader loop    The usual loop: a Dataset (images as torchvision.datasets.MNIST serves them: PIL, ToTensor,
                   Normalize; numbers in a TensorDataset) and DataLoader(shuffle=True) without workers.
Optuna             A study over the same rates with an objective as in Optuna's PyTorch example, which makes
                   the loaders of the DataLoader loop.
Ray Tune           With --ray: the same loop as a trainable, in as many processes as there are cores. Ray
                   itself is started before the clock.

For all ways but `lrfind sweep`, the files are read before the clock. The preloaded loop starts from lrfind's
weights and takes lrfind's batches, so it must end at lrfind's losses; the loaders shuffle by themselves. The
ways run in turns, after one turn that does not count. Seconds are medians over the turns; ratios are taken
turn by turn.

The cases are in cases.py, the loops that are not lrfind's in loops.py.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import click
import numpy as np
import optuna
import torch
from cases import BATCH, SEED, SETTINGS, Case, Losses, Timed
from loops import dataloader_loop, optuna_study, preloaded_loop, ray_tune, start_ray

from lrfind.analysis.lanes import LaneResult, Shape, planned_lanes
from lrfind.experiments.sweep import run_sweep
from lrfind.runs.store import Run
from lrfind.training.calibration import computing_with
from lrfind.training.run import run_lanes
from lrfind.training.watch import Observer


def check_finished(results: Iterable[LaneResult], case: Case) -> Losses:
    """Return the losses of lrfind's lanes, all of which must have taken all their steps."""
    losses = {}
    for lane in results:
        if lane.outcome != "finished" or lane.loss.size != case.steps or lane.val_loss is None:
            raise click.ClickException(f"{case.name}: the lane at lr {lane.peak:g} ended as {lane.outcome}")
        losses[lane.peak] = lane.val_loss
    return losses


def lrfind_lanes(case: Case) -> Timed:
    prepared = case.prepared
    results: list[LaneResult] = []
    began = time.perf_counter()
    planned, (job,) = planned_lanes({"": case.rates}, SEED, 1), prepared.jobs
    lanes = [lane.shaped(Shape(np.ones(case.steps))) for lane in planned]
    with computing_with(job.mode.threads):
        run_lanes(job.problem, lanes, prepared.conditions, job.mode, keep=results.extend)
    return time.perf_counter() - began, check_finished(results, case)


def lrfind_sweep(case: Case) -> Timed:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = Run.start(Path(folder) / "run", "grid", case.experiment, case.config, [])
        with run.held():
            run_sweep(run, Observer())
        seconds = time.perf_counter() - began
        case.modes += run.facts().modes
        return seconds, check_finished(run.lanes(), case)


BASE = "lrfind lanes"
WAYS: dict[str, Callable[[Case], Timed]] = {
    BASE: lrfind_lanes,
    "lrfind sweep": lrfind_sweep,
    "preloaded loop": preloaded_loop,
    "DataLoader loop": dataloader_loop,
    "Optuna": optuna_study,
}


def measure(case: Case, turns: int) -> tuple[dict[str, list[float]], dict[str, Losses]]:
    """Return the seconds of every way in every turn that counts, and the losses of the last turn.

    One turn that does not count comes first.
    """
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    losses: dict[str, Losses] = {}
    for turn in range(turns + 1):
        for name, way in WAYS.items():
            gc.collect()
            seconds, losses[name] = way(case)
            if set(losses[name]) != set(case.rates):
                raise click.ClickException(f"{case.name}: {name} did not train at the same rates")
            if turn > 0:
                times[name].append(seconds)
    return times, losses


def report_times(case: Case, times: dict[str, list[float]]) -> None:
    click.echo(
        f"\n{case.name}: {len(case.rates)} rates x {case.steps} steps;"
        f" seconds (median of {len(times[BASE])}), and how many times as long as {BASE}"
    )
    for name, values in times.items():
        ratios = [value / base for value, base in zip(values, times[BASE], strict=True)]
        click.echo(
            f"  {name:16} {statistics.median(values):8.3f}   {statistics.median(ratios):7.2f}"
            f"   ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def report_modes(case: Case) -> None:
    (mode,) = case.prepared.modes
    click.echo(f"  mode of {BASE}: {mode.name}, threads {mode.threads} ({mode.reason})")
    chosen = [f"{choice['name']} with threads {choice['threads']}" for choice in case.modes]
    ratios = [choice["ratio"] for choice in case.modes if choice["ratio"] is not None]
    spread = f"; measured ratios {min(ratios):.2f} to {max(ratios):.2f}" if ratios else ""
    counts = ", ".join(f"{kind} {chosen.count(kind)} of {len(chosen)} times" for kind in sorted({*chosen}))
    click.echo(f"  mode of lrfind sweep, chosen anew each time: {counts}{spread}")


def report_agreement(case: Case, losses: dict[str, Losses]) -> None:
    """Print how far the validation losses of the other ways are from those of `lrfind lanes`."""
    base = losses[BASE]
    best = min(base, key=lambda lr: base[lr])
    click.echo(f"  best lr of {BASE}: {best:.3g}, validation loss {base[best]:.6g}; relative differences:")
    for name, others in losses.items():
        if name != BASE:
            differences = {lr: abs(others[lr] - base[lr]) / base[lr] for lr in base}
            note = "" if name in ("lrfind sweep", "preloaded loop") else "   (batches in another order)"
            click.echo(
                f"    {name:16} {differences[best]:.1e} there, at most {max(differences.values()):.1e}{note}"
            )


@click.command()
@click.option("--turns", default=5, type=click.IntRange(min=1), help="How often each way is measured.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="The number of torch's threads; torch's default when omitted.",
)
@click.option("--ray", is_flag=True, help="Also measure Ray Tune, which takes a minute for each turn.")
@click.option(
    "--case",
    "names",
    type=click.Choice([*SETTINGS]),
    multiple=True,
    help="Measure only this case; may be repeated.",
)
def main(turns: int, threads: int | None, ray: bool, names: tuple[str, ...]) -> None:
    """Print how long a sweep takes, for a linear regression, an MLP and a CNN."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if threads is not None:
        torch.set_num_threads(threads)
    ray_version = ""
    if ray:
        ray_version = f", {start_ray()}"
        WAYS["Ray Tune"] = ray_tune
    click.echo(
        f"torch {torch.__version__}, optuna {optuna.__version__}, {torch.get_num_threads()} threads,"
        f" batch {BATCH}, seed {SEED}" + ray_version
    )
    for name in names or SETTINGS:
        case = Case(name)
        times, losses = measure(case, turns)
        report_times(case, times)
        report_modes(case)
        report_agreement(case, losses)


if __name__ == "__main__":
    main()
