"""The answer of a range test, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrfind.views.text.layout import beside, table_block, table_text, wrapped
from lrfind.views.text.parts import closing_lines, interval, lanes_lines, number, number_or_dash

BESIDE_FIND = (
    "A ramp, which raises the lr step by step, knows neither the steps nor the schedule of your training."
    " Where `lrfind find` recommends another rate, use that one."
)


def headline(answer: dict[str, Any]) -> str:
    """Return the answer in a few lines: the lr and those of single seeds, or why there is none."""
    if answer["lr"] is None:
        return "\n".join(wrapped(f"No suggestion ({answer['method']}): {answer['reason']}", ""))
    parts = [f"Suggested learning rate: {number(answer['lr'])}"]
    if answer["low"] is not None:
        parts.append(_of_single_seeds(answer["low"], answer["high"]))
    return "\n".join([*beside(*parts), *wrapped(f"{answer['method']}: {answer['reason']}")])


def _of_single_seeds(low: float, high: float) -> str:
    """Return how far the suggestions of single seeds differ.

    >>> _of_single_seeds(0.02, 0.05), _of_single_seeds(0.02, 0.02)
    ('from single seeds: 0.02 to 0.05', 'the same from each seed')
    """
    same = number(low) == number(high)
    return "the same from each seed" if same else f"from single seeds: {interval(low, high)}"


def range_test_text(summary: dict[str, Any]) -> str:
    """Return the summary of a range test."""
    lines = _over_lines(summary) if "over" in summary else _lr_lines(summary)
    return "\n".join([*lines, *lanes_lines(summary["lanes"], "ramp"), *closing_lines(summary)])


def _lr_lines(summary: dict[str, Any]) -> list[str]:
    """Return the suggestion of a range test over only the lr, and where training breaks down."""
    lines = [headline(summary["answer"])]
    lr, group = summary["answer"]["lr"], summary["group"]
    if group and lr is not None:
        multiplier = f"{lr / group['optimizer_lr']:.3g} at the optimizer's lr {number(group['optimizer_lr'])}"
        lines += wrapped(f"only for the param group '{group['name']}': an lr_multiplier of {multiplier}")
    if summary["edge"] is not None:
        lines += wrapped(f"edge of stability: {number(summary['edge'])}, {summary['edge_reason']}")
    ramp_edge = summary["methods"]["edge"]
    if ramp_edge["lr"] not in (None, summary["edge"]):
        lines += wrapped(f"edge on the ramp: {number(ramp_edge['lr'])}, {ramp_edge['reason']}")
        lines += _beside_edge(summary["answer"], summary["edge"])
    if lr is not None and not group:
        lines += wrapped(BESIDE_FIND)
    return lines


def _beside_edge(answer: dict[str, Any], edge: float) -> list[str]:
    """Return how a suggestion relates to the edge that was measured, which only the method `edge` answers."""
    if answer["lr"] is None or answer["method"] == "edge":
        return []
    uses = "; it was read from the ramp alone"
    if answer["method"] == "consensus":
        uses = "; its tenth of the edge is that of the edge on the ramp"
    return wrapped(f"the suggestion is {answer['lr'] / edge:.2g} times the measured edge{uses}")


def _over_lines(summary: dict[str, Any]) -> list[str]:
    """Return the suggestions of range tests over another setting, one row per value."""
    best, over = summary["answer"], summary["over"]
    lines, answered = wrapped(f"No suggestion with any {over}: {best['reason']}", ""), best["lr"] is not None
    if answered:
        lines = [
            f"Suggested: {best['variant']} with learning rate {number(best['lr'])}",
            *wrapped(
                f"This is the {over} whose ramp (the lr raised step by step) reaches the lowest loss."
                " A whole training may need another."
            ),
        ]
    rows = [
        [
            row["variant"],
            *variant_cells(row),
            "lowest" if answered and row["variant"] == best["variant"] else "",
        ]
        for row in summary["variants"]
    ]
    return [*lines, *table_block([over, "lr", "from single seeds", "diverged at", "lowest loss", ""], rows)]


def variant_cells(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of a value's row after its name: lr, range, divergence and lowest loss."""
    between = "-" if row["low"] is None else interval(row["low"], row["high"])
    return [number_or_dash(row["lr"]), between, *map(number_or_dash, (row["edge"], row["lowest_loss"]))]


def methods_text(methods: dict[str, dict[str, Any]]) -> str:
    """Return a table of every method's answer, or its reason for having none."""
    rows, before = [], None
    for name, answer in methods.items():
        reason = "(the same)" if answer["reason"] == before else answer["reason"]
        rows.append((name, number_or_dash(answer["lr"]), reason))
        before = answer["reason"]
    return table_text(("method", "lr", "what it is, or why there is none"), rows, keys=2)
