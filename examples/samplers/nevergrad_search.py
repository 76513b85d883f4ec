"""Nevergrad as the sampler of a search: `lrfind search --sampler nevergrad_search:propose`."""

import nevergrad as ng
import numpy as np


def propose(low, high, history, count, seed):
    """Tell an optimizer of Nevergrad all trials so far, and ask it for `count` lrs."""
    lr = ng.p.Log(lower=low, upper=high)
    lr.random_state = np.random.RandomState(seed)
    optimizer = ng.optimizers.TwoPointsDE(lr)
    for trial in history:
        optimizer.tell(lr.spawn_child(new_value=trial.lr), trial.loss)
    return [optimizer.ask().value for _ in range(count)]
