"""The results of a final training, in words."""

from __future__ import annotations

from typing import Any

from lrfind.views.text.layout import table_block, wrapped
from lrfind.views.text.parts import closing_lines, number, number_or_dash


def training_text(summary: dict[str, Any]) -> str:
    """Return the summary of a final training: its losses, with one row per seed."""
    answer, metric = summary["answer"], summary["metric"]
    if answer["lr"] is None:
        lines = wrapped(f"No trained model: {answer['reason']}", "")
    else:
        lines = wrapped(
            f"Trained at learning rate {number(answer['lr'])}, schedule {summary['schedule']}", ""
        )
        reached = [("validation loss", summary["val_loss"]), (metric, summary["score"])]
        reached.append(("training loss", summary["train_loss"]))
        texts = [f"{name}: {_mean(value)}" for name, value in reached if name and value]
        lines += [line for text in texts for line in wrapped(text)]
    lines += _trainings_table(summary)
    if answer["lr"] is not None:
        evaluated = any(row["best_evaluation"] for row in summary["trainings"])
        best = ", at the lowest val loss in best.seedN.pt" if evaluated else ""
        lines += wrapped(f"weights, in the run directory: at the end in model.seedN.pt{best}")
    return "\n".join([*lines, *closing_lines(summary)]).rstrip()


def _trainings_table(summary: dict[str, Any]) -> list[str]:
    metric = summary["metric"]
    rows = []
    for row in summary["trainings"]:
        values = [row["train_loss"], row["val_loss"], *([row["metric"]] if metric else [])]
        lowest = row["best_evaluation"]
        at = "-" if lowest is None else f"{number(lowest['val_loss'])} at step {lowest['step']}"
        rows.append([str(row["seed"]), row["outcome"], str(row["steps"]), *map(number_or_dash, values), at])
    header = ["seed", "outcome", "steps", "train loss", "val loss", *([metric] if metric else [])]
    return table_block([*header, "lowest val loss"], rows)


def _mean(value: dict[str, float]) -> str:
    mean, deviation = value["mean"], value["deviation"]
    return f"{number(mean)} +- {deviation:.2g} between seeds" if deviation else number(mean)
