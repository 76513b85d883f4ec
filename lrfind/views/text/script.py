"""What the probes of a script say, what they cost, and what `lrfind script` is going to do, in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from lrfind.errors import counted, listed
from lrfind.views.text.find import find_text
from lrfind.views.text.layout import wrapped
from lrfind.views.text.parts import number


def script_text(summary: dict[str, Any]) -> str:
    """Return the summary of the probes of a script: the answer, its reason, and what the starts cost."""
    script, lr = summary["script"], summary["answer"]["lr"]
    lines = [find_text(summary)]
    if script["starts"]:
        starts = counted(script["starts"], "start")
        lines += wrapped(f"script: {script['path']}, {starts} in {seconds_in_words(script['seconds'])}")
        if summary["cost"] > sum(row["steps"] for row in summary["probes"]):
            lines += wrapped("a start goes on after the steps of its probe, in case a longer probe is needed")
    if lr is not None and script["lr"]:
        lines += wrapped(f"the script's own lr: {number(script['lr'])}; {_beside(lr / script['lr'])}")
    return "\n".join(lines)


def _beside(ratio: float) -> str:
    """Return how a rate compares with the script's own.

    >>> _beside(3.0), _beside(0.005), _beside(1.02)
    ('the answer is 3 times as high', 'the answer is 200 times lower', 'the answer is about the same')
    """
    if 0.9 < ratio < 1.1:
        return "the answer is about the same"
    return (
        f"the answer is {_two_digits(ratio)} times as high"
        if ratio > 1
        else f"the answer is {_two_digits(1 / ratio)} times lower"
    )


def seconds_in_words(seconds: float) -> str:
    """Return a time.

    >>> seconds_in_words(0.0123), seconds_in_words(104.3), seconds_in_words(600)
    ('0.012 seconds', '104 seconds', '10 minutes')
    """
    return f"{_two_digits(seconds)} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _two_digits(value: float) -> str:
    """Return a number with two digits; one above 99 with all before the point, and without an exponent."""
    return f"{value:.2g}" if value < 99.5 else f"{value:,.0f}"


def start_cost_text(until_first: float, step: float, seconds: float) -> str:
    """Return what the starts of a script cost.

    >>> start_cost_text(3.1, 0.004, 35.0)
    'a start takes 3.1 seconds until its first step, a step 0.004 seconds: usually 35 seconds in all'
    """
    return (
        f"a start takes {seconds_in_words(until_first)} until its first step,"
        f" a step {seconds_in_words(step)}:"
        f" usually {seconds_in_words(seconds)} in all"
    )


def script_plan_text(plan: Mapping[str, Any]) -> str:
    """Return what `lrfind script` does, before it does it.

    Args:
        plan: `command`, the parts of the command line of each start; `steps`, `schedule` and `seed`; `most`,
            the most steps of a start; `here`, whether it runs in `folder`; `links`, what is linked into its
            directory; `log`, the file with its output, None if nothing is started; `wait`, in minutes.
    """
    first = (
        f"script: each probe starts `{shlex.join(plan['command'])}`, as it is, and ends it after at most"
        f" {counted(plan['most'], 'step')}."
    )
    texts = [
        "The lr of every torch optimizer in it is held at that of the probe, so its schedulers have no"
        f" effect. The answer is for {counted(plan['steps'], 'step')}, {plan['schedule']} schedule.",
        f"Python, NumPy and torch are seeded with {plan['seed']}.",
    ]
    if plan["here"]:
        texts.append(f"It runs in {plan['folder']}: the files that it writes are really written.")
    else:
        texts.append(
            "Each start has an empty working directory, which is deleted afterwards"
            f"{_linked(plan['links'])}. What it writes to absolute paths, or sends elsewhere, stays."
        )
    texts.append(
        "There are 4 to 18 starts, one after another: two without any training, one for each rate, and one"
        " more where a probe must be longer. The first ones show how long they take."
    )
    if plan["log"] is not None:
        texts.append(f"Its output: {plan['log']}")
    return "\n".join([*wrapped(first, ""), *(line for text in texts for line in wrapped(text))])


def _linked(links: Sequence[str]) -> str:
    return f", with links to {listed(links)}" if links else ""
