"""The ready experiments that come with lrfind, and the choice of a config when the user names none."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from lrfind.config.experiment import read
from lrfind.errors import UsageError, unknown

DEFAULT_FILE = "lrfind.yaml"
DEFAULT_TEMPLATE = "mnist_cnn"


def find_config(given: Path | None) -> tuple[Path, str]:
    """Choose a config: the given one, else lrfind.yaml in this directory, else the packaged MNIST experiment.

    Returns:
        The path of the config, and the reason for the choice, in words.
    """
    if given is not None:
        return given, "as given"
    for path in (Path(DEFAULT_FILE), Path(DEFAULT_FILE).with_suffix(".yml")):
        if path.is_file():
            return path, "found in this directory"
    return templates()[DEFAULT_TEMPLATE], "the packaged MNIST experiment (no lrfind.yaml in this directory)"


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
