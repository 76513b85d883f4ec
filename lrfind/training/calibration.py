"""Calibration: choosing the mode that lanes run in, by a check against a single lane and by timing steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lrfind.analysis.curves import Array
from lrfind.config.sections import LanesSection
from lrfind.errors import as_exception, in_one_line
from lrfind.problem.batches import batch_loss
from lrfind.problem.problem import Problem
from lrfind.problem.setup import Recipe, Setup
from lrfind.training.explanations.failures import raise_explained
from lrfind.training.loop import train
from lrfind.training.mode import Mode
from lrfind.training.stack import Stack, why_not_stackable

WARM_STEPS = 3
FEWEST_TIMED, MOST_TIMED, ENOUGH_SECONDS = 3, 10, 0.25
CLOSE_LOSS = {"float32": 1e-4, "bfloat16": 1e-2}  # relative: a stack sums in another order than a plain lane
CLOSE_TENSOR = 5e-2  # relative to the norm; a mistake shows as a difference of the order of 1
ROUNDING = 0.2  # in each gradient, ROUNDING * CLOSE_LOSS of the largest norm counts as rounding
MIB, GIB = 2**20, 2**30


def calibrate(problem: Problem, section: LanesSection, lanes: int, lr: float, seed: int) -> Mode:
    """Choose the mode for the lanes of one seed, from about ten steps in each mode.

    Args:
        problem: what to train.
        section: the mode that the config asks for. With `lanes: auto`, single and stacked lanes are timed,
            each on one thread and on torch's own number of threads, because small tensors and busy machines
            are faster with one. A named mode runs on `threads` threads, or else on torch's own number of
            threads, so two runs give the same results to the last digit. If stacked lanes are not possible
            or fail their check, single lanes are used.
        lanes: K, the number of lanes of one seed.
        lr: the lr of the timed steps, at which training is calm.
        seed: the seed for the steps.

    Raises:
        LrfindError: if a single lane cannot take its first steps.
    """
    default = section.threads or torch.get_num_threads()
    choices = (default,) if section.threads or section.lanes != "auto" else tuple(dict.fromkeys((1, default)))
    setup = problem.setup(seed)
    try:
        _step(setup, lr, WARM_STEPS)
        seconds, threads = _fastest(choices, lambda: _step(setup, lr))
    except Exception as error:
        raise_explained(error)
    single = Mode("single", "as requested", threads=threads, seconds_per_step=seconds)
    if section.lanes == "single":
        return single
    if lanes < 2:
        return replace(single, reason="there is one lane for each seed, so there is nothing to stack")
    obstacle = why_not_stackable(problem.setup(seed))
    if obstacle:
        return replace(single, reason=f"lanes cannot be stacked: {obstacle}")
    most = _most_lanes(problem, section, seed)
    if isinstance(most, str):
        return replace(single, reason=most)
    size = math.ceil(lanes / math.ceil(lanes / most))
    timed = _time_stack(problem, section, choices, size, lr, seed)
    if isinstance(timed, str):
        return replace(single, reason=f"stacked lanes fail the check against a single one: {timed}")
    stack_seconds, stack_threads = timed
    ratio = seconds * size / stack_seconds
    speed = f"{ratio:.2f} times as fast" if ratio >= 1 else f"only {ratio:.2f} times as fast"
    measured = (
        f"in a timing test, {size} lanes in one stacked model were {speed} as {size} lanes one after another"
    )
    if section.lanes == "auto" and ratio < 1:
        return replace(single, reason=measured, ratio=ratio)
    return Mode(
        "stacked",
        f"as requested; {measured}" if section.lanes == "stacked" else measured,
        threads=stack_threads,
        seconds_per_step=stack_seconds / size,
        stack_size=size,
        compile=section.compile,
        ratio=ratio,
    )


def _most_lanes(problem: Problem, section: LanesSection, seed: int) -> int | str:
    """Return the number of lanes that fit into the memory of a stack, or the reason why not even two fit."""
    try:
        size = lane_bytes(problem.setup(seed))
    except Exception as error:  # whatever a user's model refuses
        return f"stacked lanes fail the check against a single one: {in_one_line(error, 200)}"
    most = int(section.stack_memory * GIB / size)
    if most < 2:
        limit = f"stack_memory allows {section.stack_memory:g} GiB"
        return f"one lane of a stack takes {size / MIB:.0f} MiB, and {limit}"
    return most


def _time_stack(
    problem: Problem, section: LanesSection, choices: Sequence[int], size: int, lr: float, seed: int
) -> tuple[float, int] | str:
    """Return the seconds of a stack's step and the fastest number of threads, or why stacks are refused."""
    try:
        plain = _first_steps_of_a_lane(_bare(problem, seed), lr)
        bare = _bare(problem, seed)
        stack = Stack(bare, size, compile=section.compile, graphs=problem.graphs)
        close = CLOSE_LOSS[bare.recipe.precision]
        difference = _difference(_first_steps_of_a_stack(stack, lr), plain, close)
        row = np.full((1, size), lr)
        timed = _fastest(choices, lambda: stack.train(row))
    except Exception as error:  # whatever vmap, a tracer or a compiler refuses
        return in_one_line(error, 200)
    return difference or timed


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Let torch compute with `threads` threads inside the block, and with the previous number afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@as_exception()
def lane_bytes(setup: Setup) -> int:
    """Return the bytes of one lane of a stack: weights, gradients, optimizer state and activations.

    The activations are the tensors that autograd keeps of one forward pass.
    """
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr(): p.numel() * p.element_size() for p in setup.model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        batch_loss(setup.model, setup.loss_fn, next(setup.batches))
    activations = sum(size for at, size in kept.items() if at not in weights)
    return activations + 5 * sum(weights.values())  # weights, a copy of them, gradients, two moments


