"""A check that data, model, loss, optimizer and schedule fit together, on one batch and with one step."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrfind.config.experiment import Experiment
from lrfind.config.sections import OptimizerSection
from lrfind.config.variants import compared
from lrfind.errors import LrfindError, UsageError, as_exception, counted, first_few, in_one_line
from lrfind.experiments.prepare import schedule_shape, training_steps
from lrfind.problem.batches import OwnLoss, output_and_loss
from lrfind.problem.components import import_names
from lrfind.problem.problem import Problem, from_configs
from lrfind.problem.setup import Setup
from lrfind.training.evaluation import evaluate, evaluating, score
from lrfind.training.explanations.failures import explain
from lrfind.training.explanations.forms import batch_parts, describe, describe_batch, form, tensors_in
from lrfind.training.explanations.targets import dtype_misfit, misfit, silent_misfit, softmax_misfit
from lrfind.training.loop import train

SIZES = "Using a target size"
"""The beginning of torch's warning that an output and a y have different sizes."""


def check_batch(experiment: Experiment) -> Iterator[str]:
    """Set up what a config describes, as a run would, take one batch through it, and then one step.

    The setup is thrown away afterwards. The step shows whether lrfind can use the optimizer.

    Args:
        experiment: the config; everything that it names is imported.

    Yields:
        The lines of a report, each as soon as it is certain.

    Raises:
        UsageError: for the first thing that does not fit; the message says where, and what to do.
    """
    test = experiment.range_test
    with _explained():
        import_names(experiment)
        variants = compared(experiment) if "compare" in experiment.model_fields_set else []
        rivals = [variant.experiment for variant in variants if experiment.compare.optimizers]
        problem, *others = from_configs([experiment, *rivals], held_out=test.held_out, group=test.group)
        setup = problem.setup(experiment.seed)
    with _explained("data: "):
        batch = next(setup.batches)
    for transform in problem.data.get("transforms") or ():
        yield f"data: {transform}"
    yield f"batch: {describe_batch(batch)}"
    steps = training_steps(experiment.training, problem)
    if problem.batches_per_epoch is None:
        yield "length: the data has none, so give the length of a training in steps, not in epochs"
    yield f"model: {experiment.model.name}, {_weights_line(setup.model)}"
    _refuse_nonfinite_input(batch)
    with _explained(), setup.casting(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=SIZES)  # such targets are refused below
        output, loss = output_and_loss(setup.model, setup.loss_fn, batch)
    yield f"output: {describe(output)}"
    _refuse_misfits(setup, problem, batch, output, loss)
    name = "the output's .loss" if experiment.loss is None else experiment.loss.path
    yield f"loss: {loss.item():.4g} ({name}), a scalar with a gradient"
    yield from _pair_notes(setup, batch, output)
    yield f"gradient: {_gradient_line(setup, batch, output, loss)}"
    yield f"validation: {_validation_line(setup, problem)}"
    with _explained():
        for training in [experiment, *(variant.experiment for variant in variants)]:
            schedule_shape(training, problem, steps)
    _take_step(setup, experiment.optimizer)
    for rival, other in zip(rivals, others, strict=True):
        with _explained():
            setup = other.setup(rival.seed)
        _take_step(setup, rival.optimizer)
    yield "ok"


@contextmanager
def _explained(part: str = "") -> Iterator[None]:
    """Turn any exception inside the block into one that says which parts do not match."""
    try:
        with as_exception():
            yield
    except LrfindError as error:
        raise UsageError(f"{part}{explain(error)}") from error
    except Exception as error:  # anything may go wrong in a user's code
        lines = (explain(error), in_one_line(error))
        raise UsageError(part + "\n  ".join(line for line in lines if line)) from error


def _weights_line(model: nn.Module) -> str:
    """Say how many weights a model has, and which of them are trained."""
    named = dict(model.named_parameters())
    if any(nn.parameter.is_lazy(parameter) for parameter in named.values()):
        return "with lazy layers, whose shapes come from the first batch"
    total = sum(parameter.numel() for parameter in named.values())
    trained = sum(parameter.numel() for parameter in named.values() if parameter.requires_grad)
    if trained == total:
        return f"{counted(total, 'weight')} in {counted(len(named), 'tensor')}, all trained"
    verb = "is" if trained == 1 else "are"
    return f"{trained:,} of {counted(total, 'weight')} {verb} trained; frozen: {first_few(_frozen(named))}"


