"""The ready experiments that come with lrfind, and the choice of a config when the user names none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from lrfind.config.experiment import read
from lrfind.errors import UsageError, in_shell, unknown

DEFAULT_FILE = "lrfind.yaml"
DEFAULT_TEMPLATE = "mnist_cnn"


def find_config(given: Path | None) -> tuple[Path, str]:
    """Choose a config: the given one, else lrfind.yaml in this directory, else the packaged MNIST experiment.

    Args:
        given: a file, or the name of a template; None if nothing was given.

    Returns:
        The path of the config, and the reason for the choice, in words.

    Raises:
        UsageError: if something else was given, such as a Python file, or a misspelled template.
    """
    if given is not None:
        return _given_config(given)
    for path in (Path(DEFAULT_FILE), Path(DEFAULT_FILE).with_suffix(".yml")):
        if path.is_file():
            return path, "found in this directory"
    return templates()[DEFAULT_TEMPLATE], "the packaged MNIST experiment (no lrfind.yaml in this directory)"


def _given_config(given: Path) -> tuple[Path, str]:
    """Return the config that was given, by its path or as the name of a template; see `find_config`."""
    try:
        missing, run = not given.exists(), (given / "resolved.yaml").is_file()
    except OSError:  # a name that is too long: who reads the file says so
        return given, "as given"
    if missing and not given.suffix and not given.with_suffix(".yaml").exists():
        if str(given) in templates():
            return templates()[str(given)], f"the template {given}, which comes with lrfind"
        near = difflib.get_close_matches(str(given), templates(), n=1)
        if near:
            raise UsageError(
                f"there is no file and no template '{given}'; did you mean the template {near[0]}?"
            )
    other = _other_file(given, missing=missing)
    if run:
        other = "a run", f"Its config is {given / 'resolved.yaml'}."
    if other is None:
        return given, "as given"
    what, way = other
    raise UsageError(
        f"'{given}' is {what}. CONFIG is a YAML file that describes an experiment: model, data, loss and"
        f" optimizer. {way}"
    )


def _other_file(given: Path, *, missing: bool) -> tuple[str, str] | None:
    """Return what a path is that is no config, and what would do; None if it may be a config."""
    init = "write a config with `lrfind init`, and name the model there as"
    if given.suffix == ".py":
        root = given.parent if given.is_absolute() else Path()
        module = ".".join(part for part in given.relative_to(root).with_suffix("").parts if part != "..")
        return "a Python file", (
            f"For a training script, run `lrfind script --steps N -- {in_shell(given)}`. For a model of your"
            f" own, {init} `model: {module}:NAME`; then add `--import-root {root}`."
        )
    if missing and re.fullmatch(r"[\d.]+(e[+-]?\d+)?", str(given), re.IGNORECASE):
        return "a number", "Separate several rates with commas, as in `--lrs 1e-3,1e-2`."
    if missing and re.fullmatch(r"[\w.]+:\w+", str(given)):
        return "an object in Python", f"For a model of your own, {init} `model: {given}`."
    if given.suffix == ".ipynb":
        return "a notebook", "In a notebook, call `lrfind.find(...)`; here, begin with `lrfind init`."
    if given.suffix.lower() in (".csv", ".tsv"):
        return "a table", f"`lrfind init --csv {in_shell(given)} --target COLUMN` writes a config for it."
    return None


def templates() -> dict[str, Path]:
    """Return the ready experiments by name, from a wheel or from a source tree."""
    package = Path(str(resources.files("lrfind")))
    folders = (package / "configs", package.parent / "configs")
    folder = next(folder for folder in folders if (folder / f"{DEFAULT_TEMPLATE}.yaml").is_file())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def companions(template: str) -> list[Path]:
    """Return the files that a template needs in its directory, such as a table or weights."""
    path = templates()[template]
    return sorted(file for file in path.parent.glob(f"{template}.*") if file != path)


def write_template(template: str, target: Path) -> list[Path]:
    """Write a template as `target`, and its companions into the same directory: all of the files or none.

    Returns:
        The paths of the files that were written.

    Raises:
        UsageError: if there is no such template, or one of the files exists or cannot be written.
    """
    contents = {target: starter(template).encode()}
    contents |= {target.parent / file.name: file.read_bytes() for file in companions(template)}
    write_new(contents)
    return [*contents]


def write_new(contents: Mapping[Path, bytes]) -> None:
    """Write files that do not exist yet: all of them or none.

    Raises:
        UsageError: if one of them exists or cannot be written.
    """
    existing = next((path for path in contents if path.exists()), None)
    if existing is not None:
        raise UsageError(f"'{existing}' exists already and is left as it is; name another FILE.")
    for path, content in contents.items():
        try:
            path.write_bytes(content)
        except OSError as error:
            for written in contents:
                written.unlink(missing_ok=True)
            raise UsageError(f"cannot write '{path}': {error.strerror}.") from None


def starter(template: str) -> str:
    """Return the text of a template.

    Raises:
        UsageError: if there is no template of this name.
    """
    if template not in templates():
        raise unknown("template", template, templates())
    return read(templates()[template])
