"""What a grid or a search found, in words, and what it will cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lrfind.views.text.parts import closing_lines, number, table_text


def sweep_text(summary: dict[str, Any]) -> str:
    """A sweep's summary: the best lr, what else would do, a row a rate, the warnings."""
    best, usable, engine = summary["best"], summary["usable"], summary["engine"]
    lines = []
    if best["lr"] is None:
        lines.append(f"No best learning rate: {best['reason']}")
    else:
        between = ""
        if best["low"] is not None:
            between = f"   [{number(best['low'])} to {number(best['high'])} between seeds]"
        lines.append(f"Best learning rate: {number(best['lr'])}{between}")
        by = "validation loss" if summary["judge"] == "val_loss" else "final training loss"
        reached = f"{by} {number(best[summary['judge']])}"
        if best["metric"] is not None:
            reached += f", {summary['metric']} {number(best['metric'])}"
        lines.append(f"  {reached}")
        lost = f"at most {usable['tolerance']:.0%} of the drop from the first loss"
        stretch = f"{number(usable['low'])} to {number(usable['high'])}, which lose {lost}"
        alone = f"no other of these: all lose more than {lost.removeprefix('at most ')}"
        lines.append(f"  usable: {stretch if usable['low'] < usable['high'] else alone}")
    if summary["edge"] is not None:
        lines.append(
            f"  edge: {number(summary['edge'])}, between the last that finished and the first that diverged"
        )
    if summary["sensitivity"] is not None:
        lines.append(
            f"  lr sensitivity: {number(summary['sensitivity'])}, the loss that a random lr of these costs"
        )
    lines += ["", *(f"  {line}" for line in rates_text(summary).splitlines()), ""]
    lanes = summary["lanes"]
    lines.append(f"  lanes: {lanes['settled']} of {lanes['planned']}, {lanes['steps']} training steps")
    if summary["pruned"]["lanes"]:
        pruned = summary["pruned"]
        lines.append(
            f"  pruned: {pruned['lanes']} lanes, which saved {pruned['steps_saved']} steps"
            f" ({pruned['share_saved']:.0%})"
        )
    if engine:
        lines.append(f"  {engine_text([engine])}")
    return "\n".join([*lines, *closing_lines(summary)])


def rates_text(summary: dict[str, Any]) -> str:
    """A table of a sweep's rates."""
    metric = summary["metric"]
    header = ["lr", "outcome", *(["val loss"] if summary["judge"] == "val_loss" else []), "train loss"]
    header += [metric] if metric else []
    header += ["between seeds", "beside the best"]
    rows = []
    for rate in summary["rates"]:
        outcome = rate["outcome"]
        if rate["diverged_at"] is not None:
            outcome += f" at step {rate['diverged_at']}"
        values = [rate["val_loss"]] if summary["judge"] == "val_loss" else []
        values += [rate["train_loss"], *([rate["metric"]] if metric else [])]
        spread = f"{number(rate['spread'][0])} to {number(rate['spread'][1])}" if rate["spread"] else "-"
        shown = ["-" if value is None else number(value) for value in values]
        rows.append([number(rate["lr"]), outcome, *shown, spread, _standing(rate, summary)])
    return table_text(header, rows)


def _standing(rate: dict[str, Any], summary: dict[str, Any]) -> str:
    """How a rate stands beside the best."""
    usable = summary["usable"]
    if rate["lr"] == summary["best"]["lr"]:
        return "best"
    if rate["outcome"] != "finished" or usable["low"] is None:
        return ""
    if usable["low"] <= rate["lr"] <= usable["high"]:
        return "usable"
    return "maybe worse" if rate["worse_beyond_noise"] is False else "worse"


def cost_text(lanes: int, steps: int, seconds: float, bytes: int) -> str:
    """What a sweep will take.

    >>> cost_text(9, 100, 8.2, 200_000)
    '9 lanes x 100 steps, about 8 s and 0.2 MB'
    """
    if seconds < 90:
        time = f"{seconds:.0f} s"
    else:
        time = f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    return f"{lanes} lanes x {steps} steps, about {time} and {bytes / 1e6:.1f} MB"


def engine_text(engines: Iterable[Any]) -> str:
    """How lanes are run and why; `engines` are `calibration.Engine`s, or these as plain data."""
    texts = []
    for engine in engines:
        told = engine if isinstance(engine, dict) else vars(engine)
        threads = f"{told['threads']} thread{'s' if told['threads'] > 1 else ''}"
        way = "stacked" if told["lanes"] == "stacked" else "one after another"
        texts.append(f"lanes run {way}, on {threads}: {told['why']}")
    return "; ".join(dict.fromkeys(texts))
