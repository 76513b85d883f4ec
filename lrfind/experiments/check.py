"""Fitting: whether data, model, loss and optimizer go together, seen on one batch and without a step."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lrfind.config.experiment import Experiment
from lrfind.errors import LrfindError, UsageError
from lrfind.problem.batches import output_and_loss
from lrfind.problem.components import import_names
from lrfind.problem.problem import Problem, from_config
from lrfind.problem.setup import Setup
from lrfind.training.evaluation import evaluate, evaluating, score
from lrfind.training.explanations.failures import explain, in_its_own_words
from lrfind.training.explanations.forms import batch_parts, describe, describe_batch, form, listed, tensors_in
from lrfind.training.explanations.targets import idle_dtype, misfit, silent_misfit


def check_batch(experiment: Experiment) -> Iterator[str]:
    """Set up what a config describes, as a run would, and take one batch through it, without any step.

    Args:
        experiment: the config; what it names is imported.

    Yields:
        Lines of a report, each as soon as it holds.

    Raises:
        UsageError: for the first thing that does not fit; it says where, and what would do.
    """
    test = experiment.range_test
    with _explained():
        import_names(experiment)
        problem = from_config(experiment, held_out=test.held_out, group=test.group)
        setup = problem.setup(experiment.seed)
    with _explained("data: "):
        batch = next(setup.batches)
    for told in problem.data.get("transforms") or ():
        yield f"data: {told}"
    yield f"batch: {describe_batch(batch)}"
    if problem.batches_per_epoch is None:
        if experiment.training.epochs is not None:
            raise UsageError("training.epochs: the data has no length; give training.steps instead.")
        yield "length: the data has none, so that trainings are given in steps, not in epochs"
    yield f"model: {experiment.model.name}, {_census(setup.model)}"
    _refuse_wild_input(batch)
    with _explained(), setup.casting(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using a target size")  # that is refused below
        output, loss = output_and_loss(setup.model, setup.loss_fn, batch)
    yield f"output: {describe(output)}"
    _refuse_misfits(setup, problem, batch, output, loss)
    name = "the output's .loss" if experiment.loss is None else experiment.loss.name
    yield f"loss: {loss.item():.4g} ({name}), a scalar with a gradient"
    yield from _pair_notes(setup, batch, output)
    yield f"gradient: {_gradient(setup, batch, output, loss)}"
    yield f"validation: {_validation(setup, problem)}"
    yield "ok"


@contextmanager
def _explained(part: str = "") -> Iterator[None]:
    """Turn any exception inside into one that says what does not fit."""
    try:
        yield
    except LrfindError as error:
        raise UsageError(f"{part}{explain(error)}") from error
    except (Exception, SystemExit) as error:  # anything may go wrong in a user's code
        told = (explain(error), in_its_own_words(error))
        raise UsageError(part + "\n  ".join(text for text in told if text)) from error


def _census(model: nn.Module) -> str:
    """How many weights a model has, and which of them are trained."""
    named = dict(model.named_parameters())
    if any(nn.parameter.is_lazy(parameter) for parameter in named.values()):
        return "with lazy layers, whose shapes come from the first batch"
    total = sum(parameter.numel() for parameter in named.values())
    trained = sum(parameter.numel() for parameter in named.values() if parameter.requires_grad)
    if trained == total:
        return f"{total:,} weights in {len(named)} tensor{'s' * (len(named) > 1)}, all trained"
    return f"{trained:,} of {total:,} weights are trained; frozen: {listed(_frozen(named))}"


def _frozen(named: dict[str, nn.Parameter]) -> list[str]:
    """The names of what is not trained: of a part, `part.*`, where all of it is frozen."""
    parts: dict[str, list[str]] = {}
    for name in named:
        parts.setdefault(name.partition(".")[0], []).append(name)
    found = []
    for part, names in parts.items():
        still = [name for name in names if not named[name].requires_grad]
        found += [f"{part}.*"] if len(still) == len(names) > 1 else still
    return found


def _refuse_wild_input(batch: Any) -> None:
    for name, part in batch_parts(batch).items():
        for tensor in tensors_in(part):
            count = _wild(tensor)
            if count:
                raise UsageError(
                    f"data: {name} {form(tensor)} of the first batch holds {count} numbers that are NaN or"
                    " inf; no loss of theirs is finite: leave such rows out of the data set, or fill them."
                )


def _refuse_misfits(setup: Setup, problem: Problem, batch: Any, output: Any, loss: Tensor) -> None:
    """Refuse what torch computes without a word, and should not have."""
    device = next(setup.model.parameters()).device
    for name, tensor in (*(("output", tensor) for tensor in tensors_in(output)), ("loss", loss)):
        if tensor.device.type != problem.device.type:
            raise UsageError(
                f"{'model: its' if name == 'output' else 'loss: the'} {name} is on {tensor.device}, the"
                f" batch is on {problem.device} and the weights are on {device}; lrfind moves model and"
                " batches to `device`: move neither in your code."
            )
    pair = _pair(setup, batch, output)
    told = silent_misfit(*pair) if pair else None
    if told:
        raise UsageError(f"loss: {told}.")
    if any(_wild(tensor) for tensor in tensors_in(output)):
        raise UsageError(
            f"model: its output is NaN or inf, {describe(output)}, and the batch is"
            f" finite{_first_wild(setup, batch)}."
        )
    if _wild(loss):
        raise UsageError(
            f"loss: it is {loss.item()} at the first batch, though batch and output are finite; look for the"
            " log or the root of zero, or a division by it, in the loss."
        )
    if not loss.requires_grad:
        raise UsageError(_no_gradient(setup, batch, output))


def _pair(setup: Setup, batch: Any, output: Any) -> tuple[Any, Tensor, Tensor] | None:
    """The loss and the two tensors that it compares, where it is known to compare two."""
    if setup.loss_fn is None or not isinstance(batch, tuple | list):
        return None
    y = batch[-1]
    return (setup.loss_fn, output, y) if isinstance(output, Tensor) and isinstance(y, Tensor) else None


def _pair_notes(setup: Setup, batch: Any, output: Any) -> Iterator[str]:
    pair = _pair(setup, batch, output)
    told = idle_dtype(*pair) if pair else None
    if told:
        yield f"note: {told}"


def _gradient(setup: Setup, batch: Any, output: Any, loss: Tensor) -> str:
    """Which of the trained parameters the gradient of the loss reaches."""
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        pair = _pair(setup, batch, output)
        told = misfit(*pair) if pair else None
        text = f"loss: {told}." if told else explain(error)
        raise UsageError("\n  ".join(part for part in (text, in_its_own_words(error)) if part)) from error
    trained = {name: p for name, p in setup.model.named_parameters() if p.requires_grad}
    wild = [name for name, p in trained.items() if p.grad is not None and _wild(p.grad)]
    if wild:
        raise UsageError(
            f"gradient: it is NaN or inf at {listed(wild)}, though the loss is finite; look for the root of"
            " zero, or a division by what may be zero."
        )
    missed = [name for name, p in trained.items() if p.grad is None]
    if len(missed) == len(trained):
        raise UsageError("gradient: the loss has one, but it reaches no weight of the model that is trained.")
    if missed:
        return f"none at {listed(missed)}: no part in the loss"
    return f"reaches {'its one tensor' if len(trained) == 1 else f'all {len(trained)} tensors'}"


def _validation(setup: Setup, problem: Problem) -> str:
    if problem.validation is None:
        return "none; give the data as a pair (train, validation) for a validation loss"
    with _explained("validation: "):
        held = [batch for _, batch in zip(range(1), problem.validation(), strict=False)]
        with evaluating(setup.model), torch.no_grad():
            loss, metric, name = evaluate(partial(score, setup.model, setup.loss_fn), held)
    return f"loss {loss[0]:.4g}" + ("" if metric is None else f", {name} {metric[0]:.3g}")


def _wild(tensor: Tensor) -> int:
    """How many of its numbers are not finite."""
    if tensor.device.type == "meta" or not tensor.is_floating_point():
        return 0
    return int((~tensor.isfinite()).sum())


def _outputs(setup: Setup, batch: Any) -> list[tuple[str, nn.Module, Any]]:
    """The output of each part of the model on a batch, in the order in which they are done."""
    found: list[tuple[str, nn.Module, Any]] = []
    hooks = [
        module.register_forward_hook(
            lambda module, _, output, name=name: found.append((name, module, output))
        )
        for name, module in setup.model.named_modules()
        if name
    ]
    with setup.casting():
        output_and_loss(setup.model, setup.loss_fn, batch)
    for hook in hooks:
        hook.remove()
    return found


def _first_wild(setup: Setup, batch: Any) -> str:
    for name, module, output in _outputs(setup, batch):
        if any(_wild(tensor) for tensor in tensors_in(output)):
            return f": the first layer that is not finite is '{name}' ({type(module).__name__})"
    return ": forward makes it so after its last layer" if len([*setup.model.children()]) else ""


def _no_gradient(setup: Setup, batch: Any, output: Any) -> str:
    """Where a loss without a gradient lost it."""
    if any(tensor.requires_grad for tensor in tensors_in(output)) and setup.loss_fn is not None:
        return (
            "loss: it has no gradient, and the model's output has one: the loss detaches it; leave"
            " .detach(), .item(), argmax, rounding and torch.no_grad() out of it."
        )
    for name, module, made in _outputs(setup, batch):
        trained = any(parameter.requires_grad for parameter in module.parameters())
        if trained and not any(tensor.requires_grad for tensor in tensors_in(made)):
            return (
                f"model: its output has no gradient: already that of layer '{name}'"
                f" ({type(module).__name__}) has none; is it called under torch.no_grad(), or on weights"
                " that are detached?"
            )
    return (
        "model: its output has no gradient, though its layers have: forward detaches it; leave .detach(),"
        " .item(), .numpy(), argmax, rounding and torch.no_grad() out of it."
    )
