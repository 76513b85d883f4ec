"""Explanations: why a training step failed, in the words of whoever wrote its model, data and loss.

Everything is read from the exception's traceback: its frames hold the layer that was called last and what it
was given. So nothing runs a second time, and a check and a run explain alike.
"""

from __future__ import annotations

import inspect
import sysconfig
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrfind.errors import LrfindError, NoGradient, UsageError
from lrfind.problem.batches import output_and_loss
from lrfind.training.explanations.forms import batch_parts, describe, describe_batch, listed, tensors_in
from lrfind.training.explanations.layers import complaint
from lrfind.training.explanations.targets import loss_name, misfit

THEIRS = [str(Path(torch.__file__).parent), str(Path(__file__).parents[2])]
LIBRARIES = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]


@dataclass(frozen=True)
class Scene:
    """What the frames of a traceback hold.

    Attributes:
        step: the variables of `output_and_loss`; empty where the failure is not inside of it.
        calls: the modules whose calls were under way, outermost first, with what they were given.
    """

    step: Mapping[str, Any]
    calls: list[tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]


def scene_of(error: BaseException) -> Scene:
    """What the frames of an exception's traceback hold."""
    scene = Scene({}, [])
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is output_and_loss.__code__:
            scene = Scene(frame.f_locals, [])
        elif frame.f_code is nn.Module._call_impl.__code__:
            held = frame.f_locals
            scene.calls.append((held["self"], held["args"], held["kwargs"]))
    return scene


def explain(error: BaseException) -> str:
    """What does not fit in a failed step, where, and what would do.

    Returns:
        A sentence, and on a line below it the last line of the user's own code that the failure passed; ""
        where the traceback tells nothing.
    """
    try:
        told = _fault(scene_of(error), error)
    except Exception:  # a strange tensor or signature must not take the place of the error itself
        told = ""
    return "\n  ".join(part for part in (told, own_line(error)) if part)


def first_steps_failed(error: BaseException) -> LrfindError:
    """What to tell when a training cannot even take its first steps."""
    if isinstance(error, NoGradient):
        return error
    told = explain(error)
    if isinstance(error, LrfindError):
        return UsageError(told or str(error)) if isinstance(error, UsageError) else error
    own_words = in_its_own_words(error)
    if told:
        return UsageError(f"the first training step failed: {told}\n  {own_words}")
    return UsageError(
        f"the first training step failed: {own_words}\nCheck that model, data and loss fit together (shapes,"
        " dtypes, number of outputs)."
    )


