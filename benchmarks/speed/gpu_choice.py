"""Part of gpu.py: whether the mode that `lanes: auto` chooses is the best of the modes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from figures import Row
from gpu_cases import CASES, Case
from gpu_stage import Stage, attempt

from lrfind.config.experiment import check
from lrfind.errors import counted
from lrfind.experiments.sweep import run_sweep
from lrfind.runs.store import Run
from lrfind.training.watch import Observer

NAMED = ("stacked", "single")
SWEEPS = (("MLP", 16), ("CNN", 16), ("GPT", 8), ("MLP", 64), ("ResNet-18", 8))
"""The cases and numbers of rates."""
STEPS, TURNS, AS_GOOD = 200, 3, 1 / 1.05
STACK_GIB = 40  # more than any of these stacks takes


def choice(stage: Stage) -> Iterator[Row]:
    """Yield a row for each sweep: its seconds with `lanes: auto`, beside those with the best named mode."""
    for name, rates in SWEEPS[:1] if stage.tiny else SWEEPS:
        rates, steps = (2, 4) if stage.tiny else (rates, STEPS)
        label = f"{name}, {rates} rates x {steps} steps"
        rows = partial(_rows, stage, CASES[name], label, rates, steps)
        yield from attempt(stage, label, "lanes: auto", rows)


def _rows(stage: Stage, case: Case, label: str, rates: int, steps: int) -> Iterator[Row]:
    seconds: dict[str, list[float]] = {lanes: [] for lanes in ("auto", *NAMED)}
    chosen: list[str] = []
    for lanes in NAMED:  # not timed: what happens only once in a process
        _sweep(stage, case, lanes, rates, min(steps, 10))
    for turn in range(1 if stage.tiny else TURNS):
        if turn and stage.left < 0:
            break
        for lanes, times in seconds.items():
            stage.synchronize()
            began = time.perf_counter()
            mode = _sweep(stage, case, lanes, rates, steps)  # it ends with losses that are read
            times.append(time.perf_counter() - began)
            chosen += [mode] if lanes == "auto" else []
    medians = {lanes: statistics.median(times) for lanes, times in seconds.items()}
    best = min(NAMED, key=medians.__getitem__)
    ratio = statistics.median(b / a for b, a in zip(seconds[best], seconds["auto"], strict=True))
    verdict = "yes" if ratio >= AS_GOOD else "no"
    named = ", ".join(f"{lanes} {medians[lanes]:.2f} s" for lanes in NAMED)
    turns = counted(len(chosen), "turn")
    note = f"within 5 % of the best: {verdict}; it chose {', '.join(chosen)}; {named} ({turns})"
    yield Row(label, "lanes: auto", medians["auto"], ratio, note)


def _sweep(stage: Stage, case: Case, lanes: str, rates: int, steps: int) -> str:
    """Run a whole sweep, all but its plots, and return its mode in words."""
    more = (
        f"grid: {{low: {case.low}, high: {case.high}, points: {rates}, seeds: 1, lanes: {lanes},"
        f" stack_memory: {STACK_GIB}}}\n"
    )
    config = case.config(stage, steps, more)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.start(Path(folder) / "run", "grid", check(config), config, [])
        with run.held():
            run_sweep(run, Observer())
        mode = run.facts().modes[0]
        return f"{mode['name']} in {counted(mode['processes'], 'process')}"
