"""The names that `lrfind ls` lists, each with a line on what it is; imports nothing that they name."""

from __future__ import annotations

from lrfind.catalog import DATASETS, LOSSES, MODELS, OPTIMIZERS
from lrfind.registry import summary


def listing(what: str) -> dict[str, str]:
    """Name to summary, for models, datasets, losses, optimizers, methods or templates."""
    if what == "methods":
        from lrfind.suggestions import METHODS  # numpy and pydantic: half of the time that ls takes

        return {name: method.summary for name, method in METHODS.items()}
    if what == "templates":
        from lrfind.config import read, templates

        return {name: read(path).splitlines()[0].lstrip("# ") for name, path in templates().items()}
    catalogs = {"models": MODELS, "datasets": DATASETS, "losses": LOSSES, "optimizers": OPTIMIZERS}
    return {name: summary(path) for name, path in catalogs[what].items()}
