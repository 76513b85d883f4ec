"""Parts of several adapters: imports, attributes that change for a while, batches in groups, schedules."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lrfind.errors import UsageError
from lrfind.experiments.planned import planned_shape
from lrfind.problem.randomness import capture, restore

MISSING = object()  # the value of an attribute that an object does not have


def framework(package: str, to_install: str) -> Any:
    """Import a package of a framework.

    Args:
        package: the name of the package or module.
        to_install: the name under which pip installs it.

    Raises:
        UsageError: if it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        name = package.split(".")[0]
        if error.name is None or error.name.split(".")[0] != name:
            raise
        raise UsageError(
            f"lrfind.integrations needs the package {name}, which is not installed: pip install {to_install}"
        ) from error


def expect_kind(value: Any, name: str, kind: str, *packages: str, hint: str = "") -> None:
    """Refuse an object that is not of a framework's class.

    Args:
        value: the object.
        name: the name of the argument.
        kind: the name of the class.
        packages: the packages of the framework, one of which has the class.
        hint: a sentence that says what to give instead.

    Raises:
        UsageError: if it is of another class.
    """
    classes = {(parent.__module__.split(".")[0], parent.__name__) for parent in type(value).__mro__}
    if classes.isdisjoint((package, kind) for package in packages):
        article = "an" if kind[0] in "AEIOU" else "a"
        raise UsageError(
            f"{name} must be {article} {kind} of {packages[0]}; found an object of type"
            f" {type(value).__name__}.{hint and ' '}{hint}"
        )


@contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Give other values to attributes of an object inside the block; afterwards they are as before."""
    before = {name: vars(owner).get(name, MISSING) for name in values}
    try:
        for name, value in values.items():
            object.__setattr__(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            if value is not MISSING:
                object.__setattr__(owner, name, value)
            elif name in vars(owner):
                object.__delattr__(owner, name)


@contextmanager
def same_randomness() -> Iterator[None]:
    """Restore the random state of Python, NumPy and torch after the block."""
    states = capture()
    try:
        yield
    finally:
        restore(states)


class Grouped:
    """The batches of a loader in lists: all batches of a step together.

    Args:
        loader: a loader, or another iterable that can be read again and again.
        size: the number of batches in a step.
    """

    def __init__(self, loader: Iterable[Any], size: int) -> None:
        self.loader, self.size = loader, size

    def __iter__(self) -> Iterator[list[Any]]:
        group = []
        for batch in self.loader:
            group.append(batch)
            if len(group) == self.size:
                yield group
                group = []
        if group:
            yield group

    def __len__(self) -> int:
        return math.ceil(len(self.loader) / self.size)  # type: ignore[arg-type]


def every(schedule: Any, steps: int, interval: int) -> Callable[[int], float]:
    """Return a schedule that takes a step only after every so many steps of the training.

    Args:
        schedule: a scheduler of torch, or another schedule that `lrfind.find` takes.
        steps: the number of steps of the training.
        interval: the number of steps of the training for one step of the schedule.
    """
    table = planned_shape(schedule, math.ceil(steps / interval), None).multiplier
    return lambda step: float(table[min(step // interval, len(table) - 1)])
