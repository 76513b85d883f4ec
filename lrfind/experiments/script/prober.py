"""The prober of a script: each probe is a start of the script, and a longer one is another start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import Lane, LaneResult, Outcome, Watch
from lrfind.analysis.probing import FEWEST_STEPS, FIRST_STEPS, UNTOUCHED, Probe
from lrfind.errors import LrfindError, NoSuggestion, UsageError, counted
from lrfind.experiments.script.starts import Start, above

SAME_LOSS = 1e-4  # a larger relative difference of two losses is more than rounding
RunsScript = Callable[[float, int, int, Array, Callable[[int, float], None]], Start]
"""A function of (lr, steps, most, ceiling, watch) that starts the script; see `starts.start_script`."""


@dataclass
class Spent:
    """What the starts of a script have cost so far.

    Attributes:
        starts: the number of starts.
        steps: the number of optimizer steps of all starts.
        seconds: their seconds of wall clock.
        until_first: the seconds from a start to its first step, over all starts.
    """

    starts: int = 0
    steps: int = 0
    seconds: float = 0.0
    until_first: float = 0.0

    def expected(self, starts: int, steps: int) -> float:
        """Return the seconds that so many further starts with so many steps in all will take."""
        if not self.starts:
            return 0.0
        return starts * self.until_first / self.starts + steps * self.pace

    @property
    def pace(self) -> float:
        """The seconds of a step."""
        return max(self.seconds - self.until_first, 0.0) / max(self.steps - self.starts, 1)


@dataclass
class Limits:
    """What probing may cost.

    Attributes:
        steps: the most gradient steps, as the search counts them: each probe once, however often it started.
        seconds: the most seconds of all starts together; None for no limit.
    """

    steps: int
    seconds: float | None = None


@dataclass
class _Course:
    """What is known of one lr.

    Attributes:
        losses: the losses of the longest start.
        asked: the number of steps that the search has asked for.
        over: whether the script ended by itself at this lr, so that there are no further losses.
        seconds: the seconds of its starts.
    """

    losses: list[float] = field(default_factory=list)
    asked: int = 0
    over: bool = False
    seconds: float = 0.0


class ScriptProber:
    """Trains the probes of a script; see `analysis.probe_search.Prober`.

    Args:
        run_script: starts the script.
        seed: the seed of every start.
        limits: what probing may cost.
        watch: called after every step.
        keep: called with the lane of an lr after each of its starts.
        known: the lanes that an earlier process has kept; they are not measured again.
        about: what that process knew of the script; see below.
        spent: what that process has spent.

    Attributes:
        about: what the script told of its first optimizer (see `Recorder`); `others`, its further
            optimizers; `repeats`, whether two untouched runs had the same losses.
        spent: what all starts have cost.
        longest: the most steps that a start can have.
        notes: what happened, in sentences.
    """

    def __init__(
        self,
        run_script: RunsScript,
        seed: int,
        limits: Limits,
        *,
        longest: int,
        watch: Watch,
        keep: Callable[[LaneResult], None],
        known: Sequence[LaneResult] = (),
        about: Mapping[str, Any] = MappingProxyType({}),
        spent: Spent | None = None,
    ) -> None:
        self._run, self._seed, self._limits = run_script, seed, limits
        self._watch, self._keep = watch, keep
        self.about, self.spent = dict(about), spent or Spent()
        self.longest, self.notes = longest, list[str]()
        self._courses = {
            lane.peak: _Course(lane.loss.tolist(), over=lane.planned > lane.lr.size, seconds=lane.seconds)
            for lane in known
        }
        self._limit_length()

    def begin(self) -> None:
        """Run the untouched script, unless that is known.

        Raises:
            UsageError: if the script cannot be probed; the message says why.
        """
        if UNTOUCHED not in self._courses:
            self._start(UNTOUCHED, min(FIRST_STEPS, self.longest), np.zeros(0))
            self._limit_length()

    @property
    def steps_of_its_own(self) -> int | None:
        """The number of steps after which the script ends by itself, if that was seen."""
        untouched = self._courses.get(UNTOUCHED, _Course())
        return len(untouched.losses) if untouched.over else None

    def _limit_length(self) -> None:
        self.longest = min(self.longest, self.steps_of_its_own or self.longest)

    def check_repeats(self) -> None:
        """Run the untouched script once more, unless that was done, and compare the losses.

        Raises:
            NoSuggestion: if they differ, so that probes cannot be compared.
        """
        if self.about.get("repeats"):
            return
        first = np.array(self._courses[UNTOUCHED].losses)
        steps = min(FIRST_STEPS, len(first))
        start = self._run(UNTOUCHED, steps, steps, np.zeros(0), lambda step, loss: None)
        self._count(start)
        second = np.array(start.losses[:steps])
        differs = [
            step
            for step, (one, other) in enumerate(zip(first, second, strict=False))
            if not _same(one, other)
        ]
        if differs or len(second) < steps:
            step = differs[0] if differs else len(second)
            losses = f" ({first[step]:.6g} and {second[step]:.6g})" if differs else ""
            raise NoSuggestion(
                _differs(f"two untouched runs differ at step {step}{losses}"), self.spent.steps
            )
        self.about["repeats"] = True

    def untouched(self, steps: int) -> Array:
        """Return (steps,) the losses of the script at lr 0."""
        return np.array(self._losses(UNTOUCHED, steps, np.zeros(0)))

    def probe(self, lrs: Sequence[float], steps: int, ceiling: Array) -> list[Probe]:
        """Return the probes, from new starts where no start has had so many steps."""
        return [self._probe(lr, steps, ceiling) for lr in lrs]

    def affords(self, lrs: Sequence[float], steps: int, more: int = 0) -> bool:
        """Return whether the limits, and the script's own length, allow so many steps; see `Prober`."""
        if not self._within_limits(lrs, steps, more):
            return False
        untouched = self.untouched(steps)  # where it is not finite, the search says so
        return len(untouched) == steps or not math.isfinite(untouched[-1])

    def _within_limits(self, lrs: Sequence[float], steps: int, more: int) -> bool:
        courses = [self._courses.get(lr, _Course()) for lr in lrs]
        untouched = self._courses.get(UNTOUCHED, _Course())
        left = sum(max(steps - course.asked, 0) for course in courses) + more * steps
        left += max(steps - untouched.asked, 0)
        asked = sum(course.asked for course in self._courses.values())
        if self._limits.seconds is None:
            return asked + left <= self._limits.steps
        missing = [
            course for course in (*courses, untouched) if len(course.losses) < steps and not course.over
        ]
        starts = len(missing) + more
        seconds = self.spent.seconds + self.spent.expected(starts, starts * steps)
        return seconds <= self._limits.seconds and asked + left <= self._limits.steps

    def lanes(self, probes: Sequence[Probe]) -> list[LaneResult]:
        """Return the lane of the untouched script and of each probe, with all their steps, as they ended."""
        stopped = {probe.lr for probe in probes if probe.stopped}
        return [self._lane(lr, "diverged" if lr in stopped else "finished") for lr in self._courses]

    def _probe(self, lr: float, steps: int, ceiling: Array) -> Probe:
        losses = self._losses(lr, steps, ceiling)
        end = next((step for step, loss in enumerate(losses) if above(loss, step, ceiling)), None)
        if end is not None:
            return Probe(lr, np.array(losses[: end + 1]), stopped=True)
        return Probe(lr, np.array(losses), stopped=len(losses) < steps)

    def _losses(self, lr: float, steps: int, ceiling: Array) -> list[float]:
        """Return the losses of an lr, at most `steps`, from another start if they are not known."""
        course = self._courses.get(lr, _Course())
        known = len(course.losses) >= steps or course.over
        if not known and not any(above(loss, step, ceiling) for step, loss in enumerate(course.losses)):
            self._start(lr, steps, ceiling)
            course = self._courses[lr]
        course.asked = max(course.asked, min(steps, len(course.losses)))
        return course.losses[:steps]

    def _start(self, lr: float, steps: int, ceiling: Array) -> None:
        """Start the script at an lr, and keep what it showed.

        Raises:
            UsageError: if the script cannot be probed, or fails before the lr can be the reason.
            NoSuggestion: if its first loss is another one than before.
        """
        number = [*self._courses, lr].index(lr)
        lane = Lane(number, self._seed, np.full(self.longest, lr))
        start = self._run(
            lr, steps, self.longest, ceiling, lambda step, loss: self._watch((lane,), step, (loss,))
        )
        self._count(start)
        self._refuse(lr, start, steps)
        self.about = {**start.about, "others": start.others} | self.about
        course = self._courses.setdefault(lr, _Course())
        course.losses, course.seconds = start.losses, course.seconds + start.seconds
        course.over = start.ended in ("finished", "failed")
        if lr != UNTOUCHED and course.over and len(start.losses) < steps and math.isfinite(start.losses[-1]):
            self.notes.append(_ended_early(lr, start))
        self._keep(self._lane(lr, "interrupted"))

    def _refuse(self, lr: float, start: Start, steps: int) -> None:
        """Refuse a script that cannot be probed; see `_start`."""
        where = f" at lr {lr:.3g}" if lr else ""
        output = f" The end of its output:\n{start.output}" if start.output.strip() else ""
        if start.refusal is not None:
            raise UsageError(f"this script cannot be probed: {start.refusal}.")
        if start.ended == "failed" and len(start.losses) < (steps if lr == UNTOUCHED else 1):
            done = f"after {counted(len(start.losses), 'step')}" if start.losses else "before its first step"
            raise LrfindError(f"the script failed {done}{where}.{output}")
        if not start.losses and start.ended == "finished":
            raise UsageError(
                "this script cannot be probed: it came to its end, and no step of a torch optimizer after a"
                " `backward` was seen in its process. It must train with an optimizer of torch (or a class"
                f" that inherits from torch.optim.Optimizer), and not in another process.{output}"
            )
        if len(start.losses) < FEWEST_STEPS and start.ended == "finished" and lr == UNTOUCHED:
            raise UsageError(
                f"{probed_part(start.others)} ends after {counted(len(start.losses), 'step')}; a probe needs"
                f" at least {FEWEST_STEPS}. Let it train for longer."
            )
        first, again = self.about.get("before_updates"), start.about.get("before_updates")
        if first is not None and again is not None and not _same(first, again):
            losses = f"{first:.6g} and {again:.6g}"
            raise NoSuggestion(_differs(f"the first loss of two starts differs ({losses})"), self.spent.steps)

    def _count(self, start: Start) -> None:
        self.spent.starts += 1
        self.spent.steps += len(start.losses)
        self.spent.seconds += start.seconds
        self.spent.until_first += min(start.until_first, start.seconds)

    def _lane(self, lr: float, outcome: Outcome) -> LaneResult:
        """Return the lane of an lr; one that ended by itself was planned with one step more than it has."""
        course = self._courses[lr]
        count = len(course.losses)
        return LaneResult(
            lane=[*self._courses].index(lr),
            seed=self._seed,
            planned=count + course.over,
            peak=lr,
            outcome=outcome,
            lr=np.full(count, lr),
            loss=np.array(course.losses),
            seconds=course.seconds,
        )


