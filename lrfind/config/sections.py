"""The sections of a config, as frozen models: every key, its type, its bounds and its default.

Defaults live here and nowhere else.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from lrfind.catalog import (
    DEFAULT_METHOD,
    METHODS,
    SCHEDULES,
    Judge,
    LaneMode,
    Over,
    Precision,
    Sampler,
    Spacing,
)
from lrfind.errors import unknown


class Section(BaseModel):
    """What every part of a config has in common: strict, frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def name_only(value: Any) -> Any:
    """A bare name as the mapping that it is short for."""
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


class ModelSection(Component):
    """The model, and the weights that it starts from."""

    init_from: str | None = Field(
        default=None, min_length=1, description="a file with a state dict: weights to start from"
    )
    init_strict: bool = Field(
        default=True, description="every weight must be in it and fit; false takes what fits, and says so"
    )


USUAL_SHARE = 0.1  # held out of a user's Dataset, where the config does not say
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
    validation: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description=f"share held out for validation; {USUAL_SHARE} of a Dataset of yours when omitted",
    )
    memory: float = Field(
        default=2.0, gt=0, description="GiB that the data may take on the device; more is loaded by batches"
    )


def _texts(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class ParamGroup(Section):
    """Parameters with a learning rate of their own, as a multiple of the optimizer's."""

    name: str = Field(min_length=1, description="what --group and messages call it")
    match: Annotated[tuple[str, ...], BeforeValidator(_texts)] = Field(
        strict=False, min_length=1, description="patterns of parameter names, such as 'features.*'"
    )
    lr_multiplier: float = Field(default=1.0, gt=0, description="times the optimizer's lr, in every command")
    frozen: bool = Field(default=False, description="not trained at all")
    args: dict[str, Any] = Field(
        default_factory=dict, description="other settings of the optimizer, such as weight_decay"
    )


class OptimizerSection(Component):
    """The optimizer; its learning rate lives here alone."""

    lr: float = Field(default=1e-3, gt=0, description="the base learning rate; tests and sweeps replace it")
    param_groups: tuple[ParamGroup, ...] = Field(
        default=(),
        strict=False,
        description="the first that matches a parameter has it; others stay together",
    )

    @field_validator("param_groups")
    @classmethod
    def _distinct(cls, groups: tuple[ParamGroup, ...]) -> tuple[ParamGroup, ...]:
        names = [group.name for group in groups]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two groups are called '{twice}'")
        if REST in names:
            raise ValueError(f"'{REST}' is what the parameters that no group matches are called")
        return groups


REST = "rest"


class EarlyStop(Section):
    """Stops a training whose validation loss no longer falls."""

    patience: int = Field(default=5, ge=1, description="evaluations without a lower validation loss")
    threshold: float = Field(default=1e-4, ge=0, lt=1, description="the least fall that counts, relative")


class TrainingSection(Section):
    """How long a training is, in steps or in epochs, exactly one; and how its steps are taken."""

    steps: int | None = Field(default=None, gt=0, le=10_000_000)
    epochs: int | None = Field(default=None, gt=0)
    eval_every: int | None = Field(
        default=None, gt=0, description="steps between evaluations on the validation split; always at the end"
    )
    schedule: Annotated[Component, BeforeValidator(name_only)] = Field(
        default=Component(name="constant"), description="how the lr goes on from its peak; not of range tests"
    )
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make one step")
    precision: Precision = Field(default="float32", description="of forward and backward (mixed precision)")
    l1: float = Field(default=0.0, ge=0, description="weight of the sum of |w|, biases left out")
    clip_norm: float | None = Field(
        default=None, gt=0, description="a gradient with a larger norm is scaled down to it"
    )
    clip_value: float | None = Field(
        default=None, gt=0, description="every number of the gradient is cut to this; before clip_norm"
    )
    early_stop: EarlyStop | None = None
    seeds: int = Field(default=1, ge=1, le=10_000, description="of `lrfind train`: how many trainings")
    checkpoint_every: int | None = Field(
        default=None, gt=0, description="of `lrfind train`: steps between checkpoints; else every half minute"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> TrainingSection:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        return self

    @model_validator(mode="after")
    def _evaluated(self) -> TrainingSection:
        row = SCHEDULES.get(self.schedule.name)
        reacts = row is not None and row.watches == "val_loss"
        if (reacts or self.early_stop) and self.eval_every is None:
            what = f"schedule: {self.schedule.name}" if reacts else "early_stop"
            raise ValueError(
                f"{what} watches the validation loss; give eval_every, steps between looks at it"
            )
        return self


class RangeTestSection(Section):
    """The lr range test: a ramp from start_lr to end_lr, once per seed."""

    start_lr: float = Field(default=1e-6, gt=0)
    end_lr: float = Field(default=10.0, gt=0, validate_default=True)
    steps: int = Field(default=100, ge=2, le=10_000_000)
    seeds: int = Field(
        default=3, ge=1, le=10_000, description="independent lanes: own weights and batch order"
    )
    spacing: Spacing = "exponential"
    grad_norm: bool = Field(default=False, description="record the norm of the gradient")
    held_out: bool = Field(default=False, description="also measure the loss on a fixed held-out batch")
    group: str | None = Field(
        default=None, description="ramp the lr of this param group alone; the others keep theirs"
    )
    over: Over = Field(
        default="lr", description="momentum or weight_decay: one ramp for each of `values`, side by side"
    )
    values: tuple[float, ...] | None = Field(
        default=None, strict=False, min_length=1, description="of momentum or weight_decay; else usual ones"
    )
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

    @field_validator("values")
    @classmethod
    def _sensible(cls, values: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        if values is None:
            return None
        over, top = info.data.get("over", "lr"), 1.0 if info.data.get("over") == "momentum" else float("inf")
        if over == "lr":
            raise ValueError("are of `over: momentum` or `over: weight_decay`; give one of these")
        bad = next((value for value in values if not 0 <= value < top), None)
        if bad is not None:
            raise ValueError(f"a {over} is at least 0{' and below 1' if top == 1 else ''}; found {bad:g}")
        return _each_once(values)

    @model_validator(mode="after")
    def _one_thing(self) -> RangeTestSection:
        clash = next((key for key in ("group", "edge") if self.over != "lr" and getattr(self, key)), None)
        if clash:
            raise ValueError(f"{clash} is of a range test over the lr; leave it out, or over: {self.over}")
        return self


def _each_once(values: tuple[float, ...]) -> tuple[float, ...]:
    """The values in ascending order."""
    ordered = tuple(sorted(values))
    twice = next((a for a, b in pairwise(ordered) if a == b), None)
    if twice is not None:
        raise ValueError(f"{twice:g} is there twice")
    return ordered


def _not_tiny(lr: float) -> float:
    if lr < 1e-30:
        raise ValueError(f"must be at least 1e-30; found {lr:g}")
    return lr


Lr = Annotated[float, Field(gt=0, le=1e30), AfterValidator(_not_tiny)]
"""Beyond, their ratios overflow; and no training wants them."""


class LanesSection(Section):
    """What all commands over whole trainings side by side have in common."""

    seeds: int = Field(default=3, ge=1, le=10_000, description="lanes per lr: own weights and batch order")
    lanes: LaneMode = Field(
        default="auto", description="stacked: lanes train together; single: one after another; auto: measured"
    )
    threads: int | None = Field(
        default=None, ge=1, description="of torch; when omitted, its own number, or measured if lanes is auto"
    )
    judge: Judge = Field(default="val_loss", description="which final loss decides")
    compile: bool = Field(default=False, description="compile stacks (torch.compile): pays for long sweeps")
    stack_memory: float = Field(default=2.0, gt=0, description="GiB that one stack may take")


FEWEST_PROBE_STEPS = 16  # two probes of the fewest steps


class FindSection(LanesSection):
    """The search for the lr of the training: short probes at constant rates."""

    seeds: int = Field(default=1, ge=1, le=100, description="searches: own weights and batch order each")
    budget: int | None = Field(
        default=None,
        ge=FEWEST_PROBE_STEPS,
        description=f"gradient steps that all probes may take; {FEWEST_PROBE_STEPS} a seed at least",
    )
    max_seconds: float | None = Field(default=None, gt=0, description="that all probes may take, about")
    verify: bool = Field(
        default=False, description="then train at a third of the answer, at it, and at three times it"
    )
    verify_share: float = Field(
        default=1.0, gt=0, le=1, description="of the training's steps that these trainings have"
    )
    verify_seeds: int = Field(default=3, ge=1, le=100, description="trainings at each of the three")

    @field_validator("budget")
    @classmethod
    def _for_every_seed(cls, budget: int | None, info: ValidationInfo) -> int | None:
        fewest = FEWEST_PROBE_STEPS * info.data.get("seeds", 1)
        if budget is not None and budget < fewest:
            raise ValueError(f"must be at least {fewest} for that many seeds; found {budget}")
        return budget


class SweepSection(LanesSection):
    """What a grid and a search have in common."""

    low: Lr = Field(default=1e-4, description="the lowest lr")
    high: Lr = Field(default=1.0, validate_default=True, description="the highest lr")
    prune: bool = Field(default=False, description="stop lanes that fall behind, by successive halving")
    tolerance: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="an lr is usable if it loses at most this share of the drop from first loss to best",
    )

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
        return None if lrs is None else _each_once(lrs)

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


class Rival(Component):
    """An optimizer to compare; without args, the config's own if it has that name."""

    lr: Lr | None = Field(default=None, description="where its peaks begin; else its own default")


class CompareSection(LanesSection):
    """Schedules or optimizers side by side: each at its own best of a few peaks, or all at one.

    The peaks are chosen on seeds of their own, so that what is compared was not chosen for being lucky.
    """

    seeds: int = Field(default=5, ge=1, le=10_000, description="trainings of each that are compared")
    tuning_seeds: int = Field(default=2, ge=1, le=10_000, description="others, which choose its best peak")

    schedules: tuple[Annotated[Component, BeforeValidator(name_only)], ...] = Field(
        default=tuple(Component(name=name) for name in ("constant", "linear", "cosine", "one_cycle")),
        strict=False,
        min_length=1,
        description="names from `lrfind ls schedules`, or {name, args}",
    )
    optimizers: tuple[Annotated[Rival, BeforeValidator(name_only)], ...] = Field(
        default=(), strict=False, description="compared instead of schedules, each with training.schedule"
    )
    peaks: tuple[Lr, ...] | None = Field(
        default=None, strict=False, min_length=1, description="else around optimizer.lr, and on while it pays"
    )
    common_peak: Lr | None = Field(
        default=None, description="one peak for all, which favours whom it suits; instead of peaks"
    )

    @property
    def one_peak(self) -> float | None:
        """The one peak of all, where there is no choice."""
        return self.peaks[0] if self.peaks is not None and len(self.peaks) == 1 else self.common_peak

    def first_tuning_seed(self, seed: int) -> int:
        """The first of the seeds that choose the peaks; smaller ones, from `seed` on, are compared."""
        return seed + self.seeds

    @field_validator("peaks")
    @classmethod
    def _distinct(cls, peaks: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if peaks is None else _each_once(peaks)

    @model_validator(mode="after")
    def _one_way(self) -> CompareSection:
        if self.peaks is not None and self.common_peak is not None:
            raise ValueError("give peaks or common_peak, not both")
        if self.optimizers and "schedules" in self.model_fields_set:
            raise ValueError("give schedules or optimizers, not both: what differs should be one thing")
        return self

    @model_serializer(mode="wrap")
    def _in_force(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        idle = ("schedules",) if self.optimizers else ()
        return {key: value for key, value in handler(self).items() if key not in idle}
