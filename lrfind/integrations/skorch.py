"""Skorch: the rate for a net, before `fit` or as a callback.

from lrfind.integrations.skorch import find

find(net, x, y)
net.fit(x, y)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

import lrfind
from lrfind.integrations.adapters import every, expect_kind, framework, replaced, same_randomness
from lrfind.problem.rates import base_lr
from lrfind.problem.snapshot import preserved
from lrfind.training.loop import takes_closures

OWN_LRS = ("base_lr", "max_lr")
"""The parameters of torch's schedulers that are lrs, and go before that of the optimizer."""


def find(net: Any, x: Any, y: Any = None, **options: Any) -> lrfind.Recommendation:
    """Find the rate for `net.fit(x, y)`, and set it in the net.

    A net that is not initialized stays so: a copy of it is asked.

    Args:
        net: a `skorch.NeuralNet`, or an object of a subclass.
        x: see `NeuralNet.fit`. The split for validation is left out, as in a training.
        y: see `NeuralNet.fit`.
        options: arguments of `lrfind.find`; they go before what the net says.

    Raises:
        NoSuggestion: if no rate can be recommended.
        UsageError: if skorch is not installed, or if the net is not of skorch.
    """
    framework("skorch", "skorch")
    hint = "Of a Pipeline or a search, give the net inside it, and the data that this net gets there."
    expect_kind(net, "net", "NeuralNet", "skorch", hint=hint)
    with same_randomness():
        ready = net if getattr(net, "initialized_", False) else _copy(net)
        best = _ask(ready, x, y, options)
        before = base_lr(_optimizers(ready))
        if ready is net:
            best.apply(_optimizers(net))
        _set(net, best.lr, before)
        _set_in_schedulers(_schedulings(net), best.lr)
        if _schedulings(net):
            _warn_of_other_peaks(_schedulings(_copy(net)), net.max_epochs, best)
    return best


def _copy(net: Any) -> Any:
    """Return an initialized copy of a net."""
    return framework("sklearn.base", "scikit-learn").clone(net, safe=False).set_params(verbose=0).initialize()


def _optimizers(net: Any) -> list[Any]:
    return [getattr(net, f"{name}_") for name in net._optimizers]


def _ask(net: Any, x: Any, y: Any, options: dict[str, Any]) -> lrfind.Recommendation:
    """Ask for the rate of an initialized net."""
    train_set, _ = net.get_split_datasets(x, y)
    loader = net.get_iterator(train_set, training=True)
    epoch = math.ceil(len(loader) / options.get("accumulate", 1))
    steps = options.get("steps", net.max_epochs * epoch)
    read: dict[str, Any] = {"steps": steps, "schedule": _schedule(net, steps, epoch)}
    with _first_epoch(net):
        if _has_steps_of_its_own(net):
            read |= {"step": partial(_step, net), "optimizers": _optimizers(net)}
            return lrfind.find(data=loader, **read | options)
        limits = [getattr(callback, "gradient_clip_value", None) for callback in _callbacks(net)]
        limit = next((limit for limit in limits if limit is not None), None)
        read |= {"loss": partial(_batch_loss, net), "clip_norm": limit}
        return lrfind.find(net.module_, net.optimizer_, data=loader, **read | options)


@contextmanager
def _first_epoch(net: Any) -> Iterator[None]:
    """Begin the first epoch: a history, and the callbacks that change parameters then; undo it afterwards."""
    kind = framework("skorch.callbacks", "skorch").ParamMapper
    mappers = [callback for callback in _callbacks(net) if isinstance(callback, kind)]
    history = framework("skorch.history", "skorch").History()
    history.new_epoch()
    with replaced(net, history_=history), preserved([net]) if mappers else nullcontext():
        for mapper in mappers:
            mapper.on_epoch_begin(net)
        yield


def _callbacks(net: Any) -> list[Any]:
    return [callback for _, callback in net.callbacks_]


def _has_steps_of_its_own(net: Any) -> bool:
    """Return whether skorch must take the steps: several optimizers, closures, or what changes a step."""
    plain = framework("skorch", "skorch").NeuralNet
    callback = framework("skorch.callbacks", "skorch").Callback
    methods = ("train_step", "train_step_single", "_step_optimizer", "on_grad_computed")
    return (
        len(net._optimizers) > 1
        or takes_closures(net.optimizer_)
        or any(getattr(type(net), name) is not getattr(plain, name) for name in methods)
        or any(type(other).on_batch_begin is not callback.on_batch_begin for other in _callbacks(net))
        or any(
            type(other).on_grad_computed is not callback.on_grad_computed
            and getattr(other, "gradient_clip_norm_type", None) != 2
            for other in _callbacks(net)
        )
    )


