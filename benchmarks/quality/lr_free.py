"""Optimizers that need no learning rate, each trained at the rate that its authors recommend.

Such an optimizer answers with a trained model and not with a rate. It trains once for each training and
seed, and its final validation loss is compared with that at the best rate of the truth.

Judged on tasks of SGD, with or without momentum:

- MoMo (Schaipp et al. 2023, arXiv:2305.07583) at lr 1.
- DoG (Ivgi et al. 2023, arXiv:2302.12022) at lr 1, with averaged weights; `reps_rel` is 1e-4 with batch norm.

Judged on tasks of Adam, AdamW, RMSprop and Adagrad:

- MoMo-Adam (by the authors of MoMo) at lr 0.01.
- SaLSA (Kenneweg et al. 2024, arXiv:2407.20650), with its defaults.
- D-Adaptation Adam (Defazio and Mishchenko 2023, arXiv:2301.07733) at lr 1.

Judged on all tasks:

- Schedule-free AdamW (Defazio et al. 2024, arXiv:2405.15682) at lr 0.01, with a warmup of 5 %.
- Prodigy (Mishchenko and Defazio 2023, arXiv:2306.06101) at lr 1, with its safeguard for warmup and
  bias correction.
- Mechanic (Cutkosky et al. 2023, arXiv:2306.00144) around the task's optimizer at lr 1.

Each has the weight decay of the task's optimizer, decoupled where that of the task is. MoMo, Prodigy,
Mechanic and D-Adaptation follow the training's schedule, as they were published with schedules.
Schedule-free, SaLSA and DoG have none, so one training at a constant rate answers for both schedules. With
batch norm, schedule-free also needs 50 forward passes to measure its statistics anew.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
import torch
from answers import FIRST_SEED
from peers import undisturbed
from rows import Job, Row
from spending import FORWARD
from tasks import Task, schedule_of
from torch import Tensor, nn

from lrfind.analysis.curves import Array
from lrfind.config.shapes import shape_of
from lrfind.errors import text_of
from lrfind.problem.batches import batch_loss
from lrfind.problem.problem import Problem, from_config
from lrfind.training.evaluation import evaluate, evaluating, score

STATISTICS = 50  # forward passes that measure the statistics of batch norm, as schedule-free's README does
SGD, ADAPTIVE = ("sgd",), ("adam", "adamw", "rmsprop", "adagrad")  # names of the tasks' optimizers


class Lane:
    """One training with an optimizer that is not the task's; its passes are counted.

    Args:
        problem: what to train.
        seed: the seed of the weights and the batches.
        steps: T.

    Attributes:
        model: the model.
        batches: its batches, without end.
        steps: T.
        parameters: the parameters that the task trains.
        base: the class of the task's optimizer.
        options: the settings of the task's optimizer, without its lr and its weight decay.
        weight_decay: the weight decay of the task's optimizer.
        decoupled: whether this weight decay is AdamW's.
        warmup: the number of steps over which the rate rises, where the method does that by itself.
        cost: the cost of its passes so far, in gradient steps.
    """

    def __init__(self, problem: Problem, seed: int, steps: int, options: dict[str, Any]) -> None:
        setup = problem.setup(seed)
        self.model, self.batches, self.steps = setup.model, setup.batches, steps
        self.parameters = [
            p for group in setup.optimizer.param_groups for p in group["params"] if p.requires_grad
        ]
        self.base, self.options = type(setup.optimizer), options
        self.weight_decay = float(setup.optimizer.defaults.get("weight_decay", 0.0))
        self.decoupled = self.base is torch.optim.AdamW
        self.warmup = int(schedule_of("cosine", steps).args["warmup"])
        self.cost = 0.0
        self._loss_fn, self._problem = setup.loss_fn, problem

    @property
    def normalizes(self) -> bool:
        """Whether the model has batch norm."""
        return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.model.modules())

    def loss(self, batch: Any, *, backwards: bool) -> Tensor:
        """Return the loss of a batch, and add its gradient to `.grad` if `backwards` is true."""
        loss = batch_loss(self.model, self._loss_fn, batch)
        if backwards:
            loss.backward()
        self.cost += 1 if backwards else FORWARD
        return loss

    def measure_statistics(self) -> None:
        """Measure the statistics of batch norm anew, on further batches."""
        with torch.no_grad():
            for batch in itertools.islice(self.batches, STATISTICS):
                self.loss(batch, backwards=False)

    def val_loss(self, model: nn.Module) -> float:
        """Return the loss of a model on the validation split."""
        assert self._problem.validation is not None
        with evaluating(model), torch.no_grad():
            loss, _, _ = evaluate(
                lambda batch: score(model, self._loss_fn, batch), self._problem.validation()
            )
        return float(loss[0])


def take_step(optimizer: Any, lane: Lane, batch: Any) -> Tensor:
    """Take a step as with any optimizer, and return the loss before it."""
    optimizer.zero_grad()
    loss = lane.loss(batch, backwards=True)
    optimizer.step()
    return loss


def take_step_with_loss(optimizer: Any, lane: Lane, batch: Any) -> Tensor:
    """Take a step with an optimizer that uses the value of the loss."""
    optimizer.zero_grad()
    loss = lane.loss(batch, backwards=True)
    optimizer.step(loss=loss.detach())
    return loss


def take_step_with_search(optimizer: Any, lane: Lane, batch: Any) -> Tensor:
    """Take a step with an optimizer that computes the loss at several rates."""
    optimizer.zero_grad()
    loss: Tensor = optimizer.step(closure=lambda backwards=False: lane.loss(batch, backwards=backwards))
    return loss


def momo(lane: Lane) -> Any:
    from momo import Momo

    return Momo(lane.parameters, lr=1.0, weight_decay=lane.weight_decay)


def momo_adam(lane: Lane) -> Any:
    from momo import MomoAdam

    return MomoAdam(lane.parameters, lr=1e-2, weight_decay=lane.weight_decay)


def schedule_free(lane: Lane) -> Any:
    from schedulefree import AdamWScheduleFree

    optimizer = AdamWScheduleFree(
        lane.parameters, lr=1e-2, weight_decay=lane.weight_decay, warmup_steps=lane.warmup
    )
    optimizer.train()
    return optimizer


def prodigy(lane: Lane) -> Any:
    from prodigyopt import Prodigy

    return Prodigy(
        lane.parameters,
        lr=1.0,
        weight_decay=lane.weight_decay,
        decouple=lane.decoupled,
        safeguard_warmup=True,
        use_bias_correction=True,
    )


def salsa(lane: Lane) -> Any:
    from salsa.SaLSA import SaLSA

    return SaLSA(lane.parameters)


class AveragedDoG:
    """DoG and the averager of its authors, which takes a step after each of DoG's."""

    def __init__(self, lane: Lane) -> None:
        from dog import DoG, PolynomialDecayAverager

        reps_rel = 1e-4 if lane.normalizes else 1e-6
        self.optimizer = DoG(lane.parameters, reps_rel=reps_rel, weight_decay=lane.weight_decay)
        self.averager = PolynomialDecayAverager(lane.model)
        self.param_groups = self.optimizer.param_groups

    def zero_grad(self) -> None:
        """Clear the gradients."""
        self.optimizer.zero_grad()

    def step(self) -> None:
        """Take a step, and average the weights."""
        self.optimizer.step()
        with torch.no_grad():
            self.averager.step()


