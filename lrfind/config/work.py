"""The work that a config asks for: how many lanes each command would train, and how many steps in all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from lrfind.config.document import Document, Mistake
from lrfind.config.sections import MOST_STEPS
from lrfind.errors import counted, listed

MOST_LANES = 100_000
"""The most lanes of a run: the plan of a run is held in memory, and a lane has a row in each table."""

MOST_STEPS_IN_ALL = 10**10
"""The most training steps of a run, all lanes together: more than a day at 100,000 steps per second."""

MOST_PEAKS = 11
"""The most peaks of one variant in a comparison whose config gives none."""


def work_mistakes(document: Document, experiment: Any) -> Iterator[Mistake]:
    """Yield a mistake for each command whose work is out of all proportion.

    Args:
        document: the config.
        experiment: the experiment that the document describes.
    """
    training = experiment.training.steps or min(experiment.training.epochs, MOST_STEPS)
    for section, factors in _lane_factors(experiment).items():
        steps = experiment.range_test.steps if section == "range_test" else training
        lanes = math.prod(factors.values())
        if lanes <= MOST_LANES and lanes * steps <= MOST_STEPS_IN_ALL:
            continue
        largest = max(factors, key=lambda key: factors[key])
        product = " x ".join(f"{number:,} ({section}.{key})" for key, number in factors.items())
        if lanes > MOST_LANES:
            message = f"{product} are {counted(lanes, 'lane')}; a run has at most {MOST_LANES:,}"
        else:
            message = (
                f"{product} lanes of {counted(steps, 'step')} are {lanes * steps:,} steps; a run has at most"
                f" {MOST_STEPS_IN_ALL:,}"
            )
        keys = listed([f"{section}.{key}" for key, number in factors.items() if number > 1], "or")
        yield Mistake(document.place((section, largest)), f"{message}. Lower {keys}")


def _lane_factors(experiment: Any) -> dict[str, Mapping[str, int]]:
    """Return the numbers whose product is the number of lanes, by the key of each, for each section."""
    test, grid, search, compare = (
        getattr(experiment, n) for n in ("range_test", "grid", "search", "compare")
    )
    variants = "optimizers" if compare.optimizers else "schedules"
    compared = {variants: len(getattr(compare, variants))}
    peaks = 1 if compare.one_peak else len(compare.peaks or [None] * MOST_PEAKS)
    return {
        "training": {"seeds": experiment.training.seeds},
        "range_test": {"seeds": test.seeds, **({"values": len(test.values)} if test.values else {})},
        "grid": {"seeds": grid.seeds, **({"lrs": len(grid.lrs)} if grid.lrs else {"points": grid.points})},
        "search": {"seeds": search.seeds, "trials": search.trials},
        "compare": max(
            compared | {"tuning_seeds": compare.tuning_seeds, "peaks": peaks},
            compared | {"seeds": compare.seeds},
            key=lambda factors: math.prod(factors.values()),
        ),
    }
