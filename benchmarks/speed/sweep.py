"""How long a whole sweep over learning rates takes, beside loops as they are usually written.

    python benchmarks/speed/sweep.py [--turns 5] [--threads N] [--ray]  (from the root; needs the extra bench)

Three cases, each in one process with one seed: the same model, rates, steps, batch size and optimizer for
everybody, rates at which nothing diverges, and one evaluation on the validation split at the end of a rate.

lrfind lanes       the training alone: `run_lanes`, with data loaded and engine calibrated before the clock
                   (also how many threads lanes take; everybody else has torch's own number, or --threads)
lrfind sweep       all that `lrfind grid` does but plots and start-up: loads the data, calibrates, trains,
                   fills the database, writes the tables
preloaded loop     data in tensors before the clock, batches by index, `torch.optim.SGD` as it comes
DataLoader loop    the usual: a Dataset (images as torchvision.datasets.MNIST serves them: PIL, ToTensor,
                   Normalize; numbers in a TensorDataset), DataLoader(shuffle=True) without workers
Optuna             a study with an objective as in Optuna's PyTorch example, over the same rates, with the
                   loaders of the DataLoader loop made in the objective
Ray Tune           with --ray: the same loop as a trainable, in as many processes as there are cores; Ray
                   itself is started before the clock

All but `lrfind sweep` find their files read before the clock. The preloaded loop starts from lrfind's weights
and takes lrfind's batches, so that it must end at lrfind's losses; the loaders shuffle for themselves.
Ways are taken in turns, after one turn that does not count. Seconds are medians over the turns; ratios are
taken turn by turn.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from lrfind.analysis.lanes import LaneResult, Shape, planned_lanes
from lrfind.config.experiment import check
from lrfind.datasets.mnist import MNIST_SCALE, mnist_mini
from lrfind.datasets.regression import regression
from lrfind.datasets.tensors import TensorData
from lrfind.experiments.prepare import prepare
from lrfind.experiments.rounds import first_peaks
from lrfind.experiments.sweep import run_sweep
from lrfind.models.linear import Linear
from lrfind.models.mlp import MLP
from lrfind.models.small_cnn import SmallCNN
from lrfind.problem.randomness import child_seed
from lrfind.runs.store import Run
from lrfind.training.calibration import computing_with
from lrfind.training.run import run_lanes

SEED = 0
BATCH, HELD_BATCH = 64, 1000
LOW, HIGH = 1e-4, 1e-2
MNIST = "{name: mnist_mini, batch_size: 64}"
CONFIG = """
seed: {seed}
device: cpu
model: {model}
data: {data}
loss: {loss}
optimizer: {{name: sgd, args: {{momentum: {momentum}}}}}
training: {{steps: {steps}}}
grid: {{low: {low}, high: {high}, points: {rates}, seeds: 1}}
"""


@dataclass(frozen=True)
class Setting:
    """What is trained, in the words of a config and in plain torch."""

    model: str
    make_model: Callable[[], nn.Module]
    data: str
    load: Callable[[], TensorData]
    loss: str
    loss_fn: nn.Module
    momentum: float
    rates: int
    steps: int


SETTINGS = {
    "linear": Setting(
        "linear",
        lambda: Linear(8, 1),
        "{name: regression, batch_size: 64, args: {samples: 512, features: 8}}",
        lambda: regression(samples=512, features=8),
        "mse",
        nn.MSELoss(),
        momentum=0.0,
        rates=16,
        steps=300,
    ),
    "mlp": Setting(
        "{name: mlp, args: {hidden: [128, 64]}}",
        lambda: MLP(784, 10, (128, 64)),
        MNIST,
        mnist_mini,
        "cross_entropy",
        nn.CrossEntropyLoss(),
        momentum=0.9,
        rates=8,
        steps=150,
    ),
    "cnn": Setting(
        "{name: small_cnn, args: {channels: [16, 32, 32]}}",
        lambda: SmallCNN(1, (28, 28), 10, (16, 32, 32)),
        MNIST,
        mnist_mini,
        "cross_entropy",
        nn.CrossEntropyLoss(),
        momentum=0.9,
        rates=6,
        steps=60,
    ),
}


class Images(Dataset[Any]):
    """Images as torchvision.datasets.MNIST serves them: one at a time, through PIL and transforms."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self._images, self._labels = images, labels
        mean, deviation = MNIST_SCALE
        self._transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((mean,), (deviation,))]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, i: int) -> Any:
        image = Image.fromarray(self._images[i].numpy())
        return self._transform(image), int(self._labels[i])