def in_its_own_words(error: BaseException) -> str:
    """The type and the text of an exception, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def own_line(error: BaseException) -> str:
    """The last line of the user's own code that an exception, or the deepest one behind it, passed.

    Returns:
        "net.py:12, in forward: return x + y"; "" where there is none.
    """
    deeper = "" if error.__cause__ is None else own_line(error.__cause__)
    if deeper:
        return deeper
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    own = [frame for frame in frames if not _within(frame.filename, [*THEIRS, *LIBRARIES])]
    if not own:
        return ""
    path, here = Path(own[-1].filename), Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{shown}:{own[-1].lineno}, in {own[-1].name}: {own[-1].line}"


def _within(file: str, folders: list[str]) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in folders)


def _fault(scene: Scene, error: BaseException) -> str:
    text = str(error)
    if "device-side assert" in text:
        return (
            "a class number or a token is out of range, it seems; CUDA tells no more: look again with"
            " `lrfind check --batch --set device=cpu`."
        )
    if isinstance(error, LrfindError):
        behind = _outside(str(error.__cause__))
        return _of_own(scene) or (f"{text}; {behind}" if behind else text)
    if not scene.step:
        return _outside(text)
    told = _in_loss(scene, error) if "output" in scene.step else _in_model(scene)
    if "device" in text and "weights on" not in told:
        told += (
            "; a tensor in it is on another device than the batch: make new ones with device=x.device, and"
            " keep fixed ones with register_buffer"
        )
    return told + "."


def _of_own(scene: Scene) -> str:
    """Of a loss that lrfind itself refused."""
    loss, loss_fn = scene.step.get("loss"), scene.step.get("loss_fn")
    name = "the output's .loss" if loss_fn is None else loss_name(loss_fn)
    if isinstance(loss, Tensor) and loss.numel() != 1:
        return (
            f"loss: {name} gives {describe(loss)}, and must be a tensor with one element, the mean over the"
            " batch: leave `reduction: none` out of its args, or take .mean()."
        )
    if loss is not None and not isinstance(loss, Tensor):
        kind = describe(loss)
        hint = "leave .item() out" if isinstance(loss, float | int) else "return the one tensor to minimise"
        return f"loss: {name} gives {kind}, and must be a tensor with one element: {hint}."
    return ""


def _outside(text: str) -> str:
    """Of a failure before or after forward and loss, of which only the text is left."""
    if "stack expects each tensor to be equal size" in text:
        return "the rows of a batch have different shapes: pad them, or give a DataLoader with a collate_fn."
    if "Cannot copy out of meta tensor" in text:
        return "model: it makes itself on the device 'meta', without numbers; make it on the CPU."
    if text.startswith(("Found dtype", "result type")):
        return "loss: output and y are of different types; make y float, y.float(), for a loss of numbers."
    if "modified by an inplace operation" in text:
        return (
            "model: forward changes a tensor in place that the gradient needs; write x = x + y, not x += y."
        )
    return ""


def _in_model(scene: Scene) -> str:
    batch = scene.step["batch"]
    if not scene.calls:
        return f"model: it failed on the batch {describe_batch(batch)}"
    layer, args, kwargs = scene.calls[-1]
    refused = _unbound(layer.forward, args, kwargs)
    if len(scene.calls) == 1:
        where = f"model: {type(layer).__name__}"
        if refused and isinstance(batch, Mapping):
            return (
                f"model: the batch is a dict with the keys {listed(batch_parts(batch))}, and forward is"
                f" given each by its name; {refused}"
            )
        if refused:
            parts = f"the batch has {len(batch)} parts, and forward is given {len(args)}"
            which = "all but the last" if len(args) < len(batch) else "all of them, as there is no `loss`"
            return f"model: {parts}, {which}; {refused}"
    else:
        root = scene.calls[0][0]
        name = next((name for name, module in root.named_modules() if module is layer), "")
        where = f"model: layer '{name}' ({type(layer).__name__})"
    if refused:
        return f"{where} is called with {len(args) + len(kwargs)} arguments; {refused}"
    inputs = tensors_in((*args, *kwargs.values()))
    told = complaint(layer, inputs)
    if told:
        return f"{where} {told}"
    given = [*map(describe, args), *(f"{key} {describe(value)}" for key, value in kwargs.items())]
    return f"{where} failed; it was given {listed(given)}"


def _in_loss(scene: Scene, error: BaseException) -> str:
    output, batch, loss_fn = (scene.step[name] for name in ("output", "batch", "loss_fn"))
    if loss_fn is None:
        return f"loss: the output, {describe(output)}, has no .loss that can be read"
    name = loss_name(loss_fn)
    target = batch if isinstance(batch, Mapping) else batch[-1]
    call = loss_fn.forward if isinstance(loss_fn, nn.Module) else loss_fn
    refused = _unbound(call, (output, target), {})
    if refused:
        return f"loss: {name} is called with the output and y; {refused}"
    if type(loss_fn).__module__.startswith("torch.") or name.startswith("torch."):
        if not isinstance(output, Tensor):
            return (
                f"loss: the model's output is {describe(output)}, and {name} takes one tensor: return that"
                " from forward, or write a loss (output, y) that picks it"
            )
        if not isinstance(target, Tensor):
            whole = isinstance(batch, Mapping)
            what, way = (
                ("the whole batch", "a loss (output, batch)") if whole else ("y", "a loss (output, y)")
            )
            return (
                f"loss: {name} takes tensors and is given {what}, {describe(target)}: write {way}, or leave"
                " `loss` out and let the model's output have a .loss"
            )
    if isinstance(output, Tensor) and isinstance(target, Tensor):
        told = misfit(loss_fn, output, target)
        if told:
            return f"loss: {told}"
    what = "the batch" if isinstance(batch, Mapping) else "y"
    return f"loss: {name} failed; the output is {describe(output)}, {what} is {describe(target)}"


def _unbound(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Why a function cannot be called with these arguments, and what it takes; None if it can."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        called = getattr(function, "__name__", "it")
        return f"{called}({', '.join(signature.parameters)}): {error}"
    return None
