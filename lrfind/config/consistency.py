"""Mistakes that lie between the keys of a config: a schedule or a judge that does not fit the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from lrfind.catalog import OPTIMIZERS, SCHEDULES
from lrfind.config.document import Document, KeyPath, Mistake, Place
from lrfind.config.sections import MOST_STEPS, Component, FindSection, LanesSection, name_only


def schedule_mistakes(
    document: Document, known: Sequence[Mistake], defaults: Mapping[str, Any]
) -> Iterator[Mistake]:
    """Yield a mistake for each schedule that no training of this config can have.

    Args:
        document: the config.
        known: the mistakes that are known already. A schedule that has one of them is left out.
        defaults: the section that stands for each key that a config leaves out.
    """
    config = document.value
    training = config["training"] if isinstance(config.get("training"), dict) else {}
    steps, epochs = _count(training.get("steps")), _count(training.get("epochs"))
    if "training" not in config:
        steps = defaults["training"].steps
    for at, schedule in _schedules(config):
        row = SCHEDULES.get(schedule.name)
        if not schedule.args and (row is None or row.watches is None):
            continue  # the defaults of a schedule fit every training
        if _places(document, at) & {mistake.place for mistake in known}:
            continue
        from lrfind.config.shapes import misfit_of, watched_by  # it imports numpy, which takes its time

        misfit = misfit_of(schedule, steps, epochs)
        if misfit is not None:
            yield Mistake(document.place((*at, *misfit.path)), misfit.message)
            continue
        by_section = at[0] == "training" and schedule.name != "join"  # TrainingSection refuses these
        if watched_by(schedule) == "val_loss" and training.get("eval_every") is None and not by_section:
            message = (
                f"{schedule.name} watches the validation loss; give training.eval_every, the number of"
                " steps between evaluations"
            )
            yield Mistake(document.place(at), message)
        yield from _momentum_mistakes(document, at, schedule)


def judge_mistakes(document: Document, defaults: Mapping[str, Any]) -> Iterator[Mistake]:
    """Yield a mistake for each section whose judge needs evaluations that the training does not have.

    Args:
        document: the config.
        defaults: the section that stands for each key that a config leaves out.
    """
    config = document.value
    training = config.get("training")
    if isinstance(training, dict) and training.get("eval_every") is not None:
        return
    for name, default in defaults.items():
        section = config.get(name)
        judges = isinstance(default, LanesSection) and not isinstance(default, FindSection)
        if judges and isinstance(section, dict) and section.get("judge") == "best_val_loss":
            message = (
                "best_val_loss is the lowest validation loss of a training, but without eval_every a training"
                " is evaluated only at its end; give training.eval_every (--eval-every), the number of steps"
                " between evaluations"
            )
            yield Mistake(document.place((name, "judge")), message)


def _momentum_mistakes(document: Document, at: KeyPath, schedule: Component) -> Iterator[Mistake]:
    """Yield a mistake for each optimizer whose momentum the schedule at this path cannot move."""
    row = SCHEDULES.get(schedule.name)
    if row is None or row.momentum is None or schedule.args.get("momentum") is None:
        return
    config, place = document.value, document.place((*at, "args", "momentum"))
    names = [_name_in(config.get("optimizer"))]
    comparison = config.get("compare")
    if (
        at[0] == "training"
        and isinstance(comparison, dict)
        and isinstance(comparison.get("optimizers"), list)
    ):
        names += map(_name_in, comparison["optimizers"])
    for name in dict.fromkeys(names):
        if (optimizer := OPTIMIZERS.get(name)) is not None and optimizer.momentum is None:
            message = (
                f"{schedule.name}: {name} has no momentum that a schedule could change; set the schedule's"
                " `momentum: null`, or use sgd, rmsprop or an optimizer of the Adam family"
            )
            yield Mistake(place, message)


def _schedules(config: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Component]]:
    """Yield the path and the content of each schedule in a config that has the right form."""
    training, comparison = config.get("training"), config.get("compare")
    parts: list[tuple[KeyPath, Any]] = []
    if isinstance(training, dict):
        parts.append((("training", "schedule"), training.get("schedule")))
    if isinstance(comparison, dict) and isinstance(comparison.get("schedules"), list):
        parts += [(("compare", "schedules", i), part) for i, part in enumerate(comparison["schedules"])]
    for at, part in parts:
        try:
            yield at, Component.model_validate(name_only(part))
        except ValidationError:
            continue  # it has a mistake already


def _name_in(part: Any) -> str:
    """Return the name in a part of a config; "" if it has none."""
    name = part.get("name") if isinstance(part, dict) else part
    return name if isinstance(name, str) else ""


def _count(value: Any) -> int | None:
    """Return a number of steps or epochs if it is one; None if it is not, which is another mistake."""
    return value if type(value) is int and 0 < value <= MOST_STEPS else None


def _places(document: Document, at: KeyPath) -> set[Place]:
    """Return the places of everything inside the value at a path, and of the value itself."""
    path = tuple(map(str, at))
    values = {place for inner, place in document.values.items() if inner[: len(path)] == path}
    keys = {place for inner, place in document.keys.items() if inner[: len(path)] == path != inner}
    return values | keys
