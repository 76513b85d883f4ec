"""Modes: how the lanes of a run are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

OLDER_NAMES = {"usual_products": "usual_digits"}
"""What older versions called the fields of a mode -> what they are called now."""


@dataclass(frozen=True)
class Mode:
    """How the lanes of a run are trained. It is stored before the first lane, and `resume` uses it.

    Attributes:
        name: "single", one after another, or "stacked", many as one stacked model.
        reason: the reason for this mode, in words.
        threads: the number of threads that torch computes with.
        seconds_per_step: the measured time of a step of one lane; in a stack, the time of the stack's step
            divided by its lanes.
        stack_size: the most lanes in one stack; 1 for single lanes.
        compile: whether stacks are compiled.
        ratio: the speed of stacked lanes divided by that of single lanes; None where it was not measured.
        processes: the number of processes of this machine that train lanes at once.
        usual_digits: whether ways of computing that change the last digits are ruled out, as in every mode
            that a config names: other matrix products than torch's (`lrfind.training.kernels`), and a step
            for each lane of a stack (`lrfind.training.stack_update`).
    """

    name: Literal["single", "stacked"]
    reason: str
    threads: int
    seconds_per_step: float
    stack_size: int = 1
    compile: bool = False
    ratio: float | None = None
    processes: int = 1
    usual_digits: bool = True

    @classmethod
    def stored(cls, row: Mapping[str, Any]) -> Mode:
        """Return the mode of a row among the facts of a run, which may have older names."""
        return cls(**{OLDER_NAMES.get(name, name): value for name, value in row.items()})