class _FirstSteps(NamedTuple):
    """Two steps of a lane, or of each lane of a stack.

    Attributes:
        losses: the loss of each step.
        gradients: the gradients of the second step.
        buffers: the buffers after the second step.
        reassigned: the buffers to which `forward` assigned a new tensor; a stack would not see it.
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
    """Describe the first difference between a stack and a single lane; None if there is none."""
    if plain.reassigned:
        return f"forward gives the buffer {plain.reassigned[0]} a new tensor instead of changing it in place"
    for step, (ours, loss) in enumerate(zip(stacked.losses, plain.losses, strict=True)):
        if not np.allclose(ours, loss, rtol=close_loss, atol=1e-6, equal_nan=True):
            other = ours[np.argmax(np.abs(ours - loss))]
            return (
                f"at step {step} the loss is {loss:.6g} in the single lane and {other:.6g} in a stacked one"
            )
    unused = next((name for name in stacked.gradients if name not in plain.gradients), None)
    if unused is not None:
        return f"{unused} takes no part in the loss, so weight decay and l1 do not change it in a single lane"
    # The gradient of a bias before a batch norm, for example, is only rounding.
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
    """Return a lane's parts with plain steps: one batch and its gradient, without clipping and the like."""
    setup = problem.setup(seed)
    return replace(setup, recipe=Recipe(precision=setup.recipe.precision))


def _step(setup: Setup, lr: float, steps: int = 1) -> None:
    for _ in train(setup, np.full(steps, lr)):
        pass


def _fastest(choices: Sequence[int], step: Callable[[], object]) -> tuple[float, int]:
    """Return (seconds, threads): the fastest number of threads, and the median time of a step with it."""
    times = []
    for threads in choices:
        with computing_with(threads):
            step()
            times.append((_seconds(step), threads))
    return min(times)


def _seconds(step: Callable[[], object]) -> float:
    """Return the median time of a step; if steps are slow, fewer of them are timed."""
    times: list[float] = []
    while len(times) < FEWEST_TIMED or (len(times) < MOST_TIMED and sum(times) < ENOUGH_SECONDS):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return float(np.median(times))
