"""What a comparison found, in words."""

from __future__ import annotations

from typing import Any

from lrfind.views.text.parts import closing_lines, number, number_or_dash, table_text
from lrfind.views.text.sweep import engine_text


def comparison_text(summary: dict[str, Any]) -> str:
    """A comparison's summary: who won and how surely, a row a variant, the warnings."""
    metric = summary["metric"]
    if summary["best"]["lr"] is None:
        lines = [f"Nothing to rank: {summary['best']['reason']}"]
    else:
        lines = [summary["verdict"]]
        each = "all at one peak" if summary["common_peak"] is not None else "each at its own best peak"
        by = "validation loss" if summary["judge"] == "val_loss" else "final training loss"
        lines.append(f"  by {by}, {each}; same budget, same weights and batches for a seed")
    header = ["", "", "peak lr", "early", "middle", "final", "area"]
    header += [*(["val loss"] if summary["judge"] == "val_loss" else []), *([metric] if metric else [])]
    rows = []
    for row in summary["standings"]:
        values = [row["lr"], row["early"], row["middle"], row["train_loss"], row["area"]]
        values += [row["val_loss"]] if summary["judge"] == "val_loss" else []
        values += [row["metric"]] if metric else []
        standing = {True: "worse", False: "not told apart", None: ""}[row["worse_beyond_noise"]]
        spread = f"{number(row['spread'][0])} to {number(row['spread'][1])}" if row["spread"] else "-"
        rank = "-" if row["rank"] is None else str(row["rank"])
        first = "lowest" if row["rank"] == 1 else standing
        rows.append([rank, row["variant"], *map(number_or_dash, values), spread, first])
    header += ["between seeds", "beside the first"]
    lines += ["", *(f"  {line}" for line in table_text(header, rows, width=130).splitlines()), ""]
    lines.append(
        "  early, middle, final: training loss at a tenth, at half, over the last twentieth; area: its mean"
    )
    lanes = summary["lanes"]
    lines.append(f"  lanes: {lanes['settled']} of {lanes['planned']}, {lanes['steps']} training steps")
    lines += [f"  {engine_text(summary['engines'])}"] if summary["engines"] else []
    return "\n".join([*lines, *closing_lines(summary)])
