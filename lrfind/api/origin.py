"""Where a result came from: what its snippet needs, and a loose hold on the objects for further trainings."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lrfind.analysis.lanes import Shape
from lrfind.catalog import optimizer_of
from lrfind.config.sections import Component, OptimizerSection, TrainingSection
from lrfind.errors import UsageError
from lrfind.experiments.planned import named_schedule
from lrfind.problem.objects import Objects
from lrfind.problem.rates import groups_of, innermost, lr_ratios
from lrfind.training.loop import has_momentum
from lrfind.views.snippets.objects import OwnOptimizers, OwnPlan

PLAIN_VALUES = (bool, int, float, str, type(None))
SAME = 1e-6  # relative difference of two norms of the same weights


class Hold:
    """A loose hold on the objects that a call was given, so that its result can train with them once more.

    The model and the optimizers, which have the weights and the states, are held weakly: a result keeps none
    of them alive. The data and the functions, which a notebook often makes within the call, are held until
    the model or an optimizer is gone. (So a model stays alive if a function that was given encloses it in a
    variable.) A copy of a hold, also one that was pickled, is empty.

    Args:
        objects: the objects; None for an empty hold.
    """

    def __init__(self, objects: Objects | None = None) -> None:
        self._others: Objects | None = None
        self._optimizers: list[Callable[[], Any]] = []
        if objects is None:
            return
        self._model = (lambda: nn.Module()) if objects.own_step else self._weakly(objects.model)
        self._optimizers = [self._weakly(optimizer) for optimizer in objects.optimizers]
        self._others = replace(objects, model=nn.Module(), optimizers=())
        self._norms = _norms_of(objects.optimizers)

    def __reduce__(self) -> tuple[type[Hold], tuple[()]]:
        return Hold, ()

    def _weakly(self, value: Any) -> Callable[[], Any]:
        try:
            return weakref.ref(value, self._let_go)
        except TypeError:  # a wrapper with slots
            return lambda: value

    def _let_go(self, reference: Any) -> None:
        self._others = None

    def has_in_another_order(self, optimizers: Sequence[Any]) -> bool:
        """Return whether these are the optimizers, but in another order."""
        own, given = [id(optimizer()) for optimizer in self._optimizers], [*map(id, optimizers)]
        return own != given and sorted(own) == sorted(given)

    def objects(self) -> Objects:
        """Return the objects.

        Raises:
            UsageError: if one of them is gone, if the weights have changed, or if this is a copy.
        """
        if self._others is None:
            raise UsageError(
                "the model or the optimizer of this result is gone, or the result is a copy; call"
                " find(..., verify=True) with your objects instead."
            )
        optimizers = [optimizer() for optimizer in self._optimizers]
        norms = _norms_of(optimizers)
        if norms.shape != self._norms.shape or not torch.allclose(
            norms, self._norms, rtol=SAME, equal_nan=True
        ):
            raise UsageError(
                "the weights have changed since `find` was called; load those that the model had then, or"
                " call find(..., verify=True)."
            )
        return replace(self._others, model=self._model(), optimizers=optimizers)


def _norms_of(optimizers: Sequence[Any]) -> Tensor:
    """Return the norm of each parameter that the optimizers have; training changes them."""
    parameters = [parameter for group in groups_of(optimizers) for parameter in group.get("params", ())]
    local = [getattr(p, "to_local", lambda p=p: p)() for p in parameters if not is_lazy(p)]  # FSDP has shards
    norms = [
        torch.linalg.vector_norm(p.detach(), dtype=torch.promote_types(p.dtype, torch.float32)) for p in local
    ]
    return torch.stack([norm.real.double().cpu() for norm in norms]) if norms else torch.zeros(0)


@dataclass(frozen=True)
class Origin:
    """Where a result came from.

    Attributes:
        hold: the objects that the call was given.
        optimizers: what is known of the optimizers.
        plan: what is known of the training.
        seed: the first seed.
        shape: the planned course of the lr; None if nothing is planned, as in a range test.
        optimizer_count: the number of optimizers that share the rate.
    """

    hold: Hold
    optimizers: OwnOptimizers
    plan: OwnPlan
    seed: int
    shape: Shape | None = None
    optimizer_count: int = 1


def origin_of(
    objects: Objects, seed: int, *, steps: int = 1, schedule: Any = None, shape: Shape | None = None
) -> Origin:
    """Return where a result comes from.

    Args:
        objects: the user's objects.
        seed: the first seed.
        steps: T, the number of steps of the planned training.
        schedule: its schedule, as the user gave it.
        shape: the same as multiples of the peak.
    """
    component, words = named_or_described(schedule)
    training = TrainingSection.model_construct(steps=steps, schedule=component, **vars(objects.recipe))
    plan, count = OwnPlan(training, words), len(objects.optimizers)
    return Origin(Hold(objects), _own_optimizers(objects), plan, seed, shape, count)


def named_or_described(schedule: Any) -> tuple[Component, str]:
    """Return a schedule by its name, and in words if it has none."""
    if schedule is None:
        return Component(name="constant"), ""
    if isinstance(schedule, str | tuple | list | Mapping):
        return named_schedule(schedule), ""
    name = getattr(schedule, "__name__", "")
    words = f"your own function `{name}`" if name.isidentifier() else f"your own {type(schedule).__name__}"
    return Component(name="constant"), words


def schedule_name(schedule: Any) -> str:
    """Return the name of a schedule; empty if it is a function or a scheduler of the user's own."""
    component, words = named_or_described(schedule)
    return "" if words else component.name


