"""Explanations: why a training step failed, in terms of the user's own model, data and loss.

Everything is read from the exception's traceback: its frames hold the layer that was called last and its
inputs. So nothing runs a second time, and a check and a run give the same explanations.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from lrfind.errors import (
    LrfindError,
    NoGradient,
    UsageError,
    UsersExit,
    counted,
    first_few,
    in_one_line,
    text_of,
)
from lrfind.problem.batches import OwnLoss, output_and_loss, own_loss_line, users_function
from lrfind.problem.objects import integration_for
from lrfind.problem.references import LIBRARIES
from lrfind.problem.signatures import accepts
from lrfind.training.explanations.forms import batch_parts, describe, describe_batch, tensors_in
from lrfind.training.explanations.layers import why_not_accepted
from lrfind.training.explanations.targets import loss_name, misfit
from lrfind.training.interrupts import stop_if_asked

TORCH_AND_LRFIND = [str(Path(torch.__file__).parent), str(Path(__file__).parents[2])]


@dataclass(frozen=True)
class Scene:
    """The contents of a traceback's frames.

    Attributes:
        variables: the variables of `output_and_loss`; empty where the failure did not happen inside it.
        calls: the modules whose calls were under way, outermost first, each with its arguments.
    """

    variables: Mapping[str, Any]
    calls: list[tuple[nn.Module, tuple[Any, ...], dict[str, Any]]]


def scene_of(error: BaseException) -> Scene:
    """Return the contents of the frames of an exception's traceback."""
    scene = Scene({}, [])
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is output_and_loss.__code__:
            scene = Scene(frame.f_locals, [])
        elif frame.f_code is nn.Module._call_impl.__code__:
            variables = frame.f_locals
            scene.calls.append((variables["self"], variables["args"], variables["kwargs"]))
    return scene


def explain(error: BaseException) -> str:
    """Explain a failed step: which parts do not match, where, and what to do.

    Returns:
        A sentence, and below it the last line of the user's own code in the traceback; "" where the traceback
        explains nothing.
    """
    try:
        message = _explain_scene(scene_of(error), error)
    except Exception:  # a failure caused by a strange tensor or signature must not replace the error itself
        message = ""
    return "\n  ".join(part for part in (message, own_line(error)) if part)


def raise_explained(error: BaseException, where: str = "") -> NoReturn:
    """Raise the error for a training step that failed, from the exception that the user's code raised.

    So the cause of what is raised is always that exception, with its type, also where lrfind had turned it
    into an error of its own before.

    Args:
        error: the exception that ended the step.
        where: what failed, at which step and lr, such as "a probe at lr 0.1 failed at step 3"; "" for the
            first step, where a mistake in the parts is likely.
    """
    stop_if_asked()  # then the signal may be what made the code fail
    explained = _explained(error, where)
    origin = error
    while isinstance(origin, LrfindError | UsersExit) and origin.__cause__ is not None:
        origin = origin.__cause__
    if explained is origin:
        raise explained
    raise explained from origin


def _explained(error: BaseException, where: str) -> LrfindError:
    if isinstance(error, NoGradient):
        return error
    explanation = explain(error)
    if isinstance(error, LrfindError):
        return UsageError(explanation or str(error)) if isinstance(error, UsageError) else error
    if where:
        return LrfindError("\n  ".join(filter(None, [f"{where}: {in_one_line(error)}", explanation])))
    if explanation:
        return UsageError(f"the first training step failed: {explanation}\n  {in_one_line(error)}")
    return UsageError(
        f"the first training step failed: {in_one_line(error)}\nCheck that model, data and loss fit together"
        " (shapes, dtypes, number of outputs)."
    )


def failure_text(error: BaseException) -> str:
    """Return the type and the text of the exception that ended a lane, with what explains it."""
    explanation = " ".join(explain(error).split())
    return in_one_line(error, 2000) + (f" ({explanation})" if explanation else "")


def own_line(error: BaseException) -> str:
    """Return the last line of the user's own code in the traceback of an exception.

    If the exception has causes, use the traceback of the deepest cause that has such a line.

    Returns:
        "net.py:12, in forward: return x + y"; "" where there is none.
    """
    deeper = "" if error.__cause__ is None else own_line(error.__cause__)
    if deeper:
        return deeper
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    user_frames = [f for f in frames if not _within(f.filename, [*TORCH_AND_LRFIND, *LIBRARIES])]
    if not user_frames:
        return ""
    last, folder = user_frames[-1], Path.cwd()
    path = Path(last.filename)
    file = path.relative_to(folder) if path.is_relative_to(folder) else path
    return f"{file}:{last.lineno}, in {last.name}: {last.line}"


