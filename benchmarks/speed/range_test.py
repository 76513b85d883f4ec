"""How much time a step of a range test costs, beside a bare loop and beside the peers.

    python benchmarks/speed/range_test.py [--turns 7] [--no-peers] [--json PATH]
    make bench        (installs the peers torch-lr-finder, Ignite, Lightning and fastai, and runs this)

Everything runs in one process, in turns (A B C ... A B C ...), on the same MNIST images, with the same model,
batch size and optimizer, over a range of lrs in which nothing diverges. The bare loop slices a preloaded
tensor and does forward, backward, step and `.item()`. The peers also get batches that are preloaded. The
figure is the median over the turns of the milliseconds per step; the ratio is taken turn by turn.
"""

from __future__ import annotations

import contextlib
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from figures import Row, write
from torch import nn
from torch.utils.data import DataLoader, Dataset

import lrfind
from lrfind.config.experiment import check
from lrfind.datasets.mnist import mnist_mini
from lrfind.experiments.range_test import range_test
from lrfind.problem.problem import from_config

BATCH = 64
START, END = 1e-6, 1e-4
CONFIG = """
model: {model}
data: {{name: mnist_mini, batch_size: 64}}
loss: cross_entropy
optimizer: {{name: sgd, args: {{momentum: 0.9}}}}
range_test: {{start_lr: 1e-6, end_lr: 1e-4, steps: {steps}, seeds: 1}}
"""
MODELS = {
    "MLP": ("{name: mlp, args: {hidden: [128, 64]}}", 300),
    "CNN": ("{name: small_cnn, args: {channels: [16, 32, 32]}}", 60),
}


class Batches(Dataset[Any]):
    """Preloaded batches, for loaders that need a data set."""

    def __init__(self, steps: int) -> None:
        x, y = mnist_mini().train
        count = len(x) // BATCH
        spans = [slice(BATCH * (i % count), BATCH * (i % count + 1)) for i in range(steps)]
        self._batches = [(x[span], y[span]) for span in spans]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, i: int) -> Any:
        return self._batches[i]


class Case:
    """One model, with all that a contestant needs. Making these is not timed."""

    def __init__(self, name: str) -> None:
        config, self.steps = MODELS[name]
        self.experiment = check(CONFIG.format(model=config, steps=self.steps))
        self.problem = from_config(self.experiment)
        self.batches = Batches(self.steps)
        self.loader = DataLoader(self.batches, batch_size=None)
        self.loss_fn = nn.CrossEntropyLoss()

    def model(self) -> nn.Module:
        """Return a fresh model in torch's default memory format, which users have."""
        return self.problem.setup(0).model.to(memory_format=torch.contiguous_format)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=START, momentum=0.9)


