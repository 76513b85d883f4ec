"""The peers, run on a quality task as their users run them: the rates that they suggest, and their cost."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tasks import Task
from torch import nn
from torch.utils.data import DataLoader

from lrfind.problem.problem import Problem
from lrfind.problem.randomness import capture, restore

START, END = 1e-7, 10.0  # fastai's defaults; also given to peers that start at the optimizer's own lr
SHORT, LONG = 100, 300  # steps of a range test
BATCHES = LONG + 10  # so that no peer reaches their end, where the peers behave differently


@dataclass(frozen=True)
class Suggested:
    """The suggestion of a peer.

    Attributes:
        method: the peer, its way of reading the curve if it has several, and its number of steps.
        lr: the suggested rate; None if the peer fails or suggests none.
        cost: the number of gradient steps that it took.
    """

    method: str
    lr: float | None
    cost: int


class Case:
    """A task and a seed for one peer, with fresh parts of its own. Steps of the optimizer are counted."""

    def __init__(self, task: Task, problem: Problem, seed: int) -> None:
        setup = problem.setup(seed)
        self.model: nn.Module = setup.model.to(
            memory_format=torch.contiguous_format
        )  # the format that users have
        self.loss_fn: Any = setup.loss_fn
        # Keeping the batches costs less than drawing them, and a loader takes a list as a data set.
        self.loader = DataLoader(list(itertools.islice(setup.batches, BATCHES)), batch_size=None)
        self.steps = 0
        self._kind, self._options = type(setup.optimizer), task.experiment.optimizer.args

    def optimizer(self, parameters: Iterable[Any], lr: float = START) -> torch.optim.Optimizer:
        """Return the task's optimizer, whose steps are counted."""
        optimizer = self._kind(parameters, lr=lr, **self._options)
        optimizer.register_step_post_hook(self._count)
        return optimizer

    def _count(self, *_: Any) -> None:
        self.steps += 1


def torch_lr_finder(case: Case) -> dict[str, float]:
    from matplotlib.figure import Figure
    from torch_lr_finder import LRFinder

    finder = LRFinder(case.model, case.optimizer(case.model.parameters()), case.loss_fn, device="cpu")
    finder.range_test(case.loader, start_lr=START, end_lr=END, num_iter=LONG)
    _, lr = finder.plot(ax=Figure().add_subplot())  # with our axes it opens no window
    return {"torch-lr-finder": lr}


def ignite(case: Case) -> dict[str, float]:
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    optimizer = case.optimizer(case.model.parameters())
    trainer = create_supervised_trainer(case.model, optimizer, case.loss_fn)
    finder = FastaiLRFinder()
    saved = {"model": case.model, "optimizer": optimizer}
    with finder.attach(trainer, to_save=saved, start_lr=START, num_iter=LONG) as attached:
        attached.run(case.loader)
    return {"Ignite": finder.lr_suggestion()}


def lightning(case: Case) -> dict[str, float | None]:
    import lightning.pytorch as pl
    from lightning.pytorch.tuner import Tuner

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.lr = case.model, START

        def training_step(self, batch: Any, _: int) -> Any:
            return case.loss_fn(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return case.optimizer(self.parameters(), self.lr)

    with tempfile.TemporaryDirectory() as folder:
        options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = pl.Trainer(accelerator="cpu", max_epochs=1, default_root_dir=folder, **options)
        finder = Tuner(trainer).lr_find(Module(), case.loader)
    return {"Lightning": None if finder is None else finder.suggestion()}


def fastai(case: Case, steps: int) -> dict[str, float]:
    import fastai.callback.progress  # noqa: F401 - adds no_bar to Learner
    from fastai.callback.schedule import minimum, slide, steep, valley
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    with tempfile.TemporaryDirectory() as folder:
        learner = Learner(
            DataLoaders(case.loader, case.loader),
            case.model,
            loss_func=case.loss_fn,
            opt_func=functools.partial(OptimWrapper, opt=case.optimizer),
            path=Path(folder),
        )
        with learner.no_bar():
            suggestions = learner.lr_find(
                num_it=steps,
                show_plot=False,
                suggest_funcs=[_forgiving(read) for read in (minimum, steep, valley, slide)],
            )
    return {f"fastai {name}": lr for name, lr in suggestions._asdict().items()}


def _forgiving(read: Callable[..., Any]) -> Callable[..., Any]:
    """Make one of fastai's ways to read a curve give NaN where it fails, so that the others still run."""

    @functools.wraps(read)
    def suggest(*curve: Any) -> tuple[float, None]:
        try:
            return read(*curve)[0], None
        except Exception:  # it may be anything: an index beyond the end, the minimum of no values
            return math.nan, None

    return suggest


FASTAI = ("fastai minimum", "fastai steep", "fastai valley", "fastai slide")
PEERS: list[tuple[Callable[[Case], dict[str, Any]], tuple[str, ...], int]] = [
    (functools.partial(fastai, steps=SHORT), FASTAI, SHORT),
    (functools.partial(fastai, steps=LONG), FASTAI, LONG),
    (torch_lr_finder, ("torch-lr-finder",), LONG),
    (ignite, ("Ignite",), LONG),
    (lightning, ("Lightning",), SHORT),
]
"""The function that runs each peer, the names of its suggestions, and its number of steps."""


def suggest(task: Task, problem: Problem, seed: int) -> list[Suggested]:
    """Return the suggestions of every peer for a task, always in the same order.

    The peers get the batches and the initial weights that lrfind has for the same seed.
    """
    suggested = []
    with undisturbed():
        for run, methods, steps in PEERS:
            case = Case(task, problem, seed)
            try:
                rates = run(case)
            except ImportError:
                raise
            except Exception:  # whatever else a peer raises, its user has no suggestion
                rates = {}
            for method in methods:
                suggested.append(Suggested(f"{method} {steps}", _usable(rates.get(method)), case.steps))
    return suggested


def _usable(lr: Any) -> float | None:
    return float(lr) if lr is not None and math.isfinite(lr) and lr > 0 else None


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Keep bars, logs and warnings off the terminal, and leave the random generators as they were."""
    random, disabled = capture(), logging.root.manager.disable
    logging.disable()
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        restore(random)
