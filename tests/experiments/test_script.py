"""Scripts that nobody edits: what the hooks read is what a loop of our own computes at the same lr."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lrfind.analysis.curves import Array
from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.probe_search import ProbeSearch
from lrfind.errors import LrfindError, NoSuggestion, UsageError
from lrfind.experiments.script import run, starts
from lrfind.experiments.script.prober import Limits, ScriptProber
from lrfind.experiments.script.starts import Start, absolute_args, linked_names
from lrfind.problem.randomness import reseed
from lrfind.training.watch import unwatched
from tests.helpers.probers import Formula, descent, probed
from tests.helpers.scripts import Forked, section, started, written

MODEL = """
import torch
from torch import nn
x, y = torch.randn(48, 3), torch.randn(48, 1)
model = nn.Linear(3, 1)
batches = [*zip(x.split(8), y.split(8))]
"""
PLAIN = f"""{MODEL}
optimizer = torch.optim.SGD(model.parameters(), lr=3.0, momentum=0.5)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
for epoch in range(9):
    for inputs, targets in batches:
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        print(scheduler.get_last_lr()[0], optimizer.param_groups[0]["lr"])
"""


@pytest.fixture(autouse=True)
def _forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "Popen", Forked)


class Reference:
    """The model and the batches of MODEL, with the seed of the starts."""

    def __init__(self) -> None:
        reseed(0)
        self.x, self.y = torch.randn(48, 3), torch.randn(48, 1)
        self.model = nn.Linear(3, 1)
        self.batches = [*zip(self.x.split(8), self.y.split(8), strict=True)]

    def losses(self, optimizer: torch.optim.Optimizer, steps: int, accumulate: int = 1) -> list[float]:
        """Train as every tutorial does."""
        result = []
        for step in range(steps):
            batches = [self.batches[(step * accumulate + i) % 6] for i in range(accumulate)]
            optimizer.zero_grad()
            losses = [nn.functional.mse_loss(self.model(x), y) for x, y in batches]
            torch.stack(losses).mean().backward()
            optimizer.step()
            result.append(torch.stack(losses).mean().item())
        return result

    def sgd(self, lr: float, momentum: float = 0.0) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.model.parameters(), lr, momentum=momentum)


def test_a_loop_is_read_at_the_lr_of_the_probe_whatever_its_scheduler_does(tmp_path: Path) -> None:
    start = started(written(tmp_path, PLAIN), lr=0.05, steps=8)
    reference = Reference()
    assert start.losses == pytest.approx(reference.losses(reference.sgd(0.05, 0.5), 8), rel=1e-6)
    assert start.ended == "steps"
    about = {key: start.about[key] for key in ("optimizer", "momentum", "lr", "device", "note")}
    assert about == {"optimizer": "sgd", "momentum": 0.5, "lr": 3.0, "device": "cpu", "note": None}


def test_the_script_sees_its_own_lr_between_its_steps(tmp_path: Path) -> None:
    started(written(tmp_path, PLAIN), lr=0.05, steps=4)
    lines = (tmp_path / "train.log").read_text().splitlines()[1:4]
    assert lines == ["1.5 1.5", "0.75 0.75", "0.375 0.375"]


def test_at_lr_0_the_untouched_losses_are_read(tmp_path: Path) -> None:
    start = started(written(tmp_path, PLAIN), lr=0.0, steps=8)
    reference = Reference()
    assert start.losses == pytest.approx(reference.losses(reference.sgd(0.0), 8), rel=1e-6)
    assert start.refusal is None


def test_accumulated_batches_and_a_scaled_loss_are_one_step_with_their_mean(tmp_path: Path) -> None:
    code = f"""{MODEL}
optimizer, scaler = torch.optim.SGD(model.parameters(), lr=3.0), torch.amp.GradScaler("cpu")
for epoch in range(9):
    for number, (inputs, targets) in enumerate(batches):
        loss = nn.functional.mse_loss(model(inputs), targets)
        scaler.scale(loss / 2).backward()
        if number % 2:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
