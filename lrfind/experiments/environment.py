"""What a run ran on, as far as it can change the numbers."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch

from lrfind.version import VERSION


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device, threads."""
    return {
        "lrfind": VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