def _frozen(named: dict[str, nn.Parameter]) -> list[str]:
    """Return the names of the frozen parameters; `part.*` for a part that is frozen as a whole."""
    parts: dict[str, list[str]] = {}
    for name in named:
        parts.setdefault(name.partition(".")[0], []).append(name)
    result = []
    for part, names in parts.items():
        frozen = [name for name in names if not named[name].requires_grad]
        result += [f"{part}.*"] if len(frozen) == len(names) > 1 else frozen
    return result


def _refuse_nonfinite_input(batch: Any) -> None:
    for name, part in batch_parts(batch).items():
        for tensor in tensors_in(part):
            count = _nonfinite_count(tensor)
            if count:
                raise UsageError(
                    f"data: {name} {form(tensor)} of the first batch holds NaN or inf in"
                    f" {counted(count, 'place')}, which gives a loss that is not finite: leave such rows out"
                    " of the data set, or fill in numbers."
                )


def _refuse_misfits(setup: Setup, problem: Problem, batch: Any, output: Any, loss: Tensor) -> None:
    """Refuse mistakes that torch computes without a warning."""
    device = next(setup.model.parameters()).device
    for name, tensor in (*(("output", tensor) for tensor in tensors_in(output)), ("loss", loss)):
        if tensor.device.type != problem.device.type:
            raise UsageError(
                f"{'model: its' if name == 'output' else 'loss: the'} {name} is on {tensor.device}, the"
                f" batch is on {problem.device} and the weights are on {device}; lrfind moves model and"
                " batches to `device`: move neither in your code."
            )
    pair = _pair(setup, batch, output)
    reason = silent_misfit(*pair) if pair else None
    if reason:
        raise UsageError(f"loss: {reason}.")
    if any(_nonfinite_count(tensor) for tensor in tensors_in(output)):
        raise UsageError(
            f"model: its output, {describe(output)}, holds NaN or inf, although the batch is"
            f" finite{_first_nonfinite_layer(setup, batch)}."
        )
    if _nonfinite_count(loss):
        raise UsageError(
            f"loss: it is {loss.item()} on the first batch, although batch and output are finite; look in the"
            " loss for the log or the root of zero, or for a division by zero."
        )
    if not loss.requires_grad:
        raise UsageError(_why_no_gradient(setup, batch, output))


def refuse_silent_misfit(setup: Setup) -> None:
    """Refuse an output that does not fit y although torch computes a loss, as for (10, 1) against (10,).

    One forward pass shows it. If the pass fails, there is nothing to say: the first step will fail too, and
    explain why.

    Raises:
        UsageError: if they do not fit.
    """
    reason = None
    with contextlib.suppress(Exception), as_exception(), setup.casting():
        reason = _silent_misfit(setup, next(setup.batches))
    if reason:
        raise UsageError(f"loss: {reason}.")


def _silent_misfit(setup: Setup, batch: Any) -> str | None:
    """Describe a silent misfit on a batch; in a user's own loss, only one of which torch warns is seen."""
    if isinstance(setup.loss_fn, OwnLoss):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            setup.loss_fn(setup.model, batch)
        texts = [str(warning.message) for warning in caught]
        sizes = next((re.findall(r"\[(.*?)\]", text) for text in texts if text.startswith(SIZES)), None)
        if sizes is None:
            return None
        y, output = sizes
        return (
            f"it compares an output of shape ({output}) with a y of shape ({y}), so every row is compared"
            " with every other row; give both the same shape"
        )
    if setup.loss_fn is None:
        return None
    output, _ = output_and_loss(setup.model, lambda output, y: torch.zeros(()), batch)
    pair = _pair(setup, batch, output)
    return silent_misfit(*pair) if pair else None


def _pair(setup: Setup, batch: Any, output: Any) -> tuple[Any, Tensor, Tensor] | None:
    """Return the loss function and the two tensors that it compares; None where these may be others."""
    if setup.loss_fn is None or isinstance(setup.loss_fn, OwnLoss) or not isinstance(batch, tuple | list):
        return None
    y = batch[-1]
    return (setup.loss_fn, output, y) if isinstance(output, Tensor) and isinstance(y, Tensor) else None


def _pair_notes(setup: Setup, batch: Any, output: Any) -> Iterator[str]:
    pair = _pair(setup, batch, output)
    for reason in (dtype_misfit(*pair), softmax_misfit(*pair[:2])) if pair else ():
        if reason:
            yield f"note: {reason}"


