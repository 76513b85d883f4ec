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
from lrfind.errors import UsageError

LISTED = 5  # names in a message
WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Where checkpoints of common makes keep the model's state dict."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file that torch wrote; nothing but tensors is unpickled.

    Raises:
        UsageError: if the file cannot be read, or holds no state dict.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # torch has some for bytes that are none of its own
            held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"model.init_from: there is no file '{path}'.") from None
    except OSError as error:
        raise UsageError(f"model.init_from: cannot read '{path}': {error.strerror}.") from None
    except Exception as error:  # torch lets many kinds through
        what = "it holds objects" if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        raise UsageError(
            f"model.init_from: '{path}' is not a file of weights alone ({what}); save one with"
            " torch.save(model.state_dict(), path)."
        ) from None
    if isinstance(held, dict):
        held = next((held[key] for key in WRAPPERS if isinstance(held.get(key), dict)), held)
    if not isinstance(held, dict) or not any(isinstance(value, Tensor) for value in held.values()):
        raise UsageError(f"model.init_from: '{path}' holds no state dict; save model.state_dict().")
    return {str(name): value for name, value in held.items() if isinstance(value, Tensor)}


def load_weights(model: nn.Module, weights: dict[str, Tensor], section: ModelSection) -> str:
    """Put weights into a model.

    Args:
        model: changed in place.
        weights: by the names of its state dict.
        section: of the config; `init_strict` says whether all must be there and fit.

    Returns:
        What was loaded and what was not, in words.

    Raises:
        UsageError: if not all fit and they must, or none does.
    """
    own = model.state_dict()
    lazy = next((name for name, value in own.items() if nn.parameter.is_lazy(value)), None)
    if lazy is not None:
        raise UsageError(f"model.init_from: {lazy} is of a lazy layer, which has no shape yet; give it one.")
    fitting = {name: value for name, value in weights.items() if name in own and _fits(value, own[name])}
    wild = next((name for name, value in fitting.items() if not bool(value.isfinite().all())), None)
    if wild is not None:
        raise UsageError(
            f"model.init_from: '{section.init_from}' has numbers that are not finite, in {wild}."
        )
    missing = [name for name in own if name not in weights]
    foreign = [name for name in weights if name not in own]
    misshapen = [
        f"{name} {' where the model has '.join(_forms(weights[name], own[name]))}"
        for name in own
        if name in weights and name not in fitting
    ]
    left = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (
            ("of another shape or type", misshapen),
            ("missing in the file", missing),
            ("not in the model", foreign),
        )
        if names
    ]
    if left and (section.init_strict or not fitting):
        near = difflib.get_close_matches(missing[0], foreign, n=1, cutoff=0.5) if missing else []
        hint = f" ('{missing[0]}' may be '{near[0]}' there.)" if near else ""
        way = " With model.init_strict: false, what fits is loaded and the rest is new."
        if not fitting:
            way = " Nothing in it fits, so that init_strict: false would load nothing."
        raise UsageError(
            f"model.init_from: '{section.init_from}' does not fit {section.name}: {'; '.join(left)}."
            f"{hint}{way}"
        )
    model.load_state_dict(fitting, strict=False)
    rest = f"; left as they were made: {'; '.join(left)}" if left else ""
    return f"{len(fitting)} of {len(own)} weights were loaded from '{section.init_from}'{rest}."


def _fits(value: Tensor, own: Tensor) -> bool:
    kinds = (Tensor.is_floating_point, Tensor.is_complex)
    same = all(kind(value) == kind(own) for kind in kinds)
    return same and value.shape == own.shape and value.layout == own.layout


def _forms(*tensors: Tensor) -> list[str]:
    """What tells two tensors apart: their shapes, or else their types."""
    shapes = [str(tuple(tensor.shape)) for tensor in tensors]
    return shapes if len({*shapes}) > 1 else [f"{tensor.dtype}, {tensor.layout}" for tensor in tensors]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
