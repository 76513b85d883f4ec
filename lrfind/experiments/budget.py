"""The budget of probing, in gradient steps and in seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Budget:
    """The steps and seconds that probing may take, and those that it has taken.

    Attributes:
        steps: the most gradient steps.
        seconds: the most seconds of wall clock since `began`; None for no limit.
        taken: the number of gradient steps so far.
        expected: the seconds that a step is expected to take; used until the first step is taken.
        began: when probing began, by the monotonic clock.
    """

    steps: float
    seconds: float | None = None
    taken: int = 0
    expected: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def affords(self, steps: int) -> bool:
        """Return whether `steps` more steps fit into the budget, at the pace so far."""
        if self.seconds is None:
            return self.taken + steps <= self.steps
        passed = time.monotonic() - self.began
        pace = passed / self.taken if self.taken else self.expected
        return self.taken + steps <= self.steps and passed + steps * pace <= self.seconds
