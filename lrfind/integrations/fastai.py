"""Fastai: the rate for a `Learner`.

from lrfind.integrations.fastai import find

find(learn, 5)
learn.fit_one_cycle(5)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

import lrfind
from lrfind.integrations.adapters import Grouped, expect_kind, framework, same_randomness
from lrfind.problem.rates import base_lr

EVENTS = (
    "before_batch",
    "after_pred",
    "after_loss",
    "before_backward",
    "after_backward",
    "before_step",
    "after_step",
)
"""The events inside a step. A callback without a method for one of them takes no part in a step."""
FAMILIES = {
    "lamb_step": "Lamb",
    "radam_step": "RAdam",
    "adam_step": "AdamW",
    "qhadam_step": "AdamW",
    "rms_prop_step": "RMSprop",
}
"""The names of torch for fastai's update functions; all others are kinds of SGD."""


def find(learn: Any, n_epoch: int = 1, **options: Any) -> lrfind.Recommendation:
    """Find the rate for `learn.fit_one_cycle(n_epoch)`, and set it in `learn.lr`.

    For `learn.fit(n_epoch)` give `schedule="constant"`. The callbacks of the learner that take part in a step
    do so here, too: mixed precision, mixup, clipping, accumulation.

    Args:
        learn: a `fastai.learner.Learner`.
        n_epoch: the number of epochs of the planned training.
        options: arguments of `lrfind.find`; they go before what the learner says.

    Raises:
        NoSuggestion: if no rate can be recommended.
        UsageError: if fastai is not installed, or if the learner is not of fastai.
    """
    framework("fastai", "fastai")
    expect_kind(learn, "learn", "Learner", "fastai")
    loader, size = learn.dls.train, _batches_per_step(learn)
    data = Grouped(loader, size)
    steps = options.get("steps", n_epoch * len(data))
    read: dict[str, Any] = {"steps": steps, "schedule": one_cycle(steps)}
    with same_randomness(), _ready(learn, n_epoch) as optimizer:
        before = base_lr([optimizer])
        step = partial(_step, learn, optimizer)
        best = lrfind.find(step=step, data=data, optimizers=[optimizer], **read | options)
    _set(learn, best.lr, before)
    return best


def one_cycle(steps: int) -> Callable[[int], float]:
    """Return the schedule of `fit_one_cycle` for so many steps, as multiples of its peak."""
    cosines = framework("fastai.callback.schedule", "fastai").combined_cos(0.25, 1 / 25, 1.0, 1e-5)
    return lambda step: float(cosines(step / steps))


@contextmanager
def _ready(learn: Any, n_epoch: int) -> Iterator[Any]:
    """Prepare a learner for steps as `fit` does, and yield its optimizer; afterwards it is as it was."""
    read_in_steps = [name for name in ("n_inp", "device") if hasattr(learn.dls, name)]
    view = SimpleNamespace(**{name: getattr(learn.dls, name) for name in read_in_steps})
    taking_part = [callback for callback in learn.cbs if _takes_part(callback)]
    before = [(thing, dict(vars(thing))) for thing in (learn, *learn.cbs)]
    hypers = [] if learn.opt is None else [dict(hyper) for hyper in learn.opt.hypers]
    modes = [(module, module.training) for module in learn.model.modules()]
    try:
        if learn.opt is None:
            learn.create_opt()
        learn.opt.set_hypers(lr=learn.lr, **({} if learn.wd is None else {"wd": learn.wd}))
        learn.cbs = type(learn.cbs)(taking_part)
        learn.n_epoch, learn.epoch, learn.n_iter, learn.dl = n_epoch, 0, len(learn.dls.train), None
        learn("before_fit")
        learn("before_epoch")
        learn("before_train")
        learn.dls = view  # the data itself is given to `lrfind.find`
        yield _torch_optimizer(learn.opt)
    finally:
        learn("after_fit")
        optimizer = learn.opt
        for thing, attributes in before:
            vars(thing).clear()
            vars(thing).update(attributes)
        for name in ("lr", "wd") if hypers else ():
            optimizer.set_hyper(name, [hyper.get(name) for hyper in hypers])
        for module, mode in modes:
            module.training = mode


def _takes_part(callback: Any) -> bool:
    """Return whether a callback takes part in a step, or sets the modes of the modules before it."""
    counting = framework("fastai.callback.core", "fastai").TrainEvalCallback
    freezing = framework("fastai.callback.training", "fastai").BnFreeze
    return isinstance(callback, counting | freezing) or any(hasattr(callback, event) for event in EVENTS)


def _batches_per_step(learn: Any) -> int:
    """Return the number of batches in a step: several if the learner accumulates gradients."""
    kind = framework("fastai.callback.training", "fastai").GradientAccumulation
    rows = [callback.n_acc for callback in learn.cbs if isinstance(callback, kind)]
    return math.ceil(rows[0] / learn.dls.train.bs) if rows else 1


def _torch_optimizer(optimizer: Any) -> Any:
    """Return an optimizer of torch for that of a learner: the one inside it, or an adapter."""
    inner = getattr(optimizer, "opt", None)
    if isinstance(inner, torch.optim.Optimizer):
        return inner
    names = [getattr(update, "__name__", "") for update in optimizer.cbs]
    family = next((name for update, name in FAMILIES.items() if update in names), "SGD")
    adapter: Any = type(family, (Adapter,), {"__module__": __name__})
    return adapter(optimizer)


class Adapter(torch.optim.Optimizer):
    """The param groups of fastai's optimizer, in which lrfind sets the rate.

    Args:
        inner: fastai's optimizer.
    """

    def __init__(self, inner: Any) -> None:
        groups: list[dict[str, Any]] = [
            {"params": [*params], "lr": float(hyper["lr"]), "momentum": hyper.get("mom", 0.0)}
            for params, hyper in zip(inner.param_lists, inner.hypers, strict=True)
        ]
        super().__init__(groups, {})
        self.inner = inner

    def hand_over(self) -> None:
        """Give fastai's optimizer the rate of each group."""
        for group, hyper in zip(self.param_groups, self.inner.hypers, strict=True):
            hyper["lr"] = group["lr"]


def _step(learn: Any, optimizer: Any, batches: list[Any]) -> Any:
    """Let the learner take a step on its batches; return the mean loss before it."""
    losses = []
    for number, batch in enumerate(batches):
        if isinstance(optimizer, Adapter):
            optimizer.hand_over()
        learn.epoch = learn.train_iter // learn.n_iter
        learn.one_batch(number, batch)
        losses.append(learn.loss.detach().mean())
    return torch.stack(losses).mean()


def _set(learn: Any, best_lr: float, before: float) -> None:
    """Set the rate that the next training of a learner takes; groups of layers keep their ratios."""

    def moved(lr: Any) -> Any:
        if isinstance(lr, slice):
            return slice(None if lr.start is None else moved(lr.start), moved(lr.stop))
        return [moved(one) for one in lr] if isinstance(lr, list | tuple) else best_lr * (lr / before)

    if isinstance(learn.opt_func, partial) and "lr" in learn.opt_func.keywords:
        learn.opt_func = partial(learn.opt_func, lr=moved(learn.opt_func.keywords["lr"]))
    learn.lr = moved(learn.lr)
