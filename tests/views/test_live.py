"""The live view: what it knows, what it draws, and what it leaves on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lrfind.analysis.lanes import Evaluation, Lane, LaneResult, Outcome
from lrfind.training.watch import rows_of, watch_reported
from lrfind.views.live.dots import dots
from lrfind.views.live.picture import headline, picture, plain_line
from lrfind.views.live.scene import Scene
from tests.helpers.screen import Screen


class Clock:
    """A clock that goes only when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def lane(number: int, lr: float, steps: int = 10) -> Lane:
    return Lane(number, 0, np.full(steps, lr))


def result(number: int, lr: float, losses: Sequence[float], outcome: Outcome, val_loss: float) -> LaneResult:
    return LaneResult(
        lane=number, seed=0, planned=10, peak=lr, outcome=outcome, lr=np.full(len(losses), lr), loss=np.array(losses),
        evaluations=(Evaluation(len(losses), val_loss, None),) if outcome == "finished" else (),
    )  # fmt: skip


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def grid(clock: Clock) -> Scene:
    """A grid of three lanes: one finished, one diverged, one at half of its steps, at a step a second."""
    scene = Scene("grid", clock)
    watch = scene.begin(3, 10)
    for number, lr, last in ((0, 0.01, 10), (1, 10.0, 4), (2, 0.1, 5)):
        for step in range(last):
            clock.now += 1
            watch([lane(number, lr)], step, [2.0 - step / 10])
            scene.look()
        if number == 0:
            scene.stored([result(0, lr, [2.0, 1.0], "finished", 0.9)])
        if number == 1:
            scene.stored([result(1, lr, [2.0, 1e9], "diverged", 0.0)])
    scene.look()
    return scene


def test_a_scene_knows_the_lanes_the_best_and_the_time_left(grid: Scene) -> None:
    assert grid.settled == {0, 1}
    assert [state.name for state in grid.running] == [2]
    assert grid.best == ("final validation loss", 0.9, 0.01)
    assert grid.done == 25
    assert grid.share == pytest.approx(25 / 30)
    assert grid.seconds_left == pytest.approx(5 * 18 / 24)  # 24 steps, six of which were left out, in 18 s


def test_the_picture_says_it_in_words(grid: Scene) -> None:
    lines = [line.text for line in picture(grid, 80, 30, braille=True)]
    assert lines[0] == "grid: 2 of 3 trainings done (1 diverged), about 4 s left"
    assert lines[1].endswith(" 83%")
    assert lines[2:4] == [
        "lowest final validation loss so far: 0.9 at lr 0.01",
        "  training 3  lr 0.1  step 5 of 10  loss 1.6",
    ]
    assert any("●" in line for line in lines)
    assert "loss against lr (log)" in lines[-1]


@pytest.mark.parametrize("width", [20, 40, 200])
@pytest.mark.parametrize("braille", [True, False])
def test_a_picture_is_as_wide_as_there_is_room_and_ascii_where_it_must_be(
    grid: Scene, width: int, braille: bool
) -> None:
    lines = [line.text for line in picture(grid, width, 30, braille=braille)]
    assert max(map(len, lines)) <= min(width, 100)
    assert "".join(lines).isascii() != braille


def test_a_low_terminal_has_no_plot(grid: Scene) -> None:
    assert len(picture(grid, 80, 10, braille=True)) == 4


def test_where_the_work_is_not_known_no_time_is_left(clock: Clock) -> None:
    scene = Scene("find", clock)
    watch = scene.begin(None, None)
    for step in range(3):
        clock.now += 2
        watch([lane(0, 0.0)], step, [9.0])  # the untouched model is no probe
        watch([lane(1, 0.1)], step, [1.0])
        scene.look()
    assert (scene.seconds_left, scene.share) == (None, None)
    assert plain_line(scene) == (
        "find: 1 probe, 6 s so far; lowest training loss of a single step so far: 1 at lr 0.1;"
        " lr 0.1  step 3  loss 1"
    )