def _batch_loss(net: Any, batch: Any) -> Any:
    """Return the loss of a batch as the net computes it."""
    x, y = framework("skorch.dataset", "skorch").unpack_data(batch)
    net._set_training(True)
    return net.get_loss(net.infer(x), y, X=x, training=True)


def _step(net: Any, batch: Any) -> Any:
    """Let the net take a step; return the loss before it."""
    net.history.new_batch()
    for callback in _callbacks(net):
        callback.on_batch_begin(net, batch=batch, training=True)
    return net.train_step(batch)["loss"]


def _schedulings(net: Any) -> list[Any]:
    """Return the callbacks that change the lr, as they are given to a net and as it has initialized them."""
    kind = framework("skorch.callbacks", "skorch").LRScheduler
    given = net.callbacks if isinstance(net.callbacks, list | tuple) else []
    entries = [*given, *getattr(net, "callbacks_", ())]
    callbacks = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    return [callback for callback in callbacks if isinstance(callback, kind)]


def _schedule(net: Any, steps: int, epoch: int) -> Any:
    """Return the schedule of the first callback that changes the lr; None if there is none."""
    kind = framework("skorch.callbacks", "skorch").LRScheduler
    scheduling = next((callback for callback in _callbacks(net) if isinstance(callback, kind)), None)
    if scheduling is None:
        return None
    scheduler = partial(scheduling._get_policy_cls(), **scheduling.kwargs)
    return every(scheduler, steps, 1 if scheduling.step_every == "batch" else epoch)


def _set(net: Any, best_lr: float, before: float) -> None:
    """Set the rate in the settings from which the net makes its optimizer; groups keep their ratios."""
    for _, settings in getattr(net, "optimizer__param_groups", None) or ():
        if "lr" in settings:
            settings["lr"] = best_lr * (settings["lr"] / before)
    name = "optimizer__lr" if hasattr(net, "optimizer__lr") else "lr"
    setattr(net, name, best_lr * (getattr(net, name) / before))


def _set_in_schedulers(schedulings: list[Any], best_lr: float) -> None:
    """Make a rate the highest one of the schedulers that have lrs of their own: `OneCycleLR`, `CyclicLR`."""

    def scaled(value: Any, peak: Any) -> Any:
        return [scaled(one, peak) for one in value] if isinstance(value, list) else best_lr * (value / peak)

    for callback in schedulings:
        highest = getattr(callback, "max_lr", None)
        peak = highest[0] if isinstance(highest, list) else highest
        for name in OWN_LRS if peak else ():
            if hasattr(callback, name):
                setattr(callback, name, scaled(getattr(callback, name), peak))


def _warn_of_other_peaks(schedulings: list[Any], epochs: int, best: lrfind.Recommendation) -> None:
    """Warn if the rate is not the highest lr of the training."""
    for callback in schedulings[:1]:
        policy, known = callback._get_policy_cls(), torch.optim.lr_scheduler
        if not isinstance(policy, type) or issubclass(policy, known.ReduceLROnPlateau):
            continue
        steps = best.training.steps if callback.step_every == "batch" else epochs
        highest = float(max(callback.simulate(steps, best.lr)))
        if not math.isclose(highest, best.lr, rel_tol=0.05):
            warnings.warn(
                f"the rate {best.lr:.3g} does not reach the training: the highest lr of {policy.__name__} is"
                f" {highest:.3g}. Change its parameters.",
                stacklevel=3,
            )


def __getattr__(name: str) -> Any:
    """Make the callback when it is first used, because its base class belongs to skorch."""
    if name != "FindLR":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    base = framework("skorch.callbacks", "skorch").Callback

    class FindLR(base):  # type: ignore[misc, valid-type]
        """A callback that finds the rate when a training begins, and gives it to the optimizers.

        A net that was trained before keeps its rate.

        Args:
            options: arguments of `lrfind.find` as a dict; they go before what the net says.

        Attributes:
            best_: the answer; None before the training.
        """

        def __init__(self, options: dict[str, Any] | None = None) -> None:
            self.options = options

        def initialize(self) -> Any:
            """Forget the answer of a former training."""
            self.best_: lrfind.Recommendation | None = None
            return self

        def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **others: Any) -> None:  # noqa: N803
            """Find the rate, and set it."""
            if net.history:
                return
            with same_randomness():
                best = _ask(net, X, y, self.options or {})
            schedulers = [getattr(callback, "lr_scheduler_", None) for callback in _callbacks(net)]
            best.apply(_optimizers(net), [one for one in schedulers if one is not None] or None)
            _set_in_schedulers(_schedulings(net), best.lr)
            _warn_of_other_peaks(_schedulings(net), net.max_epochs, best)
            self.best_ = best

    FindLR.__qualname__ = "FindLR"
    globals()["FindLR"] = FindLR
    return FindLR
