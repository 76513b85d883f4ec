"""Samplers of a user's own, and those of other libraries in docs/samplers.md, in whole searches."""

from __future__ import annotations

import math
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lrfind.config.document import ConfigError
from lrfind.config.experiment import check
from lrfind.config.imports import ImportPolicy, imports_limited_to
from lrfind.errors import UsageError
from lrfind.experiments.samplers import Trial, grid
from lrfind.problem.components import import_names
from lrfind.runs.store import Run
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, conduct, start

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/samplers.md").read_text(encoding="utf-8")
HALVES, *RECIPES = re.findall(r"^```python [^\n]*\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
FILES = ("hyperopt_tpe", "nevergrad_search")
SEARCH = ("search.trials=6", "search.batch=2", "search.seeds=1", "search.lanes=single", "search.low=1e-4")


@pytest.fixture
def module(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a sampler, which is imported anew in every test."""
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return here / "mine.py"


def write(module: Path, body: str, arguments: str = "low, high, history, count, seed") -> None:
    sys.modules.pop("mine", None)
    module.write_text(f"def propose({arguments}):\n    {body}\n")
    # two files that are written within a second and have one size would share their bytecode
    for compiled in module.parent.glob("__pycache__/mine.*"):
        compiled.unlink()


def lrs_of(run: Run) -> list[float]:
    return [lane.peak for lane in run.plan()]


def test_the_page_shows_the_examples_as_they_are() -> None:
    assert [(ROOT / f"examples/samplers/{name}.py").read_text() for name in FILES] == RECIPES
    assert {path.stem for path in (ROOT / "examples/samplers").glob("*.py")} == set(FILES)


@pytest.mark.parametrize("name", ["halves", *FILES])
def test_a_resumed_search_asks_for_the_same_lrs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halves.py").write_text(HALVES)
    for folder in (tmp_path, ROOT / "examples/samplers"):
        monkeypatch.syspath_prepend(str(folder))
    options = (*SEARCH, f"search.sampler='{name}:propose'")
    calm = start(tmp_path / "calm", "search", *options)
    conduct(calm)

    def interrupt(lanes: list[object], step: int, losses: list[float]) -> None:
        if len(cut_off.outcomes()) == 3:
            raise KeyboardInterrupt

    cut_off = start(tmp_path / "cut", "search", *options)
    with pytest.raises(KeyboardInterrupt):
        conduct(cut_off, lambda count, steps: interrupt)
    assert len(cut_off.plan()) == 4
    again = Run.open(cut_off.path)
    conduct(again)
    assert lrs_of(again) == lrs_of(calm)
    assert len({*lrs_of(calm)}) == 6
    assert all(1e-4 <= lr <= 1 for lr in lrs_of(calm))
    other = start(tmp_path / "other", "search", *options, "seed=1")
    conduct(other)
    assert not {*lrs_of(other)} & {*lrs_of(calm)}


@pytest.mark.parametrize("centre", [-3.8, -1.2])
def test_hyperopt_goes_where_the_loss_is_low(centre: float) -> None:
    propose = runpy.run_path(str(ROOT / "examples/samplers/hyperopt_tpe.py"))["propose"]
    history = [Trial(lr, (math.log10(lr) - centre) ** 2) for lr in grid(1e-5, 1, 30)]
    away = np.abs(np.log10(propose(1e-5, 1.0, history, 8, 0)) - centre)
    assert np.median(away) < 0.5  # about 1.5 if uniform


BAD = {
    "a NaN": ("return [1e-2, float('nan')][:count]", "proposed the lr nan, which is not between low (0.0001) and high (1)"),
    "a negative lr": ("return [-0.01] * count", "proposed the lr -0.01, which is not between"),
    "an lr out of range": ("return [2] * count", "proposed the lr 2, which is not between"),
    "too few": ("return []", "was asked for 2 lrs and returned 0."),
    "nothing": ("return None", "TypeError: 'NoneType' object is not iterable"),
    "no numbers": ("return ['low'] * count", "ValueError: could not convert string to float: 'low'"),
    "an error": ("raise KeyError('lr')", "mine.py:2, in propose: if history: raise KeyError('lr')"),
    "an exit": ("raise SystemExit(0)", "failed when it was asked for 2 lrs: SystemExit: 0"),
}  # fmt: skip
GOOD = "return [low * (high / low) ** ((len(history) + i + 1) / 9) for i in range(count)]"


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD)
def test_a_sampler_that_fails_is_refused_and_the_lanes_are_kept(
    body: str, message: str, lrfind: Command, config: Path, module: Path
) -> None:
    write(module, f"if history: {body}\n    {GOOD}")
    line = ["search", config, "--sampler", "mine:propose", "-q", *(w for o in SEARCH for w in ("--set", o))]
    assert lrfind(*line, "--out", "run", "--import-root", ".") == 2
    assert "the sampler 'mine:propose' " in lrfind.err
    assert message in lrfind.err
    assert "The lanes so far are kept; after a change, run `lrfind resume run --import-root" in lrfind.err
    run = Run.open(Path("run"))
    assert [*run.outcomes().values()] == ["finished"] * 2
    first = lrs_of(run)
    write(module, GOOD)
    assert lrfind("resume", "run", "--import-root", ".", "-q") == 0, lrfind.err
    lanes = pd.read_csv("run/lanes.csv")
    assert [*lanes.lr] == pytest.approx([1e-4 * 1e4 ** (i / 9) for i in range(1, 7)])
    assert [*lanes.lr][:2] == first


def test_a_sampler_that_fails_at_once_leaves_no_run(lrfind: Command, config: Path, module: Path) -> None:
    write(module, "return []", arguments="low, high")
    line = ("search", config, "--sampler", "mine:propose", "--out", "run", "-q", "--import-root", ".")
    assert lrfind(*line) == 2
    assert "A sampler is a function of (low, high, history, count, seed)" in lrfind.err
    assert not Path("run").exists()
    with pytest.raises(UsageError, match="mine:propose is called with low, high, history, count and seed"):
        import_names(check(LINEAR, ["search.sampler='mine:propose'"]))


def test_a_sampler_that_needs_more_than_it_gets_is_a_mistake_of_the_config(module: Path) -> None:
    write(module, GOOD, arguments="low, high, history, count, seed, budget")
    with pytest.raises(ConfigError, match="mine:propose needs the argument 'budget'"):
        check(LINEAR, ["search.sampler='mine:propose'"])


def test_the_history_has_finite_losses_and_no_lr_is_tried_twice(module: Path, tmp_path: Path) -> None:
    write(module, "assert all(t.loss < float('inf') for t in history); return [high] * count")
    options = ("search.sampler='mine:propose'", "search.high=1000", "search.start=1e-3")
    run = start(tmp_path / "run", "search", *SEARCH, *options)
    conduct(run)
    lrs = lrs_of(run)
    assert lrs[:2] == [1e-3, 1000]
    assert len({*lrs}) == 6
    assert "diverged" in run.outcomes().values()


def test_a_sampler_follows_the_rules_of_imports(lrfind: Command, config: Path, module: Path) -> None:
    write(module, GOOD)
    with imports_limited_to(ImportPolicy([])), pytest.raises(ConfigError, match="importing the sampler"):
        check(LINEAR, ["search.sampler='mine:propose'"])
    run = Run.start(Path("run"), "search", check(LINEAR, ["search.sampler='mine:propose'"]), LINEAR, ())
    run.release()
    assert lrfind("resume", "run") == 2
    assert "imports and runs code that is not part of lrfind: mine:propose" in lrfind.err


def test_ls_lists_samplers(lrfind: Command) -> None:
    assert lrfind("ls", "samplers") == 0
    assert [line.split()[0] for line in lrfind.out.splitlines()] == ["random", "sobol", "tpe", "gp"]
