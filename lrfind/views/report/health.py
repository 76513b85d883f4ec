"""The evidence of the looks at the layers' gradients: what is wrong, and maps of layers against looks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.trends import spread_places
from lrfind.errors import counted
from lrfind.runs.result import RunResult
from lrfind.views.plots.health import view_health
from lrfind.views.report.content import Heat, Section, Table, finite, name
from lrfind.views.text.parts import gradient_findings, number, number_or_dash

MOST_LAYERS = 40
MOST_LOOKS = 30


def health_section(result: RunResult) -> Section | None:
    """Return the section on gradient health; None if there were no looks."""
    health = result.summary["health"]
    if health is None:
        return None
    found, on_a_ramp = gradient_findings(health), result.kind.lanes == "ramps"
    (lane,) = [lane for lane in result.lanes if lane.lane == health["lane"]]
    view = view_health(lane, health, on_a_ramp=on_a_ramp)
    maps = (
        ("gradient / weight", view.gradient, False),
        ("update / weight", view.update, False),
        ("dead units or zeros", view.silent, True),
    )
    looks = view.gradient.shape[1]
    rows, columns = spread_places(len(view.layers), MOST_LAYERS), spread_places(looks, MOST_LOOKS)
    at = [f"lr {number(v)}" if on_a_ramp else f"step {v:g}" for v in view.at[:-1].tolist()]
    where = "along the ramp" if on_a_ramp else f"at lr {number(lane.peak)}"
    note = "From the first look (left) to the last. Norms are divided by that of the weights."
    if (len(rows), len(columns)) != (len(view.layers), looks):
        note += f" {len(rows)} of {counted(len(view.layers), 'layer')} and {len(columns)} of"
        note += f" {counted(looks, 'look')} are drawn."
    heat = Heat(
        title=f"Layers of seed {lane.seed} {where}",
        note=note,
        layers=[name(view.layers[row]) for row in rows],
        at=[at[column] for column in columns],
        maps=[(label, values[np.ix_(rows, columns)], share) for label, values, share in maps],
        calm=sum(column < view.calm for column in columns),
        table=_table(view.layers, [(label, values) for label, values, _ in maps]),
    )
    texts = [f"Gradients: {what}.{f' Try: {advice}.' if advice else ''}" for what, advice in found]
    return Section("Gradient health", texts, [heat])


def _table(layers: Sequence[str], maps: Sequence[tuple[str, Array]]) -> Table:
    """Return a table with the median over the looks, for each layer."""
    rows = [
        [name(layers[row]), *(_median(values[row]) for _, values in maps)]
        for row in spread_places(len(layers), 2 * MOST_LAYERS)
    ]
    header = ["layer", *(label for label, _ in maps)]
    return Table("The layers", header, rows, "Medians over the looks; health.csv has all.")


def _median(values: Array) -> str:
    known = finite(values)
    return number_or_dash(float(np.median(known)) if known else None)
