"""The answer of a comparison, in words."""

from __future__ import annotations

from typing import Any

from lrfind.views.text.parts import (
    closing_lines,
    interval,
    lanes_line,
    loss_name,
    number_or_dash,
    numbers_apart,
    table_block,
)
from lrfind.views.text.sweep import mode_text

WIDTH = 130  # characters of a line; the table is wider than a line of prose


def comparison_text(summary: dict[str, Any]) -> str:
    """Return the summary of a comparison: the winner, its certainty, one row per variant, the warnings."""
    if summary["answer"]["lr"] is None:
        lines = [f"There is nothing to rank: {summary['answer']['reason']}"]
    else:
        peaks = "at one common peak" if summary["common_peak"] is not None else "each at its own best peak"
        judged = f"They are judged by their {loss_name(summary['judge'])}, {peaks}."
        shared = "All have the same budget. With each seed, all start from the same weights and see the same"
        lines = [summary["verdict"], f"  {judged} {shared} batches."]
    lines += _standings_table(summary)
    lines.append(
        "  early, middle, final: training loss after a tenth, after half, and over the last twentieth of the"
        " steps; area: mean training loss over all steps"
    )
    lines.append(lanes_line(summary["lanes"]))
    lines += [f"  {mode_text(summary['modes'])}"] if summary["modes"] else []
    return "\n".join([*lines, *closing_lines(summary)])


def _standings_table(summary: dict[str, Any]) -> list[str]:
    metric, judge = summary["metric"], summary["judge"]
    losses = {"val_loss": ["val loss"], "best_val_loss": ["lowest val loss", "at step"]}.get(judge, [])
    standings = {True: "worse", False: "within the noise", None: ""}
    rows = []
    val_losses = numbers_apart([row[judge] for row in summary["standings"]])
    for row, val_loss in zip(summary["standings"], val_losses, strict=True):
        cells = [number_or_dash(row[key]) for key in ("lr", "early", "middle", "train_loss", "area")]
        steps = [number_or_dash(row["best_val_step"])]
        cells += [*([val_loss] if losses else []), *(steps if judge == "best_val_loss" else [])]
        cells += [number_or_dash(row["metric"])] if metric else []
        spread = interval(*row["spread"]) if row["spread"] else "-"
        rank = "-" if row["rank"] is None else str(row["rank"])
        standing = "lowest" if row["rank"] == 1 else standings[row["worse_beyond_noise"]]
        rows.append([rank, row["variant"], *cells, spread, standing])
    header = ["", "", "peak lr", "early", "middle", "final", "area"]
    header += [*losses, *([metric] if metric else [])]
    return table_block([*header, "between seeds", "against the first"], rows, WIDTH)
