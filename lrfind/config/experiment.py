"""The experiment: one YAML file, checked and turned into the frozen models of `lrfind.config.sections`.

All mistakes are reported at once, with file, line, column and, for names, the nearest names that exist.
No code of the user is imported: names are looked up in the catalog, and their `args` are checked against the
signature in the source. The built-in schedules are also computed for the length of the training.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from lrfind.catalog import KINDS
from lrfind.config.arguments import name_mistakes
from lrfind.config.consistency import judge_mistakes, schedule_mistakes
from lrfind.config.document import (
    MAX_BYTES,
    ConfigError,
    Document,
    Mistake,
    Override,
    parse,
)
from lrfind.config.files import read_bounded
from lrfind.config.mistakes import merge_unions, message_of, mistake_at
from lrfind.config.sections import (
    CompareSection,
    Component,
    DataSection,
    FindSection,
    GridSection,
    LossSection,
    ModelSection,
    OptimizerSection,
    RangeTestSection,
    ScriptSection,
    SearchSection,
    Section,
    TrainingSection,
    name_only,
)
from lrfind.config.work import work_mistakes
from lrfind.config.yaml12 import dump as yaml_text
from lrfind.errors import UsageError

IN_THE_SCRIPT = "in the script"
"""The name of the model, the data and the optimizer of an experiment that is a script."""
PARTS_OF_A_SCRIPT = ("model", "data", "optimizer")


class Experiment(Section):
    """One experiment, which one YAML file describes."""

    name: str = Field(
        default="experiment",
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="The name of the experiment.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="The first of the seeds of the lanes.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="The device that trains. auto: CUDA, else MPS, else the CPU."
    )
    model: Annotated[ModelSection, BeforeValidator(name_only)]
    data: Annotated[DataSection, BeforeValidator(name_only)]
    loss: Annotated[LossSection, BeforeValidator(name_only)] | None = Field(
        default=None, description="The loss function. Omit it for a model whose output holds the loss."
    )
    optimizer: Annotated[OptimizerSection, BeforeValidator(name_only)]
    training: TrainingSection = TrainingSection(steps=100)
    looks: int = Field(
        default=10,
        ge=0,
        le=1000,
        description="The number of looks (measurements of every layer's gradient) in a lane, at most one in"
        " 40 steps. 0 means none.",
    )
    sinks: tuple[Annotated[Component, BeforeValidator(name_only)], ...] = Field(
        default=(),
        strict=False,
        max_length=10,
        description="The trackers to which a run is written too: names that `lrfind ls sinks` lists, or"
        " {name, args}.",
    )
    find: FindSection = FindSection()
    range_test: RangeTestSection = RangeTestSection()
    grid: GridSection = GridSection()
    search: SearchSection = SearchSection()
    compare: CompareSection = CompareSection()
    script: ScriptSection | None = Field(
        default=None, description="The script of a run of `lrfind script`, in place of model and data."
    )

    @model_validator(mode="before")
    @classmethod
    def _made_by_the_script(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("script") is None:
            return values
        return {**dict.fromkeys(PARTS_OF_A_SCRIPT, IN_THE_SCRIPT), **values}

    @model_serializer(mode="wrap")
    def _in_force(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unused = () if self.script is None else PARTS_OF_A_SCRIPT
        return {key: value for key, value in handler(self).items() if key not in unused}


def section_for(experiment: Experiment, command: str) -> Any:
    """Return the section that a command reads."""
    return getattr(experiment, KINDS[command].section)


NAMED = ("model", "data", "loss", "optimizer", "training.schedule")
"""Keys whose value has a name and args."""

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
    "loss.name": ("loss.step",),
    "loss.step": ("loss.name",),
}
"""For each key, the keys whose values in the file an override of the key replaces."""


def read(path: Path) -> str:
    """Return the text of a config file, with line breaks as Python writes them.

    Raises:
        UsageError: if it cannot be read, or is too large for a config; the message says why and what to do.
    """
    try:
        content = io.BytesIO(read_bounded(path, MAX_BYTES))
        return io.TextIOWrapper(content, encoding="utf-8").read()
    except FileNotFoundError:
        close = difflib.get_close_matches(path.name, [p.name for p in _siblings(path)], n=1)
        hint = (
            f"did you mean {path.with_name(close[0])}?" if close else "`lrfind init` writes a first config."
        )
        raise UsageError(f"there is no file '{path}'; {hint}") from None
    except IsADirectoryError:
        raise UsageError(f"'{path}' is a directory; give the YAML file in it.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"'{path}' is not UTF-8 text (byte {error.start}); is it a YAML file?") from None
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror}.") from None


def _siblings(path: Path) -> list[Path]:
    return [*path.parent.glob("*.y*ml")] if path.parent.is_dir() else []


def check(text: str, overrides: Sequence[str | Override] = (), source: str = "config") -> Experiment:
    """Check the text of an experiment.

    Args:
        text: the YAML.
        overrides: changes that are applied in order, as if they stood in the file. A string has the form
            "a.b=VALUE", as for --set.
        source: the name of the text in messages, for example a file's name.

    Raises:
        ConfigError: if there are mistakes; it holds all of them.
    """
    document = parse(text, source)
    if not document.mistakes and not isinstance(document.value, dict):
        content = {type(None): "is empty", list: "is a list"}.get(type(document.value), "is a single value")
        document.mistakes.append(
            Mistake(document.place(()), f"a config is a mapping of keys to values; this one {content}")
        )
    if document.mistakes and not isinstance(document.value, dict):
        raise ConfigError(document.mistakes)
    _override(document, [Override.of(o) if isinstance(o, str) else o for o in overrides])
    mistakes = [*document.mistakes, *name_mistakes(document)]
    experiment = None
    try:
        experiment = Experiment.model_validate(document.value)
    except ValidationError as error:
        errors = merge_unions(error.errors(), Experiment, document.value)
        unread = {mistake.place for mistake in document.mistakes}
        found = [mistake_at(document, details, Experiment) for details in errors]
        mistakes += [mistake for mistake in found if mistake.place not in unread]
    defaults = {name: field.default for name, field in Experiment.model_fields.items()}
    mistakes += schedule_mistakes(document, mistakes, defaults)
    mistakes += judge_mistakes(document, defaults)
    mistakes += [] if experiment is None else work_mistakes(document, experiment)
    if mistakes or experiment is None:
        raise ConfigError(mistakes)
    return experiment


def _override(document: Document, overrides: Sequence[Override]) -> None:
    """Set values in order, and drop what does not go with them, unless an override has set it."""

    def drop_replaced(override: Override, typed: Sequence[Override] = ()) -> None:
        for replaced in _replaced_by(override.key):
            if not any(f"{other.key}.".startswith(f"{replaced}.") for other in typed):
                document.drop(tuple(replaced.split(".")))

    for override in overrides:
        drop_replaced(override)
    for number, override in enumerate(overrides):
        drop_replaced(override, overrides[:number])  # what came with a whole section
        document.set(override)


def _replaced_by(key: str) -> tuple[str, ...]:
    """Return the keys whose values in the file do not go with a new value of `key`."""
    part, _, last = key.rpartition(".")
    args = (f"{part}.args",) if last == "name" and part in NAMED else ()  # they belong to the old name
    return (*RIVALS.get(key, ()), *args)


def restored(text: str, source: str) -> Experiment:
    """Return an experiment from the YAML that `dump` wrote. No name is looked up, and nothing is imported.

    Args:
        text: the YAML.
        source: the name of the text in messages.

    Raises:
        ConfigError: if it is not the YAML of an experiment.
    """
    document = parse(text, source, dumped=True)
    try:
        if not document.mistakes:
            return Experiment.model_validate(document.value)
    except ValidationError as error:
        errors = merge_unions(error.errors(), Experiment, document.value)
        document.mistakes += [mistake_at(document, details, Experiment) for details in errors]
    raise ConfigError(document.mistakes)


def own_names(experiment: Experiment) -> list[str]:
    """Return the code in an experiment that is not lrfind's: names that are import paths, and a script."""
    from lrfind.config.shapes import named_in  # it imports numpy, which takes its time

    parts: list[Component] = [experiment.model, experiment.data, experiment.optimizer, *experiment.sinks]
    parts += experiment.compare.optimizers
    schedules = (experiment.training.schedule, *experiment.compare.schedules)
    names = [part.name for part in (*parts, *(part for schedule in schedules for part in named_in(schedule)))]
    names += ["" if experiment.loss is None else experiment.loss.path, experiment.search.sampler]
    script = [] if experiment.script is None else [experiment.script.path]
    return [*(name for name in dict.fromkeys(names) if ":" in name), *script]


