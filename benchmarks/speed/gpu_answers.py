"""Parts of gpu.py: the answers of the GPU beside the CPU's, and whether calls leave everything as it was."""

from __future__ import annotations

import copy
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import Row
from gpu_cases import images
from gpu_stage import FAILED, Stage, attempt
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrfind
from lrfind.catalog import KINDS
from lrfind.config.experiment import check
from lrfind.config.registry import load
from lrfind.config.templates import starter
from lrfind.errors import counted, listed
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.training.watch import Observer

EXPERIMENTS = ("mnist_cnn", "char_transformer")
COMMANDS = ("find", "range-test", "grid", "train")
SMALL = ("range_test.steps=60", "range_test.seeds=1", "grid.points=4", "grid.high=0.02", "grid.seeds=1")
TINY = (
    "training.steps=8",
    "find.budget=16",
    "range_test.steps=30",
    "grid.points=2",
    "data={name: mnist_mini, batch_size: 8, args: {digits: [0, 1]}}",  # bfloat16 is slow on most CPUs
)
CLOSE_LOSS = {"float32": 1e-2, "bfloat16": 5e-2}
"""Relative, by precision: how far losses may differ. Convolutions of the GPU round float32 to TF32."""
CLOSE_RATE = {"float32": 1.25, "bfloat16": 1.6}
"""By precision: how many times the CPU's rate the rate may be."""


def machine(stage: Stage) -> Iterator[Row]:
    """Yield one row that says what the figures were measured on."""
    parts = [f"torch {torch.__version__}", counted(os.cpu_count() or 1, "core")]
    if stage.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        parts = [name, *parts, f"CUDA {torch.version.cuda}", f"cuDNN {torch.backends.cudnn.version()}"]
    yield Row("machine", stage.device, None, None, ", ".join(parts))


def answers(stage: Stage) -> Iterator[Row]:
    """Yield a row for each precision, experiment and command: the answer of the GPU beside the CPU's."""
    for precision in CLOSE_LOSS:
        for experiment in EXPERIMENTS[:1] if stage.tiny else EXPERIMENTS:
            for command in COMMANDS:
                case = f"{command}, {experiment}"
                compared = partial(_compared, stage, command, experiment, precision)
                yield from attempt(stage, case, precision, compared)


def _compared(stage: Stage, command: str, experiment: str, precision: str) -> Iterator[Row]:
    run = partial(_timed_run, stage, command, experiment, precision)
    (cpu, cpu_seconds), (gpu, seconds) = run("cpu", "single"), run(stage.device, "stacked")
    remarks = _remarks(command, gpu, cpu, precision)
    yield Row(f"{command}, {experiment}", precision, seconds, cpu_seconds / seconds, remarks)


def _timed_run(
    stage: Stage, command: str, experiment: str, precision: str, device: str, lanes: str
) -> tuple[RunResult, float]:
    """Do what a command does between its config and its answer; return its result and its seconds."""
    config, steps = starter(experiment), 150 if command == "find" else 60
    overrides = [*SMALL, f"device={device}", f"training.precision={precision}", f"grid.lanes={lanes}"]
    overrides += TINY if stage.tiny else [f"training.steps={steps}"]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = Run.start(Path(folder) / "run", command, check(config, overrides), config, overrides)
        with run.held():
            result: RunResult = load(KINDS[command].run)(run, Observer())
        return result, time.perf_counter() - began  # the result holds what was read from the GPU


