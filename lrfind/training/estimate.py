"""The estimate of a step's time from its work, for one lane and for a stack of lanes.

A step takes a fixed time, a time for each operation, each floating-point operation and each byte; all lanes
of a stack share the first two. `benchmarks/speed/modes.py` fitted the constants, in seconds, to its
measurements in `benchmarks/results/modes.csv`: 14 models, three sizes of batches and up to 32 lanes, on one
thread of an AMD EPYC core with torch 2.14. Only ratios of these numbers are used, since the time of a single
lane is measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lrfind.training.work import Work


@dataclass(frozen=True)
class Constants:
    """The seconds of the parts of a step.

    Attributes:
        step: of any single step.
        operation: of an operation in it.
        flop: of a floating-point operation of a matrix product.
        byte: of a written byte.
        stacked_step: of any step of a stack.
        stacked_operation: of an operation of a stack.
        stacked_flop: how many times as long a floating-point operation of a matrix product takes in a stack.
        stacked_convolution: the same for a convolution.
        stacked_byte: the same for a byte, as long as the cache holds all that a step of the stack writes.
        spill: the growth of that with the logarithm of what is written, in caches.
    """

    step: float
    operation: float
    flop: float
    byte: float
    stacked_step: float
    stacked_operation: float
    stacked_flop: float
    stacked_convolution: float
    stacked_byte: float
    spill: float


CACHE = 32e6
"""The bytes of the cache of that machine."""
FITTED = Constants(
    step=1.43e-05,
    operation=1.33e-05,
    flop=8.77e-12,
    byte=2.21e-10,
    stacked_step=1.35e-05,
    stacked_operation=1.12e-05,
    stacked_flop=1.25,
    stacked_convolution=1.74,
    stacked_byte=0.443,
    spill=0.994,
)


RECORDING = 4e-4
"""The seconds in which a stack records an operation there: 3e-4 for a linear model, 4e-4 for an MLP."""


@dataclass(frozen=True)
class Estimate:
    """The estimated seconds of steps on this machine.

    Attributes:
        work: the work of a single lane's step.
        single: the measured seconds of a single lane's step.
        constants: the constants of the estimate.
    """

    work: Work
    single: float
    constants: Constants = FITTED

    @property
    def alone(self) -> float:
        """The seconds of a single lane's step on the machine of the constants."""
        work, c = self.work, self.constants
        return c.step + c.operation * work.operations + c.flop * work.flops + c.byte * work.bytes

    def stack(self, lanes: int) -> float:
        """Return the seconds of a step of a stack of `lanes` lanes."""
        work, c = self.work, self.constants
        shared = c.stacked_step + c.stacked_operation * work.operations
        slower = c.stacked_flop + (c.stacked_convolution - c.stacked_flop) * work.convolved
        spill = 1 + c.spill * math.log1p(lanes * work.bytes / CACHE)
        own = c.flop * work.flops * slower + c.byte * work.bytes * c.stacked_byte * spill
        return self.single * (shared + lanes * own) / self.alone

    @property
    def recording(self) -> float:
        """The seconds in which a stack records its step, once."""
        return self.single * RECORDING * self.work.operations / self.alone

    def ratio(self, lanes: int) -> float:
        """Return how many times as fast as single lanes a stack is."""
        return lanes * self.single / self.stack(lanes)
