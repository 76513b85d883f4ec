"""What the tests of all frameworks need: no network, one thread, and data that every framework can take."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator

import pytest
import torch

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "WANDB_MODE": "disabled",
    "DO_NOT_TRACK": "1",
    "KERAS_BACKEND": "torch",
}


@pytest.fixture(autouse=True, scope="package")
def _offline() -> Iterator[None]:
    """Frameworks are imported inside the tests, after this, and only if these tests are run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OFFLINE.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def fastai() -> None:
    """Import fastai, whose import warns of what it uses."""
    with warnings.catch_warnings(action="ignore"):
        importlib.import_module("fastai.callback.training")
