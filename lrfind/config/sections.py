"""The sections of a config, as frozen models: every key, its type, its bounds and its default.

The defaults are defined here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WithJsonSchema,
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
    FinalLoss,
    Judge,
    LaneMode,
    Over,
    Precision,
    Spacing,
)
from lrfind.config.numbers import whole
from lrfind.errors import UsageError, counted, unknown


class Section(BaseModel):
    """The base of every part of a config: strict types, frozen, and no unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


def name_only(value: Any) -> Any:
    """Return the mapping that a bare name stands for; return any other value unchanged."""
    return {"name": value} if isinstance(value, str) else value


def _in_tuple(value: Any) -> Any:
    """Return a single text as the only item of a tuple; return any other value unchanged."""
    return (value,) if isinstance(value, str) else value


SHORT_FORMS: dict[Callable[[Any], Any], str] = {name_only: "a name", _in_tuple: "text"}
"""Validators that allow a short form of a value, and the name of that form in messages."""


def _not_tiny(lr: float) -> float:
    if lr < 1e-30:
        raise ValueError(f"must be at least 1e-30; found {lr:g}")
    return lr


Lr = Annotated[float, Field(gt=0, le=1e30), AfterValidator(_not_tiny)]
"""A learning rate from 1e-30 to 1e30. Beyond these, ratios of lrs overflow; no training needs such lrs."""


MOST_STEPS = 10_000_000
"""The most steps, epochs or evaluations of a training."""

MOST_GIB = 1e6
"""The largest bound of a memory, in GiB."""


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError(f"must have no line breaks, tabs or other control characters; found {name!r:.60}")
    return name


class Component(Section):
    """Something that is made from a name: `mlp`, or `pkg.module:attr` for your own code.

    In a config a bare name may stand for the whole mapping.
    """

    name: str = Field(description="A name that `lrfind ls` lists, or pkg.module:attr for your own code.")
    args: dict[str, Any] = Field(
        default_factory=dict, description="The arguments of the function or class that is named."
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return a schema that allows the mapping or only the name."""
        return {"anyOf": [{"type": "string"}, handler(core_schema)]}


class LossSection(Section):
    """The loss: a function of the model's output and the target, or one that computes it from a batch."""

    name: str | None = Field(
        default=None,
        description="A name that `lrfind ls` lists, or pkg.module:attr for your own function of (output, y).",
    )
    step: str | None = Field(
        default=None,
        description="pkg.module:attr of your own function of (model, batch) that returns the loss, in place"
        " of name.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict, description="The arguments of the function or class that is named."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> LossSection:
        if (self.name is None) == (self.step is None):
            raise ValueError("give exactly one of name and step")
        return self

    @property
    def path(self) -> str:
        """The name or the import path of the function."""
        return self.name or self.step or ""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return a schema that allows the mapping or only the name."""
        return {"anyOf": [{"type": "string"}, handler(core_schema)]}


class ModelSection(Component):
    """The model, and the weights that its training starts from."""

    init_from: str | None = Field(
        default=None,
        min_length=1,
        description="A file with a state dict. The training starts from its weights.",
    )
    init_strict: bool = Field(
        default=True,
        description="Whether every weight must be in `init_from` and fit. If false, the weights that fit"
        " are taken, and a message says so.",
    )


USUAL_SHARE = 0.1
"""The held-out share of a user's Dataset if the config gives no share."""

USUAL_ROWS = 64
"""The number of rows in a batch if the config gives none and the data is not a DataLoader."""


class DataSection(Component):
    """The data set and how it is cut into batches."""

    batch_size: Annotated[int, Field(gt=0, le=10_000_000)] | Literal["full"] | None = Field(
        default=None,
        description="The number of rows in a batch, or full for all rows in one batch."
        f" {USUAL_ROWS} if omitted. A DataLoader has its own batch size: omit it there.",
    )
    validation: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="The share of the rows that is held out for validation."
        f" If omitted, it is {USUAL_SHARE} for a Dataset of your own.",
    )
    memory: float = Field(
        default=2.0,
        gt=0,
        le=MOST_GIB,
        description="The memory in GiB that the data may take on the device. Larger data is loaded"
        " batch by batch.",
    )


class ParamGroup(Section):
    """Parameters with their own learning rate, which is a multiple of the optimizer's."""

    name: Annotated[str, AfterValidator(_printable)] = Field(
        min_length=1, max_length=200, description="The name of the group in --group and in messages."
    )
    match: Annotated[tuple[str, ...], BeforeValidator(_in_tuple)] = Field(
        strict=False,
        min_length=1,
        description="A pattern of parameter names, such as 'features.*', or a list of patterns.",
    )
    lr_multiplier: Lr = Field(
        default=1.0, description="The group's lr as a multiple of the optimizer's lr, in every command."
    )
    frozen: bool = Field(
        default=False, description="Whether the parameters stay unchanged: they are not trained."
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="Other settings of the optimizer for this group, such as weight_decay.",
    )


class OptimizerSection(Component):
    """The optimizer. Its learning rate is given here and nowhere else."""

    lr: Lr = Field(default=1e-3, description="The base learning rate. Range tests and sweeps replace it.")
    param_groups: tuple[ParamGroup, ...] = Field(
        default=(),
        strict=False,
        description="Groups of parameters. A parameter belongs to the first group that matches it;"
        " the parameters that no group matches form one more group.",
    )

    @field_validator("param_groups")
    @classmethod
    def _distinct(cls, groups: tuple[ParamGroup, ...]) -> tuple[ParamGroup, ...]:
        names = [group.name for group in groups]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"two groups are called '{repeated}'; give each its own name")
        if REST in names:
            raise ValueError(
                f"'{REST}' is reserved for the parameters that no group matches; use another name"
            )
        return groups


