"""Kernels: faster ways to compute some operations than torch's own.

Max-pooling of images that are stored channel by channel takes torch several times as long as that of
channels-last images, so they are pooled as such. The numbers are the same.

On some processors, matrix products take torch twice as long as they take oneDNN. torch multiplies float32
matrices on a CPU with MKL, which uses AVX-512 on Intel's processors only. oneDNN, which computes torch's
convolutions, uses it on all that have it. torch gives it a float32 product only where the product may be
rounded to bfloat16. oneDNN does round on processors with AMX instructions, so it is used only where a test
shows that it does not. The last digits differ from torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lrfind.training.operations import Operations

LEAST_FLOPS = 2e6
"""The floating-point operations from which a product by oneDNN, which takes longer to begin, is faster."""
MAY_ROUND = "bf16"
LEAST_CHANNELS, LEAST_NUMBERS = 4, 2**16
"""The smallest images, by channels and by all numbers, that are pooled faster as channels-last ones."""
_aten = torch.ops.aten
MAX_POOL = _aten.max_pool2d_with_indices.default
_FACTORS = {_aten.mm.default: 0, _aten.bmm.default: 0, _aten.addmm.default: 1, _aten.baddbmm.default: 1}
"""The operations that multiply matrices, and the place of the first factor among their arguments."""
_as_usual: ContextVar[bool] = ContextVar("as_usual", default=False)


@contextmanager
def digits_as_usual() -> Iterator[None]:
    """Compute everything inside the block to the last digit as torch does by itself.

    So matrix products are torch's own, and a stack takes one step for all its lanes (see `update_of`).
    """
    token = _as_usual.set(True)
    try:
        yield
    finally:
        _as_usual.reset(token)


def digits_are_usual() -> bool:
    """Return whether ways of computing that change the last digits are ruled out."""
    return _as_usual.get()


def fastest(operation: Any, args: Sequence[Any]) -> Callable[..., Any]:
    """Return the fastest way to compute an operation on tensors of these shapes."""
    usual: Callable[..., Any] = operation
    if operation is MAX_POOL:
        return _pooled_channels_last if _is_slow_to_pool(args[0]) else usual
    place = _FACTORS.get(operation)
    if place is None or digits_are_usual() or not _onednn_is_faster():
        return usual
    first, second = args[place : place + 2]
    large = 2 * first.numel() * second.shape[-1] >= LEAST_FLOPS
    plain = first.dtype == torch.float32 and first.device.type == "cpu"
    return _by_onednn(operation) if large and plain else usual


def fast_kernels(allowed: bool) -> AbstractContextManager[object]:
    """Compute every operation inside the block in its fastest way, also those of a backward pass."""
    mode: Any = FastKernels
    return mode() if allowed else nullcontext()


class FastKernels(Operations):  # type: ignore[no-untyped-call]
    """Computes every operation inside the block in its fastest way."""

    def compute(self, operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return what an operation returns for these arguments."""
        return fastest(operation, args)(*args, **kwargs)


def _is_slow_to_pool(images: Tensor) -> bool:
    """Return whether images (B, C, H, W) are pooled faster as channels-last ones."""
    large = images.ndim == 4 and images.shape[1] >= LEAST_CHANNELS and images.numel() >= LEAST_NUMBERS
    return large and images.device.type == "cpu" and images.is_contiguous()


def _pooled_channels_last(images: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """Return the maxima and their places, stored channel by channel as those that torch returns."""
    maxima, places = MAX_POOL(images.contiguous(memory_format=torch.channels_last), *args)
    return maxima.contiguous(), places.contiguous()


@cache
def _by_onednn(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    backend: Any = torch.backends.mkldnn
    settings = backend.matmul

    def product(*args: Any, **kwargs: Any) -> Tensor:
        before = settings.fp32_precision
        try:
            settings.fp32_precision = MAY_ROUND
            return operation(*args, **kwargs)
        finally:
            settings.fp32_precision = before

    return product


@cache
def _onednn_is_faster() -> bool:
    """Return whether oneDNN multiplies float32 matrices on this machine faster than MKL, and as exactly."""
    mkl, onednn = (getattr(torch.backends, name) for name in ("mkl", "mkldnn"))
    if not (mkl.is_available() and onednn.is_available() and hasattr(onednn, "matmul")):  # torch 2.9
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or _is_intel():
        return False
    matrix = torch.linspace(0, 1, 256 * 256).view(256, 256)
    product = _by_onednn(torch.mm)(matrix, matrix).double()
    exact = matrix.double() @ matrix.double()
    return math.isclose(float((product - exact).abs().max() / exact.abs().max()), 0, abs_tol=1e-5)


def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux; there nothing is known about the processor
        return True