def _own_optimizers(objects: Objects) -> OwnOptimizers:
    """Return what the optimizers tell of how they were made."""
    optimizers = objects.optimizers
    if [*innermost(optimizers)] != [*optimizers]:
        return OwnOptimizers(None, ())
    ratios = iter(lr_ratios(optimizers))
    shares = [[next(ratios) for _ in optimizer.param_groups] for optimizer in optimizers]
    return OwnOptimizers(_section_of(objects), shares, all(map(has_momentum, optimizers)))


def _section_of(objects: Objects) -> OptimizerSection | None:
    """Return how the only optimizer is made anew; None if it is not over the whole model, or not plain."""
    optimizer, *others = objects.optimizers
    if others or objects.own_step is not None or len(optimizer.param_groups) != 1:
        return None
    (group,) = optimizer.param_groups
    members = {id(parameter) for parameter in group["params"]}
    trained = {id(parameter) for parameter in objects.model.parameters() if parameter.requires_grad}
    kind = type(optimizer)
    row = optimizer_of(kind)
    if row is None and (kind.__module__ == "__main__" or not kind.__qualname__.isidentifier()):
        return None
    if not trained <= members <= {id(parameter) for parameter in objects.model.parameters()}:
        return None
    try:
        parameters = inspect.signature(kind).parameters
    except ValueError:  # a class without a signature
        return None
    values = {name: group[name] for name in parameters if name in group and name not in ("params", "lr")}
    if not all(map(_is_plain, values.values())):
        return None
    args = {name: value for name, value in values.items() if value != parameters[name].default}
    name = kind.__name__.lower() if row is not None else f"{kind.__module__}:{kind.__qualname__}"
    return OptimizerSection(name=name, args=args)


def _is_plain(value: Any) -> bool:
    """Return whether a value can be written as Python."""
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, PLAIN_VALUES)


def check_optimizers(optimizer: Any, origin: Origin | None) -> None:
    """Refuse optimizers that a rate cannot be given to, where several share it.

    Args:
        optimizer: the optimizer, or a list of several.
        origin: where the rate came from; None if that is not known.

    Raises:
        UsageError: if there are fewer or more of them, or if they are in another order.
    """
    optimizers = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    if origin is None or origin.optimizer_count < 2:
        return
    count = origin.optimizer_count
    if len(optimizers) != count:
        found = f"found {len(optimizers)}"
    elif origin.hold.has_in_another_order(optimizers):
        found = "found them in another order"
    else:
        return
    raise UsageError(
        f"{count} optimizers share the rate; {found}. Give all of them in one call, in the order in"
        " which lrfind got them: apply([first, second])."
    )


def with_shares(optimizers: OwnOptimizers, shares: Sequence[float] | None) -> OwnOptimizers:
    """Return the optimizers with other shares of the rate, one for each param group; None for no others."""
    if shares is None or not optimizers.shares:
        return optimizers
    rest = iter(shares)
    new = [[next(rest) for _ in groups] for groups in optimizers.shares]
    return replace(optimizers, section=None, shares=new)


def known(origin: Origin | None) -> Origin:
    """Return where a result came from.

    Raises:
        UsageError: if that is not known.
    """
    if origin is None:
        raise UsageError("this result does not say which objects it is for; only `find` and `range_test` do.")
    return origin