REST = "rest"
"""The name of the group for the parameters that no group of the config matches."""


class EarlyStop(Section):
    """The rule that stops a training whose validation loss no longer falls."""

    patience: int = Field(
        default=5,
        ge=1,
        le=MOST_STEPS,
        description="The number of evaluations without a lower validation loss after which a training stops.",
    )
    threshold: float = Field(
        default=1e-4,
        ge=0,
        lt=1,
        description="The smallest fall of the validation loss that counts, as a share of its lowest value.",
    )


class TrainingSection(Section):
    """The length of a training, in steps or in epochs but not both, and how its steps are taken."""

    steps: int | None = Field(
        default=None, gt=0, le=MOST_STEPS, description="The number of training steps of each lane."
    )
    epochs: int | None = Field(
        default=None,
        gt=0,
        le=MOST_STEPS,
        description="The number of passes over the training data, in place of steps.",
    )
    eval_every: int | None = Field(
        default=None,
        gt=0,
        le=MOST_STEPS,
        description="The number of steps between evaluations on the validation split."
        " A training is always evaluated at its end.",
    )
    schedule: Annotated[Component, BeforeValidator(name_only)] = Field(
        default=Component(name="constant"),
        description="The course of the lr, as multiples of its peak. Range tests do not use it.",
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="The number of batches whose gradients are combined for one step.",
    )
    precision: Precision = Field(
        default="float32", description="The precision of forward and backward passes (mixed precision)."
    )
    l1: float = Field(
        default=0.0,
        ge=0,
        le=1e30,
        description="The weight of the L1 penalty: the sum of |w|, without the biases.",
    )
    clip_norm: float | None = Field(
        default=None,
        gt=0,
        description="The largest norm of the gradient. A larger gradient is scaled down to it.",
    )
    clip_value: float | None = Field(
        default=None,
        gt=0,
        description="The largest absolute value of a number in the gradient. Larger ones are cut to it,"
        " before clip_norm applies.",
    )
    early_stop: EarlyStop | None = Field(
        default=None, description="The rule that stops a training early. If omitted, no training stops early."
    )
    seeds: int = Field(
        default=1, ge=1, le=10_000, description="The number of trainings that `lrfind train` makes."
    )
    checkpoint_every: int | None = Field(
        default=None,
        gt=0,
        le=MOST_STEPS,
        description="The number of steps between the checkpoints of `lrfind train`, and of the lanes of a"
        " sweep that are trained one by one. If omitted, one is written every half minute.",
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
            watcher = f"schedule: {self.schedule.name}" if reacts else "early_stop"
            raise ValueError(
                f"{watcher} watches the validation loss; give eval_every, the number of steps"
                " between evaluations"
            )
        return self


class RangeTestSection(Section):
    """The lr range test: for each seed, one lane whose lr rises from start_lr to end_lr."""

    start_lr: Lr = Field(default=1e-6, description="The lr at the first step of the ramp.")
    end_lr: Lr = Field(
        default=10.0, validate_default=True, description="The lr at the last step of the ramp."
    )
    steps: int = Field(default=100, ge=2, le=MOST_STEPS, description="The number of steps of the ramp.")
    seeds: int = Field(
        default=3,
        ge=1,
        le=10_000,
        description="The number of independent lanes, each with its own weights and batch order.",
    )
    spacing: Spacing = Field(
        default="exponential",
        description="The spacing of the lrs: even in log lr (exponential) or in lr (linear).",
    )
    grad_norm: bool = Field(default=False, description="Whether the norm of the gradient is recorded.")
    held_out: bool = Field(
        default=False, description="Whether the loss is also measured on a fixed held-out batch."
    )
    group: str | None = Field(
        default=None,
        description="The name of a param group. Only its lr is ramped; the other groups keep theirs.",
    )
    over: Over = Field(
        default="lr",
        description="The setting that is varied. For momentum and weight_decay, the lr is ramped once for"
        " each of `values`, and the ramps are compared side by side.",
    )
    values: tuple[float, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description="The values of momentum or weight_decay that are compared. If omitted, the usual ones.",
    )
    edge: bool = Field(
        default=False, description="Whether the real edge of stability is also found, by bisection."
    )
    method: str = Field(
        default=DEFAULT_METHOD,
        description="The method that reads an lr from the curve: a name that `lrfind ls methods` lists.",
    )

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
            raise ValueError("need `over: momentum` or `over: weight_decay`; give one of these")
        outside = next((value for value in values if not 0 <= value < top), None)
        if outside is not None:
            bounds = "at least 0 and below 1" if top == 1 else "at least 0"
            raise ValueError(f"each {over} must be {bounds}; found {outside:g}")
        return _ascending(values)

    @model_validator(mode="after")
    def _one_thing(self) -> RangeTestSection:
        clash = next((key for key in ("group", "edge") if self.over != "lr" and getattr(self, key)), None)
        if clash:
            raise ValueError(
                f"{clash} works only in a range test over the lr; leave out {clash} or `over: {self.over}`"
            )
        return self


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return the values in ascending order; refuse a value that is repeated."""
    ordered = tuple(sorted(values))
    repeated = next((a for a, b in pairwise(ordered) if a == b), None)
    if repeated is not None:
        raise ValueError(f"{repeated:g} is listed twice; list each value once")
    return ordered


class LanesSection(Section):
    """The settings that all commands with trainings side by side have in common."""

    seeds: int = Field(
        default=3,
        ge=1,
        le=10_000,
        description="The number of lanes at each lr, each with its own weights and batch order.",
    )
    lanes: LaneMode = Field(
        default="auto",
        description="The mode in which lanes run. stacked: they train together. single: one trains after"
        " another. auto: the faster mode, by the work of a step or by timing, in as many processes as there"
        " are cores where that saves time.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="The number of torch's threads, in one process. If omitted: with lanes auto, processes of"
        " one thread, or a number of threads that is timed; otherwise, torch's own number.",
    )
    judge: Judge = Field(
        default="val_loss",
        description="The loss by which lanes are judged: the final val_loss, the final train_loss, or"
        " best_val_loss, the lowest validation loss of all evaluations, which needs training.eval_every.",
    )
    compile: bool = Field(
        default=False,
        description="Whether stacks are compiled (torch.compile). It saves time in long sweeps.",
    )
    stack_memory: float = Field(
        default=2.0, gt=0, le=MOST_GIB, description="The memory in GiB that one stack may take."
    )


SMALLEST_BUDGET = 16  # gradient steps of a seed: two probes, each as short as a probe can be
LARGEST_BUDGET = 100  # planned trainings


def _budget(value: Any) -> int | str:
    """Check a number of gradient steps, or of trainings such as "4x".

    Raises:
        ValueError: if it is neither, or out of range.
    """
    trainings = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)x", value) if isinstance(value, str) else None
    if trainings is not None and 0 < float(trainings[1]) <= LARGEST_BUDGET:
        return str(value)
    steps = whole(value)
    if steps is not None and SMALLEST_BUDGET <= steps <= 100 * MOST_STEPS:
        return steps
    raise ValueError(
        f"must be a number of steps from {SMALLEST_BUDGET} to {100 * MOST_STEPS}, or a number of trainings"
        f" such as 4x, at most {LARGEST_BUDGET}x; found {value!r}"
    )


FindBudget = Annotated[
    int | str,
    BeforeValidator(_budget),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": SMALLEST_BUDGET, "maximum": 100 * MOST_STEPS},
                {"type": "string", "pattern": r"^\d+(\.\d+)?x$"},
            ]
        }
    ),
]
"""A number of gradient steps, or a number of planned trainings as a text such as "4x"."""


class FindSection(LanesSection):
    """The probing, which finds the lr for the training with short trainings at constant lrs."""

    judge: FinalLoss = Field(
        default="val_loss", description="The final loss by which verifying trainings are judged."
    )
    seeds: int = Field(
        default=1,
        ge=1,
        le=100,
        description="The number of seeds to find the lr with, each with its own weights and batch order.",
    )
    budget: FindBudget | None = Field(
        default=None,
        description="How much to spend: a number of gradient steps, or a number of trainings such as 4x. What"
        " short probes leave goes to trainings that refine their answer. When omitted, there are only probes."
        f" At least {SMALLEST_BUDGET} steps for each seed.",
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="How many seconds to spend, approximately, on probes and on trainings that refine their"
        " answer.",
    )
    groups: bool = Field(
        default=False,
        description="Whether to find one rate for each param group too, with probes that change the lr of one"
        " group at a time.",
    )
    verify: bool = Field(
        default=False,
        description="Whether trainings then verify the answer. They run at a third of this lr, at this lr and"
        " at three times this lr.",
    )
    verify_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="The length of the verifying trainings, as a share of the training's steps.",
    )
    verify_seeds: int = Field(
        default=3, ge=1, le=100, description="The number of verifying trainings at each lr."
    )

    verify_beyond: float | None = Field(
        default=None,
        gt=3,
        le=1000,
        description="A further rate at which verifying trainings run, as a multiple of the answer. It shows"
        " whether training soon becomes unstable above the answer; 5 is usual.",
    )

    def budget_steps(self, steps: int) -> int | None:
        """Return the budget in gradient steps, for a training of so many steps; None if none is given.

        Raises:
            UsageError: if it does not allow a single probe for each seed.
        """
        if not isinstance(self.budget, str):
            return self.budget
        budget, fewest = round(float(self.budget.removesuffix("x")) * steps), SMALLEST_BUDGET * self.seeds
        if budget < fewest:
            raise UsageError(
                f"budget: {self.budget} of a training of {counted(steps, 'step')} is"
                f" {counted(budget, 'step')}; it must be at least {fewest} for {counted(self.seeds, 'seed')}."
            )
        return budget

    def verify_steps(self, steps: int) -> int:
        """Return the length of the trainings that verify a rate for a training of so many steps."""
        return max(1, round(self.verify_share * steps))

    @field_validator("budget")
    @classmethod
    def _for_every_seed(cls, budget: int | str | None, info: ValidationInfo) -> int | str | None:
        seeds = info.data.get("seeds", 1)
        fewest = SMALLEST_BUDGET * seeds
        if isinstance(budget, int) and budget < fewest:
            raise ValueError(f"must be at least {fewest} for {counted(seeds, 'seed')}; found {budget}")
        return budget


class ScriptSection(Section):
    """A training script that `lrfind script` starts as it is, in place of model, data and optimizer."""

    path: str = Field(min_length=1, description="The script: the absolute path of a Python file.")
    module: str | None = Field(
        default=None,
        description="The name under which `python -m` runs the script; null to run it by its path.",
    )
    args: tuple[str, ...] = Field(default=(), strict=False, description="The arguments of the script.")
    folder: str = Field(
        min_length=1, description="The directory where relative paths in the arguments begin."
    )
    python: str = Field(min_length=1, description="The Python that runs the script.")
    here: bool = Field(
        default=False,
        description="Whether the script runs in `folder`. If false, each start has an empty temporary"
        " directory, which is deleted afterwards.",
    )
    links: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Files and folders in `folder` to which the temporary directory has a link.",
    )
    wait: float = Field(
        default=10.0,
        gt=0,
        le=100_000,
        description="The number of minutes without an optimizer step after which a start is stopped.",
    )


class SweepSection(LanesSection):
    """The settings that a grid and a search have in common."""

    low: Lr = Field(default=1e-4, description="The lowest lr.")
    high: Lr = Field(default=1.0, validate_default=True, description="The highest lr.")
    prune: bool = Field(
        default=False, description="Whether lanes that fall behind are stopped, by successive halving."
    )
    tolerance: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="How far the final loss of a usable lr may lie above the best final loss. This is a share"
        " of the fall from the first loss to the best final loss.",
    )

    @field_validator("high")
    @classmethod
    def _upwards(cls, high: float, info: ValidationInfo) -> float:
        low = info.data.get("low", high / 2)
        if high < 1.01 * low:
            raise ValueError(f"must be well above low ({low:g}); found {high:g}")
        return high


class GridSection(SweepSection):
    """A grid: a list of lrs, or a number of points that are evenly spaced in log lr."""

    lrs: tuple[Lr, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description="The lrs to train at, in place of low, high and points.",
    )
    points: int = Field(
        default=9, ge=2, le=10_000, description="The number of lrs from low to high, evenly spaced in log lr."
    )
    extend: bool = Field(
        default=False,
        description="Whether the grid is extended outward while the best lr lies at its boundary.",
    )

    @field_validator("lrs")
    @classmethod
    def _distinct(cls, lrs: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if lrs is None else _ascending(lrs)

    @model_validator(mode="after")
    def _one_way(self) -> GridSection:
        if self.lrs is not None and {"low", "high", "points"} & self.model_fields_set:
            raise ValueError("give lrs, or low, high and points, not both")
        return self

    @model_serializer(mode="wrap")
    def _in_force(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unused = () if self.lrs is None else ("low", "high", "points")
        return {key: value for key, value in handler(self).items() if key not in unused}


class SearchSection(SweepSection):
    """A search: a sampler proposes lrs batch by batch, and learns from the earlier ones."""

    sampler: str = Field(
        default="tpe",
        description="The sampler that proposes the lrs: random, sobol, tpe, gp, or pkg.module:attr for your"
        " own function of (low, high, history, count, seed).",
    )
    trials: int = Field(default=16, ge=1, le=10_000, description="The number of lrs to try.")
    batch: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="The number of lrs that a sampler proposes at a time, if it learns from earlier ones.",
    )
    start: Lr | None = Field(default=None, description="The lr to try first.")


class Rival(Component):
    """An optimizer to compare. With the name of the config's optimizer and no args, it is that optimizer."""

    lr: Lr | None = Field(
        default=None,
        description="The lr around which its peaks lie. If omitted: for the config's optimizer, the config's"
        " lr; for another optimizer, the default lr of that optimizer.",
    )


class CompareSection(LanesSection):
    """A comparison of schedules or optimizers. Each is tried at a few peak lrs, unless one peak is given.

    The peaks are chosen on some seeds, and the variants are compared on other seeds. So one lucky training
    cannot both choose a peak and win the comparison.
    """

    seeds: int = Field(
        default=5,
        ge=1,
        le=10_000,
        description="The number of compared trainings of each schedule or optimizer.",
    )
    tuning_seeds: int = Field(
        default=2,
        ge=1,
        le=10_000,
        description="The number of other seeds, which choose the best peak of each schedule or optimizer.",
    )
    schedules: tuple[Annotated[Component, BeforeValidator(name_only)], ...] = Field(
        default=tuple(Component(name=name) for name in ("constant", "linear", "cosine", "one_cycle")),
        strict=False,
        min_length=1,
        description="The schedules to compare: names that `lrfind ls schedules` lists, or {name, args}.",
    )
    optimizers: tuple[Annotated[Rival, BeforeValidator(name_only)], ...] = Field(
        default=(),
        strict=False,
        description="The optimizers to compare, in place of schedules, each with training.schedule.",
    )
    peaks: tuple[Lr, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description="The peaks to try. If omitted, lrfind tries peaks around optimizer.lr, and further peaks"
        " outward while that helps.",
    )
    common_peak: Lr | None = Field(
        default=None,
        description="One peak for all, in place of peaks. It favours the schedules or optimizers"
        " that it suits.",
    )

    @property
    def one_peak(self) -> float | None:
        """Return the peak that all share; None if a best peak is chosen for each."""
        return self.peaks[0] if self.peaks is not None and len(self.peaks) == 1 else self.common_peak

    def first_tuning_seed(self, seed: int) -> int:
        """Return the first seed that chooses peaks. The seeds before it, from `seed` on, are compared."""
        return seed + self.seeds

    @field_validator("peaks")
    @classmethod
    def _distinct(cls, peaks: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if peaks is None else _ascending(peaks)

    @model_validator(mode="after")
    def _one_way(self) -> CompareSection:
        if self.peaks is not None and self.common_peak is not None:
            raise ValueError("give peaks or common_peak, not both")
        if self.optimizers and "schedules" in self.model_fields_set:
            raise ValueError("give schedules or optimizers, not both, so that only one thing differs")
        return self

    @model_serializer(mode="wrap")
    def _in_force(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unused = ("schedules",) if self.optimizers else ()
        return {key: value for key, value in handler(self).items() if key not in unused}