def test_a_start_of_a_script_that_lrfind_ended_is_no_failure(clock: Clock) -> None:
    scene = Scene("script", clock)
    scene.begin(None, None)
    lanes = [result(1, 0.1, [2.0, 1.0], "interrupted", 0.0), result(2, 10.0, [2.0, 1e9], "diverged", 0.0)]
    scene.stored([replace(lane, evaluations=()) for lane in lanes])
    scene.look()
    assert headline(scene).startswith("script: 2 probes (1 diverged), ")


def test_the_lowest_loss_of_a_step_never_rises(clock: Clock) -> None:
    scene = Scene("script", clock)
    watch = scene.begin(None, None)
    for step, loss in enumerate((2.0, 0.684, 0.846, float("nan"))):
        watch([lane(1, 0.1)], step, [loss])
    watch([lane(2, 0.3)], 0, [0.7])
    scene.look()
    assert scene.best == ("training loss of a single step", 0.684, 0.1)
    other = Scene("script", clock)
    other.restore(json.loads(json.dumps(scene.progress())))
    assert other.best == scene.best


def test_the_trainings_of_a_find_are_counted_without_its_probes(clock: Clock) -> None:
    scene = Scene("find", clock)
    probes = scene.begin(None, None)
    for number, lr in enumerate((0.0, 0.1, 10.0)):
        probes([lane(number, lr)], 3, [1.0])
    untouched, probe, wild = (
        replace(result(number, lr, [2.0] * 4, outcome, 0.5), evaluations=())
        for number, lr, outcome in ((0, 0.0, "finished"), (1, 0.1, "finished"), (2, 10.0, "diverged"))
    )
    scene.stored([untouched, probe, wild])
    refining = scene.begin(None, 10)  # before anything was looked at
    refining([Lane(3, 0, np.full(10, 0.2), variant="refine")], 4, [0.7])
    scene.look()
    assert headline(scene).startswith("find: 2 probes (1 diverged), 1 training, ")
    scene.stored([replace(result(3, 0.2, [2.0] * 10, "finished", 0.6), variant="refine")])
    verifying = scene.begin(6, 10, settled=[0, 1, 2, 3])
    watch_reported(verifying, rows_of([Lane(4, 0, np.full(10, 0.2), variant="verify")], 4), 4, [0.7])
    scene.look()
    assert headline(scene).startswith("find: 2 probes (1 diverged), 1 of 3 trainings done, ")
    assert scene.share == pytest.approx((10 + 5) / 30)


def test_lanes_that_settled_before_count_as_done(clock: Clock) -> None:
    scene = Scene("grid", clock)
    scene.begin(4, 10, settled=[0, 1, 2])
    assert scene.share == 0.75
    assert headline(scene).startswith("grid: 3 of 4 trainings done")


def test_many_lanes_that_run_together_have_one_line(clock: Clock) -> None:
    scene = Scene("grid", clock)
    scene.begin(8, 10)([lane(n, 10.0**-n) for n in range(8)], 3, [float(n) for n in range(8)])
    scene.look()
    assert "  8 trainings run now: step 4 of 10, lr 1e-07 to 1, lowest loss 0" in [
        line.text for line in picture(scene, 80, 30, braille=True)
    ]


def test_a_training_shows_its_epoch_and_its_validation_loss(clock: Clock) -> None:
    scene = Scene("train", clock)
    watch = scene.begin(1, 100)
    scene.epoch_steps = 8
    watch([lane(0, 0.1, 100)], 19, [0.5])
    scene.evaluated(0, Evaluation(20, 0.625, None))
    watch([lane(0, 0.1, 100)], 20, [0.4])
    scene.look()
    lines = [line.text for line in picture(scene, 80, 30, braille=True)]
    assert "  training 1  lr 0.1  step 21 of 100  epoch 2.6  loss 0.4  val loss 0.625" in lines


def test_another_process_sees_the_same(grid: Scene, clock: Clock) -> None:
    other = Scene("grid", clock)
    other.restore(grid.progress())
    other.stored([result(0, 0.01, [2.0, 1.0], "finished", 0.9), result(1, 10.0, [2.0, 1e9], "diverged", 0.0)])
    other.look()
    assert picture(other, 80, 30, braille=True)[1:4] == picture(grid, 80, 30, braille=True)[1:4]


