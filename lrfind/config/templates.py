"""The ready experiments that come with lrfind, and the choice of a config when the user names none."""

from __future__ import annotations

import difflib
import re
from importlib import resources
from pathlib import Path

from lrfind.config.experiment import read
from lrfind.errors import UsageError, unknown

DEFAULT_FILE = "lrfind.yaml"
DEFAULT_TEMPLATE = "mnist_cnn"


def find_config(given: Path | None) -> tuple[Path, str]:
    """Choose a config: the given one, else lrfind.yaml in this directory, else the packaged MNIST experiment.

    Args:
        given: a file, or the name of a template; None if nothing was given.

    Returns:
        The path of the config, and the reason for the choice, in words.

    Raises:
        UsageError: if a file was given that is no config but, for example, a Python file.
    """
    if given is not None:
        if str(given) in templates() and not given.exists():
            return templates()[str(given)], f"the template {given}, which comes with lrfind"
        _refuse_what_is_no_config(given)
        return given, "as given"
    for path in (Path(DEFAULT_FILE), Path(DEFAULT_FILE).with_suffix(".yml")):
        if path.is_file():
            return path, "found in this directory"
    return templates()[DEFAULT_TEMPLATE], "the packaged MNIST experiment (no lrfind.yaml in this directory)"


def _refuse_what_is_no_config(given: Path) -> None:
    """Refuse what is often given in place of a config, and say what would do.

    Raises:
        UsageError: if it is a Python file, a notebook, a table, a run, or the misspelled name of a template.
    """
    near = difflib.get_close_matches(str(given), templates(), n=1)
    if near and not given.suffix and not given.exists():
        raise UsageError(f"there is no file and no template '{given}'; did you mean the template {near[0]}?")
    own = (
        "For a model of your own, write a config with `lrfind init`, and name the model there as `model: {}`"
    )
    what, way = "", ""
    if given.suffix == ".py":
        root = given.parent if given.is_absolute() else Path()
        module = ".".join(part for part in given.relative_to(root).with_suffix("").parts if part != "..")
        script = f"For a training script, run `lrfind script --steps N -- {given}`."
        model = own.format(f"{module}:NAME")
        what, way = "a Python file", f"{script} {model}; then add `--import-root {root}`."
    elif re.fullmatch(r"[\w.]+:\w+", str(given)) and not given.exists():
        what, way = "an object in Python", f"{own.format(given)}."
    elif given.suffix == ".ipynb":
        what, way = "a notebook", "In a notebook, call `lrfind.find(...)`; here, begin with `lrfind init`."
    elif given.suffix.lower() in (".csv", ".tsv"):
        init = "`lrfind init --template csv_regression FILE.yaml`"
        what, way = "a table", f"{init} writes a config for a table; name the table there, as data.args.path."
    elif (given / "resolved.yaml").is_file():
        what, way = "a run", f"Its config is {given / 'resolved.yaml'}."
    if what:
        raise UsageError(
            f"'{given}' is {what}. CONFIG is a YAML file that describes an experiment: model, data, loss and"
            f" optimizer. {way}"
        )


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
    return [*contents]


def starter(template: str) -> str:
    """Return the text of a template.

    Raises:
        UsageError: if there is no template of this name.
    """
    if template not in templates():
        raise unknown("template", template, templates())
    return read(templates()[template])
