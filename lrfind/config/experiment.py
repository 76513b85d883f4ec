"""The experiment: one YAML file, checked into frozen models; its sections are in `lrfind.config.sections`.

Every mistake is reported at once, with file, line, column and, for names, the nearest that exist. Nothing is
imported: names are looked up in the catalog, and their `args` are held against the signature in the source.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from lrfind.config.arguments import name_mistakes
from lrfind.config.document import ConfigError, Mistake, Override, parse
from lrfind.config.mistakes import mistake, say
from lrfind.config.sections import (
    CompareSection,
    Component,
    DataSection,
    FindSection,
    GridSection,
    LanesSection,
    ModelSection,
    OptimizerSection,
    RangeTestSection,
    SearchSection,
    Section,
    TrainingSection,
    name_only,
)
from lrfind.config.yaml12 import dump as yaml_text
from lrfind.errors import UsageError


class Experiment(Section):
    """One experiment, as read from one YAML file."""

    name: str = Field(default="experiment", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    model: Annotated[ModelSection, BeforeValidator(name_only)]
    data: Annotated[DataSection, BeforeValidator(name_only)]
    loss: Annotated[Component, BeforeValidator(name_only)] | None = Field(
        default=None, description="omit it for models whose output holds the loss"
    )
    optimizer: Annotated[OptimizerSection, BeforeValidator(name_only)]
    training: TrainingSection = TrainingSection(steps=100)
    looks: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="at every layer's gradient in a lane, at most one in 40 steps; 0 for none",
    )
    find: FindSection = FindSection()
    range_test: RangeTestSection = RangeTestSection()
    grid: GridSection = GridSection()
    search: SearchSection = SearchSection()
    compare: CompareSection = CompareSection()


SIDE_BY_SIDE = ("grid", "search", "compare")
"""The commands over whole trainings side by side, each with a section of its name."""


def lanes_section(experiment: Experiment, command: str) -> LanesSection:
    """The section that one of `SIDE_BY_SIDE` reads."""
    section: LanesSection = getattr(experiment, command)
    return section


NAMED = ("model", "data", "loss", "optimizer", "training.schedule")
"""Keys with a name and args."""

RIVALS = {
    "training.steps": ("training.epochs",),
    "training.epochs": ("training.steps",),
    "grid.lrs": ("grid.low", "grid.high", "grid.points"),
    "grid.low": ("grid.lrs",),
    "grid.high": ("grid.lrs",),
    "grid.points": ("grid.lrs",),
    "range_test.over": ("range_test.values",),
    "compare.peaks": ("compare.common_peak",),
    "compare.common_peak": ("compare.peaks",),
    "compare.schedules": ("compare.optimizers",),
    "compare.optimizers": ("compare.schedules",),
}
"""Keys that an override of another one puts out of force."""


def read(path: Path) -> str:
    """The text of a config file.

    Raises:
        UsageError: if it cannot be read; says why and what to do.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in _siblings(path)], n=1)
        hint = f"did you mean {path.with_name(near[0])}?" if near else "`lrfind init` writes a starter."
        raise UsageError(f"there is no file '{path}'; {hint}") from None
    except IsADirectoryError:
        raise UsageError(f"'{path}' is a directory; give the YAML file in it.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"'{path}' is not UTF-8 text (byte {error.start}): is it a YAML file?") from None
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}.") from None


def _siblings(path: Path) -> list[Path]:
    return [*path.parent.glob("*.y*ml")] if path.parent.is_dir() else []


def check(text: str, overrides: Sequence[str | Override] = (), source: str = "config") -> Experiment:
    """Check the text of an experiment.

    Args:
        text: the YAML.
        overrides: applied in order as if they stood in the file; a text is "a.b=VALUE", as --set has it.
        source: what messages call the text, a file's name for example.

    Raises:
        ConfigError: with every mistake in it.
    """
    document = parse(text, source)
    if not document.mistakes and not isinstance(document.value, dict):
        what = "is empty" if document.value is None else f"holds a {type(document.value).__name__}"
        document.mistakes.append(
            Mistake(document.place(()), f"a config is a mapping of keys to values; this one {what}")
        )
    if document.mistakes and not isinstance(document.value, dict):
        raise ConfigError(document.mistakes)
    for override in overrides:
        if isinstance(override, str):
            override = Override.of(override)
        for rival in RIVALS.get(override.key, ()):
            document.drop(tuple(rival.split(".")))
        part, _, key = override.key.rpartition(".")
        if key == "name" and part in NAMED:
            document.drop((*part.split("."), "args"))  # they belong to the name
        document.set(override)
    mistakes = [*document.mistakes, *name_mistakes(document)]
    experiment = None
    try:
        experiment = Experiment.model_validate(document.value)
    except ValidationError as error:
        mistakes += [mistake(document, details, Experiment) for details in error.errors()]
    if mistakes or experiment is None:
        raise ConfigError(mistakes)
    return experiment


FILE_ARGS = ("path", "root")
"""Arguments of built-in data sets that name a file or a folder."""


def anchored(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with its files named from the root, so that a run can be resumed from anywhere.

    These are `model.init_from`, and `FILE_ARGS` of built-in data. A relative path is one from the working
    directory, or, if there is nothing, from the config's.

    Args:
        experiment: as read from a config.
        folder: where the config is.
    """

    def found(file: str) -> str:
        here, beside = Path(file).expanduser().absolute(), (folder / file).absolute()
        return str(beside if beside.exists() and not here.exists() else here)

    model, data = experiment.model, experiment.data
    if model.init_from is not None:
        model = model.model_copy(update={"init_from": found(model.init_from)})
    if ":" not in data.name:
        args = {k: found(v) if k in FILE_ARGS and isinstance(v, str) else v for k, v in data.args.items()}
        data = data.model_copy(update={"args": args})
    return experiment.model_copy(update={"model": model, "data": data})


def dump(experiment: Experiment) -> str:
    """The YAML of an experiment, with every default written out; reading it gives the same experiment."""
    return yaml_text(experiment.model_dump(mode="json", exclude_none=True))


Kind = TypeVar("Kind", bound=Section)


def section_of(kind: type[Kind], **values: Any) -> Kind:
    """A section made of Python arguments.

    Raises:
        UsageError: if one of them is out of range.
    """
    try:
        return kind.model_validate(values, strict=False)
    except ValidationError as error:
        raise UsageError(
            "; ".join(f"{'.'.join(map(str, d['loc'])) or 'arguments'}: {say(d)}" for d in error.errors())
        ) from None
