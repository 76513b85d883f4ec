"""How long a whole sweep over learning rates takes, beside loops as they are usually written.

    python benchmarks/speed/sweep.py [--turns 5] [--one-core] [--longer 4] [--preloaded] [--json PATH]

It needs the extra `bench`. There are three cases, a linear regression, an MLP and a CNN, with one seed. All
ways have the same model, rates, steps, batch size and optimizer, at rates at which nothing diverges, and
evaluate once on the validation split after the training at each rate. The ways are:

lrfind sweep       All that `lrfind grid` does except plots and start-up: it loads the data, chooses the mode,
                   trains, fills the database and writes the tables. It may use all cores.
lrfind lanes       The training alone: `run_lanes`, with the data loaded and the mode chosen before the clock.
preloaded loop     The data is in tensors before the clock, batches are taken by index, and the optimizer is
                   `torch.optim.SGD` with its default settings.
DataLoader loop    The usual loop: a Dataset (images as torchvision.datasets.MNIST serves them: PIL, ToTensor,
                   Normalize; numbers in a TensorDataset) and DataLoader(shuffle=True) without workers.
Optuna             A study over the same rates with an objective as in Optuna's PyTorch example, which makes
                   the loaders of the DataLoader loop.
Ray Tune           With --ray: the same loop as a trainable, in as many processes as there are cores. Ray
                   itself is started before the clock.
named modes        With --named: `lrfind sweep` with `lanes: single`, on one thread and on torch's own number
                   of threads, and with `lanes: stacked` on one thread; the loops are left out then.

For all ways but `lrfind sweep`, the files are read before the clock. The preloaded loop starts from lrfind's
weights and takes lrfind's batches, so it must end at lrfind's losses; the loaders shuffle by themselves. The
ways run in turns, after one turn that does not count. Seconds are medians over the turns; ratios are taken
turn by turn. --one-core leaves one core and one thread to this process, --busy keeps another process busy on
one of the cores, --longer multiplies the steps, and --preloaded leaves out the loops with a DataLoader.

The cases are in cases.py, the loops that are not lrfind's in loops.py.
"""

from __future__ import annotations

import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click
import numpy as np
import optuna
import torch
from cases import BATCH, SEED, SETTINGS, Case, Losses, Timed
from figures import Row, write
from loops import dataloader_loop, optuna_study, preloaded_loop, ray_tune, start_ray

from lrfind.analysis.lanes import LaneResult, Shape, planned_lanes
from lrfind.config.experiment import check
from lrfind.experiments.sweep import run_sweep
from lrfind.runs.store import Run
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
    run_lanes(job.problem, lanes, prepared.conditions, job.mode, keep=results.extend)
    return time.perf_counter() - began, check_finished(results, case)


def lrfind_sweep(case: Case, overrides: Sequence[str] = ()) -> Timed:
    experiment = check(case.config, overrides)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = Run.start(Path(folder) / "run", "grid", experiment, case.config, [*overrides])
        with run.held():
            run_sweep(run, Observer())
        seconds = time.perf_counter() - began
        if not overrides:
            case.modes += run.facts().modes
        return seconds, check_finished(run.lanes(), case)


def named_sweep(lanes: str, threads: int) -> Callable[[Case], Timed]:
    """Return the way that names the mode."""

    def sweep(case: Case) -> Timed:
        return lrfind_sweep(case, [f"grid.lanes={lanes}", f"grid.threads={threads}"])

    return sweep


SHUFFLED = ("DataLoader loop", "Optuna", "Ray Tune")
BASE, LANES = "lrfind sweep", "lrfind lanes"
LOOPS: dict[str, Callable[[Case], Timed]] = {
    LANES: lrfind_lanes,
    "preloaded loop": preloaded_loop,
    "DataLoader loop": dataloader_loop,
    "Optuna": optuna_study,
}