def _within(file: str, folders: list[str]) -> bool:
    return any(Path(file).is_relative_to(folder) for folder in folders)


def _explain_scene(scene: Scene, error: BaseException) -> str:
    text = text_of(error)
    if "device-side assert" in text:
        return (
            "a class number or a token seems to be out of range, but CUDA does not say which; run"
            " `lrfind check --batch --set device=cpu` to find it."
        )
    if isinstance(error, LrfindError):
        cause = _explain_text(str(error.__cause__))
        return _explain_refused_loss(scene) or (f"{text}; {cause}" if cause else text)
    if not scene.variables:
        return _explain_text(text)
    if isinstance(error, NotImplementedError) and 'missing the required "forward"' in text and scene.calls:
        layer = scene.calls[-1][0]
        return (
            f"model: {type(layer).__name__} has no forward; write one, or give the function of a batch that"
            f" returns the loss as loss=.{integration_for(layer)}"
        )
    if isinstance(scene.variables["loss_fn"], OwnLoss):
        message = _explain_own_loss(scene)
    else:
        message = _explain_loss(scene, error) if "output" in scene.variables else _explain_model(scene)
        message += _why_whole_dict(scene)
    if "device" in text and "weights on" not in message:
        message += (
            "; a tensor in it is on another device than the batch: create new tensors with device=x.device,"
            " and register fixed ones with register_buffer"
        )
    return message + "."


def _explain_refused_loss(scene: Scene) -> str:
    """Explain why lrfind itself refused a loss; "" where it did not."""
    loss, loss_fn = scene.variables.get("loss"), scene.variables.get("loss_fn")
    name = "the output's .loss" if loss_fn is None else loss_name(users_function(loss_fn))
    if isinstance(loss, Tensor) and loss.numel() != 1:
        return (
            f"loss: {name} gives {describe(loss)}, but the loss must be a tensor with one element, the mean"
            " over the batch: remove `reduction: none` from its args, or call .mean()."
        )
    if isinstance(loss, Tensor) and not loss.is_floating_point():
        return (
            f"loss: {name} gives {describe(loss)}, but the loss must be a floating-point number, as others"
            " have no gradient: compute it without .long(), argmax, comparisons or counting."
        )
    if loss is not None and not isinstance(loss, Tensor):
        number = isinstance(loss, float | int)
        advice = "remove the call of .item()" if number else "return only the tensor to minimise"
        return (
            f"loss: {name} gives {describe(loss)}, but the loss must be a tensor with one element: {advice}."
        )
    return ""


def _explain_text(text: str) -> str:
    """Explain, from its text only, a failure that happened before or after forward and loss."""
    if "stack expects each tensor to be equal size" in text:
        return "the rows of a batch have different shapes: pad them, or give a DataLoader with a collate_fn."
    if "Cannot copy out of meta tensor" in text:
        return (
            "model: it is created on the device 'meta', where tensors hold no numbers; create it on the CPU."
        )
    if text.startswith(("Found dtype", "result type")):
        return (
            "loss: output and y are of different types; for a loss that compares numbers, make y float with"
            " y.float()."
        )
    if "modified by an inplace operation" in text:
        return (
            "model: forward changes a tensor in place that the gradient needs; write x = x + y, not x += y."
        )
    return ""


