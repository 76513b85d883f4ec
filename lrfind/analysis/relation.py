"""The relation of a model's output to the targets: whether it predicts anything of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SURE_RISE = 3.0  # standard errors of a rise that are needed to trust that there is one


@dataclass(frozen=True)
class Relation:
    """Whether what a model says of its inputs has anything to do with their targets.

    Attributes:
        rises: how much the loss of each of several batches rises if its targets are shuffled among its rows.
        varies: whether the output differs between the rows of a batch.
        different: the number of batches in one pass over the data, if it is smaller than that of `rises`.
            Further batches have the same rows again, and tell nothing new.
    """

    rises: Sequence[float]
    varies: bool = True
    different: int | None = None

    @property
    def sure(self) -> bool:
        """Whether the loss rises by more than chance, so that the model predicts something of the targets.

        >>> Relation([0.1, 0.3, 0.2, 0.2]).sure, Relation([0.1, 0.3, 0.2, 0.2], different=1).sure
        (True, False)
        """
        rises = np.array(self.rises)
        error = float(rises.std(ddof=1)) / math.sqrt(self.different or len(rises))
        return float(rises.mean()) > SURE_RISE * error