"""
    start = started(written(tmp_path, code), lr=0.05, steps=5)
    reference = Reference()
    expected = np.array(reference.losses(reference.sgd(0.05), 5, accumulate=2)) / 2
    assert start.losses == pytest.approx(expected, rel=1e-4)


def test_groups_and_optimizers_keep_their_ratios_and_a_gan_has_the_mean_of_both_losses(
    tmp_path: Path,
) -> None:
    code = f"""{MODEL}
other = nn.Linear(3, 1)
first = torch.optim.SGD([{{"params": [model.weight]}}, {{"params": [model.bias], "lr": 0.2}}], lr=0.1)
second = torch.optim.Adam(other.parameters(), lr=0.05)
for epoch in range(9):
    for inputs, targets in batches:
        for net, optimizer in ((model, first), (other, second)):
            optimizer.zero_grad()
            nn.functional.mse_loss(net(inputs), targets).backward()
            optimizer.step()
"""
    start = started(written(tmp_path, code), lr=0.01, steps=5)
    reference = Reference()
    other = nn.Linear(3, 1)
    expected = reference.losses(
        torch.optim.SGD(
            [{"params": [reference.model.weight]}, {"params": [reference.model.bias], "lr": 0.02}], 0.01
        ),
        5,
    )
    reference.model = other
    beside = reference.losses(torch.optim.Adam(other.parameters(), 0.005), 5)
    assert start.losses == pytest.approx((np.array(expected) + beside) / 2, rel=1e-5)
    assert start.others == [("Adam", 0.5)]
    assert start.about["mixed"]
    assert start.about["note"] is not None
    assert "1: 2x" in start.about["note"]


def scheduled_by_hand(course: str) -> str:
    """Return a script whose lr is a formula of the step."""
    return f"""{MODEL}
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(40):
    inputs, targets = batches[step % 6]
    optimizer.param_groups[0]["lr"] = {course}
    loss = nn.functional.mse_loss(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_the_first_steps_of_a_warmup_by_hand_have_lr_0_and_do_not_count(tmp_path: Path) -> None:
    start = started(written(tmp_path, scheduled_by_hand("0.1 * (step // 2)")), lr=0.05, steps=4)
    reference = Reference()
    reference.batches = reference.batches[2:]
    assert start.losses == pytest.approx(reference.losses(reference.sgd(0.05), 4), rel=1e-6)


@pytest.mark.parametrize(("course", "lr"), [("0.1 / (1 + step)", 0.1), ("0.1 * (1 + step)", None)])
def test_the_own_lr_of_a_script_is_unknown_if_it_rises_later(
    course: str, lr: float | None, tmp_path: Path
) -> None:
    assert started(written(tmp_path, scheduled_by_hand(course)), steps=3).about["lr"] == lr


def test_starts_are_compared_by_the_losses_before_any_update(tmp_path: Path) -> None:
    code = f"""{MODEL}
other = nn.Linear(1, 1)
first, second = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (model, other))
for inputs, targets in batches:
    for net, optimizer in ((model, first), (lambda x: other(model(x)), second)):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(inputs), targets).backward()
        optimizer.step()
"""
    still, moved = (started(written(tmp_path, code), lr=lr, steps=2) for lr in (0.0, 0.3))
    reference = Reference()
    assert still.about["before_updates"] == pytest.approx(
        nn.functional.mse_loss(reference.model(reference.x[:8]), reference.y[:8]).item()
    )
    assert moved.about["before_updates"] == still.about["before_updates"]
    assert moved.losses[0] != pytest.approx(still.losses[0], rel=1e-3)  # the second loss is after an update
    broken = started(
        written(tmp_path, code.replace("backward()", "mul(torch.inf).backward()")), lr=0.3, steps=1
    )
    assert broken.about["before_updates"] is None


STAGES = f"""{MODEL}
for stage in range(9):
    model = MODEL
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for inputs, targets in batches:
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.itself = optimizer
"""


def test_an_optimizer_that_is_made_anew_for_the_same_weights_goes_on(tmp_path: Path) -> None:
    start = started(written(tmp_path, STAGES.replace("MODEL", "model")), lr=0.05, steps=14)
    reference = Reference()
    assert start.losses == pytest.approx(reference.losses(reference.sgd(0.05), 14), rel=1e-6)
    assert start.others == []


def test_a_step_that_goes_on_after_that_of_its_base_class_has_the_lr_of_the_probe(tmp_path: Path) -> None:
    code = PLAIN.replace("torch.optim.SGD", "Decayed").replace(
        MODEL,
        f"""{MODEL}
class Decayed(torch.optim.SGD):
    def step(self, closure=None):
        super().step()
        for weight in self.param_groups[0]["params"]:
            weight.data *= 1 - self.param_groups[0]["lr"]
""",
    )
    start = started(written(tmp_path, code), lr=0.0)
    assert start.losses == started(written(tmp_path, PLAIN), lr=0.0).losses


def test_the_training_of_another_model_is_not_read(tmp_path: Path) -> None:
    start = started(written(tmp_path, STAGES.replace("MODEL", "nn.Linear(3, 1)")), steps=14)
    assert (len(start.losses), start.ended, start.others) == (6, "finished", [("SGD", 1.0)])
    loop = PLAIN[len(MODEL) :].replace("optimizer", "second").replace("in range(9)", "in range(30)")
    code = PLAIN.replace("in range(9)", "in range(2)") + loop.replace("lr=3.0", "lr=3e4")
    start = started(written(tmp_path, code), lr=0.05, steps=14)
    reference = Reference()
    assert start.losses == pytest.approx(reference.losses(reference.sgd(0.05, 0.5), 12), rel=1e-6)
    assert start.ended == "finished"
    with pytest.raises(UsageError, match="training with the first optimizer ends after 6 steps; a probe"):
        prober(lambda *_: Start([1.0] * 6, others=[("SGD", 1.0)], ended="finished")).begin()


def test_of_a_closure_the_first_call_counts(tmp_path: Path) -> None:
    code = f"""{MODEL}
optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=3)
def closure():
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x), y)
    loss.backward()
    return loss
for epoch in range(90):
    optimizer.step(closure)
"""
    start = started(written(tmp_path, code), lr=0.3, steps=4)
    reference = Reference()
    optimizer, expected = torch.optim.LBFGS(reference.model.parameters(), lr=0.3, max_iter=3), []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(reference.model(reference.x), reference.y)
        loss.backward()
        return loss

    for _ in range(4):
        expected.append(nn.functional.mse_loss(reference.model(reference.x), reference.y).item())
        optimizer.step(closure)
    assert start.losses == pytest.approx(expected, rel=1e-5)
    assert started(tmp_path / "train.py", lr=0.0, steps=3).losses == pytest.approx([expected[0]] * 3)


def test_a_script_that_catches_everything_ends_all_the_same(tmp_path: Path) -> None:
    code = PLAIN.replace("for epoch in range(9):", "import itertools\nfor epoch in itertools.count():").replace(
        "        loss =", "      try:\n        loss ="
    ) + "      except BaseException:\n        pass\n"  # fmt: skip
    assert len(started(written(tmp_path, code), lr=0.05).losses) == 6


def test_skorch_is_read_through_its_closures(tmp_path: Path) -> None:
    code = f"""{MODEL}
from skorch import NeuralNetRegressor
torch.manual_seed(5)
net = NeuralNetRegressor(nn.Linear(3, 1), lr=0.5, batch_size=8, max_epochs=9, train_split=None, verbose=0)
net.fit(x, y)
"""
    start = started(written(tmp_path, code), lr=0.05, steps=6)
    reference = Reference()
    torch.manual_seed(5)
    reference.model = nn.Linear(3, 1)
    assert start.losses == pytest.approx(reference.losses(reference.sgd(0.05), 6), rel=1e-6)


def test_accelerate_is_read_through_its_wrapped_optimizer(tmp_path: Path) -> None:
    code = PLAIN.replace("loss.backward()", "accelerator.backward(loss)").replace(
        "scheduler =", "from accelerate import Accelerator\naccelerator = Accelerator(cpu=True)\n"
        "model, optimizer = accelerator.prepare(model, optimizer)\nscheduler =",
    )  # fmt: skip
    start = started(written(tmp_path, code), lr=0.05, steps=6)
    reference = Reference()
    assert start.losses == pytest.approx(reference.losses(reference.sgd(0.05, 0.5), 6), rel=1e-6)


REFUSED = {
    "no `backward` is called": f"""{MODEL}
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
while True:
    loss = nn.functional.mse_loss(model(x), y)
    for weight, gradient in zip(model.parameters(), torch.autograd.grad(loss, [*model.parameters()])):
        weight.grad = gradient
    optimizer.step()
""",
    "change weights although the lr": f"""
import torch
class Stubborn(torch.optim.SGD):
    def step(self, closure=None):
        super().step()
        self.param_groups[0]["params"][0].data -= 0.001
{PLAIN.replace("torch.optim.SGD", "Stubborn")}""",
    "in several processes": "import torch\ntorch.multiprocessing.spawn(print, nprocs=2)",
    "every param group of its optimizer has lr 0": PLAIN.replace("lr=3.0", "lr=0.0"),
}


def test_weights_may_change_between_the_steps_at_lr_0(tmp_path: Path) -> None:
    code = """
import torch
from torch import nn
embedding, words = nn.Embedding(100, 3, max_norm=1.0), torch.randperm(100)
optimizer = torch.optim.SGD(embedding.parameters(), lr=0.1)
for number in range(10):
    loss = embedding(words[10 * number : 10 * number + 10]).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
    start = started(written(tmp_path, code), lr=0.0, steps=9)
    assert (start.refusal, len(start.losses)) == (None, 9)


@pytest.mark.parametrize("reason", REFUSED)
def test_a_script_that_cannot_be_read_says_why(reason: str, tmp_path: Path) -> None:
    start = started(written(tmp_path, REFUSED[reason]), lr=0.0)
    assert start.refusal is not None
    assert reason in start.refusal


def test_a_failing_script_shows_the_end_of_its_output(tmp_path: Path) -> None:
    code = PLAIN.replace("scheduler.step()", "raise ValueError('no more data')")
    start = started(written(tmp_path, code))
    assert (start.ended, len(start.losses)) == ("failed", 1)
    assert start.output.endswith("ValueError: no more data")
    assert "child.py" not in start.output
    usage = started(written(tmp_path, "import argparse; argparse.ArgumentParser().parse_args()"), "--typo")
    assert (usage.ended, usage.losses) == ("failed", [])
    assert "unrecognized arguments: --typo" in usage.output


def test_a_failing_script_is_heard_although_it_writes_its_output_to_a_file(tmp_path: Path) -> None:
    begin = "import sys; sys.stdout = sys.stderr = open('log', 'w');"
    start = started(written(tmp_path, f"{begin} raise ValueError('no more data')"))
    assert start.output.endswith("ValueError: no more data")
    assert started(written(tmp_path, f"{begin} sys.exit('no data')")).output == "  no data"


@pytest.mark.parametrize(
    ("message", "advised"),
    [
        ("FileNotFoundError: data/rows.csv not found.", True),
        ("File ./data/rows.csv does not exist", True),
        ("cannot open `{os.path.abspath('data/rows.csv')}`", True),
        ("ModuleNotFoundError: No module named 'data.rows'", True),
        ("ModuleNotFoundError: No module named 'nothing'", False),
        ("KeyError: 'data'", False),
        ("train.py: error: unrecognized arguments ./ ...", False),
        ("{os.path.exists('other') or 'other/rows.csv is empty'}", False),
    ],
)
def test_a_script_that_misses_a_file_is_told_how_to_link_it(
    message: str, advised: bool, tmp_path: Path
) -> None:
    for folder in ("data", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.csv").touch()
    code = f'import os, sys; sys.exit(f"{message}")'
    start = started(written(tmp_path, code), links=["other"])
    assert ("give --link data, or --here" in start.output) == advised
    assert ("--link" in start.output) == advised


def test_a_start_without_a_step_for_too_long_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no optimizer step for 0.001 minutes .* larger --wait"):
        started(written(tmp_path, "while True: pass"), wait=0.001)


def test_a_real_process_is_seeded_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # no fork
    code = (
        f"import beside, sys; print(*sys.argv[1:]); open('left.txt', 'w'); open(sys.argv[1]).close()\n{PLAIN}"
    )
    written(tmp_path, "", "beside.py")
    (tmp_path / "rows.csv").touch()
    start = started(written(tmp_path, code), "rows.csv", lr=0.05, steps=6)
    reference = Reference()
    assert start.losses == pytest.approx(reference.losses(reference.sgd(0.05, 0.5), 6), rel=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "beside.py", "rows.csv", "train.log", "train.py",
    ]  # fmt: skip


def test_arguments_that_name_files_are_found_from_the_scratch_directory(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "rows.csv").touch()
    script = section(
        tmp_path / "train.py", "data", "--rows=rows.csv", "../x", "resnet", "--data=data", "data/../rows.csv"
    )
    rows = str(tmp_path / "rows.csv")
    assert absolute_args(script) == [
        "data", f"--rows={rows}", "../x", "resnet", "--data=data", f"{tmp_path}/data/../rows.csv",
    ]  # fmt: skip
    assert linked_names(script) == ["data"]
    assert [*absolute_args(script.model_copy(update={"here": True}))] == [*script.args]


class Scripted:
    """Stands in for starts: the losses of an lr are a formula, and starts are counted."""

    def __init__(self, loss: Callable[[float, Array], Array], *, ahead: int = 0, length: int = 10**6) -> None:
        self.loss, self.ahead, self.length = loss, ahead, length
        self.starts: list[tuple[float, int]] = []

    def __call__(
        self, lr: float, steps: int, most: int, ceiling: Array, watch: Callable[[int, float], None]
    ) -> Start:
        self.starts.append((lr, steps))
        count = min(steps + self.ahead, most, self.length)
        start = Start(ended="finished" if count == self.length else "stopped", until_first=1.0, seconds=2.0)
        for step, loss in enumerate(self.loss(lr, np.arange(count)).tolist()):
            start.losses.append(loss)
            start.about = {"before_updates": start.losses[0]}
            watch(step, loss)
            if starts.above(loss, step, ceiling):
                start.ended = "stopped"
                break
        return start


def prober(run: Callable[..., Start], kept: list[LaneResult] | None = None, **settings: Any) -> ScriptProber:
    keep = (lambda lane: None) if kept is None else kept.append
    limits = settings.pop("limits", Limits(10**6))
    return ScriptProber(
        run, 0, limits, longest=settings.pop("longest", 128), watch=unwatched, keep=keep, **settings
    )


def noisy(lr: float, step: Array) -> Array:
    """A loss that needs 64 steps to fall beyond the noise between its batches."""
    with np.errstate(over="ignore"):
        slow: Array = np.exp(-lr * step / 30) + lr**2 * np.expm1(step * min(lr, 50.0)) * 1e-4
    return slow + 0.3 * np.sin(9.0 * step)


@pytest.mark.parametrize(("loss", "start"), [(descent(3.0), 0.1), (noisy, 0.01)], ids=["quick", "slow"])
@pytest.mark.parametrize("ahead", [0, 20, 128])
def test_the_search_is_that_of_find_and_steps_ahead_only_save_starts(
    loss: Callable[[float, Array], Array], start: float, ahead: int
) -> None:
    run = Scripted(loss, ahead=ahead)
    scripted = prober(run)
    scripted.begin()
    result = ProbeSearch(scripted).run(start)
    expected = probed(Formula(loss), start)
    assert result.scores == pytest.approx(expected.scores)
    assert [*result.probes] == [*expected.probes]
    assert scripted.spent.starts == len(run.starts)
    if ahead == 128:
        assert len(run.starts) == len({lr for lr, _ in run.starts})


def test_a_resumed_search_starts_nothing_twice() -> None:
    kept: list[LaneResult] = []
    first = prober(Scripted(noisy), kept)
    first.begin()
    result = ProbeSearch(first).run(0.01)
    lanes = {lane.lane: lane for lane in kept}  # the last one of each, as a run keeps them
    run = Scripted(noisy)
    again = prober(run, known=[*lanes.values()], about=first.about, spent=first.spent)
    again.begin()
    assert ProbeSearch(again).run(0.01).scores == pytest.approx(result.scores)
    assert run.starts == []
    assert [lane.outcome for lane in again.lanes([])] == ["finished"] * len(lanes)


def test_a_script_that_draws_from_the_time_is_refused() -> None:
    drawn = iter(np.random.default_rng(0).standard_normal(10**4))
    scripted = prober(Scripted(lambda lr, step: np.array([next(drawn) for _ in step])))
    scripted.begin()
    with pytest.raises(NoSuggestion, match="cannot be compared, because two untouched runs differ at step 0"):
        scripted.check_repeats()
    with pytest.raises(NoSuggestion, match="the first loss of two starts differs"):
        scripted.probe([0.1], 16, np.full(16, 99.0))


def test_probes_are_no_longer_than_the_script() -> None:
    scripted = prober(Scripted(noisy, length=20))
    scripted.begin()
    assert ProbeSearch(scripted, longest=scripted.longest).run(0.01).steps <= 20
    with pytest.raises(UsageError, match="ends after 5 steps; a probe needs at least 8"):
        prober(Scripted(noisy, length=5)).begin()


def test_a_script_that_fails_at_a_high_lr_counts_as_blown_up_and_at_lr_0_as_failed() -> None:
    def run(lr: float, steps: int, most: int, ceiling: Array, watch: Any) -> Start:
        failed = lr > 0.2
        losses = descent(3.0)(lr, np.arange(3 if failed else steps)).tolist()
        return Start(losses, ended="failed" if failed else "stopped", output="  ValueError: nan")

    scripted = prober(run)
    scripted.begin()
    result = ProbeSearch(scripted).run(0.1)
    assert result.probes[result.best].lr < 0.2
    assert any(probe.stopped for probe in result.probes.values())
    assert any(
        "ended by itself after 3 steps" in note and "ValueError: nan" in note for note in scripted.notes
    )
    with pytest.raises(LrfindError, match=r"(?s)the script failed before its first step.*no such file"):
        prober(lambda *_: Start([], ended="failed", output="  no such file")).begin()


@pytest.mark.parametrize(("ended", "aimed"), [("finished", True), ("failed", False)])
def test_a_script_that_stops_where_its_loss_is_low_enough_is_told_to_go_on(ended: str, aimed: bool) -> None:
    def run(lr: float, steps: int, most: int, ceiling: Array, watch: Any) -> Start:
        losses = descent(3.0)(lr, np.arange(steps)).tolist()
        return Start(losses[:3], ended=ended) if lr else Start(losses, ended="stopped")

    scripted = prober(run)
    scripted.begin()
    scripted.probe([0.1], 16, np.full(16, 99.0))
    assert ("Otherwise the answer is too low" in scripted.notes[0]) == aimed


def test_seconds_limit_the_starts() -> None:
    scripted = prober(Scripted(noisy), limits=Limits(800, seconds=12.0))
    scripted.begin()
    assert ProbeSearch(scripted).run(0.01).cut
    assert scripted.spent.seconds <= 14.0


def test_the_notes_count_optimizers_and_warn_of_losses_that_work_against_each_other() -> None:
    scripted = prober(Scripted(noisy))
    scripted.about |= {
        "optimizer": "adam",
        "note": None,
        "others": [("Adam", 1.0), ("Adam", 1.0), ("SGD", 3.0)],
    }
    (note,) = run._notes(scripted, 300)
    assert "4 optimizers" in note
    assert note.endswith("the others: Adam at 1x (2 of them), SGD at 3x.")
    scripted.about["mixed"] = True
    assert "as in a GAN" in run._notes(scripted, 300)[1]


def test_a_script_without_an_optimizer_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="no step of a torch optimizer after a `backward` was seen"):
        prober(lambda *_: Start([], ended="finished")).begin()
