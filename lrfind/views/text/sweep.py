"""The answer of a grid or a search, in words, and its expected cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lrfind.config.sections import CompareSection, GridSection, LanesSection, SearchSection
from lrfind.errors import counted, listed
from lrfind.views.text.layout import table_block, table_text, wrapped
from lrfind.views.text.parts import (
    closing_lines,
    duration,
    interval,
    lanes_lines,
    loss_name,
    number,
    number_or_dash,
    numbers_apart,
)


def sweep_text(summary: dict[str, Any]) -> str:
    """Return the summary of a sweep: the answer, the usable lrs, a verdict on each rate, the warnings."""
    lines = [*_answer_lines(summary), *_edge_lines(summary), *_rates_table(summary)]
    lines += lanes_lines(summary["lanes"])
    pruned = summary["pruned"]
    if pruned["count"]:
        saved = f"{counted(pruned['steps_saved'], 'step')} ({pruned['share_saved']:.0%})"
        lines += wrapped(f"pruned: {counted(pruned['count'], 'training')}, which saved {saved}")
    if summary["mode"]:
        lines += wrapped(mode_text([summary["mode"]]))
    return "\n".join([*lines, *closing_lines(summary)])


HEADLINES: dict[str | None, str] = {
    None: "Best learning rate: {lr}",
    "tied": "Best learning rate: {lr}, tied with {ties}",
    "one seed": "Best learning rate: {lr}, by one seed",
    "overfits": "Learning rate: {lr}, but training overfits with it",
    "overfits everywhere": "Learning rate: {lr}, but training overfits at every rate that learned",
    "learned less": "Learning rate: {lr}, but it learned little, and every rate that learned overfits",
}
"""The first line by `analysis.sweep_verdicts.Doubt`; an answer with a flaw is not called the best."""


def headline(doubt: str | None, lr: float, ties: Iterable[float], unfinished: bool = False) -> str:
    """Return the answer of a sweep in one line.

    Args:
        doubt: the gravest doubt about it; a key of `HEADLINES`.
        lr: the rate.
        ties: the rates that are tied with it.
        unfinished: whether some trainings of the sweep have not ended.
    """
    line = HEADLINES[doubt].format(lr=number(lr), ties=listed(map(number, ties)))
    return line.replace(" rate:", " rate so far:", 1) if unfinished else line


CUT_OFF = {"pruned": ("was pruned", "were pruned"), "failed": ("failed", "failed")}
"""The outcomes that leave the end of a training unknown, as predicates of one rate and of several."""


def rivals_text(summary: Mapping[str, Any]) -> str:
    """Return among how many rates the answered one ended lowest, and which are not among them."""
    tried, planned = len(summary["rates"]), summary["unfinished"]
    if planned is None:
        outcomes = [rate["outcome"] for rate in summary["rates"]]
        unknown = {outcome: count for outcome in CUT_OFF if (count := outcomes.count(outcome))}
        compared = tried - sum(unknown.values())
        others = listed(f"{count} {outcome}" for outcome, count in unknown.items())
        text = f"the lowest of {compared} rates" if compared > 1 else "the only rate"
        return f"{text}, not counting {others}" if others else text
    seeds = max(len(rate["seeds"]) for rate in summary["rates"])
    by = f", with {seeds} of {planned['seeds']} seeds" if seeds < planned["seeds"] else ""
    return f"the best of {tried} of {counted(planned['rates'], 'rate')} so far{by}"


def _answer_lines(summary: dict[str, Any]) -> list[str]:
    answer = summary["answer"]
    if answer["lr"] is None:
        return wrapped(f"No best learning rate: {answer['reason']}", "")
    return [
        *wrapped(headline(answer["doubt"], answer["lr"], answer["tied"], bool(summary["unfinished"])), ""),
        *_losses_lines(summary),
        *(wrapped(f"seeds: {seeds}") if (seeds := seeds_text(summary)) else []),
        *_usable_lines(summary),
        *(wrapped(MEASURED) if answer["doubt"] in (None, "tied") else []),
    ]


def _losses_lines(summary: dict[str, Any]) -> list[str]:
    """Return the losses at the answered rate: first the one that decides, then the others."""
    answer, judge, seeds = summary["answer"], summary["judge"], len(summary["rates"][0]["seeds"])
    ends = {"val_loss": "validation loss at the end", "train_loss": "training loss at the end"}
    median = f", median of {seeds} seeds" if seeds > 1 else ""
    decides = f"{loss_name(judge)} {number(answer[judge])}"
    if judge == "best_val_loss":
        decides += f", at step {answer['best_val_step']}"
    others = [
        f"{ends[key]} {number(answer[key])}" for key in ends if key != judge and answer[key] is not None
    ]
    if answer["metric"] is not None:
        when = " at that step" if judge == "best_val_loss" else ""
        others.insert(0, f"{summary['metric']}{when} {number(answer['metric'])}")
    texts = [f"{decides} ({rivals_text(summary)}{median})", ", ".join(others)]
    return [line for text in texts for line in wrapped(text)]


def seeds_text(summary: Mapping[str, Any]) -> str | None:
    """Return where the rates lie that are lowest for one seed; None with only one seed, or one rate."""
    low, high = summary["answer"]["low"], summary["answer"]["high"]
    if low is None or len(summary["rates"]) == 1:
        return None
    count, outside = len(summary["rates"][0]["seeds"]), len(summary["answer"]["seeds_outside"])
    if low < high:
        text = f"depending on the seed, the rate with the lowest loss is {interval(low, high)}"
    else:
        inside = f"{count - outside or 'none'} of" if outside else "each of"
        text = f"with {inside} the {count}, this rate has the lowest loss"
    return f"{text}; with {outside}, no rate that finished with all seeds has it" if outside else text


MEASURED = (
    "Whole trainings measured this; a rate between those that were tried may be better. `find --verify`"
    " measures too; `range-test`, and `find` without --verify, only estimate a rate."
)


def _usable_lines(summary: dict[str, Any]) -> list[str]:
    usable, planned = summary["usable"], summary["unfinished"]
    if len(summary["rates"]) == 1 or (planned is not None and len(summary["rates"]) < planned["rates"]):
        return []
    share = f"{1 - usable['tolerance']:.0%}"
    if usable["low"] is None:
        text = "none; the loss hardly fell beside its noise"
    elif usable["low"] < usable["high"]:
        rates = interval(usable["low"], usable["high"])
        text = f"{rates}; they reached at least {share} of the fall of the loss"
    elif cut_off := _cut_off_beside(summary["rates"], usable["low"]):
        text = f"only this rate is known to be; {cut_off}"
    else:
        text = f"only this rate; the next ones reached less than {share} of the fall of the loss"
    return wrapped(f"usable: {text}")


def _cut_off_beside(rates: Sequence[Mapping[str, Any]], lr: float) -> str:
    """Return which of the rates next to one were pruned or failed, in words; "" if none was."""
    place = [rate["lr"] for rate in rates].index(lr)
    beside = [rates[i] for i in (place - 1, place + 1) if 0 <= i < len(rates)]
    texts = []
    for outcome, predicates in CUT_OFF.items():
        lrs = [number(rate["lr"]) for rate in beside if rate["outcome"] == outcome]
        texts += [f"{listed(lrs)} {predicates[len(lrs) > 1]}"] if lrs else []
    return listed(texts)


EDGE = "between the last rate that trained and the first that diverged, or whose loss rose"
SENSITIVITY = "on average, the rates end this far above the lowest loss"
"""What the edge and the lr sensitivity of a sweep are."""


def _edge_lines(summary: dict[str, Any]) -> list[str]:
    texts = []
    if summary["edge"] is not None:
        texts.append(f"edge of stability: {number(summary['edge'])}, {EDGE}")
    if summary["sensitivity"] is not None:
        capped = "(those above the first loss count with that)"
        texts.append(f"lr sensitivity: {number(summary['sensitivity'])}; {SENSITIVITY} {capped}")
    return [line for text in texts for line in wrapped(text)]


LOSSES = {
    "best_val_loss": "lowest val loss",
    "best_val_step": "at step",
    "val_loss": "val loss",
    "train_loss": "train loss",
}
"""The headers of the losses in the table of the rates. The last two are those at the end."""

WORDS = {
    "tied": "the difference is small, and within the noise between seeds",
    "usable": "worse beyond the noise, but by little",
    "maybe worse": "higher, but the seeds are too few to be sure",
    "close": "higher by little; with one seed, the noise is not known",
    "rose": "the training loss rose further than that of the best rate fell",
    "overfits": "the training loss fell, and the validation loss did not follow or rose again",
    "no fall": "the loss hardly fell beside its noise between batches",
}
"""The verdicts that need an explanation, besides "lowest"; see `verdicts_in_words`."""

LOWEST: dict[str | None, str] = {
    "one seed": "by one seed, so another rate may be as good",
    "overfits": "training overfits with it",
    "overfits everywhere": "training overfits with it, as with every rate that learned",
    "learned less": "only because it learned little",
    "no fall": "the loss did not fall beyond its noise",
    "hardly fell": "the loss hardly fell beside its noise",
}
"""Why the rate with the lowest loss is not called the best, by the doubt about it."""


def verdicts_in_words(summary: Mapping[str, Any]) -> list[str]:
    """Return an explanation of each verdict in the table of the rates that needs one."""
    words = WORDS | {"lowest": f"the lowest loss, but {LOWEST.get(summary['answer']['doubt'])}"}
    if any(len(rate["seeds"]) > 1 for rate in summary["rates"]):
        words |= {
            word: f"{much}; fewer than two seeds ended at both rates, so the noise is not known"
            for word, much in {"close": "higher by little", "higher": "the loss is higher"}.items()
        }
    seen = {rate["verdict"] for rate in summary["rates"]}
    return [f"{word}: {meaning}" for word, meaning in words.items() if word in seen]


def _rates_table(summary: dict[str, Any]) -> list[str]:
    rates, metric, judge = summary["rates"], summary["metric"], summary["judge"]
    several = any(rate["spread"] for rate in rates)
    columns = [key for key in LOSSES if any(rate[key] is not None for rate in rates)]
    followed = any(rate["best_val_loss"] != rate["val_loss"] for rate in rates)
    if judge != "best_val_loss" and not followed:
        columns = [key for key in columns if not key.startswith("best")]
    judged = numbers_apart([rate[judge] for rate in rates])
    first = [key for key in columns if key in (judge, f"{judge.removesuffix('loss')}step")]
    rows = []
    for place, rate in enumerate(rates):
        verdict = rate["verdict"]
        if rate["diverged_at"] is not None:
            verdict += f" at step {rate['diverged_at']}"
        cells = {key: number_or_dash(rate[key]) for key in columns} | {judge: judged[place]}
        if rate["best_val_step"] is not None:
            cells["best_val_step"] = str(rate["best_val_step"])
        spread = [interval(*rate["spread"]) if rate["spread"] else "-"] if several else []
        others = [cells[key] for key in columns if key not in first]
        others += [number_or_dash(rate["metric"])] if metric else []
        rows.append([number(rate["lr"]), *(cells[key] for key in first), *spread, verdict, *others])
    header = ["lr", *(LOSSES[key] for key in first), *(["range over seeds"] if several else []), "verdict"]
    header += [LOSSES[key] for key in columns if key not in first]
    lines = table_block([*header, *([metric] if metric else [])], rows)
    words = [line for text in verdicts_in_words(summary) for line in wrapped(text)]
    return [*lines, *words, *([""] if words else [])]


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
        cost: the fields of `training.cost.SweepCost`.
        modes: the fields of `training.mode.Mode`, one mapping for each problem.
    """
    variants = any(row["variant"] for row in rows)
    cells = [
        [str(row["lane"]), *([row["variant"]] if variants else []), str(row["seed"]), number(row["lr"])]
        for row in rows
    ]
    lines = [table_text(["lane", *([""] if variants else []), "seed", "lr"], cells, keys=1 + variants)]
    lines += wrapped("A lane is one training: one rate with one seed.", "")
    if isinstance(section, SearchSection) and cost["lane_count"] > len(rows):
        lines.append(f"... and {cost['lane_count'] - len(rows)} more, which {section.sampler} proposes later")
    if isinstance(section, CompareSection) and section.one_peak is None:
        seeds = counted(section.seeds, "other seed")
        lines.append(f"... and then, to compare, {seeds} of each variant at its best peak")
    lines += [*wrapped(cost_text(**cost, more=more_lanes(section)), ""), *wrapped(mode_text(modes), "")]
    return "\n".join(lines)