FILE_ARGS = ("path", "root")
"""Arguments of built-in data sets that name a file or a folder."""


def anchored(experiment: Experiment, folder: Path) -> Experiment:
    """Return the experiment with absolute paths of its files, so that a run can be resumed from anywhere.

    The paths are `model.init_from`, and `FILE_ARGS` of built-in data. A relative path starts at the working
    directory or, if there is nothing at that path, at the config's directory.

    Args:
        experiment: an experiment that was read from a config.
        folder: the directory of the config.
    """

    def absolute(file: str) -> str:
        try:
            here, beside = Path(file).expanduser().absolute(), (folder / file).absolute()
            return str(beside if beside.exists() and not here.exists() else here)
        except (OSError, RuntimeError):  # a name that is too long, or "~nobody"; who reads the file says so
            return file

    model, data = experiment.model, experiment.data
    if model.init_from is not None:
        model = model.model_copy(update={"init_from": absolute(model.init_from)})
    if ":" not in data.name:
        args = {
            key: absolute(value) if key in FILE_ARGS and isinstance(value, str) else value
            for key, value in data.args.items()
        }
        data = data.model_copy(update={"args": args})
    return experiment.model_copy(update={"model": model, "data": data})


def dump(experiment: Experiment) -> str:
    """Return the YAML of an experiment with every default in it. Reading it gives the same experiment."""
    return yaml_text(experiment.model_dump(mode="json", exclude_none=True))


AnySection = TypeVar("AnySection", bound=Section)


def section_of(kind: type[AnySection], **values: Any) -> AnySection:
    """Make a section from Python arguments.

    Raises:
        UsageError: if one of them has the wrong type or is out of range.
    """
    for name, value in values.items():
        annotation = kind.model_fields[name].annotation
        if isinstance(value, bool) and _allows(annotation, int, float) and not _allows(annotation, bool):
            raise UsageError(f"{name}: must be a number; found {value}")  # pydantic would take it for 1 or 0
    try:
        return kind.model_validate(values, strict=False)
    except ValidationError as error:
        errors = merge_unions(error.errors(), kind, values)
        messages = [f"{'.'.join(map(str, d['loc'])) or 'arguments'}: {message_of(d)}" for d in errors]
        raise UsageError("; ".join(messages)) from None


def _allows(annotation: Any, *types: type) -> bool:
    """Return whether an annotation is one of these types, or has one of them in it."""
    return annotation in types or any(_allows(part, *types) for part in get_args(annotation))
