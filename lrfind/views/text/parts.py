"""The parts that all texts share: numbers, and the end of a run's text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lrfind.analysis.confidence import HIGH, LOW
from lrfind.config.registry import command_line
from lrfind.errors import counted, listed, plural
from lrfind.views.text.layout import wrapped


def number(value: float) -> str:
    """Return a number as people write a learning rate.

    >>> number(0.033128), number(0.00009), number(12.0)
    ('0.0331', '9e-05', '12')
    """
    return f"{value:.3g}"


def number_or_dash(value: float | None) -> str:
    """Return a number, or a dash if there is none."""
    return "-" if value is None else number(value)


def numbers_apart(values: Sequence[float | None]) -> list[str]:
    """Return numbers with three digits; with up to five where different numbers would look the same.

    >>> numbers_apart([0.71, 0.0085791, 0.0085799, None]), numbers_apart([0.5, 0.5])
    (['0.71', '0.008579', '0.00858', '-'], ['0.5', '0.5'])
    """
    different = {value for value in values if value is not None}
    counts = {digits: Counter(f"{value:.{digits}g}" for value in different) for digits in (3, 4)}

    def apart(value: float) -> str:
        for digits, alike in counts.items():
            if alike[f"{value:.{digits}g}"] == 1:
                return f"{value:.{digits}g}"
        return f"{value:.5g}"

    return ["-" if value is None else apart(value) for value in values]


def confidence_in_words(confidence: str, risk: float | None) -> str:
    """Return the confidence in an answer, and how many such answers fail, as far as that is known.

    >>> confidence_in_words("high", 0.021), confidence_in_words("low", None)
    ('confidence: high (2 % of such answers fail)', 'confidence: low')
    >>> confidence_in_words("moderate", 0.098)  # it is low from 10 % on
    'confidence: moderate (9.8 % of such answers fail)'
    """
    known = "" if risk is None else f" ({_percent(risk)} % of such answers fail)"
    return f"confidence: {confidence}{known}"


def _percent(risk: float) -> str:
    """Return a risk in percent, rounded, unless that makes it one from which the confidence is another."""
    whole = max(round(100 * risk), 1)
    return f"{100 * risk:.1f}" if whole in (100 * HIGH, 100 * LOW) and risk < whole / 100 else str(whole)


def interval(low: float, high: float) -> str:
    """Return an interval.

    >>> interval(0.01, 0.1)
    '0.01 to 0.1'
    """
    return f"{number(low)} to {number(high)}"


def interval_or_dash(ends: Sequence[float] | None) -> str:
    """Return the interval between two ends, or a dash if there is none."""
    return interval(*ends) if ends else "-"


def duration(seconds: float) -> str:
    """Return a time, in the unit that people would use.

    >>> duration(0.2), duration(8.2), duration(600), duration(9000)
    ('under 1 s', '8 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return "under 1 s" if seconds < 1 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def loss_name(judge: str) -> str:
    """Return the name of the loss that decides."""
    names = {"val_loss": "final validation loss", "best_val_loss": "lowest validation loss"}
    return names.get(judge, "final training loss")


def resume_line(summary: Mapping[str, Any]) -> str:
    """Return how to continue the run of a summary or a status.

    >>> resume_line({"run": "runs/mnist", "import_root": "nets"})
    'Run `lrfind resume runs/mnist --import-root nets` to continue.'
    """
    return f"Run `{command_line(['resume', summary['run']], summary.get('import_root'))}` to continue."


def count_text(what: str, count: Mapping[str, Any]) -> str:
    """Return how many lanes of a kind have settled, and how they ended.

    Args:
        what: what they are, such as "probes".
        count: see `runs.summaries.parts.count_kinds`.

    >>> count_text("probes", {"planned": None, "settled": 3, "outcomes": {"finished": 2, "diverged": 1}})
    'probes: 3 so far (2 finished and 1 diverged)'
    """
    outcomes = listed(f"{number} {outcome}" for outcome, number in count["outcomes"].items())
    ended = f" ({outcomes})" if outcomes else ""
    of = "so far" if count["planned"] is None else f"of {count['planned']}"
    return f"{what}: {count['settled']} {of}{ended}"


def lanes_lines(lanes: Mapping[str, Any], noun: str = "training") -> list[str]:
    """Return the number of lanes that have settled, their outcomes, and their training steps.

    Args:
        lanes: see `runs.summaries.parts.count_lanes`.
        noun: what a lane of this command is.

    >>> lanes_lines({"planned": 3, "settled": 3, "steps": 240, "outcomes": {"diverged": 3}}, "ramp")
    ['  ramps: 3 of 3 (3 diverged), 240 steps']
    """
    return wrapped(f"{count_text(plural(noun), lanes)}, {counted(lanes['steps'], 'step')}")


def closing_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the last lines about a run: its data, its gradients, notes and warnings."""
    remarks = [f"note: {note}" for note in summary["notes"]]
    remarks += [f"warning: {warning}" for warning in summary["warnings"]]
    lines = [*_data(summary["data"]), *_health(summary["health"])]
    return [*lines, *(line for remark in remarks for line in wrapped(remark, ""))]


def data_in_words(facts: Mapping[str, Any] | None) -> list[str]:
    """Return how many rows there are, and what was done to them; an empty list if nothing is known."""
    if not facts:
        return []
    rows = [
        f"{'an unknown number of rows' if count is None else counted(count, 'row')} to {purpose}"
        for purpose, count in (("train", facts["rows"]["train"]), ("validate", facts["rows"]["validation"]))
    ]
    streamed = [facts["streamed"]] if facts["streamed"] else []
    return [" and ".join(rows), *(facts["transforms"] or ()), *streamed]


def _data(facts: Mapping[str, Any] | None) -> list[str]:
    lines = []
    for place, text in enumerate(data_in_words(facts)):
        lines += wrapped(f"data: {text}" if place == 0 else text, "    " if place else "  ", "    ")
    return lines


def gradient_findings(health: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with the gradients, each with what to try; or that nothing is, without advice.

    Args:
        health: see `runs.summaries.health.health_summary`.

    >>> gradient_findings({"looks": 14, "layers": 5, "findings": []})
    [('no problem was seen (5 layers, checked 14 times)', '')]
    """
    if not health["looks"]:
        why = "the loss was not finite, or float16 overflowed, whenever they were measured"
        return [(f"not judged, because {why}", "")]
    if not health["findings"]:
        layers, looks = counted(health["layers"], "layer"), counted(health["looks"], "time")
        return [(f"no problem was seen ({layers}, checked {looks})", "")]
    return [(f"{row['what']}: {row['evidence']}", row["advice"]) for row in health["findings"]]


def _health(health: Mapping[str, Any] | None) -> list[str]:
    """Return what is wrong with the gradients and what to try, or that nothing is."""
    lines = []
    for what, advice in gradient_findings(health) if health is not None else []:
        if advice:
            lines += [*wrapped(f"gradients: {what}.", ""), *wrapped(f"try: {advice}.")]
        else:
            lines += wrapped(f"gradients: {what}")
    return lines
