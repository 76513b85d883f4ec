"""The names that `lrfind ls` lists, each with a line that says what it is. What they name is not imported."""

from __future__ import annotations

from lrfind.catalog import CATALOGS
from lrfind.config.registry import definition

SECTIONS = {
    "models": "model",
    "datasets": "data",
    "losses": "loss",
    "optimizers": "optimizer",
    "schedules": "schedule",
}
LISTS = (*SECTIONS, "methods", "templates")


def listing(what: str) -> dict[str, str]:
    """Return name -> summary, for one of `LISTS`."""
    if what == "methods":
        from lrfind.analysis.suggestions import METHODS  # numpy: half of the time that ls takes

        from_curves = {name: method.summary for name, method in METHODS.items()}
        return {"find": "from short probes at constant rates; for the run of a `lrfind find`"} | from_curves
    if what == "templates":
        from lrfind.config.templates import starter, templates

        return {name: starter(name).splitlines()[0].lstrip("# ") for name in templates()}
    names = CATALOGS[SECTIONS[what]]
    sources = {name: definition(path) for name, path in names.items()}
    return {name: (source.summary if source else "") or names[name] for name, source in sources.items()}