def _explain_model(scene: Scene) -> str:
    """Explain a failure inside the model's forward."""
    batch = scene.variables["batch"]
    if not scene.calls:
        return f"model: it failed on the batch {describe_batch(batch)}"
    layer, args, kwargs = scene.calls[-1]
    call_error = _why_not_callable(layer.forward, args, kwargs)
    if len(scene.calls) == 1:
        where = f"model: {type(layer).__name__}"
        if call_error and isinstance(batch, Mapping):
            return (
                f"model: the batch is a dict with the keys {first_few(batch_parts(batch))}, and forward gets"
                f" each value by its key; {call_error}"
            )
        if call_error and not (isinstance(batch, tuple | list) and len(batch) > 1):
            return f"model: forward gets the whole batch, {describe(batch)}; {call_error}. {_way_out(batch)}"
        if call_error:
            which = "all but the last" if len(args) < len(batch) else "all, as there is no `loss`"
            return (
                f"model: the batch has {counted(len(batch), 'part')}, and forward gets {len(args)} of them"
                f" ({which}); {call_error}. {_way_out(batch)}"
            )
    else:
        root = scene.calls[0][0]
        name = next((name for name, module in root.named_modules() if module is layer), "")
        where = f"model: layer '{name}' ({type(layer).__name__})"
    if call_error:
        return f"{where} is called with {counted(len(args) + len(kwargs), 'argument')}; {call_error}"
    reason = why_not_accepted(layer, tensors_in((*args, *kwargs.values())))
    if reason:
        return f"{where} {reason}"
    inputs = [*map(describe, args), *(f"{key} {describe(value)}" for key, value in kwargs.items())]
    return f"{where} failed; its input was {first_few(inputs)}"


def _why_whole_dict(scene: Scene) -> str:
    """Say why forward got a batch as one dict, where it did; "" where it did not."""
    batch, inputs = scene.variables["batch"], scene.variables.get("inputs", ())
    if "output" in scene.variables or not (isinstance(batch, Mapping) and inputs and inputs[0] is batch):
        return ""
    model = scene.variables["model"]
    missing = [name for name in batch_parts(batch) if not accepts(model, (), {name: None})]
    return f"; forward gets the batch as one dict, as it has no arguments named {first_few(missing)}"


def _way_out(batch: Any) -> str:
    """Show how to compute the loss of such a batch, without the full stop."""
    return own_loss_line(batch).removesuffix(".")


def _explain_loss(scene: Scene, error: BaseException) -> str:
    """Explain a failure inside the loss function."""
    output, batch, loss_fn = (scene.variables[name] for name in ("output", "batch", "loss_fn"))
    if loss_fn is None:
        return f"loss: the output, {describe(output)}, has no .loss that can be read"
    name = loss_name(loss_fn)
    target = scene.variables["target"]
    whole = target is batch
    function = loss_fn.forward if isinstance(loss_fn, nn.Module) else loss_fn
    call_error = _why_not_callable(function, (output, target), {})
    if call_error:
        return f"loss: {name} is called with the output and y; {call_error}. {_way_out(batch)}"
    if type(loss_fn).__module__.startswith("torch.") or name.startswith("torch."):
        if not isinstance(output, Tensor):
            return (
                f"loss: the model's output is {describe(output)}, but {name} takes one tensor: return only"
                " that tensor from forward, or write a loss (output, y) that picks it"
            )
        if not isinstance(target, Tensor):
            received, signature = ("the whole batch", "(output, batch)") if whole else ("y", "(output, y)")
            return (
                f"loss: {name} takes tensors, but gets {received}, {describe(target)}: write a loss"
                f" {signature}, or remove `loss` and let the model's output have a .loss"
            )
    if isinstance(output, Tensor) and isinstance(target, Tensor):
        reason = misfit(loss_fn, output, target)
        if reason:
            return f"loss: {reason}"
    target_name = "the batch" if whole else "y"
    message = f"loss: {name} failed; the output is {describe(output)}, {target_name} is {describe(target)}"
    if not isinstance(error, TypeError | AttributeError | LookupError | RuntimeError):
        return message
    return f"{message}. If it needs another part of the batch, such as the input: {_way_out(batch)}"


def _explain_own_loss(scene: Scene) -> str:
    """Explain a failure inside a user's function that computes the loss from the model and the batch."""
    if not scene.calls:
        name = loss_name(users_function(scene.variables["loss_fn"]))
        return f"loss: {name} failed on the batch, which is {describe(scene.variables['batch'])}"
    layer, args, _ = scene.calls[-1]
    if len(args) == 2 and all(isinstance(value, Tensor) for value in args):
        reason = misfit(layer, *args)
        if reason:
            return f"loss: {reason}"
    return _explain_model(scene)


def _why_not_callable(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str | None:
    """Say why a function cannot be called with these arguments, and what it takes; None if it can."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name = getattr(function, "__name__", "it")
        return f"{name}({', '.join(signature.parameters)}): {error}"
    return None
