"""Which way lanes run: checked against a plain lane, and measured on a few steps of the real thing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lrfind.analysis.curves import Array
from lrfind.config.sections import LanesSection
from lrfind.problem.batches import batch_loss
from lrfind.problem.problem import Problem
from lrfind.problem.setup import Recipe, Setup
from lrfind.training.explanations.failures import first_steps_failed
from lrfind.training.loop import train
from lrfind.training.stack import Stack, obstacle

WARM_STEPS = 3
FEWEST_TIMED, MOST_TIMED, ENOUGH_SECONDS = 3, 10, 0.25
CLOSE_LOSS = {"float32": 1e-4, "bfloat16": 1e-2}  # relative: a stack sums in another order than a plain lane
CLOSE_TENSOR = 5e-2  # of its norm; a mistake shows as a difference of the order of 1
ROUNDING = 0.2  # of the relative difference of losses: what of the largest norm is only rounding elsewhere
MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Engine:
    """How the lanes of a run are trained. It is stored before the first lane, so that resume does the same.

    Attributes:
        lanes: one after another, or stacked.
        why: in words.
        chunk: the most lanes in one stack; 1 for single lanes.
        compile: whether stacks are compiled.
        threads: that torch computes with.
        ratio: how many times as fast as single lanes the stacked ones were; None where not measured.
        seconds_per_step: of one lane, as measured; in a stack, its share.
    """

    lanes: Literal["single", "stacked"]
    why: str
    chunk: int
    compile: bool
    threads: int
    ratio: float | None
    seconds_per_step: float


def calibrate(problem: Problem, section: LanesSection, lanes: int, lr: float, seed: int) -> Engine:
    """Choose how to train the lanes of one seed, on about ten steps of each way.

    Args:
        problem: what to train.
        section: what is asked for. With `lanes: auto`, single and stacked lanes are timed, on one thread and
            on as many as torch has; small tensors, or a busy machine, want one. With a way that is named,
            and then `threads` or torch's own number of them, two runs give the same to the last digit. A
            stack that cannot be had, or fails its check, gives way to single lanes.
        lanes: K, of one seed.
        lr: a calm one, for the steps.
        seed: of the steps.

    Raises:
        LrfindError: if a plain lane cannot take its first steps.
    """
    own = section.threads or torch.get_num_threads()
    choices = (own,) if section.threads or section.lanes != "auto" else tuple(dict.fromkeys((1, own)))
    setup = problem.setup(seed)
    try:
        _step(setup, lr, WARM_STEPS)
    except (Exception, SystemExit) as error:
        raise first_steps_failed(error) from error
    seconds, threads = _fastest(choices, lambda: _step(setup, lr))

    def single(why: str, ratio: float | None = None) -> Engine:
        return Engine("single", why, 1, False, threads, ratio, seconds)

    if section.lanes == "single":
        return single("asked for")
    if lanes < 2:
        return single("there is one lane a seed, so nothing to stack")
    reason = obstacle(problem.setup(seed))
    if reason:
        return single(f"lanes cannot be stacked: {reason}")
    try:
        size = lane_bytes(problem.setup(seed))
        most = int(section.stack_memory * GIB / size)
        if most < 2:
            cap = f"stack_memory allows {section.stack_memory:g} GiB"
            return single(f"one lane of a stack takes {size / MIB:.0f} MiB, and {cap}")
        chunk = math.ceil(lanes / math.ceil(lanes / most))
        plain = _first_steps_of_a_lane(_bare(problem, seed), lr)
        bare = _bare(problem, seed)
        stack = Stack(bare, chunk, compile=section.compile, graphs=problem.graphs)
        close = CLOSE_LOSS[bare.recipe.precision]
        reason = _difference(_first_steps_of_a_stack(stack, lr), plain, close)
        row = np.full((1, chunk), lr)
        whole, stack_threads = _fastest(choices, lambda: stack.train(row))
    except (Exception, SystemExit) as error:  # whatever vmap, a tracer or a compiler refuses
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if reason:
        return single(f"stacked lanes fail the check against a plain one: {reason}")
    ratio = seconds * chunk / whole
    measured = f"stacked lanes were measured {ratio:.2f} times as fast as single ones, {chunk} at a time"
    if section.lanes == "auto" and ratio < 1:
        return single(measured, ratio)
    why = f"asked for; {measured}" if section.lanes == "stacked" else measured
    return Engine("stacked", why, chunk, section.compile, stack_threads, ratio, whole / chunk)


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """So many threads for torch inside, as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def lane_bytes(setup: Setup) -> int:
    """What one lane of a stack takes in memory: weights, gradients, optimizer state and activations.

    The activations are counted on a forward pass, as what autograd keeps of it.
    """
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr(): p.numel() * p.element_size() for p in setup.model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        batch_loss(setup.model, setup.loss_fn, next(setup.batches))
    activations = sum(size for at, size in kept.items() if at not in weights)
    return activations + 5 * sum(weights.values())  # themselves, a copy, gradients, two moments


