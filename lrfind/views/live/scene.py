"""What is known of a run while it goes on: the state of each lane, the best so far, and the time left.

The training only appends what happened to a queue, which costs less than a microsecond a step. `Scene.look`
reads the queue, a few times a second, from the thread that shows it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lrfind.analysis.lanes import SETTLED, Evaluation, Lane, LaneResult, Watch
from lrfind.catalog import KINDS
from lrfind.runs.summaries.parts import lane_noun

RECENT_SECONDS = 5.0  # a lane without a step for so long, while others take steps, does not run any more
PACE_SECONDS = 60.0  # the pace is measured over the last minute
MOST_POINTS = 4000  # of a curve
STEP_LOSS = "training loss of a single step"


@dataclass
class LaneState:
    """What is known of one lane.

    Attributes:
        noun: what it is: a probe, a ramp or a training.
        name: the number of the lane.
        seed: its seed.
        lr: its lr at the last step.
        step: the number of its last step, from 0.
        loss: the loss at that step.
        seen: when that step was reported, by the clock of the scene.
        outcome: how it ended; None as long as it has not.
        evaluation: its last evaluation; None before the first.
    """

    noun: str
    name: int
    seed: int
    lr: float
    step: int
    loss: float
    seen: float
    outcome: str | None = None
    evaluation: Evaluation | None = None


class Best(NamedTuple):
    """The lowest loss so far.

    Attributes:
        what: which loss it is, such as "final validation loss".
        loss: the loss.
        lr: the lr of its lane, without the schedule.
    """

    what: str
    loss: float
    lr: float


class Scene:
    """A run as far as it is known at this moment.

    Args:
        command: the command that made the run.
        clock: returns the time in seconds.

    Attributes:
        noun: what runs now: a probe, a ramp or a training.
        lanes: the lanes that have taken a step, in the order in which they began.
        curve: (lr, loss) at each step of ramps, or (step, loss) of a final training, for the plot.
        lowest: the lowest loss before any update so far, of all lanes but ramps.
        planned: the number of lanes, where it is known.
        steps: the number of steps of each lane, where it is known.
        epoch_steps: the number of steps of an epoch, where it is known.
        usual_seconds: how long the run usually takes in all, where it is known.
        settled: the numbers of the stored lanes whose outcome is final.
        began: when the scene was made, by its clock.
        lock: is held by whoever looks at the scene.
    """

    def __init__(self, command: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.command, self._clock = command, clock
        self.noun = KINDS[command].lanes.removesuffix("s")
        self.lanes: dict[Any, LaneState] = {}
        self.curve: list[tuple[float, float]] = []
        self.lowest: Best | None = None
        self.planned: int | None = None
        self.steps: int | None = None
        self.epoch_steps: float | None = None
        self.usual_seconds: float | None = None
        self.settled: set[int] = set()
        self.began = clock()
        self.lock = threading.RLock()
        self._no_trainings: set[int] = set()  # the settled lanes that are probes or untouched models
        self._events: deque[tuple[Any, ...]] = deque()
        self._pace: deque[tuple[float, float]] = deque()
        self._last_seen = self.began

    def begin(self, lanes: int | None, steps: int | None, settled: Collection[int] = ()) -> Watch:
        """Begin a part of the run, and return the watch of its steps.

        Args:
            lanes: the number of lanes of the run; None if it is not known.
            steps: the number of steps of each lane; None if it is not known.
            settled: the numbers of the lanes that have settled before.
        """
        with self.lock:
            self.planned, self.steps = lanes, steps
            self.settled |= {*settled}
            self.noun = "training" if self.noun == "probe" and steps is not None else self.noun
            self._pace.clear()
        append = self._events.append

        def watch(together: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
            append((together, step, losses))

        return watch

    def stored(self, results: Sequence[LaneResult]) -> None:
        """Take the results of lanes that were stored."""
        self._events.append((results,))

    def evaluated(self, lane: int, evaluation: Evaluation) -> None:
        """Take an evaluation of a lane that has not ended."""
        self._events.append((lane, evaluation))

    def look(self) -> None:
        """Take in everything that has happened since the last look."""
        with self.lock:
            now, latest = self._clock(), dict[Any, tuple[Any, ...]]()
            while self._events:
                event = self._events.popleft()
                if len(event) == 3:
                    latest[event[0][0].lane, event[0][0].seed] = event
                    self._take_lowest(*event)
                    if self.noun == "ramp":
                        self.curve.append((float(event[0][0].lr[event[1]]), event[2][0]))
                    continue
                self._take_steps(latest, now)
                latest.clear()
                if len(event) == 2:
                    self._take_evaluation(*event)
                else:
                    self._take_results(event[0])
            self._take_steps(latest, now)
            self._take_pace(now)
            if len(self.curve) > MOST_POINTS:
                self.curve = self.curve[::2]

    def _take_steps(self, latest: Mapping[Any, tuple[Any, ...]], now: float) -> None:
        for together, step, losses in latest.values():
            for lane, loss in zip(together, losses, strict=True):
                lr = float(lane.lr[min(step, len(lane.lr) - 1)])
                noun = lane_noun(self.command, lane)
                if noun and lr > 0:  # an untouched model is at lr 0, and so may the first step of a warmup be
                    self._take_step(LaneState(noun, lane.lane, lane.seed, lr, step, float(loss), now))
            self._last_seen = now

    def _take_lowest(self, together: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
        loss = min((loss for loss in losses if math.isfinite(loss)), default=math.inf)
        if loss < (self.lowest.loss if self.lowest else math.inf):
            lane = together[[*losses].index(loss)]
            if lane.peak > 0:
                self.lowest = Best(STEP_LOSS, float(loss), float(lane.peak))

    def _take_step(self, state: LaneState) -> None:
        key = _key(state)
        before = self.lanes.get(key)
        if before is not None:
            state.outcome, state.evaluation = before.outcome, before.evaluation
        self.lanes[key] = state
        if self.command == "train":
            self.curve.append((state.step, state.loss))

    def _take_evaluation(self, name: int, evaluation: Evaluation) -> None:
        if name in self.lanes:
            self.lanes[name].evaluation = evaluation

    def _take_results(self, results: Sequence[LaneResult]) -> None:
        for result in results:
            if result.outcome in SETTLED:
                self.settled.add(result.lane)
            noun = lane_noun(self.command, result)
            if noun != "training":
                self._no_trainings.add(result.lane)
            if noun and result.loss.size and result.lr.any():
                loss = result.train_loss if result.train_loss is not None else float(result.loss[-1])
                lr = float(result.lr[-1]) if noun == "probe" or math.isnan(result.peak) else result.peak
                evaluation = result.evaluations[-1] if result.evaluations else None
                size, seen = int(result.loss.size), self._clock()
                state = LaneState(
                    noun, result.lane, result.seed, lr, size - 1, loss, seen, result.outcome, evaluation
                )
                self.lanes[_key(state)] = state

    def _take_pace(self, now: float) -> None:
        self._pace.append((now, self.done))
        while now - self._pace[0][0] > PACE_SECONDS:
            self._pace.popleft()

    @property
    def running(self) -> list[LaneState]:
        """The lanes that take steps at this moment."""
        states = [state for state in self.lanes.values() if state.outcome is None]
        if self.noun == "probe":
            return [state for state in states if state.seen == self._last_seen]
        return [state for state in states if state.seen > self._last_seen - RECENT_SECONDS]

    @property
    def best(self) -> Best | None:
        """The lowest loss since the run began: that of a training that finished, or else that of a step."""
        ended = [s for s in self.lanes.values() if s.noun == "training" and s.outcome == "finished"]
        judged = [(s.evaluation.val_loss, s.lr) for s in ended if s.evaluation]
        for what, values in (
            ("final validation loss", judged),
            ("final training loss", [(s.loss, s.lr) for s in ended]),
        ):
            finite = [value for value in values if math.isfinite(value[0])]
            if finite:
                return Best(what, *min(finite))
        return self.lowest

    @property
    def ended(self) -> int:
        """The number of lanes that have settled, of those that `expected` counts."""
        return len(self.settled - self._no_trainings if self.noun == "training" else self.settled)

    @property
    def expected(self) -> int | None:
        """The number of trainings (or of ramps) of the run, without its probes; None if it is not known."""
        if self.planned is None:
            return None
        return self.planned - (self.without_training if self.noun == "training" else 0)

    @property
    def without_training(self) -> int:
        """The number of stored lanes that are no trainings: the probes and untouched models."""
        return len(self._no_trainings)

    @property
    def done(self) -> float:
        """The steps that are done of all that are planned; those of a lane that stopped early count too."""
        running = sum(s.step + 1 for s in self.lanes.values() if s.outcome is None and s.noun == self.noun)
        return self.ended * (self.steps or 0) + running

    @property
    def share(self) -> float | None:
        """The share of the work that is done; None where it is not known how much there is."""
        if self.expected is None or self.steps is None:
            return None
        return min(self.done / max(self.expected * self.steps, 1), 1.0)

    @property
    def seconds(self) -> float:
        """The seconds since the scene began."""
        return self._clock() - self.began

    @property
    def seconds_left(self) -> float | None:
        """The time left at the pace of the last minute; None where it cannot be known."""
        if self.expected is None or self.steps is None or len(self._pace) < 3:
            return None
        (began, before), (now, done) = self._pace[0], self._pace[-1]
        if done <= before:
            return None
        return max(self.expected * self.steps - done, 0) * (now - began) / (done - before)

    def progress(self) -> dict[str, Any]:
        """Return what another process needs to show the lanes that are not stored yet, as plain data."""
        with self.lock:
            unsettled = [s for s in self.lanes.values() if s.name not in self.settled]
            return {
                "noun": self.noun,
                "planned": self.planned,
                "steps": self.steps,
                "epoch_steps": self.epoch_steps,
                "usual_seconds": self.usual_seconds,
                "seconds": self.seconds,
                "lowest": self.lowest and [self.lowest.loss, self.lowest.lr],
                "lanes": [
                    [
                        s.noun,
                        s.name,
                        s.seed,
                        s.lr,
                        s.step,
                        *_finite(s.loss),
                        *_finite_evaluation(s.evaluation),
                    ]
                    for s in unsettled[-64:]
                ],
            }

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Take in the `progress` of a scene in another process."""
        with self.lock:
            self.noun, self.planned, self.steps = progress["noun"], progress["planned"], progress["steps"]
            self.epoch_steps, self.usual_seconds = progress["epoch_steps"], progress["usual_seconds"]
            now = self._last_seen = self._clock()
            self.began = now - progress["seconds"]
            if progress["lowest"] is not None:
                self.lowest = Best(STEP_LOSS, *progress["lowest"])
            for noun, name, seed, lr, step, loss, *evaluation in progress["lanes"]:
                if name in self.settled:
                    continue
                state = LaneState(noun, name, seed, lr, step, math.nan if loss is None else loss, now)
                before = self.lanes.get(_key(state))
                if before is not None and before.step == step:
                    state.seen = before.seen
                self._take_step(state)
                if evaluation:
                    self._take_evaluation(name, Evaluation(evaluation[0], evaluation[1], None))


def _key(state: LaneState) -> Any:
    """Return what tells a lane from others: a probe has no number until it is stored."""
    return (state.seed, state.lr) if state.noun == "probe" else state.name


def _finite(loss: float) -> list[float | None]:
    """Return a loss as JSON can hold it."""
    return [loss if math.isfinite(loss) else None]


def _finite_evaluation(evaluation: Evaluation | None) -> list[float]:
    """Return the step and the loss of an evaluation; nothing if JSON cannot hold the loss."""
    if evaluation is None or not math.isfinite(evaluation.val_loss):
        return []
    return [evaluation.step, evaluation.val_loss]
