"""What a person reads on the terminal, made from plain results."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from lrfind.summaries.parts import mean_and_deviation


def number(lr: float) -> str:
    """A learning rate as people write it.

    >>> number(0.033128), number(0.00009), number(12.0)
    ('0.0331', '9e-05', '12')
    """
    return f"{lr:.3g}"


def headline(suggestion: dict[str, Any]) -> str:
    """The answer in a line or two: the lr and its interval, or why there is none."""
    if suggestion["lr"] is None:
        return f"No suggestion ({suggestion['method']}): {suggestion['reason']}"
    text = f"Suggested learning rate: {number(suggestion['lr'])}"
    if suggestion["low"] is not None:
        text += f"   [{number(suggestion['low'])} to {number(suggestion['high'])} between seeds]"
    return f"{text}\n  {suggestion['method']}: {suggestion['reason']}"


def summary_text(summary: dict[str, Any]) -> str:
    """A run's summary, whatever its command was."""
    if summary["command"] == "range-test":
        return over_text(summary) if "over" in summary else range_test_text(summary)
    texts = {"compare": comparison_text, "train": training_text, "find": find_text}
    return texts.get(summary["command"], sweep_text)(summary)


def recommendation_text(found: dict[str, Any]) -> str:
    """What a search's probes recommend: the lr, its interval, the confidence in it and why, or why none."""
    if found["lr"] is None:
        return "\n".join(_wrapped(f"No learning rate: {found['reason']}", ""))
    between = f"[{number(found['low'])} to {number(found['high'])}]"
    first = f"Learning rate: {number(found['lr'])}   {between}   confidence: {found['confidence']}"
    return "\n".join([first, *_wrapped(f"{found['reason']}.")])


def find_text(summary: dict[str, Any]) -> str:
    """What a search for the lr found: the lr, why, the probes, what they took, and the proof."""
    found, proof = summary["suggestion"], summary["verification"]
    if found["lr"] is None:
        lines = _wrapped(f"No learning rate: {found['reason']}", "")
        lines += _way_on(summary)
    else:
        between = f"[{number(found['low'])} to {number(found['high'])}]"
        lines = [f"Learning rate: {number(found['lr'])}   {between}   {_trust(summary)}"]
        lines.append(f"  for {_training_of(summary)}")
        said = _said_by_probes(proof)
        of = "" if said in (None, found["lr"]) else f"of {number(said)}: "
        lines += _wrapped(f"{of}{found['reason']}.")
    if summary["probes"]:
        lines += ["", *(f"  {line}" for line in _probes_text(summary).splitlines()), ""]
    if summary["cost"]:
        lines.append(
            f"  cost: {summary['cost']:,} gradient steps, {_counted(len(summary['probes']), 'probe')}"
        )
    if proof is not None and summary["training"] is not None:
        lines += ["", *_proof_lines(summary)]
    return "\n".join([*lines, *_also(summary)])


def _probes_text(summary: dict[str, Any]) -> str:
    """A table of probes: a row a probe; weights where there is an answer that they make."""
    probes, answered = summary["probes"], summary["suggestion"]["lr"] is not None
    several = len({row["seed"] for row in probes}) > 1
    rows = []
    for row in probes:
        loss, beside = "-", "-"
        if row["score"] is not None:
            share = (row["score"] - row["untouched"]) / (abs(row["untouched"]) or 1.0)
            loss, beside = f"{row['score']:.4g}", _beside(share)
        fate = f"weight {row['weight']:.2f}" if row["weight"] is not None and answered else ""
        fate = "left behind" if row["weight"] is None else fate
        fate = f"stopped: the loss blew up at step {row['steps'] - 1}" if row["stopped"] else fate
        own = [number(row["lr"]), str(row["steps"]), loss, beside, fate]
        rows.append([str(row["seed"]), *own] if several else own)
    header = ["lr", "steps", "loss", "beside the untouched model", ""]
    return table_text(["seed", *header] if several else header, rows)


def _beside(share: float) -> str:
    """How a loss compares with another.

    >>> _beside(-0.621), _beside(0.0001), _beside(-0.998), _beside(40.0)
    ('62% lower', 'the same', '0.002 times as high', '41 times as high')
    """
    if -1 < share < -0.99:
        return f"{1 + share:.2g} times as high"
    if share >= 2:
        return f"{1 + share:.3g} times as high"
    if abs(share) < 0.0005:
        return "the same"
    shown = f"{abs(share):.0%}" if abs(share) >= 0.0995 else f"{abs(share):.1%}"
    return f"{shown} {'lower' if share < 0 else 'higher'}"


def _trust(summary: dict[str, Any]) -> str:
    """How far to trust what was found, the proof included."""
    proof = summary["verification"]
    said = f"confidence: {summary['suggestion']['confidence']}"
    if proof is None or proof["verdict"] is None:
        return said
    own = _said_by_probes(proof)
    if own is not None and proof["lr"] != own:
        return f"from verification; the probes said {number(own)}"
    return f"{said}, verified"


