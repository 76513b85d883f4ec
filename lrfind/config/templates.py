"""The ready experiments that come with lrfind, and which config a command uses when none is named."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from lrfind.config.experiment import read
from lrfind.errors import UsageError, unknown

DEFAULT_FILE = "lrfind.yaml"
DEFAULT_TEMPLATE = "mnist_cnn"


def find_config(given: Path | None) -> tuple[Path, str]:
    """Which config to use: the one given, else lrfind.yaml here, else the packaged MNIST experiment.

    Returns:
        Its path, and why it was chosen, in words.
    """
    if given is not None:
        return given, "as given"
    for here in (Path(DEFAULT_FILE), Path(DEFAULT_FILE).with_suffix(".yml")):
        if here.is_file():
            return here, "found in this directory"
    return templates()[DEFAULT_TEMPLATE], "the packaged MNIST experiment (no lrfind.yaml in this directory)"


def templates() -> dict[str, Path]:
    """The ready experiments that come with lrfind, by name; from a wheel or from a source tree."""
    package = Path(str(resources.files("lrfind")))
    folders = (package / "configs", package.parent / "configs")
    folder = next(folder for folder in folders if (folder / f"{DEFAULT_TEMPLATE}.yaml").is_file())
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def companions(template: str) -> list[Path]:
    """The files that a template needs beside it: a table, weights."""
    path = templates()[template]
    return sorted(file for file in path.parent.glob(f"{template}.*") if file != path)


def write_template(template: str, target: Path) -> list[Path]:
    """Write a template as `target`, and its companions beside it; all or none.

    Returns:
        What was written.

    Raises:
        UsageError: if there is no such template, or one of the files exists or cannot be written.
    """
    contents = {target: starter(template).encode()}
    contents |= {target.parent / beside.name: beside.read_bytes() for beside in companions(template)}
    taken = next((path for path in contents if path.exists()), None)
    if taken is not None:
        raise UsageError(f"'{taken}' exists already and is left as it is; name another FILE.")
    for path, content in contents.items():
        try:
            path.write_bytes(content)
        except OSError as error:
            for written in contents:
                written.unlink(missing_ok=True)
            raise UsageError(f"cannot write '{path}': {error.strerror}.") from None
    return [*contents]


def starter(template: str) -> str:
    """The text of a template.

    Raises:
        UsageError: if there is none of this name.
    """
    if template not in templates():
        raise unknown("template", template, templates())
    return read(templates()[template])
