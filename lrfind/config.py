"""The experiment: one YAML file, checked into frozen models. Defaults live here and nowhere else.

Every mistake is reported at once, with file, line, column and, for names, the nearest that exist. Nothing is
imported: names are looked up in the catalog, and their `args` are held against the signature in the source.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from lrfind.arguments import name_mistakes
from lrfind.catalog import CATALOGS, DEFAULT_METHOD, METHODS, Judge, LaneMode, Sampler, Shape
from lrfind.core_schema import dump as yaml_text
from lrfind.document import ConfigError, Mistake, Override, parse
from lrfind.errors import UsageError, unknown
from lrfind.messages import mistake, say


class Section(BaseModel):
    """What every part of a config has in common: strict, frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _name_only(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Component(Section):
    """Something made by name: `mlp`, or `pkg.module:attr` for one of your own; a bare name will do."""

    name: str = Field(description="a name from `lrfind ls`, or pkg.module:attr")
    args: dict[str, Any] = Field(default_factory=dict, description="its arguments")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The mapping, or the name alone."""
        return {"anyOf": [{"type": "string"}, handler(core_schema)]}


USUAL_ROWS = 64  # of a batch, where the config does not say and the data is no DataLoader


def _rows(value: Any) -> Any:
    if value is None or value == "full" or (type(value) is int and value > 0):
        return value
    raise ValueError("must be a positive whole number, or full (all rows in one batch)")


class DataSection(Component):
    """The data set and how it is cut into batches."""

    batch_size: Annotated[
        Any,
        BeforeValidator(_rows),
        Field(
            json_schema_extra={"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"const": "full"}]},
            description=f"rows of a batch, or full; {USUAL_ROWS} when omitted; leave it out for a DataLoader",
        ),
    ] = None
    validation: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="share split off for validation, from a Dataset that has no split of its own",
    )


class OptimizerSection(Component):
    """The optimizer; its learning rate lives here alone."""

    lr: float = Field(default=1e-3, gt=0, description="the base learning rate; tests and sweeps replace it")


class TrainingSection(Section):
    """How long a training is: in steps or in epochs, exactly one."""

    steps: int | None = Field(default=None, gt=0, le=10_000_000)
    epochs: int | None = Field(default=None, gt=0)
    eval_every: int | None = Field(
        default=None, gt=0, description="steps between evaluations on the validation split; always at the end"
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="a gradient with a larger norm is scaled down to it"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> TrainingSection:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        return self


class RangeTestSection(Section):
    """The lr range test: a ramp from start_lr to end_lr, once per seed."""

    start_lr: float = Field(default=1e-6, gt=0)
    end_lr: float = Field(default=10.0, gt=0, validate_default=True)
    steps: int = Field(default=100, ge=2, le=10_000_000)
    seeds: int = Field(
        default=3, ge=1, le=10_000, description="independent lanes: own weights and batch order"
    )
    shape: Shape = "exponential"
    grad_norm: bool = Field(default=False, description="record the norm of the gradient")
    probe: bool = Field(default=False, description="also measure the loss on a fixed held-out batch")
    edge: bool = Field(default=False, description="also find the real edge of stability, by bisection")
    method: str = Field(default=DEFAULT_METHOD, description="a name from `lrfind ls methods`")

    @field_validator("end_lr")
    @classmethod
    def _upwards(cls, end_lr: float, info: ValidationInfo) -> float:
        start_lr = info.data.get("start_lr", end_lr / 2)
        if end_lr < 1.01 * start_lr:
            raise ValueError(f"must be well above start_lr ({start_lr:g}); found {end_lr:g}")
        return end_lr

    @field_validator("method")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(str(unknown("method", name, METHODS)))
        return name


def _not_tiny(lr: float) -> float:
    if lr < 1e-30:
        raise ValueError(f"must be at least 1e-30; found {lr:g}")
    return lr


Lr = Annotated[float, Field(gt=0, le=1e30), AfterValidator(_not_tiny)]
"""Beyond, their ratios overflow; and no training wants them."""


class SweepSection(Section):
    """What a grid and a search have in common."""

    low: Lr = Field(default=1e-4, description="the lowest lr")
    high: Lr = Field(default=1.0, validate_default=True, description="the highest lr")
    seeds: int = Field(default=3, ge=1, le=10_000, description="lanes per lr: own weights and batch order")
    lanes: LaneMode = Field(
        default="auto", description="stacked: lanes train together; single: one after another; auto: measured"
    )
    threads: int | None = Field(
        default=None, ge=1, description="of torch; when omitted, its own number, or measured if lanes is auto"
    )
    prune: bool = Field(default=False, description="stop lanes that fall behind, by successive halving")
    judge: Judge = Field(default="val_loss", description="which final loss decides")
    tolerance: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="an lr is usable if it loses at most this share of the drop from first loss to best",
    )
    compile: bool = Field(default=False, description="compile stacks (torch.compile): pays for long sweeps")
    stack_memory: float = Field(default=2.0, gt=0, description="GiB that one stack may take")

    @field_validator("high")
    @classmethod
    def _upwards(cls, high: float, info: ValidationInfo) -> float:
        low = info.data.get("low", high / 2)
        if high < 1.01 * low:
            raise ValueError(f"must be well above low ({low:g}); found {high:g}")
        return high


class GridSection(SweepSection):
    """A grid: the lrs of a list, or points spaced evenly in log lr."""

    lrs: tuple[Lr, ...] | None = Field(
        default=None, strict=False, min_length=1, description="instead of low, high and points"
    )
    points: int = Field(default=9, ge=2, le=10_000)
    extend: bool = Field(default=False, description="go on outward while the best lr is at the boundary")

    @field_validator("lrs")
    @classmethod
    def _distinct(cls, lrs: tuple[float, ...] | None) -> tuple[float, ...] | None:
        ordered = sorted(lrs or ())
        twice = next((a for a, b in pairwise(ordered) if a == b), None)
        if twice is not None:
            raise ValueError(f"the lr {twice:g} is there twice")
        return tuple(ordered) or None

    @model_validator(mode="after")
    def _one_way(self) -> GridSection:
        if self.lrs is not None and {"low", "high", "points"} & self.model_fields_set:
            raise ValueError("give lrs, or low, high and points, not both")
        return self

    @model_serializer(mode="wrap")
    def _in_force(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        idle = () if self.lrs is None else ("low", "high", "points")
        return {key: value for key, value in handler(self).items() if key not in idle}


class SearchSection(SweepSection):
    """A search: lrs proposed one batch after another, by a sampler that learns from those before."""

    sampler: Sampler = "tpe"
    trials: int = Field(default=16, ge=1, le=10_000, description="lrs to try")
    batch: int = Field(default=4, ge=1, description="lrs that tpe and gp propose at a time")
    start: Lr | None = Field(default=None, description="an lr to try first")


class Experiment(Section):
    """One experiment, as read from one YAML file."""

    name: str = Field(default="experiment", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0, lt=2**32)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    model: Annotated[Component, BeforeValidator(_name_only)]
    data: Annotated[DataSection, BeforeValidator(_name_only)]
    loss: Annotated[Component, BeforeValidator(_name_only)] | None = Field(
        default=None, description="omit it for models whose output holds the loss"
    )
    optimizer: Annotated[OptimizerSection, BeforeValidator(_name_only)]
    training: TrainingSection = TrainingSection(steps=100)
    range_test: RangeTestSection = RangeTestSection()
    grid: GridSection = GridSection()
    search: SearchSection = SearchSection()


RIVALS = {
    "training.steps": ("training.epochs",),
    "training.epochs": ("training.steps",),
    "grid.lrs": ("grid.low", "grid.high", "grid.points"),
    "grid.low": ("grid.lrs",),
    "grid.high": ("grid.lrs",),
    "grid.points": ("grid.lrs",),
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
        section, _, key = override.key.partition(".")
        if key == "name" and section in CATALOGS:
            document.drop((section, "args"))  # they belong to the name
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


def dump(experiment: Experiment) -> str:
    """The YAML of an experiment, with every default written out; reading it gives the same experiment."""
    return yaml_text(experiment.model_dump(mode="json", exclude_none=True))


def range_test_section(**values: Any) -> RangeTestSection:
    """The section made of Python arguments.

    Raises:
        UsageError: if one of them is out of range.
    """
    try:
        return RangeTestSection.model_validate(values, strict=False)
    except ValidationError as error:
        raise UsageError(
            "; ".join(f"{'.'.join(map(str, d['loc'])) or 'range_test'}: {say(d)}" for d in error.errors())
        ) from None