def _remarks(command: str, gpu: RunResult, cpu: RunResult, precision: str) -> str:
    """Compare the losses of the calmest lane, and then what the command answers: a rate, or final losses."""
    early = min(lane.lanes[0].loss.size for lane in (gpu, cpu)) // 2
    away = _difference(gpu.lanes[0].loss[:early], cpu.lanes[0].loss[:early])
    remark, wrong = f"losses of the first lane differ by {away:.1e} at most", away > CLOSE_LOSS[precision]
    if command in ("find", "range-test"):
        rates = [result.answer["lr"] for result in (gpu, cpu)]
        times = math.exp(abs(math.log(rates[0] / rates[1]))) if None not in rates else math.inf
        wrong |= rates != [None, None] and times > CLOSE_RATE[precision]
        remark += f"; lr {_number(rates[0])}, on the CPU {_number(rates[1])}"
    else:
        away = _difference(*([lane.val_loss for lane in result.lanes] for result in (gpu, cpu)))
        wrong |= away > CLOSE_LOSS[precision]
        remark += f", final losses by {away:.1e}"
    refusals = [mode["reason"] for mode in gpu.facts.modes if mode["name"] != "stacked"]
    return "; ".join([(FAILED if wrong else "") + remark, *refusals])


def _number(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:.4g}"


def _difference(ours: Any, theirs: Any) -> float:
    """Return the largest relative difference of numbers; infinite if there are not as many."""
    if len(ours) != len(theirs):
        return math.inf
    return float(np.max(np.abs(np.array(ours) / np.array(theirs) - 1)))


def restored(stage: Stage) -> Iterator[Row]:
    """Yield a row for each call in Python: whether model, optimizer and random states are as before."""
    steps = 8 if stage.tiny else 60
    calls: dict[str, Callable[..., Any]] = {
        "find": partial(lrfind.find, steps=100, budget=16 if stage.tiny else None),
        "range_test": partial(lrfind.range_test, steps=steps, end_lr=1.0),
        "grid": partial(lrfind.grid, steps=steps, lrs=[1e-4, 1e-3], seeds=1),
    }
    for precision in CLOSE_LOSS:
        for name, call in calls.items():
            case = f"lrfind.{name}"
            yield from attempt(stage, case, precision, partial(_restored, stage, case, call, precision))


def _restored(stage: Stage, case: str, call: Callable[..., Any], precision: str) -> Iterator[Row]:
    torch.manual_seed(0)
    x, y = images(64 if stage.tiny else 1024).train
    loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Dropout(),
        nn.Flatten(),
        nn.LazyLinear(10),
    ).to(stage.device)
    loss_fn = nn.CrossEntropyLoss()
    model(x[:2].to(stage.device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for inputs, targets in list(loader)[:2]:  # so that there are gradients and moments to be restored
        optimizer.zero_grad()
        loss_fn(model(inputs.to(stage.device)), targets.to(stage.device)).backward()
        optimizer.step()
    before = copy.deepcopy(_state(model, optimizer))
    seconds = stage.seconds(
        partial(call, model, optimizer, loss_fn, loader, precision=precision, progress=False)
    )
    after = _state(model, optimizer)
    changed = [name for name in before if not _same(before[name], after.get(name))]
    note = f"all {len(before)} parts of the state are as before"
    if changed or before.keys() != after.keys():
        names = changed or sorted(before.keys() ^ after.keys())
        note = f"{FAILED}not as before: {listed(names[:5])} (of {len(names)})"
    yield Row(case, precision, seconds, None, note)


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of a training and of all global random generators, by names."""
    state: dict[str, Any] = dict(model.state_dict())
    state |= {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    state |= {f"mode of {name}": module.training for name, module in model.named_modules()}
    held = optimizer.state_dict()
    state |= {f"optimizer.{n}.{key}": v for n, values in held["state"].items() for key, v in values.items()}
    state |= {f"group.{key}": value for group in held["param_groups"] for key, value in group.items()}
    state |= {"torch": torch.get_rng_state(), "python": random.getstate()}
    state |= {f"numpy.{n}": part for n, part in enumerate(np.random.get_state(legacy=True))}
    if torch.cuda.is_initialized():
        state |= {f"cuda.{n}": part for n, part in enumerate(torch.cuda.get_rng_state_all())}
    return state


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are the same, of tensors and arrays whether all their bits are."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)
