"""`lrfind find`, and what other commands make of its runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lrfind.config.experiment import check
from lrfind.runs.store import Run
from lrfind.training.run import run_lane
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, summary_of

KEYS = {
    "schema_version", "command", "run", "import_root", "answer", "probing_ended", "cost", "training", "schedule", "probes", "groups", "refinement",
    "verification", "lanes",
    "warnings", "notes", "data", "health",
}  # fmt: skip
NOTHING = ("--set", "loss='nothing:loss'", "--import-root", ".")


@pytest.fixture
def nothing() -> None:
    """A loss that no rate lowers, in the working directory."""
    Path("nothing.py").write_text("def loss(output, y):\n    return 0 * output.sum() + 1\n")


def test_a_find_tells_the_rate_and_leaves_a_whole_run(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--out", "run") == 0
    assert lrfind.out.startswith("Learning rate: ")
    assert "for 20 steps of sgd, constant schedule" in lrfind.out
    assert "against untouched model" in lrfind.out
    assert "run `lrfind resume run` to continue." in lrfind.err
    files = {path.name for path in Path("run").iterdir()}
    assert {"find.png", "find.svg", "summary.json", "best.yaml", "lanes.csv", "steps.csv"} <= files
    told = lrfind.out
    assert lrfind("resume", "run") == 0
    assert lrfind.out == told


def test_json_is_the_summary_and_the_snippet_is_a_key_of_it(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--out", "run", "--json", "-q", "--snippet", "--steps", 50) == 0
    assert lrfind.err == ""
    summary = json.loads(lrfind.out)
    lr = summary["answer"]["lr"]
    assert f"{lr:.3g}" in summary.pop("snippet")
    assert {*summary} == KEYS
    assert summary == json.loads(Path("run/summary.json").read_text())
    names = ["lr", "low", "high", "confidence", "risk", "reason", "method", "method_version"]
    assert [*summary["answer"]] == names
    assert summary["training"]["steps"] == 50
    assert lrfind("find", config, "--out", "other", "--snippet", "-q") == 0
    assert "torch.optim.SGD(" in lrfind.out


def test_the_rate_of_a_find_is_what_every_command_tells_of_its_run(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--out", "runs/run", "--json", "-q") == 0
    found = json.loads(lrfind.out)["answer"]
    for method in ((), ("--method", "find")):
        assert lrfind("suggest", "runs/run", "--json", *method) == 0
        assert json.loads(lrfind.out)["answer"] == found
    assert lrfind("suggest", "runs/run") == 0
    assert lrfind.out.startswith(f"Learning rate: {found['lr']:.3g}")
    assert lrfind("status", "runs/run", "--json") == 0
    state = json.loads(lrfind.out)
    assert (state["command"], state["state"], state["answer"]["lr"]) == ("find", "finished", found["lr"])
    assert state["lanes"]["settled"] == state["lanes"]["planned"]
    assert lrfind("runs") == 0
    assert f"{found['lr']:.3g}" in lrfind.out
    Path("runs/run/find.png").unlink()
    assert lrfind("plot", "runs/run") == 0
    assert Path("runs/run/find.png").exists()


@pytest.mark.rendered
def test_the_plot_of_one_find_goes_where_it_is_told(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--out", "run", "-q") == 0
    Path("run/find.png").rename("before.png")
    assert lrfind("plot", "run", "--out", "x.png") == 0
    assert lrfind.out == "wrote x.png\nwrote x.svg\n"
    assert Path("x.png").read_bytes() == Path("before.png").read_bytes()
    assert not Path("run/find.png").exists()
    assert lrfind("plot", "run", "run") == 2
    assert "cannot be laid over others; `lrfind plot run` draws it by itself" in lrfind.err


def test_a_method_that_does_not_read_what_a_run_has_is_told(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--out", "probes", "-q") == 0
    assert lrfind("range-test", config, "--out", "ramp", "-q") == 0
    assert lrfind("suggest", "probes", "--method", "steepest") == 2
    assert "steepest reads a curve over rates; `lrfind range-test` makes one" in lrfind.err
    assert lrfind("suggest", "ramp", "--method", "find") == 2
    assert (
        "'ramp' is not the run of a find: the method find reads probes at constant rates, which `lrfind find`"
        in lrfind.err
    )


def test_verified_rates_are_trained_and_a_refusal_is_exit_3_and_still_json(
    lrfind: Command, config: Path, nothing: None
) -> None:
    assert (
        lrfind("find", config, "--verify", "--verify-seeds", 1, "--verify-share", 0.5, "--out", "run", "-q")
        == 0
    )
    assert "Verified with trainings of 10 steps" in lrfind.out
    assert lrfind("find", config, *NOTHING, "--verify", "--out", "refused", "--json", "-q") == 3
    summary = json.loads(lrfind.out)
    assert {*summary} == KEYS
    assert summary["answer"]["lr"] is None
    assert "No rate changes the loss" in summary["answer"]["reason"]
    assert summary["verification"]["trainings"] == []
    assert not Path("refused/best.yaml").exists()
    assert lrfind("suggest", "refused") == 3
    assert lrfind.out.startswith("No learning rate: ")
    assert lrfind("resume", "refused", "-q") == 3


def test_five_times_the_answer_is_trained_too_where_it_is_asked_for(lrfind: Command, config: Path) -> None:
    options = ("--verify-seeds", 1, "--out", "run", "-q", "--json")
    assert lrfind("find", "--verify", 5, config, *options) == 0
    verification = json.loads(lrfind.out)["verification"]
    lrs = sorted({row["lr"] for row in verification["trainings"]})
    assert lrs == pytest.approx([verification["of"] * factor for factor in (1 / 3, 1, 3, 5)], rel=0.01)
    assert "At 5 times it, " in verification["reason"]
    assert lrfind("find", "--verify", 2, config) == 2
    assert "must be greater than 3; found 2" in lrfind.err


def test_a_dry_run_says_what_a_find_costs_and_trains_nothing(lrfind: Command, config: Path) -> None:
    assert lrfind("find", "--verify", config, "--dry-run", "--steps", 50) == 0
    assert lrfind.out == (
        "find would look for the learning rate of 50 steps of sgd, constant schedule:\n"
        "plan: at most 200 gradient steps of probing (usually about 100), then 9\n"
        "  trainings of 50 steps; at most 650 steps in all\n"
        "Nothing was trained.\n"
    )
    assert lrfind("find", config, "--dry-run", "--budget", 64, "--json") == 0
    assert json.loads(lrfind.out)["cost"] == {
        "probing": 64, "trainings": 0, "training_steps": 20, "groups": 0, "budget": 64, "seconds": None,
    }  # fmt: skip
    assert not Path("runs").exists()
    assert lrfind("find", config, "--out", "run", "--verify", "--verify-seeds", 1) == 0
    assert "then 3 trainings of 20 steps" in lrfind.err


def test_a_rate_moves_with_its_plan_or_is_refused(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--out", "run", "-q", "--json", "--steps", 200) == 0
    lr = json.loads(lrfind.out)["answer"]["lr"]
    best = Path("run/best.yaml").read_text()
    assert best.startswith("# The lr is for 200 steps of sgd, at a constant lr.\n# `lrfind train --from run")
    assert check(best).optimizer.lr == lr

    def rate_of(out: str) -> float:
        return Run.open(Path(out)).experiment.optimizer.lr

    # The length of the config, 20 steps, counts as 100, the shortest that the model was fitted for.
    assert lrfind("train", "--from", "run", "--out", "same", "-q") == 0
    assert rate_of("same") == lr
    assert lrfind("train", "--from", "run", "--steps", 100, "--out", "shorter") == 0
    # Both plans pass over the few rows of the data at least 100 times.
    assert rate_of("shorter") == pytest.approx(lr * 2 ** (0.6 + 0.9), rel=0.01)
    said = (
        f"The rate {lr:.3g} was found for 200 steps. For 100 steps, lrfind raises it to"
        f" {rate_of('shorter'):.3g}. To train at {lr:.3g}, give the config run/best.yaml instead of --from."
    )
    assert said in lrfind.err
    assert f"note: {said}" in lrfind.text  # also with -q, and in JSON
    assert lrfind("train", config, "--from", "run", "--out", "by_config", "-q") == 0
    assert rate_of("by_config") == rate_of("shorter")
    for option, words in (
        ("optimizer.name=adam", "found a rate for sgd, not for adam"),
        ("data.batch_size=8", "not for batch_size 8 and accumulate 1"),
        ("training.accumulate=2", "not for batch_size full and accumulate 2"),
    ):
        assert lrfind("train", "--from", "run", "--set", option, "-q", "--out", "refused") == 2
        assert words in lrfind.err


def test_a_config_without_a_training_says_for_how_many_steps_the_rate_is(
    lrfind: Command, config: Path
) -> None:
    config.write_text(LINEAR.replace("training: {steps: 20}\n", ""))
    assert lrfind("find", config, "--out", "run") == 0
    said = "The config has no `training`, so the rate is for 100 steps."
    assert said in lrfind.err
    assert f"note: {said}" in lrfind.text
    assert lrfind("find", config, "--steps", 20, "--dry-run") == 0
    assert said not in lrfind.err


def test_a_find_that_was_interrupted_is_resumed(
    lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(
            "lrfind.experiments.prober.LaneProber._train_single",
            lambda *_: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        assert lrfind("find", config, "--out", "run", "-q") == 130
    assert "Run `lrfind resume run` to continue." in lrfind.err
    assert lrfind("status", "run") == 0
    assert "unfinished" in lrfind.out
    assert lrfind("suggest", "run") == 3
    assert "probing has not ended" in lrfind.out
    assert lrfind("resume", "run", "-q", "--json") == 0
    assert json.loads(lrfind.out) == summary_of(Run.open(Path("run")))


def test_what_probing_may_take_is_an_option(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--budget", 5) == 2
    assert "--budget:1:" in lrfind.err
    assert "must be a number of steps from 16" in lrfind.err
    assert lrfind("find", config, "--budget", "4y") == 2
    assert "such as 4x, at most 100x; found '4y'" in lrfind.err
    assert lrfind("find", config, "--budget", "") == 2
    assert "--budget:1:10: error: there is no value; give one, or leave this option out" in lrfind.err
    assert lrfind("train", "--from", "") == 2
    assert "'--from': there is no path; give one, or leave this option out" in lrfind.err
    assert lrfind("find", config, "--budget", "0.001x", "--dry-run") == 2
    assert "it must be at least 16 for 1 seed" in lrfind.err
    assert not Path("runs").exists()
    assert lrfind("find", config, "--budget", 40, "--json", "-q") == 0
    summary = json.loads(lrfind.out)
    assert summary["cost"] <= 40
    assert summary["warnings"] == []  # a larger budget would pay for longer probes first
    assert lrfind("find", config, "--budget", 96, "--json", "-q") == 0
    (warning,) = json.loads(lrfind.out)["warnings"]
    least = re.search(r"left \d+ steps of the budget of 96, .*; a budget of (\d+) steps", warning)
    assert least
    for budget, refined in ((int(least[1]) - 1, False), (int(least[1]), True)):
        assert lrfind("find", config, "--budget", budget, "--json", "-q") == 0
        assert (json.loads(lrfind.out)["refinement"] is not None) is refined
    assert lrfind("find", config, "--max-seconds", 1e-9, "--json", "-q") == 3
    assert "does not allow a single probe" in json.loads(lrfind.out)["answer"]["reason"]


def test_a_larger_budget_refines_the_answer_with_trainings(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--steps", 100, "-q", "--json", "--out", "probed") == 0
    probed = json.loads(lrfind.out)
    assert probed["refinement"] is None
    plan = ("find", config, "--steps", 100, "--budget", "6x")
    assert lrfind(*plan, "--dry-run") == 0
    assert "plan: at most 600 gradient steps: probes, then trainings that refine the rate" in lrfind.text
    assert lrfind(*plan, "--out", "refined") == 0
    assert "Refined with " in lrfind.out
    summary = summary_of(Run.open(Path("refined")))
    refinement = summary["refinement"]
    assert (refinement["of"], refinement["steps"]) == (probed["answer"]["lr"], 100)
    assert summary["probes"] == probed["probes"]
    assert summary["cost"] + sum(row["steps"] for row in refinement["trainings"]) <= 600
    ended = {row["lr"]: row["val_loss"] for row in refinement["trainings"] if row["val_loss"] is not None}
    assert min(ended) <= summary["answer"]["lr"] <= max(ended)
    assert f"lr {min(ended, key=ended.__getitem__):.3g} ended lowest" in summary["answer"]["reason"]
    assert summary["lanes"]["settled"] == summary["lanes"]["planned"]
    assert lrfind("status", "refined") == 0
    for what, rows in (("probes", summary["probes"]), ("trainings", refinement["trainings"])):
        assert f"{what}: {len(rows)} of {len(rows)} " in lrfind.out
    assert lrfind("train", "--from", "refined", "-q", "--json") == 0
    assert json.loads(lrfind.out)["answer"]["lr"] == summary["answer"]["lr"]


def test_a_budget_in_seconds_is_spent_on_trainings_too(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--steps", 100, "--max-seconds", 60, "-q", "--json") == 0
    assert json.loads(lrfind.out)["refinement"]["steps"] == 100


def test_trainings_that_refine_and_were_interrupted_go_on_to_the_same_answer(
    lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ("find", config, "--steps", 100, "--budget", "6x", "--verify", "-q", "--json")
    assert lrfind(*plan, "--out", "whole") == 0
    whole = json.loads(lrfind.out)
    calls = 0

    def third(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return run_lane(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr("lrfind.experiments.refine.run_lane", third)
        assert lrfind(*plan, "--out", "cut") == 130
    assert lrfind("status", "cut") == 0
    cut = summary_of(Run.open(Path("cut")))
    assert cut["answer"]["lr"] == whole["refinement"]["of"]
    assert (len(cut["refinement"]["trainings"]), cut["refinement"]["ended"]) == (2, False)
    assert lrfind("resume", "cut", "-q", "--json") == 0
    assert json.loads(lrfind.out) | {"run": None} == whole | {"run": None}
