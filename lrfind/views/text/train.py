"""What a final training came to, in words."""

from __future__ import annotations

from typing import Any

from lrfind.views.text.parts import closing_lines, number, number_or_dash, table_text


def training_text(summary: dict[str, Any]) -> str:
    """A final training's summary: what it reached, seed by seed."""
    best, metric = summary["best"], summary["metric"]
    if best["lr"] is None:
        lines = [f"No trained model: {best['reason']}"]
    else:
        lines = [f"Trained at learning rate {number(best['lr'])}, schedule {summary['schedule']}"]
        reached = [("validation loss", summary["val_loss"]), (metric, summary["score"])]
        lines += [f"  {name}: {_mean_text(found)}" for name, found in reached if name and found]
        lines.append(f"  training loss: {_mean_text(summary['train_loss'])}")
    header = [
        "seed",
        "outcome",
        "steps",
        "train loss",
        "val loss",
        *([metric] if metric else []),
        "lowest val loss",
    ]
    rows = []
    for each in summary["trainings"]:
        values = [each["train_loss"], each["val_loss"], *([each["metric"]] if metric else [])]
        lowest = each["best_evaluation"]
        at = "-" if lowest is None else f"{number(lowest['val_loss'])} at step {lowest['step']}"
        rows.append(
            [str(each["seed"]), each["outcome"], str(each["steps"]), *map(number_or_dash, values), at]
        )
    lines += ["", *(f"  {line}" for line in table_text(header, rows).splitlines()), ""]
    if best["lr"] is not None:
        lowest = any(each["best_evaluation"] for each in summary["trainings"])
        lines.append(
            "  weights: model.seedN.pt" + (", of the lowest val loss best.seedN.pt" if lowest else "")
        )
    return "\n".join([*lines, *closing_lines(summary)]).rstrip()


def _mean_text(found: dict[str, float]) -> str:
    mean, deviation = found["mean"], found["deviation"]
    return f"{mean:.4g} +- {deviation:.2g} between seeds" if deviation else f"{mean:.4g}"
