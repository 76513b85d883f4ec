"""Settings of torch that a user's code may change, and that would then hold for the lanes after it."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TorchSettings:
    """Torch's global settings at one moment, besides the number of threads.

    Attributes:
        dtype: the default type of floating-point numbers.
        grad_enabled: whether autograd records.
        deterministic: whether only deterministic algorithms are used.
        warn_only: whether others are only warned of.
        matmul: the precision of matrix products in float32; None if it was set for one backend alone.
        anomaly: whether autograd looks for anomalies.
    """

    dtype: torch.dtype
    grad_enabled: bool
    deterministic: bool
    warn_only: bool
    matmul: str | None
    anomaly: bool

    @classmethod
    def now(cls) -> TorchSettings:
        """Return the settings at this moment."""
        return cls(
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            _matmul_precision(),
            torch.is_anomaly_enabled(),
        )

    def restore(self) -> None:
        """Set torch back to these settings."""
        if TorchSettings.now() == self:
            return
        torch.set_default_dtype(self.dtype)
        torch.set_grad_enabled(self.grad_enabled)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        if self.matmul is not None:
            torch.set_float32_matmul_precision(self.matmul)
        torch.autograd.set_detect_anomaly(self.anomaly)


def _matmul_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # as after torch.backends.cuda.matmul.fp32_precision = "tf32"
        return None