def _said_by_probes(proof: dict[str, Any] | None) -> float | None:
    """The rate that was verified: the middle one; None where that has not ended."""
    if proof is None or proof["verdict"] is None:
        return None
    rates = sorted(float(row["lr"]) for row in proof["trainings"])
    return rates[len(rates) // 2]


def _training_of(summary: dict[str, Any]) -> str:
    training = summary["training"]
    momentum = f" with momentum {training['momentum']:g}" if training["momentum"] else ""
    what = f"{_counted(training['steps'], 'step')} of {training['optimizer']}{momentum}"
    return f"{what}, {summary['schedule']} schedule"


def _way_on(summary: dict[str, Any]) -> list[str]:
    """What to do where there is no lr."""
    reason = summary["suggestion"]["reason"]
    if "has not ended" in reason:
        return [f"  `lrfind resume {summary['run']}` goes on with it"]
    if "check --batch" in reason or not summary["probes"]:
        return []
    return ["  try: `lrfind check --batch`, which looks at model, data and loss"]


def _proof_lines(summary: dict[str, Any]) -> list[str]:
    """The trainings that verify, a row a rate, and the verdict."""
    proof = summary["verification"]
    if not proof["trainings"]:
        return [f"  verification: no training has ended; `lrfind resume {summary['run']}` goes on"]
    rates = sorted({row["lr"] for row in proof["trainings"]})
    kinds = [
        ("train loss", "train_loss"),
        ("val loss", "val_loss"),
        (summary["verification"]["metric"] or "metric", "metric"),
    ]
    kinds = [kind for kind in kinds if any(row[kind[1]] is not None for row in proof["trainings"])]
    rows = []
    for lr in rates:
        own = [row for row in proof["trainings"] if row["lr"] == lr]
        ended = [row["outcome"] for row in own]
        outcome = ", ".join(f"{ended.count(kind)} {kind}" for kind in dict.fromkeys(ended))
        means = [
            mean_and_deviation([row[key] for row in own if row["outcome"] == "finished"]) for _, key in kinds
        ]
        mark = "use this" if lr == proof["lr"] else ""
        shown = ["-" if found is None else _brief_mean(found) for found in means]
        rows.append([number(lr), outcome, *shown, mark])
    header = ["lr", f"{proof['steps']:,} steps each", *(name for name, _ in kinds), ""]
    if proof["verdict"] is None:
        done = _counted(len(proof["trainings"]), "training")
        told = [f"  verification has not ended: {done} so far; `lrfind resume {summary['run']}` goes on"]
    else:
        told = _wrapped(f"Verified, and {VERDICTS[proof['verdict']]}: {proof['reason']}.")
    return [*told, "", *(f"  {line}" for line in table_text(header, rows).splitlines()), ""]


VERDICTS = {
    "stands": "it stands",
    "moves": "it moves",
    "refuted": "refuted",
}
"""What verification said, in words."""


def _brief_mean(found: dict[str, float]) -> str:
    mean, deviation = found["mean"], found["deviation"]
    return f"{mean:.4g} +- {deviation:.2g}" if deviation else f"{mean:.4g}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    """Lines of at most 100 characters; what follows the first is indented."""
    return textwrap.wrap(
        text,
        100,
        initial_indent=indent,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def over_text(summary: dict[str, Any]) -> str:
    """The summary of range tests over another setting: a row a value."""
    best, over = summary["suggestion"], summary["over"]
    rows = [
        [
            row["variant"],
            _or_dash(row["lr"]),
            "-" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}",
            _or_dash(row["edge"]),
            _or_dash(row["lowest_loss"]),
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
    return "\n".join([*lines, *_also(summary)])


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
        rows.append([rank, row["variant"], *map(_or_dash, values), spread, first])
    header += ["between seeds", "beside the first"]
    lines += ["", *(f"  {line}" for line in table_text(header, rows, width=130).splitlines()), ""]
    lines.append(
        "  early, middle, final: training loss at a tenth, at half, over the last twentieth; area: its mean"
    )
    lanes = summary["lanes"]
    lines.append(f"  lanes: {lanes['settled']} of {lanes['planned']}, {lanes['steps']} training steps")
    lines += [f"  {engine_text(summary['engines'])}"] if summary["engines"] else []
    return "\n".join([*lines, *_also(summary)])


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
        rows.append([str(each["seed"]), each["outcome"], str(each["steps"]), *map(_or_dash, values), at])
    lines += ["", *(f"  {line}" for line in table_text(header, rows).splitlines()), ""]
    if best["lr"] is not None:
        lowest = any(each["best_evaluation"] for each in summary["trainings"])
        lines.append(
            "  weights: model.seedN.pt" + (", of the lowest val loss best.seedN.pt" if lowest else "")
        )
    return "\n".join([*lines, *_also(summary)]).rstrip()


def engine_text(engines: Iterable[Any]) -> str:
    """How lanes are run and why; `engines` are `lrfind.calibration.Engine`s, or these as plain data."""
    texts = []
    for engine in engines:
        told = engine if isinstance(engine, dict) else vars(engine)
        threads = f"{told['threads']} thread{'s' if told['threads'] > 1 else ''}"
        way = "stacked" if told["lanes"] == "stacked" else "one after another"
        texts.append(f"lanes run {way}, on {threads}: {told['why']}")
    return "; ".join(dict.fromkeys(texts))


def _also(summary: dict[str, Any]) -> list[str]:
    """What else must be known of a run: its data, notes, warnings, and how its gradients are."""
    notes = [f"note: {note}" for note in summary["notes"]]
    warnings = [f"warning: {warning}" for warning in summary["warnings"]]
    return [*_data(summary["data"]), *_health(summary["health"]), *notes, *warnings]


def _data(facts: dict[str, Any] | None) -> list[str]:
    """How many rows there were, and what was done to them."""
    if not facts:
        return []
    counts = [
        f"{count:,} rows to {what}" if count is not None else f"an unknown number of rows to {what}"
        for what, count in (("train", facts["rows"]["train"]), ("validate", facts["rows"]["validation"]))
    ]
    told = [*(facts["transforms"] or ()), *([facts["streamed"]] if facts["streamed"] else [])]
    return [f"  with {' and '.join(counts)}", *(f"    {each}" for each in told)]


def _health(found: dict[str, Any] | None) -> list[str]:
    """How the gradients are: what is wrong with them and what to try, or that nothing is."""
    if found is None:
        return []
    layers = "1 layer" if found["layers"] == 1 else f"{found['layers']} layers"
    if not found["looks"]:
        return ["  gradients: not judged, as there was no look while the loss was finite"]
    if not found["findings"]:
        looks = "1 look" if found["looks"] == 1 else f"{found['looks']} looks"
        return [f"  gradients: healthy in {layers}, at {looks}"]
    return [
        f"gradients: {finding['what']}: {finding['evidence']}.\n  try: {finding['advice']}."
        for finding in found["findings"]
    ]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else number(value)


def _mean_text(found: dict[str, float]) -> str:
    mean, deviation = found["mean"], found["deviation"]
    return f"{mean:.4g} +- {deviation:.2g} between seeds" if deviation else f"{mean:.4g}"


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
    return "\n".join([*lines, *_also(summary)])


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
    return "\n".join([*lines, *_also(summary)])


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


def status_text(state: dict[str, Any]) -> str:
    """How far one run is, and what to do next."""
    lanes = state["lanes"]
    kinds = ", ".join(
        f"{count} {kind}" for kind, count in lanes.items() if kind not in ("planned", "settled")
    )
    lines = [f"{state['run']}: {state['command']} of {state['name']}, {state['state']}"]
    lines.append(f"  lanes: {lanes['settled']} of {lanes['planned']}" + (f" ({kinds})" if kinds else ""))
    if state["holder"]:
        holder = state["holder"]
        lines.append(f"  process {holder['pid']} on {holder['host']} runs it since {holder['since']}")
    elif state["state"] == "unfinished":
        lines.append(f"  `lrfind resume {state['run']}` goes on")
    if state["lr"] is not None:
        so_far = " so far" if state["state"] != "finished" else ""
        of = f", {state['variant']}" if state["variant"] else ""
        lines.append(f"  learning rate{so_far}: {number(state['lr'])}{of}")
    return "\n".join(lines)


def runs_text(states: Iterable[dict[str, Any]]) -> str:
    """A row a run."""
    rows = [
        (
            state["run"],
            state["command"],
            state["state"],
            f"{state['lanes']['settled']}/{state['lanes']['planned']}",
            "-" if state["lr"] is None else number(state["lr"]) + _of(state["variant"]),
        )
        for state in states
    ]
    return table_text(("run", "command", "state", "lanes", "lr"), rows)


def _of(variant: str | None) -> str:
    return f" ({variant})" if variant else ""


def methods_text(methods: dict[str, dict[str, Any]]) -> str:
    """A table of every method's answer, or its reason for having none."""
    rows, before = [], None
    for name, answer in methods.items():
        words = "(the same)" if answer["reason"] == before else answer["reason"]
        rows.append((name, "-" if answer["lr"] is None else number(answer["lr"]), words))
        before = answer["reason"]
    return table_text(("method", "lr", "what it is, or why there is none"), rows)


def table_text(header: Iterable[str], rows: Iterable[Iterable[str]], width: int = 100) -> str:
    """A plain table, as wide as it needs to be, for a terminal or a pipe."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in header:
        table.add_column(title)
    for row in rows:
        table.add_row(*row)
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(table, highlight=False, markup=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
