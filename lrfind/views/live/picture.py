"""The picture of a scene: a few lines of text, as wide and as high as there is room."""

from __future__ import annotations

from typing import NamedTuple

from lrfind.errors import counted, listed, plural
from lrfind.views.live.dots import dots
from lrfind.views.live.scene import LaneState, Scene
from lrfind.views.text.layout import wrapped
from lrfind.views.text.parts import duration, number

WIDEST = 100
PLOT_LINES = 8
ROOM_OF_A_PLOT = 18
"""The fewest lines of a terminal in which there is a plot."""
MOST_LANES = 4
"""The most lanes that have a line of their own."""


class Line(NamedTuple):
    """A line of a picture.

    Attributes:
        text: its characters.
        style: its style, in the words of rich.
    """

    text: str
    style: str = ""


def picture(scene: Scene, width: int, height: int, *, braille: bool) -> list[Line]:
    """Draw a scene: how far it is, the best so far, the lanes that run, and the loss against lr.

    Args:
        scene: what is known of the run.
        width: the most characters of a line.
        height: the lines of the terminal.
        braille: whether characters beyond ASCII can be shown.
    """
    room = min(width, WIDEST)
    with scene.lock:
        lines = [Line(text, "bold") for text in wrapped(headline(scene), "", width=room)]
        if scene.share is not None:
            lines.append(Line(_bar(scene.share, room, braille), "green"))
        lines += [Line(text) for text in wrapped(best_line(scene), "", width=room)]
        for lane in lane_lines(scene):
            lines += [Line(text) for text in wrapped(lane, rest="    ", width=room)]
        if height >= ROOM_OF_A_PLOT:
            lines += [Line(text, "cyan") for text in _plot(scene, room, braille)]
    return [Line(line.text[:room].rstrip(), line.style) for line in lines]


def headline(scene: Scene) -> str:
    """Return how far a run is and how long it still takes, as far as that is known."""
    parts = _counts(scene)
    left = scene.seconds_left
    if left is not None:
        parts.append(f"{'about ' if left >= 1 else ''}{duration(left)} left")
    elif scene.usual_seconds is not None:
        parts.append(f"{duration(scene.seconds)} of usually {duration(scene.usual_seconds)}")
    else:
        parts.append(f"{duration(scene.seconds)} so far")
    return f"{scene.command}: {', '.join(parts)}"


def _counts(scene: Scene) -> list[str]:
    """Return how many probes and how many trainings there are, each with those that failed in brackets."""
    if not scene.lanes and not scene.settled:
        return ["starting"]
    states, parts = [*scene.lanes.values()], list[str]()
    for noun in dict.fromkeys([*(state.noun for state in states), scene.noun]):
        outcomes = [state.outcome for state in states if state.noun == noun]
        count = counted(len(outcomes), noun)
        if noun == scene.noun and scene.expected is None and not outcomes and parts:
            continue
        if noun == scene.noun and scene.expected is not None:
            count = f"{scene.ended} of {counted(scene.expected, noun)} done"
        # lrfind itself ends the starts of a script, and may start them again for more steps.
        usual = (None, "finished", "interrupted") if scene.command == "script" else (None, "finished")
        failed = dict.fromkeys(outcome for outcome in outcomes if outcome not in usual)
        bad = listed(f"{outcomes.count(outcome)} {outcome}" for outcome in failed)
        parts.append(f"{count} ({bad})" if bad else count)
    return parts


def best_line(scene: Scene) -> str:
    """Return the lowest loss so far, with its kind and lr; "" where lanes cannot be compared by it."""
    best = scene.best
    if best is None or scene.noun == "ramp" or scene.command == "train":
        return ""
    return f"lowest {best.what} so far: {number(best.loss)} at lr {number(best.lr)}"


def lane_lines(scene: Scene) -> list[str]:
    """Return a line for each lane that runs, or one for all if there are many."""
    running = scene.running
    if len(running) <= MOST_LANES:
        return [_lane_line(scene, state) for state in running]
    lrs, losses = [s.lr for s in running], [s.loss for s in running if s.loss == s.loss]
    lowest = f", lowest loss {number(min(losses))}" if losses else ""
    step = _step(scene, max(running, key=lambda s: s.step))
    rates = f"lr {number(min(lrs))} to {number(max(lrs))}"
    return [f"{len(running)} {plural(scene.noun)} run now: {step}, {rates}{lowest}"]


def _lane_line(scene: Scene, state: LaneState) -> str:
    parts = [] if state.noun == "probe" else [f"{state.noun} {_number(scene, state)}"]
    parts += [f"lr {number(state.lr)}", _step(scene, state)]
    if scene.epoch_steps and scene.command == "train":
        parts.append(f"epoch {(state.step + 1) / scene.epoch_steps:.1f}")
    parts.append(f"loss {number(state.loss)}")
    if state.evaluation:
        parts.append(f"val loss {number(state.evaluation.val_loss)}")
    return "  ".join(parts)


def _number(scene: Scene, state: LaneState) -> int:
    """Return the number of a training of a run, from 1; those of a find are counted without its probes."""
    return state.name + 1 - (scene.without_training if state.noun == "training" else 0)


def _step(scene: Scene, state: LaneState) -> str:
    return f"step {state.step + 1:,}" + ("" if scene.steps is None else f" of {scene.steps:,}")


def _bar(share: float, width: int, smooth: bool) -> str:
    full, empty = ("━", "─") if smooth else ("=", "-")
    room = min(width - 6, 60)
    done = round(share * room)
    return f"{full * done}{empty * (room - done)} {share:4.0%}"


def _plot(scene: Scene, width: int, braille: bool) -> list[str]:
    if scene.command == "train":
        return dots(scene.curve, width, PLOT_LINES, x_name="step", log_x=False, braille=braille)
    points = scene.curve if scene.noun == "ramp" else [(s.lr, s.loss) for s in scene.lanes.values()]
    return dots(points, width, PLOT_LINES, x_name="loss against lr (log)", log_x=True, braille=braille)


def plain_line(scene: Scene) -> str:
    """Return a scene in one line, for a log."""
    parts = [headline(scene), best_line(scene)]
    lanes = lane_lines(scene)
    return "; ".join(filter(None, [*parts, *([listed(lanes)] if len(lanes) == 1 else [])]))