def bare_loop(case: Case) -> float:
    model = case.model()
    optimizer = case.optimizer(model)
    x, y = mnist_mini().train
    losses = []
    began = time.perf_counter()
    for step, lr in enumerate(np.geomspace(START, END, case.steps)):
        first = BATCH * (step % (len(x) // BATCH))
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        loss = case.loss_fn(model(x[first : first + BATCH]), y[first : first + BATCH])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return time.perf_counter() - began


def lrfind_config(case: Case) -> float:
    began = time.perf_counter()
    range_test(case.problem, case.experiment.range_test, seed=0)
    return time.perf_counter() - began


def lrfind_notebook(case: Case) -> float:
    model = case.model()
    optimizer = case.optimizer(model)
    began = time.perf_counter()
    lrfind.range_test(
        model, optimizer, case.loss_fn, case.loader, start_lr=START, end_lr=END, steps=case.steps
    )
    return time.perf_counter() - began


def torch_lr_finder(case: Case) -> float:
    from torch_lr_finder import LRFinder

    model = case.model()
    finder = LRFinder(model, case.optimizer(model), case.loss_fn, device="cpu", memory_cache=True)
    began = time.perf_counter()
    finder.range_test(case.loader, end_lr=END, num_iter=case.steps)
    return time.perf_counter() - began


def ignite(case: Case) -> float:
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    model = case.model()
    optimizer = case.optimizer(model)
    trainer = create_supervised_trainer(model, optimizer, case.loss_fn)
    finder = FastaiLRFinder()
    saved = {"model": model, "optimizer": optimizer}
    began = time.perf_counter()
    with finder.attach(trainer, to_save=saved, end_lr=END, num_iter=case.steps - 1) as attached:
        attached.run(case.loader)
    return time.perf_counter() - began


def lightning(case: Case) -> float:
    import lightning.pytorch as pl
    from lightning.pytorch.tuner import Tuner

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.lr = case.model(), START

        def training_step(self, batch: Any, _: int) -> Any:
            return case.loss_fn(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    with tempfile.TemporaryDirectory() as folder:
        options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(accelerator="cpu", max_epochs=1, default_root_dir=folder, **options)
        module = Module()
        began = time.perf_counter()
        Tuner(trainer).lr_find(module, case.loader, min_lr=START, max_lr=END, num_training=case.steps)
        return time.perf_counter() - began


def fastai(case: Case) -> float:
    import fastai.callback.progress
    import fastai.callback.schedule  # noqa: F401 - both add methods to Learner
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import SGD

    with tempfile.TemporaryDirectory() as folder:
        loaders = DataLoaders(case.loader, case.loader)
        optimizer = lambda parameters, **options: SGD(parameters, mom=0.9, **options)  # noqa: E731
        learner = Learner(
            loaders, case.model(), loss_func=case.loss_fn, opt_func=optimizer, path=Path(folder)
        )
        began = time.perf_counter()
        with learner.no_bar():
            learner.lr_find(START, END, num_it=case.steps, show_plot=False)
        return time.perf_counter() - began


CONTESTANTS: dict[str, Callable[[Case], float]] = {
    "bare loop": bare_loop,
    "lrfind range-test (config)": lrfind_config,
    "lrfind.range_test (notebook)": lrfind_notebook,
    "torch-lr-finder": torch_lr_finder,
    "Ignite": ignite,
    "Lightning": lightning,
    "fastai": fastai,
}


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep the peers' bars and tips off the terminal."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def measure(case: Case, contestants: list[str], turns: int) -> dict[str, list[float]]:
    """Return every contestant's milliseconds per step in every turn but a first one, which does not count."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        for name in contestants:
            with warnings.catch_warnings(), silence():
                warnings.simplefilter("ignore")
                seconds = CONTESTANTS[name](case)
            if turn > 0:
                times[name].append(1000 * seconds / case.steps)
    return times


def report(title: str, times: dict[str, list[float]]) -> list[Row]:
    """Print the figures of one model, and return them."""
    turns, rows = len(times["bare loop"]), []
    click.echo(f"\n{title}: ms a step (median of {turns}), and ratio to the bare loop")
    for name, values in times.items():
        ratios = [value / bare for value, bare in zip(values, times["bare loop"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        median, ratio = statistics.median(values), statistics.median(ratios)
        click.echo(f"  {name:30} {median:7.3f}   {ratio:5.2f}   ({spread})")
        note = f"a step; the ratio is its time over the bare loop's: {spread} in {turns} turns"
        rows.append(Row(title, name, median / 1000, ratio, note))
    return rows


@click.command()
@click.option("--turns", default=7, help="How often each contestant is measured.")
@click.option("--peers/--no-peers", default=True, help="Also measure the peers.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write the figures to this file.")
def main(turns: int, peers: bool, path: Path | None) -> None:
    """Print the time that a step takes, for an MLP and a CNN, with several threads and with one."""
    for name in ("lightning.pytorch", "ignite"):
        logging.getLogger(name).setLevel(logging.ERROR)
    contestants = list(CONTESTANTS) if peers else list(CONTESTANTS)[:3]
    default = torch.get_num_threads()
    click.echo(f"torch {torch.__version__}, {default} threads, batch {BATCH}")
    rows: list[Row] = []
    for model in MODELS:
        rows += report(f"{model}, {default} threads", measure(Case(model), contestants, turns))
    if default > 1:
        torch.set_num_threads(1)
        for model in MODELS:
            rows += report(f"{model}, 1 thread", measure(Case(model), list(CONTESTANTS)[:3], turns))
    if path is not None:
        write(path, rows)


if __name__ == "__main__":
    main()