def mechanic(lane: Lane) -> Any:
    from mechanic_pytorch import mechanize

    return mechanize(lane.base)(lane.parameters, lr=1.0, **lane.options)


def d_adaptation(lane: Lane) -> Any:
    from dadaptation import DAdaptAdam

    return DAdaptAdam(lane.parameters, lr=1.0, weight_decay=lane.weight_decay, decouple=lane.decoupled)


def final_weights(optimizer: Any, lane: Lane) -> nn.Module:
    """Return the model as its last step left it."""
    return lane.model


def schedule_free_weights(optimizer: Any, lane: Lane) -> nn.Module:
    """Return the model with the weights that schedule-free is evaluated with."""
    optimizer.eval()
    if lane.normalizes:
        lane.measure_statistics()
    return lane.model


def averaged_weights(optimizer: Any, lane: Lane) -> nn.Module:
    """Return the model with averaged weights."""
    model: nn.Module = optimizer.averager.averaged_model
    return model


@dataclass(frozen=True)
class Method:
    """An optimizer that needs no learning rate.

    Attributes:
        package: the module that it is imported from.
        optimizer: makes it.
        judged_on: the names of the tasks' optimizers on which it is judged.
        scheduled: whether it follows the training's schedule.
        step: takes one step.
        trained: returns the model to evaluate.
    """

    package: str
    optimizer: Callable[[Lane], Any]
    judged_on: Sequence[str]
    scheduled: bool = True
    step: Callable[[Any, Lane, Any], Tensor] = take_step
    trained: Callable[[Any, Lane], nn.Module] = final_weights


