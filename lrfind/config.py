"""The experiment: one YAML file, checked into frozen models. Defaults live here and nowhere else.

Every mistake is reported at once, with file, line, column and, for names, the nearest that exist. Nothing is
imported: names are looked up in the catalog, and their `args` are held against the signature in the source.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from lrfind.catalog import CATALOGS
from lrfind.document import ConfigError, Document, Mistake, parse
from lrfind.document import Path as KeyPath
from lrfind.errors import UsageError, unknown
from lrfind.registry import import_path, signature

SIZES = ("in_features", "out_features", "in_channels", "image_size")
"""Arguments of a model that come from the data when `args` omit them."""

DEFAULT_FILE = "lrfind.yaml"
DEFAULT_TEMPLATE = "mnist_cnn"


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


def _rows(value: Any) -> Any:
    if value == "full" or (type(value) is int and value > 0):
        return value
    raise ValueError("must be a positive whole number, or full (all rows in one batch)")


class DataSection(Component):
    """The data set and how it is cut into batches."""

    batch_size: Annotated[
        Any,
        BeforeValidator(_rows),
        Field(json_schema_extra={"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"const": "full"}]}),
    ] = 64
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

    steps: int | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _exactly_one(self) -> TrainingSection:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        return self


class RangeTestSection(Section):
    """The lr range test: a ramp from start_lr to end_lr, once per seed."""

    start_lr: float = Field(default=1e-6, gt=0)
    end_lr: float = Field(default=10.0, gt=0)
    steps: int = Field(default=100, ge=2)
    seeds: int = Field(default=3, ge=1, description="independent lanes: own weights and batch order")
    shape: Literal["exponential", "linear"] = "exponential"
    grad_norm: bool = Field(default=False, description="record the norm of the gradient")
    probe: bool = Field(default=False, description="also measure the loss on a fixed held-out batch")

    @model_validator(mode="after")
    def _upwards(self) -> RangeTestSection:
        if self.end_lr <= self.start_lr:
            raise ValueError(f"end_lr ({self.end_lr:g}) must be above start_lr ({self.start_lr:g})")
        return self


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


def load(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment.

    Args:
        path: the YAML file.
        overrides: "a.b=VALUE" each, applied in order as if they stood in the file.

    Raises:
        ConfigError: with every mistake in it.
        UsageError: if the file cannot be read.
    """
    return check(read(path), overrides, str(path))


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


def check(text: str, overrides: Sequence[str] = (), source: str = "config") -> Experiment:
    """Check the text of an experiment; see `load`. `source` is what messages call it."""
    document = parse(text, source)
    if not document.mistakes and not isinstance(document.value, dict):
        what = "is empty" if document.value is None else f"holds a {type(document.value).__name__}"
        document.mistakes.append(
            Mistake(document.place(()), f"a config is a mapping of keys to values; this one {what}")
        )
    if document.mistakes and not isinstance(document.value, dict):
        raise ConfigError(document.mistakes)
    for override in overrides:
        key = override.partition("=")[0].strip()
        for one, other in (("steps", "epochs"), ("epochs", "steps")):
            if key == f"training.{one}":
                document.drop(("training", other))
        document.set(override)
    mistakes = [*document.mistakes, *_component_mistakes(document)]
    experiment = None
    try:
        experiment = Experiment.model_validate(document.value)
    except ValidationError as error:
        mistakes += [_mistake(document, details) for details in error.errors()]
    if mistakes or experiment is None:
        raise ConfigError(mistakes)
    return experiment


def dump(experiment: Experiment) -> str:
    """The YAML of an experiment, with every default written out; reading it gives the same experiment."""
    return yaml.safe_dump(experiment.model_dump(exclude_none=True), sort_keys=False)


def range_test_section(**values: Any) -> RangeTestSection:
    """The section made of Python arguments.

    Raises:
        UsageError: if one of them is out of range.
    """
    try:
        return RangeTestSection.model_validate(values, strict=False)
    except ValidationError as error:
        raise UsageError(
            "; ".join(f"{'.'.join(map(str, d['loc'])) or 'range_test'}: {_say(d)}" for d in error.errors())
        ) from None


def find_config(given: Path | None) -> tuple[Path, str]:
    """Which config to use: the one given, else lrfind.yaml here, else the packaged MNIST experiment.

    Returns:
        Its path, and why it was chosen, in words.
    """
    if given is not None:
        return given, "as given"
    if (here := Path(DEFAULT_FILE)).is_file():
        return here, f"{DEFAULT_FILE} in this directory"
    return templates()[DEFAULT_TEMPLATE], "the packaged MNIST experiment (no lrfind.yaml in this directory)"


def templates() -> dict[str, Path]:
    """The ready experiments that come with lrfind, by name; from a wheel or from a source tree."""
    package = Path(str(resources.files("lrfind")))
    folders = (package / "configs", package.parent / "configs")
    folder = next(folder for folder in folders if (folder / f"{DEFAULT_TEMPLATE}.yaml").is_file())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def starter(template: str) -> str:
    """The text of a template.

    Raises:
        UsageError: if there is none of this name.
    """
    if template not in templates():
        raise unknown("template", template, templates())
    return read(templates()[template])


