"""Operations: a view of what torch computes, below autograd and vmap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes every operation of torch inside the block, those of a backward pass too, by `compute`."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, because otherwise torch imports its compiler only to keep it out of this class."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self.compute(func, args, kwargs or {})

    def compute(self, operation: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return what an operation returns for these arguments."""
        raise NotImplementedError
