"""The answer of a grid or a search, in words, and its expected cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lrfind.config.sections import CompareSection, GridSection, LanesSection, SearchSection
from lrfind.errors import counted
from lrfind.views.text.parts import (
    closing_lines,
    interval,
    lanes_line,
    loss_name,
    number,
    number_or_dash,
    table_block,
    table_text,
)


def sweep_text(summary: dict[str, Any]) -> str:
    """Return the summary of a sweep: the best lr, the usable lrs, one row per rate, the warnings."""
    lines = [*_answer_lines(summary), *_edge_lines(summary), *_rates_table(summary)]
    lines.append(lanes_line(summary["lanes"]))
    pruned = summary["pruned"]
    if pruned["count"]:
        saved = f"{counted(pruned['steps_saved'], 'step')} ({pruned['share_saved']:.0%})"
        lines.append(f"  pruned: {counted(pruned['count'], 'lane')}, which saved {saved}")
    if summary["mode"]:
        lines.append(f"  {mode_text([summary['mode']])}")
    return "\n".join([*lines, *closing_lines(summary)])


def _answer_lines(summary: dict[str, Any]) -> list[str]:
    answer, usable = summary["answer"], summary["usable"]
    if answer["lr"] is None:
        return [f"No best learning rate: {answer['reason']}"]
    between = ""
    if answer["low"] is not None:
        between = f"   [{interval(answer['low'], answer['high'])} between seeds]"
    reached = f"{loss_name(summary['judge'])} {number(answer[summary['judge']])}"
    if answer["metric"] is not None:
        reached += f", {summary['metric']} {number(answer['metric'])}"
    share = f"{1 - usable['tolerance']:.0%}"
    if usable["low"] is None:
        range_text = "none; the loss did not fall"
    elif usable["low"] < usable["high"]:
        rates = interval(usable["low"], usable["high"])
        range_text = (
            f"{rates}; each of these rates lowered the loss by at least {share} as much as the best one"
        )
    else:
        range_text = f"only the best rate; the rates next to it lowered the loss by less than {share} as much"
    return [f"Best learning rate: {number(answer['lr'])}{between}", f"  {reached}", f"  usable: {range_text}"]


def _edge_lines(summary: dict[str, Any]) -> list[str]:
    lines = []
    if summary["edge"] is not None:
        between = "between the last rate that finished and the first that diverged"
        lines.append(f"  edge: {number(summary['edge'])}, {between}")
    if summary["sensitivity"] is not None:
        sensitivity = number(summary["sensitivity"])
        lines.append(
            f"  lr sensitivity: {sensitivity}; on average, the rates end this far above the best loss"
        )
    return lines


def _rates_table(summary: dict[str, Any]) -> list[str]:
    metric, by_val_loss = summary["metric"], summary["judge"] == "val_loss"
    rows = []
    for rate in summary["rates"]:
        outcome = rate["outcome"]
        if rate["diverged_at"] is not None:
            outcome += f" at step {rate['diverged_at']}"
        values = [rate["val_loss"]] if by_val_loss else []
        values += [rate["train_loss"], *([rate["metric"]] if metric else [])]
        spread = interval(*rate["spread"]) if rate["spread"] else "-"
        cells = map(number_or_dash, values)
        rows.append([number(rate["lr"]), outcome, *cells, spread, _standing(rate, summary)])
    losses = [*(["val loss"] if by_val_loss else []), "train loss", *([metric] if metric else [])]
    return table_block(["lr", "outcome", *losses, "between seeds", "against the best"], rows)


def _standing(rate: dict[str, Any], summary: dict[str, Any]) -> str:
    """Return how a rate compares with the best one."""
    usable = summary["usable"]
    if rate["lr"] == summary["answer"]["lr"]:
        return "best"
    if rate["outcome"] != "finished" or usable["low"] is None:
        return ""
    if usable["low"] <= rate["lr"] <= usable["high"]:
        return "usable"
    return "maybe worse" if rate["worse_beyond_noise"] is False else "worse"


def dry_run_text(
    rows: Sequence[Mapping[str, Any]],
    section: LanesSection,
    cost: Mapping[str, Any],
    modes: Sequence[Mapping[str, Any]],
) -> str:
    """Return the first lanes of a sweep, the lanes that follow them, and the expected cost of all.

    Args:
        rows: lane, variant, seed and lr of each lane of the first round.
        section: the section of the config.
        cost: the fields of `training.mode.Cost`.
        modes: the fields of `training.mode.Mode`, one mapping for each problem.
    """
    cells = [(str(row["lane"]), row["variant"], str(row["seed"]), f"{row['lr']:.6g}") for row in rows]
    lines = [table_text(("lane", "", "seed", "lr"), cells)]
    if isinstance(section, SearchSection) and cost["lane_count"] > len(rows):
        lines.append(f"... and {cost['lane_count'] - len(rows)} more, which {section.sampler} proposes later")
    if isinstance(section, GridSection) and section.extend:
        lines.append("... and more outward, while the best lr is the lowest or the highest (--extend)")
    if isinstance(section, CompareSection) and section.one_peak is None:
        if section.peaks is None:
            lines.append(
                "... and more outward, while the best peak of a variant is its lowest or its highest"
            )
        seeds = counted(section.seeds, "other seed")
        lines.append(f"... and then, to compare, {seeds} of each variant at its best peak")
    return "\n".join([*lines, f"{cost_text(**cost)}; {mode_text(modes)}"])


def cost_text(lane_count: int, steps: int, seconds: float, bytes: int) -> str:
    """Return the expected cost of a sweep.

    >>> cost_text(9, 100, 8.2, 200_000)
    '9 lanes x 100 steps, about 8 s and 0.2 MB'
    """
    if seconds < 90:
        time = f"{seconds:.0f} s"
    else:
        time = f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    size = f"{bytes / 1e6:.1f} MB"
    return f"{counted(lane_count, 'lane')} x {counted(steps, 'step')}, about {time} and {size}"


def mode_text(modes: Iterable[Mapping[str, Any]]) -> str:
    """Return how lanes run and why.

    Args:
        modes: the fields of `training.mode.Mode`, one mapping for each problem.
    """
    texts = []
    for mode in modes:
        way = "together, as one stacked model" if mode["name"] == "stacked" else "one after another"
        texts.append(f"lanes run {way}, on {counted(mode['threads'], 'thread')}: {mode['reason']}")
    return "; ".join(dict.fromkeys(texts))