_MESSAGES = {
    "missing": "'{key}' is missing",
    "int_type": "must be a whole number; found {found}",
    "float_type": "must be a number; found {found}",
    "string_type": "must be text; found {found}",
    "bool_type": "must be true or false; found {found}",
    "dict_type": "must be a mapping of keys to values; found {found}",
    "list_type": "must be a list; found {found}",
    "tuple_type": "must be a list; found {found}",
    "model_type": "must be a mapping of keys to values; found {found}",
    "greater_than": "must be greater than {gt:g}; found {found}",
    "greater_than_equal": "must be at least {ge:g}; found {found}",
    "less_than": "must be less than {lt:g}; found {found}",
    "less_than_equal": "must be at most {le:g}; found {found}",
    "finite_number": "must be a finite number; found {found}",
    "literal_error": "must be {expected}; found {found}",
    "string_pattern_mismatch": "must be letters, digits, '.', '_' or '-', starting with a letter or a"
    " digit; found {found}",
    "value_error": "{error}",
}


def _mistake(document: Document, details: ErrorDetails, prefix: KeyPath = ()) -> Mistake:
    """One of pydantic's errors, in our words and with its place."""
    path = (*prefix, *(part for part in details["loc"]))
    kind, key = details["type"], str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        known = _keys_beside(path)
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}."
        return Mistake(document.place(path, of_key=True), f"unknown key '{key}'; {hint}")
    message = _say(details)
    if kind == "missing":
        return Mistake(document.place(path[:-1]), message)
    dotted = ".".join(str(part) for part in path)
    return Mistake(document.place(path), f"{dotted}: {message}" if dotted else message)


def _say(details: ErrorDetails) -> str:
    """One of pydantic's errors in our words, without its place."""
    text = _MESSAGES.get(details["type"], details["msg"])
    key = details["loc"][-1] if details["loc"] else ""
    return text.format(key=key, found=_show(details["input"]), **details.get("ctx", {}))


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text '{value[:60]}'"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value).lower() if isinstance(value, bool) else f"{value!r}"


def _keys_beside(path: KeyPath) -> list[str]:
    """The keys that are known where `path` stands."""
    model: type[BaseModel] = Experiment
    for part in path[:-1]:
        if part not in model.model_fields:
            break
        inner = model.model_fields[str(part)].annotation
        options = [inner, *getattr(inner, "__args__", ())]
        options += [a for option in options for a in getattr(option, "__args__", ())]
        model = next((o for o in options if inspect.isclass(o) and issubclass(o, BaseModel)), model)
    return list(model.model_fields)


def _component_mistakes(document: Document) -> list[Mistake]:
    """Names that are not known, and args that do not fit the signature in the source."""
    mistakes: list[Mistake] = []
    for section, catalog in CATALOGS.items():
        value = document.value.get(section)
        at: KeyPath = (section,)
        if isinstance(value, dict):
            name, args, at = value.get("name"), value.get("args", {}), (section, "name")
        else:
            name, args = value, {}
        if not isinstance(name, str) or not isinstance(args, dict):
            continue  # of the wrong type: pydantic says so
        try:
            path = import_path(section, name, catalog)
        except UsageError as error:
            mistakes.append(Mistake(document.place(at), str(error)))
            continue
        if not re.fullmatch(r"[\w.]+:[\w.]+", path):
            mistakes.append(Mistake(document.place(at), f"'{name}' is not of the form pkg.module:attr"))
            continue
        mistakes += _argument_mistakes(document, section, name, path, args)
    return mistakes


def _argument_mistakes(
    document: Document, section: str, name: str, path: str, args: Mapping[str, Any]
) -> list[Mistake]:
    mistakes: list[Mistake] = []
    if section == "optimizer" and "lr" in args:
        place = document.place((section, "args", "lr"), of_key=True)
        mistakes.append(Mistake(place, "the learning rate lives in optimizer.lr alone; move it there"))
        args = {key: value for key, value in args.items() if key != "lr"}
    found = signature(path)
    if found is None:
        return mistakes
    parameters = list(found.parameters.values())
    if section == "optimizer":
        parameters = [p for p in parameters[1:] if p.name != "lr"]
    elif section == "loss" and path.partition(":")[2][:1].islower():
        parameters = parameters[2:]  # a function of (output, target)
    named = {p.name: p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for key, value in args.items():
        if key not in named:
            if not takes_any:
                place = document.place((section, "args", key), of_key=True)
                mistakes.append(Mistake(place, f"{name}: {unknown('argument', key, named)}"))
        else:
            mistakes += _type_mistakes(document, (section, "args", key), named[key], value)
    for parameter in named.values():
        given = parameter.name in args or (section == "model" and parameter.name in SIZES)
        if parameter.default is parameter.empty and not given:
            place = document.place((section, "args"))
            mistakes.append(Mistake(place, f"{name} needs the argument '{parameter.name}'"))
    return mistakes


_ANNOTATION_NAMES = {
    **{kind.__name__: kind for kind in (bool, dict, float, int, list, str, tuple)},
    "Literal": Literal,
    "Sequence": Sequence,
}


def _type_mistakes(
    document: Document, path: KeyPath, parameter: inspect.Parameter, value: Any
) -> list[Mistake]:
    """Hold a value against an annotation, where that is made of plain types only."""
    text = parameter.annotation
    names = set(re.findall(r"[A-Za-z_][\w.]*", re.sub(r"'[^']*'|\"[^\"]*\"", "", str(text))))
    if text is parameter.empty or not names <= {*_ANNOTATION_NAMES, "None"}:
        return []
    annotation = eval(str(text), {"__builtins__": {}}, _ANNOTATION_NAMES)  # names checked above
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        return [_mistake(document, error.errors()[0] | {"loc": ()}, path)]
    return []