class _FirstSteps(NamedTuple):
    """Two steps of a lane, or of each lane of a stack: gradients and buffers are those of the second.

    `reassigned` are buffers that forward gave a new tensor, which a stack would not see.
    """

    losses: Array
    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    reassigned: Sequence[str] = ()


def _first_steps_of_a_lane(setup: Setup, lr: float) -> _FirstSteps:
    losses = []
    before = dict(setup.model.named_buffers())
    for step in train(setup, np.full(2, lr)):
        losses.append(step.loss)
        gradients = {name: p.grad for name, p in setup.model.named_parameters() if p.grad is not None}
    buffers = dict(setup.model.named_buffers())
    reassigned = [name for name, buffer in buffers.items() if buffer is not before.get(name)]
    return _FirstSteps(np.array(losses), gradients, buffers, reassigned)


def _first_steps_of_a_stack(stack: Stack, lr: float) -> _FirstSteps:
    first = stack.train(np.full((1, stack.lanes), lr))
    second, gradients = stack.gradients(next(stack.setup.batches))
    losses = np.vstack([first, second.cpu().double().numpy()])
    return _FirstSteps(losses, dict(zip(stack.parameters, gradients, strict=True)), stack.buffers)


def _difference(stacked: _FirstSteps, plain: _FirstSteps, close_loss: float) -> str | None:
    """What a stack does differently from a plain lane, or None."""
    if plain.reassigned:
        return f"forward gives the buffer {plain.reassigned[0]} a new tensor instead of changing it in place"
    for step, (ours, loss) in enumerate(zip(stacked.losses, plain.losses, strict=True)):
        if not np.allclose(ours, loss, rtol=close_loss, atol=1e-6, equal_nan=True):
            other = ours[np.argmax(np.abs(ours - loss))]
            return f"at step {step} its loss is {loss:.6g}, theirs {other:.6g}"
    unused = next((name for name in stacked.gradients if name not in plain.gradients), None)
    if unused is not None:
        return (
            f"{unused} takes no part in the loss, so that weight decay and l1 leave it alone in a plain lane"
        )
    # A bias before a batch norm, for one, has a gradient that is nothing but rounding.
    largest = max((float(tensor.cpu().double().norm()) for tensor in plain.gradients.values()), default=0.0)
    rounding = ROUNDING * close_loss * largest
    for kind, tensors, expected, floor in (
        ("gradient of", stacked.gradients, plain.gradients, rounding),
        ("buffer", stacked.buffers, plain.buffers, 1e-6),
    ):
        for name, tensor in expected.items():
            if name not in tensors:
                return f"there is no {kind} {name}"
            ours, theirs = tensors[name].cpu().double(), tensor.cpu().double()
            away = float((ours - theirs).reshape(len(ours), -1).norm(dim=1).max())
            close = away <= CLOSE_TENSOR * float(theirs.norm()) + floor
            if not (close or bool(theirs.isnan().any())):
                return f"the {kind} {name} differs after two steps"
    return None


def _bare(problem: Problem, seed: int) -> Setup:
    """A lane's parts whose steps are made of one batch and its gradient, as it is."""
    setup = problem.setup(seed)
    return replace(setup, recipe=Recipe(precision=setup.recipe.precision))


def _step(setup: Setup, lr: float, steps: int = 1) -> None:
    for _ in train(setup, np.full(steps, lr)):
        pass


def _fastest(choices: Sequence[int], step: Callable[[], object]) -> tuple[float, int]:
    """The median time of a step, with the number of threads that makes it least, and that number."""
    times = []
    for threads in choices:
        with computing_with(threads):
            step()
            times.append((_seconds(step), threads))
    return min(times)


def _seconds(step: Callable[[], object]) -> float:
    """Median time of a step; of fewer steps where each takes long."""
    times: list[float] = []
    while len(times) < FEWEST_TIMED or (len(times) < MOST_TIMED and sum(times) < ENOUGH_SECONDS):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return float(np.median(times))