def raw_images() -> dict[str, Tensor]:
    """The images of `mnist_mini` as they are on the disk, in bytes."""
    with (resources.files("lrfind.datasets") / "mnist_mini.npz").open("rb") as file:
        held = np.load(file)
        return {name: torch.from_numpy(held[name]) for name in held.files}


class Case:
    """One setting and everything that is not timed: data in tensors and bytes, problem and engine."""

    def __init__(self, name: str) -> None:
        self.name, self.setting = name, SETTINGS[name]
        self.steps, self.loss_fn = self.setting.steps, self.setting.loss_fn
        self.config = CONFIG.format(seed=SEED, low=LOW, high=HIGH, **vars(self.setting))
        self.experiment = check(self.config)
        self.rates = first_peaks(self.experiment.grid, SEED)
        self.tensors = self.setting.load()
        self.raw = raw_images() if self.setting.data == MNIST else None
        self.prepared = prepare(self.experiment, "grid")
        self.engines: list[dict[str, Any]] = []  # that `lrfind sweep` chose, each time anew

    def model(self) -> nn.Module:
        """A fresh model, always with the weights that lrfind starts from."""
        torch.manual_seed(child_seed(SEED, "weights"))
        return self.setting.make_model()

    def optimizer(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=self.setting.momentum)

    def loaders(self) -> tuple[DataLoader[Any], DataLoader[Any]]:
        """Of the training and the validation split."""
        train, held = (
            (TensorDataset(*self.tensors.train), TensorDataset(*self.tensors.validation))
            if self.raw is None
            else (
                Images(self.raw["train_images"], self.raw["train_labels"]),
                Images(self.raw["validation_images"], self.raw["validation_labels"]),
            )
        )
        return DataLoader(train, batch_size=BATCH, shuffle=True), DataLoader(held, batch_size=HELD_BATCH)


Losses = dict[float, float]
"""By rate: the loss on the validation split at the end."""
Timed = tuple[float, Losses]


def held_score(loss_fn: nn.Module, model: nn.Module, batches: Iterable[Any]) -> tuple[float, float]:
    """Loss and, where there are classes, accuracy on the validation split."""
    model.eval()
    loss = right = 0.0
    rows = 0
    with torch.no_grad():
        for x, y in batches:
            output = model(x)
            loss += loss_fn(output, y).item() * len(x)
            if not y.is_floating_point():
                right += (output.argmax(1) == y).sum().item()
            rows += len(x)
    return loss / rows, right / rows


def check_finished(results: Iterable[LaneResult], case: Case) -> Losses:
    """The losses of lrfind's lanes, all of which must have taken all their steps."""
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
    planned, (problem,), (engine,) = (
        planned_lanes({"": case.rates}, SEED, 1),
        prepared.problems,
        prepared.engines,
    )
    lanes = [lane.shaped(Shape(np.ones(case.steps))) for lane in planned]
    with computing_with(engine.threads):
        run_lanes(problem, lanes, prepared.conditions, engine, keep=results.extend)
    return time.perf_counter() - began, check_finished(results, case)


def lrfind_sweep(case: Case) -> Timed:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = Run.start(Path(folder) / "run", "grid", case.experiment, case.config, [])
        with run.held():
            run_sweep(run)
        seconds = time.perf_counter() - began
        case.engines += run.facts()["engines"]
        return seconds, check_finished(run.lanes(), case)


def index_batches(case: Case) -> Iterator[tuple[Tensor, Tensor]]:
    x, y = case.tensors.train
    order = torch.Generator().manual_seed(child_seed(SEED, "order"))
    while True:
        index = torch.randperm(len(x), generator=order)
        for start in range(0, len(x) - BATCH + 1, BATCH):
            chosen = index[start : start + BATCH]
            yield x[chosen], y[chosen]


def trained(case: Case, lr: float, batches: Iterator[Any]) -> nn.Module:
    """A model trained as people write it, with the loss of each step on record."""
    model = case.model()
    optimizer = case.optimizer(model, lr)
    losses = []
    for _ in range(case.steps):
        x, y = next(batches)
        optimizer.zero_grad()
        loss = case.loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model


def preloaded_loop(case: Case) -> Timed:
    found: Losses = {}
    began = time.perf_counter()
    for lr in case.rates:
        model = trained(case, lr, index_batches(case))
        found[lr], _ = held_score(case.loss_fn, model, [case.tensors.validation])
    return time.perf_counter() - began, found


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def dataloader_loop(case: Case) -> Timed:
    found: Losses = {}
    began = time.perf_counter()
    train, held = case.loaders()
    for lr in case.rates:
        model = trained(case, lr, endless(train))
        found[lr], _ = held_score(case.loss_fn, model, held)
    return time.perf_counter() - began, found