LR_FREE = {
    "MoMo": Method("momo", momo, SGD, step=take_step_with_loss),
    "MoMo-Adam": Method("momo", momo_adam, ADAPTIVE, step=take_step_with_loss),
    "schedule-free": Method(
        "schedulefree", schedule_free, SGD + ADAPTIVE, scheduled=False, trained=schedule_free_weights
    ),
    "Prodigy": Method("prodigyopt", prodigy, SGD + ADAPTIVE),
    "SaLSA": Method("salsa", salsa, ADAPTIVE, scheduled=False, step=take_step_with_search),
    "DoG": Method("dog", AveragedDoG, SGD, scheduled=False, trained=averaged_weights),
    "Mechanic": Method("mechanic_pytorch", mechanic, SGD + ADAPTIVE),
    "D-Adaptation": Method("dadaptation", d_adaptation, ADAPTIVE),
}


def is_judged_on(method: str, task: Task) -> bool:
    """Return whether a method is judged on a task."""
    return task.experiment.optimizer.name in LR_FREE[method].judged_on


def free_rows(job: Job) -> list[Row]:
    """Return a row for each run of a method that needs no learning rate."""
    problem, method = from_config(job.task.experiment), LR_FREE[job.method]
    reached: dict[tuple[str, int, int], tuple[float, float]] = {}
    rows = []
    for cell, run, _ in job.runs:
        schedule = cell.schedule if method.scheduled else "constant"
        training = (schedule, cell.steps, run)
        if training not in reached:
            multiplier = shape_of(schedule_of(schedule, cell.steps), cell.steps, None).multiplier
            options = job.task.experiment.optimizer.args
            reached[training] = train_free(method, problem, FIRST_SEED + run, multiplier, options)
        loss, cost = reached[training]
        rows.append(Row(*cell.name, job.method, run, cell.steps, cost, cell.regret_of_loss(loss)))
    return rows


def train_free(
    method: Method, problem: Problem, seed: int, multiplier: Array, options: dict[str, Any]
) -> tuple[float, float]:
    """Train once without a learning rate.

    Args:
        method: the optimizer.
        problem: what to train.
        seed: the seed of the weights and the batches.
        multiplier: (T,) the schedule, as multiples of the peak.
        options: the settings of the task's optimizer, without its lr.

    Returns:
        The final validation loss, NaN if the training failed or diverged, and the cost in gradient steps.
    """
    lane = Lane(problem, seed, multiplier.size, options)
    with undisturbed(), _failure_as_nan() as failure:
        optimizer = method.optimizer(lane)
        peaks = [group.get("lr") for group in optimizer.param_groups]
        for factor in multiplier:
            if method.scheduled:
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    group["lr"] = peak * float(factor)
            if not math.isfinite(float(method.step(optimizer, lane, next(lane.batches)))):
                return math.nan, lane.cost
        return lane.val_loss(method.trained(optimizer, lane)), lane.cost
    click.echo(f"seed {seed}: {method.package} failed: {failure[0]}", err=True)
    return math.nan, lane.cost


@contextmanager
def _failure_as_nan() -> Iterator[list[str]]:
    """Keep what an optimizer raises as text, since its user has no trained model then.

    A missing package is raised.
    """
    failure: list[str] = []
    try:
        yield failure
    except ImportError:
        raise
    except Exception as error:  # SaLSA raises a ValueError for weights that are not finite
        failure.append(text_of(error))