def more_lanes(section: LanesSection) -> str:
    """Return when more trainings follow than are planned, in words; "" if none may follow."""
    if isinstance(section, GridSection) and section.extend:
        return "while the best lr is the lowest or the highest (--extend)"
    if isinstance(section, CompareSection) and section.one_peak is None and section.peaks is None:
        return "while a variant's best peak (the highest lr of a schedule) is its lowest or its highest"
    return ""


def cost_text(lane_count: int, steps: int, seconds: float, bytes: int, more: str = "") -> str:
    """Return the expected cost of a sweep.

    Args:
        lane_count: the number of trainings that are planned.
        steps: the number of steps of each.
        seconds: the time that they take.
        bytes: the space that they take.
        more: when more trainings follow; see `more_lanes`.

    >>> cost_text(9, 100, 8.2, 200_000)
    '9 trainings x 100 steps, about 8 s and 0.2 MB'
    >>> cost_text(9, 100, 8.2, 200_000, "while it pays")
    'at least 9 trainings x 100 steps, about 8 s and 0.2 MB; more follow, while it pays'
    """
    size = f"{bytes / 1e6:.1f} MB" if bytes >= 1e5 else "under 0.1 MB"
    about = f"{duration(seconds) if seconds < 1 else f'about {duration(seconds)}'} and {size}"
    least, then = ("at least ", f"; more follow, {more}") if more else ("", "")
    return f"{least}{counted(lane_count, 'training')} x {counted(steps, 'step')}, {about}{then}"


def mode_text(modes: Iterable[Mapping[str, Any]]) -> str:
    """Return how lanes run and why.

    Args:
        modes: the fields of `training.mode.Mode`, one mapping for each problem.
    """
    texts = []
    for mode in modes:
        way = "together, as one stacked model" if mode["name"] == "stacked" else "one after another"
        where = f"on {counted(mode['threads'], 'thread')}"
        if mode.get("processes", 1) > 1:  # runs of older versions do not have it
            where = f"in {counted(mode['processes'], 'process')} at once, each {where}"
        texts.append(f"trainings (lanes) run {way}, {where}: {mode['reason']}")
    return "; ".join(dict.fromkeys(texts))