def _gradient_line(setup: Setup, batch: Any, output: Any, loss: Tensor) -> str:
    """Say which of the trained parameters the gradient of the loss reaches."""
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        pair = _pair(setup, batch, output)
        reason = misfit(*pair) if pair else None
        explanation = f"loss: {reason}." if reason else explain(error)
        raise UsageError("\n  ".join(line for line in (explanation, in_one_line(error)) if line)) from error
    trained = {name: p for name, p in setup.model.named_parameters() if p.requires_grad}
    nonfinite = [name for name, p in trained.items() if p.grad is not None and _nonfinite_count(p.grad)]
    if nonfinite:
        raise UsageError(
            f"gradient: it is NaN or inf at {first_few(nonfinite)}, although the loss is finite; look for the"
            " root of zero, or for a division by a number that may be zero."
        )
    unreached = [name for name, p in trained.items() if p.grad is None]
    if len(unreached) == len(trained):
        raise UsageError("gradient: the loss has one, but it reaches no trained weight of the model.")
    if unreached:
        return f"none at {first_few(unreached)}, which took no part in the loss"
    return f"reaches {'the only tensor' if len(trained) == 1 else f'all {len(trained)} tensors'}"


def _validation_line(setup: Setup, problem: Problem) -> str:
    if problem.validation is None:
        return "none; give the data as a pair (train, validation) for a validation loss"
    with _explained("validation: "):
        batches = [batch for _, batch in zip(range(1), problem.validation(), strict=False)]
        with evaluating(setup.model), torch.no_grad():
            loss, metric, name = evaluate(partial(score, setup.model, setup.loss_fn), batches, setup.loss_fn)
    return f"loss {loss[0]:.4g}" + ("" if metric is None else f", {name} {metric[0]:.3g}")


def _take_step(setup: Setup, section: OptimizerSection) -> None:
    """Take one training step, as a run does.

    Raises:
        UsageError: if it fails, for example because the optimizer needs a closure.
    """
    with _explained(f"step with {section.name}: "):
        for _ in train(setup, np.array([section.lr])):
            pass


def _nonfinite_count(tensor: Tensor) -> int:
    """Count the numbers of a tensor that are not finite."""
    if tensor.device.type == "meta" or not (tensor.is_floating_point() or tensor.is_complex()):
        return 0
    numbers = tensor.coalesce().values() if tensor.is_sparse else tensor
    return int((~numbers.isfinite()).sum())


def _outputs(setup: Setup, batch: Any) -> list[tuple[str, nn.Module, Any]]:
    """Return the name, module and output of each part of the model on a batch, in the order of the calls."""
    outputs: list[tuple[str, nn.Module, Any]] = []
    hooks = [
        module.register_forward_hook(
            lambda module, _, output, name=name: outputs.append((name, module, output))
        )
        for name, module in setup.model.named_modules()
        if name
    ]
    with setup.casting():
        output_and_loss(setup.model, setup.loss_fn, batch)
    for hook in hooks:
        hook.remove()
    return outputs


def _first_nonfinite_layer(setup: Setup, batch: Any) -> str:
    """Name the first layer whose output is not finite, as the end of a sentence."""
    for name, module, output in _outputs(setup, batch):
        if any(_nonfinite_count(tensor) for tensor in tensors_in(output)):
            return f": the first layer whose output is not finite is '{name}' ({type(module).__name__})"
    return ": forward makes it so after its last layer" if len([*setup.model.children()]) else ""


def _why_no_gradient(setup: Setup, batch: Any, output: Any) -> str:
    """Say where in the model or the loss the gradient is lost."""
    if any(tensor.requires_grad for tensor in tensors_in(output)) and setup.loss_fn is not None:
        return (
            "loss: it has no gradient, although the model's output has one, so the loss detaches it; do not"
            " use .detach(), .item(), argmax, rounding or torch.no_grad() in the loss."
        )
    for name, module, layer_output in _outputs(setup, batch):
        trained = any(parameter.requires_grad for parameter in module.parameters())
        if trained and not any(tensor.requires_grad for tensor in tensors_in(layer_output)):
            return (
                f"model: its output has no gradient, because the output of layer '{name}'"
                f" ({type(module).__name__}) has none; is the layer called under torch.no_grad(), or with"
                " detached weights?"
            )
    return (
        "model: its output has no gradient, although the outputs of its layers have one, so forward detaches"
        " it; do not use .detach(), .item(), .numpy(), argmax, rounding or torch.no_grad() in forward."
    )
