"""Weights from a file: a state dict that a training starts from."""

from __future__ import annotations

import difflib
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lrfind.config.sections import ModelSection
from lrfind.errors import UsageError, counted, first_few

MOST_LISTED = 5  # names in a message
WRAPPERS = ("model", "state_dict", "model_state_dict")
"""The keys under which common kinds of checkpoints keep the model's state dict."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the state dict in a file that torch wrote; unpickle only tensors.

    Raises:
        UsageError: if the file cannot be read, or holds no state dict.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns about files that it did not write
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"model.init_from: there is no file '{path}'.") from None
    except OSError as error:
        raise UsageError(f"model.init_from: cannot read '{path}': {error.strerror}.") from None
    except Exception as error:  # torch raises many kinds of errors
        reason = (
            "it holds other objects" if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        )
        raise UsageError(
            f"model.init_from: '{path}' is not a file with only weights ({reason}); save one with"
            " torch.save(model.state_dict(), path)."
        ) from None
    if isinstance(content, dict):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UsageError(f"model.init_from: '{path}' holds no state dict; save model.state_dict().")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def load_weights(model: nn.Module, weights: dict[str, Tensor], section: ModelSection) -> str:
    """Load weights into a model.

    Args:
        model: the model, changed in place.
        weights: the weights, under their names in the model's state dict.
        section: the model's section of the config; `init_strict` says whether all weights must be there and
            fit.

    Returns:
        A sentence that says which weights were loaded and which were not.

    Raises:
        UsageError: if all weights must fit and some do not, or if none fits.
    """
    state = model.state_dict()
    lazy = next((name for name, value in state.items() if nn.parameter.is_lazy(value)), None)
    if lazy is not None:
        raise UsageError(
            f"model.init_from: {lazy} belongs to a lazy layer, which has no shape yet; use a layer with a"
            " fixed shape."
        )
    fitting = {name: value for name, value in weights.items() if name in state and _fits(value, state[name])}
    nonfinite = next((name for name, value in fitting.items() if not bool(value.isfinite().all())), None)
    if nonfinite is not None:
        raise UsageError(
            f"model.init_from: '{section.init_from}' has numbers that are not finite, in {nonfinite}."
        )
    missing = [name for name in state if name not in weights]
    foreign = [name for name in weights if name not in state]
    unfitting = [
        f"{name} {' where the model has '.join(_forms(weights[name], state[name]))}"
        for name in state
        if name in weights and name not in fitting
    ]
    not_loaded = [
        f"{len(names)} {description}: {first_few(names, MOST_LISTED)}"
        for description, names in (
            ("of another shape or type", unfitting),
            ("missing in the file", missing),
            ("not in the model", foreign),
        )
        if names
    ]
    if not_loaded and (section.init_strict or not fitting):
        similar = difflib.get_close_matches(missing[0], foreign, n=1, cutoff=0.5) if missing else []
        hint = f" ('{missing[0]}' may be called '{similar[0]}' in the file.)" if similar else ""
        advice = " With model.init_strict: false, the weights that fit are loaded and the others are new."
        if not fitting:
            advice = " Nothing in it fits, so model.init_strict: false would load nothing."
        raise UsageError(
            f"model.init_from: '{section.init_from}' does not fit {section.name}: {'; '.join(not_loaded)}."
            f"{hint}{advice}"
        )
    model.load_state_dict(fitting, strict=False)
    rest = f"; the others keep their initial values: {'; '.join(not_loaded)}" if not_loaded else ""
    total, verb = counted(len(state), "weight"), "was" if len(fitting) == 1 else "were"
    return f"{len(fitting):,} of {total} {verb} loaded from '{section.init_from}'{rest}."


def _fits(value: Tensor, expected: Tensor) -> bool:
    kinds = (Tensor.is_floating_point, Tensor.is_complex)
    same_kind = all(kind(value) == kind(expected) for kind in kinds)
    return same_kind and value.shape == expected.shape and value.layout == expected.layout


def _forms(*tensors: Tensor) -> list[str]:
    """Describe two tensors that differ: by their shapes if these differ, or else by their types."""
    shapes = [str(tuple(tensor.shape)) for tensor in tensors]
    return shapes if len({*shapes}) > 1 else [f"{tensor.dtype}, {tensor.layout}" for tensor in tensors]
