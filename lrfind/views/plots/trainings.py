"""Trainings that refine or verify an answer: their final losses are computed, then drawn on an Axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfind.analysis.verification import VERDICTS
from lrfind.errors import counted
from lrfind.views.plots.axes import loss_axis, set_loss_axis
from lrfind.views.plots.drawing import ABOVE, BLUE, GREY, ORANGE, RED, finish, mark_border
from lrfind.views.text.parts import loss_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Trainings:
    """Trainings that refine or verify a rate.

    Attributes:
        ends: (lr, final loss) of each training that finished.
        lost: the rates at which no training finished.
        loss: the name of the loss that decides.
        purpose: what the trainings are for, and what came of it, in words.
    """

    ends: Sequence[tuple[float, float]]
    lost: Sequence[float]
    loss: str
    purpose: str


def is_number(value: float | None) -> bool:
    """Return whether an entry of a table is a number; an entry without a number is None or NaN."""
    return value is not None and math.isfinite(value)


def refining_trainings(refinement: Mapping[str, Any] | None) -> list[Trainings]:
    """Return the trainings that refine the answer, as a list of one; an empty list if there are none."""
    if refinement is None:
        return []
    purpose = f"trainings of {counted(refinement['steps'], 'step')} that refine the answer"
    return [_trainings(refinement, purpose)]


def verifying_trainings(verification: Mapping[str, Any] | None) -> list[Trainings]:
    """Return the trainings that verify the answer, likewise."""
    if verification is None or not verification["trainings"]:
        return []
    verdict = verification["verdict"]
    words = "verification has not ended" if verdict is None else f"verification: {VERDICTS[verdict]}"
    return [_trainings(verification, f"trainings that verify the answer ({words})")]


def _trainings(part: Mapping[str, Any], purpose: str) -> Trainings:
    rows, judge = part["trainings"], part["judge"]
    ends = [(row["lr"], row[judge]) for row in rows if row["outcome"] == "finished" and is_number(row[judge])]
    finished = {lr for lr, _ in ends}
    return Trainings(
        ends=ends,
        lost=sorted({row["lr"] for row in rows} - finished),
        loss=loss_name(judge),
        purpose=purpose,
    )


def draw_trainings(trainings: Trainings, lr: float | None, lr_ends: tuple[float, float], ax: Axes) -> Axes:
    """Draw the final losses of trainings against their lr, and the answer.

    Args:
        trainings: the trainings.
        lr: the answer; None to draw none.
        lr_ends: the two ends of the lr axis.
        ax: the axes.
    """
    ax.set_xscale("log")
    ax.set_xlim(*lr_ends)
    axis = loss_axis(loss for _, loss in trainings.ends)
    set_loss_axis(ax, axis)
    if lr is not None:
        ax.axvline(lr, color=RED, linewidth=1.6, zorder=1)
    if trainings.ends:
        ax.plot(
            [lr for lr, _ in trainings.ends], [loss for _, loss in trainings.ends], "D", color=ORANGE,
            markersize=6, markeredgecolor=GREY, markeredgewidth=0.7, linestyle="none", zorder=3,
            label=trainings.purpose,
        )  # fmt: skip
    above = [lr for lr, loss in trainings.ends if loss > axis.top]
    mark_border(ax, above, f"a training {ABOVE}", color=BLUE)
    mark_border(ax, trainings.lost, "no training finished", "X")
    finish(ax, "learning rate", trainings.loss)
    if not trainings.ends:
        ax.set_yticks([])
    return ax
