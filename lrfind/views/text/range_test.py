"""What range tests found, in words."""

from __future__ import annotations

from typing import Any

from lrfind.views.text.parts import closing_lines, number, number_or_dash, table_text


def headline(suggestion: dict[str, Any]) -> str:
    """The answer in a line or two: the lr and its interval, or why there is none."""
    if suggestion["lr"] is None:
        return f"No suggestion ({suggestion['method']}): {suggestion['reason']}"
    text = f"Suggested learning rate: {number(suggestion['lr'])}"
    if suggestion["low"] is not None:
        text += f"   [{number(suggestion['low'])} to {number(suggestion['high'])} between seeds]"
    return f"{text}\n  {suggestion['method']}: {suggestion['reason']}"


def range_test_text(summary: dict[str, Any]) -> str:
    """A range test's summary."""
    lines = [headline(summary["suggestion"])]
    lr, group = summary["suggestion"]["lr"], summary["group"]
    if group and lr is not None:
        times = f"{lr / group['optimizer_lr']:.3g} at the optimizer's {number(group['optimizer_lr'])}"
        lines.append(f"  of the param group '{group['name']}' alone: an lr_multiplier of {times}")
    ramp_edge = summary["methods"]["edge"]
    if summary["edge"] is not None:
        lines.append(f"  edge: {number(summary['edge'])}, {summary['edge_is']}")
    if ramp_edge["lr"] not in (None, summary["edge"]):
        lines.append(f"  edge on the ramp: {number(ramp_edge['lr'])}, {ramp_edge['reason']}")
    outcomes = [lane["outcome"] for lane in summary["lanes"]]
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in dict.fromkeys(outcomes))
    taken = sum(lane["steps"] for lane in summary["lanes"])
    lines.append(f"  lanes: {counts}; {taken} training steps")
    return "\n".join([*lines, *closing_lines(summary)])


def over_text(summary: dict[str, Any]) -> str:
    """The summary of range tests over another setting: a row a value."""
    best, over = summary["suggestion"], summary["over"]
    rows = [
        [
            row["variant"],
            number_or_dash(row["lr"]),
            "-" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}",
            number_or_dash(row["edge"]),
            number_or_dash(row["lowest_loss"]),
            "lowest" if row is best or row["variant"] == best["variant"] else "",
        ]
        for row in summary["variants"]
    ]
    lines = [f"No suggestion with any {over}: {best['reason']}"]
    if best["lr"] is not None:
        lines = [f"Suggested: {best['variant']} with learning rate {number(best['lr'])}"]
    lines.append(f"  the {over} whose ramp reaches the lowest loss; what a whole training wants may differ")
    header = [over, "lr", "between seeds", "diverged at", "lowest loss", ""]
    lines += ["", *(f"  {line}" for line in table_text(header, rows).splitlines()), ""]
    lines.append(
        f"  lanes: {len(summary['lanes'])}, {sum(n['steps'] for n in summary['lanes'])} training steps"
    )
    return "\n".join([*lines, *closing_lines(summary)])


def methods_text(methods: dict[str, dict[str, Any]]) -> str:
    """A table of every method's answer, or its reason for having none."""
    rows, before = [], None
    for name, answer in methods.items():
        words = "(the same)" if answer["reason"] == before else answer["reason"]
        rows.append((name, "-" if answer["lr"] is None else number(answer["lr"]), words))
        before = answer["reason"]
    return table_text(("method", "lr", "what it is, or why there is none"), rows)