def optuna_study(case: Case) -> Timed:
    found: Losses = {}
    classes = case.raw is not None

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", case.rates[0], case.rates[-1], log=True)
        train, held = case.loaders()
        model = case.model()
        optimizer = case.optimizer(model, lr)
        batches = endless(train)
        for _ in range(case.steps):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = case.loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        found[lr], accuracy = held_score(case.loss_fn, model, held)
        value = accuracy if classes else found[lr]
        trial.report(value, case.steps)
        return value

    began = time.perf_counter()
    sampler = optuna.samplers.GridSampler({"lr": case.rates}, seed=SEED)
    study = optuna.create_study(direction="maximize" if classes else "minimize", sampler=sampler)
    study.optimize(objective, n_trials=len(case.rates))
    return time.perf_counter() - began, found


def ray_tune(case: Case) -> Timed:
    """A grid of Ray Tune: as many trials at a time as there are cores, each in a process of its own."""
    from ray import tune

    setting, loaders = case.setting, case.loaders()

    def objective(config: dict[str, float]) -> None:
        train, held = loaders
        model = setting.make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=setting.momentum)
        batches = endless(train)
        for _ in range(setting.steps):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = setting.loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        loss, accuracy = held_score(setting.loss_fn, model, held)
        tune.report({"loss": loss, "accuracy": accuracy})

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        tuner = tune.Tuner(
            objective,
            param_space={"lr": tune.grid_search(case.rates)},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
        seconds = time.perf_counter() - began
    return seconds, {result.config["lr"]: result.metrics["loss"] for result in results}


def start_ray() -> str:
    """Start Ray outside the clock and add its way; says which it is."""
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    WAYS["Ray Tune"] = ray_tune
    return f"ray {ray.__version__}"


BASE = "lrfind lanes"
WAYS: dict[str, Callable[[Case], Timed]] = {
    BASE: lrfind_lanes,
    "lrfind sweep": lrfind_sweep,
    "preloaded loop": preloaded_loop,
    "DataLoader loop": dataloader_loop,
    "Optuna": optuna_study,
}


def measure(case: Case, turns: int) -> tuple[dict[str, list[float]], dict[str, Losses]]:
    """Seconds of every way in every turn, after one turn that does not count; and the losses of the last."""
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


def report_engines(case: Case) -> None:
    (engine,) = case.prepared.engines
    click.echo(f"  engine of {BASE}: {engine.lanes}, threads {engine.threads} ({engine.why})")
    chosen = [f"{found['lanes']} with threads {found['threads']}" for found in case.engines]
    ratios = [found["ratio"] for found in case.engines if found["ratio"] is not None]
    spread = f"; measured ratios {min(ratios):.2f} to {max(ratios):.2f}" if ratios else ""
    counts = ", ".join(f"{kind} {chosen.count(kind)} of {len(chosen)} times" for kind in sorted({*chosen}))
    click.echo(f"  engine of lrfind sweep, chosen anew each time: {counts}{spread}")


def report_agreement(case: Case, losses: dict[str, Losses]) -> None:
    """How far the others end from lrfind's validation losses."""
    base = losses[BASE]
    best = min(base, key=lambda lr: base[lr])
    click.echo(f"  best lr of {BASE}: {best:.3g}, validation loss {base[best]:.6g}; relative differences:")
    for name, found in losses.items():
        if name != BASE:
            away = {lr: abs(found[lr] - base[lr]) / base[lr] for lr in base}
            note = "" if name in ("lrfind sweep", "preloaded loop") else "   (batches in another order)"
            click.echo(f"    {name:16} {away[best]:.1e} there, at most {max(away.values()):.1e}{note}")


@click.command()
@click.option("--turns", default=5, type=click.IntRange(min=1), help="How often each is measured.")
@click.option("--threads", type=click.IntRange(min=1), help="Of torch; its own default when omitted.")
@click.option("--ray", is_flag=True, help="Ray Tune too, which takes a minute a turn.")
@click.option("--case", "names", type=click.Choice([*SETTINGS]), multiple=True, help="Only these cases.")
def main(turns: int, threads: int | None, ray: bool, names: tuple[str, ...]) -> None:
    """Print how long a sweep takes, for a linear regression, an MLP and a CNN."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if threads is not None:
        torch.set_num_threads(threads)
    click.echo(
        f"torch {torch.__version__}, optuna {optuna.__version__}, {torch.get_num_threads()} threads,"
        f" batch {BATCH}, seed {SEED}" + (f", {start_ray()}" if ray else "")
    )
    for name in names or SETTINGS:
        case = Case(name)
        times, losses = measure(case, turns)
        report_times(case, times)
        report_engines(case)
        report_agreement(case, losses)


if __name__ == "__main__":
    main()