def probed_part(others: Sequence[Any]) -> str:
    """Return what of a script is probed, in words; `others` are its further optimizers."""
    return "the training with the first optimizer" if others else "the script"


def _same(one: float, other: float) -> bool:
    """Return whether two losses differ by rounding at most."""
    return math.isclose(one, other, rel_tol=SAME_LOSS) or (
        not math.isfinite(one) and not math.isfinite(other)
    )


def _ended_early(lr: float, start: Start) -> str:
    """Return the note on a script that ended by itself at an lr, but not at lr 0."""
    note = (
        f"At lr {lr:.3g} the script ended by itself after {counted(len(start.losses), 'step')}, which it did"
        " not do at lr 0; this counts as a loss that blew up."
    )
    if start.ended == "finished" and start.losses[-1] < start.losses[0]:
        note += (
            f" Its loss had fallen from {start.losses[0]:.3g} to {start.losses[-1]:.3g}: if the script stops"
            " when its loss is low enough, switch that off for lrfind. Otherwise the answer is too low."
        )
    last = start.output.splitlines()[-1].strip() if start.output else ""
    return note + (f" Its last words: {last:.200}" if last else "")


def _differs(what: str) -> str:
    """Return the sentence for a script whose starts cannot be compared."""
    return (
        f"probes of this script cannot be compared, because {what}, although the seeds of Python, NumPy and"
        " torch were the same: the script draws from another source of randomness, such as the time or"
        " numpy.random.default_rng(), or seeds from one. Give it a fixed seed."
    )
