"""The names that `lrfind ls` lists, each with a line that says what it is. The objects are not imported."""

from __future__ import annotations

from lrfind.catalog import CATALOGS, METHODS, OPTIMIZERS, Optimizer
from lrfind.config.registry import definition

LISTS = {
    "models": "the models of `model:` in a config",
    "datasets": "the data sets of `data:`",
    "losses": "the losses of `loss:`",
    "optimizers": "the optimizers of `optimizer:` and --optimizers",
    "schedules": "the schedules of --schedule, --schedules and `lrfind schedules`",
    "samplers": "the samplers of `lrfind search --sampler`",
    "sinks": "the trackers of --to, to which a run is written too",
    "methods": "the methods of `lrfind suggest --method` and `lrfind range-test --method`",
    "templates": "the ready configs of `lrfind init --template`, also taken as CONFIG",
}
"""What can be listed, with a line each."""
CATALOG_KEYS = {"datasets": "data", "losses": "loss"}
"""The keys of `catalog.CATALOGS` that are not the singular of the list's name."""


def listing(what: str) -> dict[str, str]:
    """Return name -> summary, for one of `LISTS`."""
    if what == "methods":
        return {"find": "from short probes at constant rates; for the run of a `lrfind find`"} | METHODS
    if what == "templates":
        from lrfind.config.templates import starter, templates

        return {name: starter(name).splitlines()[0].lstrip("# ") for name in templates()}
    if what == "optimizers":
        return {name: _optimizer_line(row) for name, row in OPTIMIZERS.items()}
    names = CATALOGS[CATALOG_KEYS.get(what, what.removesuffix("s"))]
    sources = {name: definition(path) for name, path in names.items()}
    return {name: (source.summary if source else "") or names[name] for name, source in sources.items()}


def _optimizer_line(row: Optimizer) -> str:
    """Describe an optimizer: its class, whether it is adaptive, and whether its lanes stack."""
    package, name = row.path.partition(".")[0], row.path.rpartition(":")[2]
    adaptive = "adaptive" if row.adaptive else "not adaptive"
    lanes = "its lanes can be stacked" if row.stackable else "its lanes run one after another"
    return f"{package}'s {name}; {adaptive}; {lanes}"
