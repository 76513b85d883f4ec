"""The answer of a comparison, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrfind.views.text.layout import table_block, wrapped
from lrfind.views.text.parts import (
    closing_lines,
    interval_or_dash,
    lanes_lines,
    loss_name,
    number_or_dash,
    numbers_apart,
)
from lrfind.views.text.sweep import mode_text


def comparison_text(summary: dict[str, Any]) -> str:
    """Return the summary of a comparison: the winner, its certainty, one row per variant, the warnings."""
    if summary["answer"]["lr"] is None:
        lines = wrapped(f"There is nothing to rank: {summary['answer']['reason']}", "")
    else:
        judged = f"They are judged by their {judged_by(summary)} (the highest lr)."
        shared = "All have the same budget. With each seed, all start from the same weights and see the same"
        lines = [*wrapped(summary["verdict"], ""), *wrapped(f"{judged} {shared} batches.")]
    lines += _standings_table(summary)
    lines += wrapped(LOSSES_IN_WORDS)
    lines += lanes_lines(summary["lanes"])
    lines += wrapped(mode_text(summary["modes"])) if summary["modes"] else []
    return "\n".join([*lines, *closing_lines(summary)])


LOSSES_IN_WORDS = (
    "early, middle, final: training loss after a tenth, after half, and over the last twentieth of the"
    " steps; area: mean training loss over all steps; losses are means of the seeds"
)


def judged_by(summary: Mapping[str, Any]) -> str:
    """Return the loss by which the variants are judged, and at which peaks."""
    peaks = "at one common peak" if summary["common_peak"] is not None else "each at its own best peak"
    return f"{loss_name(summary['judge'])}, {peaks}"


def standing_in_words(rank: int | None, worse: bool | None) -> str:
    """Return how a variant of this rank compares with the first one; see `analysis.comparisons.Standing`."""
    return "lowest" if rank == 1 else {True: "worse", False: "within the noise", None: ""}[worse]


def _standings_table(summary: dict[str, Any]) -> list[str]:
    metric, judge = summary["metric"], summary["judge"]
    losses = {"val_loss": ["val loss"], "best_val_loss": ["lowest val loss", "at step"]}.get(judge, [])
    rows = []
    val_losses = numbers_apart([row[judge] for row in summary["standings"]])
    for row, val_loss in zip(summary["standings"], val_losses, strict=True):
        step = "-" if row["best_val_step"] is None else str(row["best_val_step"])
        judged = [val_loss, step][: len(losses)]
        spread, rank = interval_or_dash(row["spread"]), number_or_dash(row["rank"])
        standing = standing_in_words(row["rank"], row["worse_beyond_noise"])
        cells = [number_or_dash(row[key]) for key in ("early", "middle", "train_loss", "area")]
        cells += [number_or_dash(row["metric"])] if metric else []
        lr = number_or_dash(row["lr"])
        rows.append([rank, row["variant"], lr, *judged, spread, standing, *cells])
    header = ["", "", "peak lr", *losses, "range over seeds", "against the first"]
    header += ["early", "middle", "final", "area", *([metric] if metric else [])]
    return table_block(header, rows, keys=2, split=header.index("early"))