def measure(
    case: Case, ways: Mapping[str, Callable[[Case], Timed]], turns: int
) -> tuple[dict[str, list[float]], dict[str, Losses]]:
    """Return the seconds of every way in every turn that counts, and the losses of the last turn.

    One turn that does not count comes first.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, Losses] = {}
    for turn in range(turns + 1):
        for name, way in ways.items():
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
    """Print the modes that `lrfind sweep` chose, anew in each turn."""
    chosen = [
        f"{mode['name']} in {mode['processes']} processes with {mode['threads']} threads"
        for mode in case.modes
    ]
    counts = ", ".join(f"{kind} {chosen.count(kind)} of {len(chosen)} times" for kind in sorted({*chosen}))
    click.echo(f"  mode of {BASE}: {counts}")
    click.echo(f"  because {case.modes[-1]['reason']}")


def report_agreement(case: Case, losses: dict[str, Losses]) -> None:
    """Print how far the validation losses of the other ways are from those of `lrfind lanes`."""
    base = losses[BASE]
    best = min(base, key=lambda lr: base[lr])
    click.echo(f"  best lr of {BASE}: {best:.3g}, validation loss {base[best]:.6g}; relative differences:")
    for name, others in losses.items():
        if name != BASE:
            differences = {lr: abs(others[lr] - base[lr]) / base[lr] for lr in base}
            note = "   (batches in another order)" if name in SHUFFLED else ""
            click.echo(
                f"    {name:16} {differences[best]:.1e} there, at most {max(differences.values()):.1e}{note}"
            )


def rows_of(case: Case, times: Mapping[str, Sequence[float]], where: str) -> list[Row]:
    rows = []
    for name, values in times.items():
        ratios = sorted(value / base for value, base in zip(values, times[BASE], strict=True))
        rows.append(
            Row(
                f"{case.name}, {len(case.rates)} rates x {case.steps} steps, {where}",
                name,
                statistics.median(values),
                statistics.median(ratios),
                f"times as long as {BASE}, {ratios[0]:.2f} to {ratios[-1]:.2f}",
            )
        )
    return rows


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep another process busy on the first of this process's cores."""
    core = min(os.sched_getaffinity(0))
    command = f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", command]) as process:
        try:
            yield
        finally:
            process.kill()


@click.command()
@click.option("--turns", default=5, type=click.IntRange(min=1), help="How often each way is measured.")
@click.option("--one-core", is_flag=True, help="Use one core and one thread.")
@click.option("--longer", default=1, type=click.IntRange(min=1), help="Multiply the steps by this number.")
@click.option("--preloaded", is_flag=True, help="Compare with the loop over preloaded tensors only.")
@click.option("--named", is_flag=True, help="Compare with named modes instead of with other loops.")
@click.option("--busy", is_flag=True, help="Keep another process busy on one of the cores.")
@click.option("--ray", is_flag=True, help="Also measure Ray Tune, which takes a minute for each turn.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write the figures to this file.")
@click.option(
    "--case",
    "names",
    type=click.Choice([*SETTINGS]),
    multiple=True,
    help="Measure only this case; may be repeated.",
)
def main(
    turns: int,
    one_core: bool,
    longer: int,
    preloaded: bool,
    named: bool,
    busy: bool,
    ray: bool,
    path: Path | None,
    names: tuple[str, ...],
) -> None:
    """Print how long a sweep takes, for a linear regression, an MLP and a CNN."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    threads = torch.get_num_threads()
    if one_core:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        threads = 1
        torch.set_num_threads(threads)
    ways: dict[str, Callable[[Case], Timed]] = {BASE: lrfind_sweep}
    if named:
        named_modes = [*(("single", count) for count in sorted({1, threads})), ("stacked", 1)]
        ways |= {f"{lanes}, {count} threads": named_sweep(lanes, count) for lanes, count in named_modes}
    else:
        ways |= {name: way for name, way in LOOPS.items() if not (preloaded and name in SHUFFLED)}
    ray_version = ""
    if ray:
        ray_version = f", {start_ray()}"
        ways["Ray Tune"] = ray_tune
    cores = len(os.sched_getaffinity(0))
    where = f"{cores} core{'s' if cores > 1 else ''}" + (", one of them busy" if busy else "")
    click.echo(
        f"torch {torch.__version__}, optuna {optuna.__version__}, {where}, {threads} threads, batch {BATCH},"
        f" seed {SEED}{ray_version}"
    )
    rows: list[Row] = []
    with busy_core() if busy else nullcontext():
        for name in names or SETTINGS:
            case = Case(name, longer)
            times, losses = measure(case, ways, turns)
            report_times(case, times)
            report_modes(case)
            report_agreement(case, losses)
            rows += rows_of(case, times, where)
    if path is not None:
        write(path, rows)


if __name__ == "__main__":
    main()