def test_losses_that_are_not_finite_can_be_sent_too(clock: Clock) -> None:
    scene = Scene("train", clock)
    scene.begin(1, 10)([lane(0, 0.1)], 3, [float("nan")])
    scene.evaluated(0, Evaluation(4, float("inf"), None))
    scene.look()
    sent = json.loads(json.dumps(scene.progress(), allow_nan=False))
    scene.restore(sent)
    assert sent["lanes"] == [["training", 0, 0, 0.1, 3, None]]


def test_a_curve_is_drawn_where_its_points_are() -> None:
    points = [(10.0**-k, float(k)) for k in (4, 3, 2, 1, 0)]
    above = [line[9:] for line in dots(points, 31, 5, x_name="lr", log_x=True, braille=False)[:5]]
    assert [line.index("*") for line in above] == [0, 5, 10, 15, 20]
    braille = dots([(1 + x / 100, x) for x in range(100)], 40, 6, x_name="lr", log_x=False, braille=True)
    assert sum("\u2800" <= char <= "\u28ff" for char in "".join(braille)) > 20
    assert dots([(1.0, 1.0), (2.0, float("nan"))], 40, 6, x_name="lr", log_x=True, braille=True) == []


PROGRAM = """
import sys, threading
import numpy as np
from lrfind.analysis.lanes import Lane
from lrfind.views import terminal
from lrfind.views.live import display
from lrfind.views.live.scene import Scene

display.EVERY_SECONDS = 0.01
scene, drawn = Scene("grid"), threading.Semaphore(0)
watch = scene.begin(3, 10)
try:
    with display.live_view(scene, lambda: (scene.look(), drawn.release()), first=0.0):
        for step in range(10):
            watch([Lane(0, 0, np.full(10, 0.1))], step, [1.0])
            terminal.note(f"note {step}: " + "a long text " * 6)
            sys.stderr.write(f"written {step}\\n")
            terminal.announce(f"announced {step}")
            drawn.acquire(timeout=10)
        for _ in range(3):
            drawn.acquire(timeout=10)
        if "interrupt" in sys.argv:
            raise KeyboardInterrupt
except KeyboardInterrupt:
    terminal.note("interrupted")
"""


def in_a_terminal(*arguments: str, **environment: str) -> tuple[str, Screen]:
    """Return what the program wrote to a terminal of 80 columns, and what is on it in the end."""
    ours, theirs = pty.openpty()
    env = {key: value for key, value in os.environ.items() if key not in ("CI", "COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=env | {"TERM": "xterm"} | environment
    )
    os.close(theirs)
    raw = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # on Linux, the end of a terminal is an error
            break
        if not part:
            break
        raw += part
    os.close(ours)
    assert process.wait() == 0, raw.decode()
    screen = Screen(80)
    screen.feed(raw.decode())
    return raw.decode(), screen


@pytest.mark.parametrize("arguments", [(), ("interrupt",)])
def test_notes_stand_above_the_view_and_nothing_of_it_stays(arguments: tuple[str, ...]) -> None:
    raw, screen = in_a_terminal(*arguments)
    assert "grid: 0 of 3 trainings" in raw
    assert "\x1b[32m" in raw
    left = [line for line in screen.lines if line != "interrupted"]
    words = ("note", "written", "announced")
    assert {f"{word} {n}" for word in words for n in range(10)} <= {
        " ".join(line.split(":")[0].split()) for line in left
    }
    assert all(line.startswith((*words, "  a long text", "  long text", "  text")) for line in left), left
    assert screen.cursor_visible


def test_no_color_is_respected_and_a_dumb_terminal_gets_no_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, _ = in_a_terminal(NO_COLOR="1")
    assert "grid: 0 of 3 trainings" in raw
    assert "\x1b[32m" not in raw
    from lrfind.views.live import display

    monkeypatch.setattr(display, "on_terminal", lambda stream: True)
    monkeypatch.delenv("CI", raising=False)
    for term, changes in (("xterm", True), ("dumb", False)):
        monkeypatch.setenv("TERM", term)
        assert display.can_change() == changes
