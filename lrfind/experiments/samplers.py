"""Which lrs to try next: from a range, and what is known so far, to peaks. Pure functions of their arguments.

Random and grid are ours; Sobol is SciPy's; TPE and the Gaussian process are Optuna's, whose study is built
anew from the history at every ask. So an ask depends on the history and the seed alone, and comes out the
same after a resume.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrfind.catalog import Sampler
from lrfind.errors import import_optional

STARTUP_SHARE = 0.25  # of the trials are drawn by Sobol before TPE or the process take over
FEWEST_STARTUP = 4


@dataclass(frozen=True)
class Trial:
    """One lr that was tried.

    Attributes:
        lr: in the range.
        loss: its final loss; inf if it diverged or was pruned.
    """

    lr: float
    loss: float


def grid(low: float, high: float, points: int) -> list[float]:
    """Points spaced evenly in log lr, both ends included.

    >>> grid(1e-3, 1e-1, 3)
    [0.001, 0.01, 0.1]
    """
    inner = [float(f"{lr:.12g}") for lr in np.geomspace(low, high, points)[1:-1]]
    return [low, *inner, high]


def propose(
    sampler: Sampler, low: float, high: float, history: Sequence[Trial], count: int, trials: int, seed: int
) -> list[float]:
    """Propose the next lrs of a search.

    Args:
        sampler: its name.
        low: lower end of the range.
        high: upper end.
        history: what was tried before, in order.
        count: how many to propose.
        trials: how many the whole search has, which sets how many are spread evenly first.
        seed: of the whole search.

    Returns:
        `count` lrs between low and high.

    Raises:
        UsageError: if the sampler's package is not installed.
    """
    before = len(history)
    if sampler == "random":
        return random(low, high, before + count, seed)[before:]
    if sampler == "sobol":
        return sobol(low, high, before + count, seed)[before:]
    spread = sobol(low, high, startup(trials), seed)[before : before + count]
    learned = count - len(spread)
    if learned == 0:
        return spread
    known = [*history, *(Trial(lr, math.nan) for lr in spread)]
    asked = _ask_optuna(sampler, low, high, known, learned, seed)
    return spread + _without_repeats(asked, [trial.lr for trial in known], low, high, seed)


def startup(trials: int) -> int:
    """How many lrs of a search are spread evenly before a sampler can learn from them."""
    return max(FEWEST_STARTUP, math.ceil(STARTUP_SHARE * trials))


def random(low: float, high: float, count: int, seed: int) -> list[float]:
    """Log-uniform; the first n of a longer draw are the draw of n."""
    unit = np.random.default_rng(np.random.SeedSequence((seed, 0))).random(count)
    return _spread(low, high, unit)


def sobol(low: float, high: float, count: int, seed: int) -> list[float]:
    """Log-uniform with low discrepancy: a scrambled Sobol sequence (Owen 1998), as in SciPy."""
    qmc = import_optional("scipy.stats.qmc", "--sampler sobol, and the start of tpe and gp,")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The balance properties", UserWarning)
        engine = qmc.Sobol(d=1, scramble=True, rng=np.random.default_rng(np.random.SeedSequence((seed, 1))))
        return _spread(low, high, engine.random(count)[:, 0])


def _without_repeats(
    lrs: Sequence[float], known: Sequence[float], low: float, high: float, seed: int
) -> list[float]:
    """The same lrs, each that is known already replaced: a second training of it would tell nothing new."""
    seen = list(known)
    for lr, instead in zip(lrs, random(low, high, len(known) + len(lrs), seed)[-len(lrs) :], strict=True):
        repeated = any(math.isclose(lr, other, rel_tol=1e-6) for other in seen)
        seen.append(instead if repeated else lr)
    return seen[len(known) :]


def _spread(low: float, high: float, unit: Any) -> list[float]:
    return [float(lr) for lr in np.clip(low * (high / low) ** unit, low, high)]


def _ask_optuna(
    sampler: Sampler, low: float, high: float, history: Sequence[Trial], count: int, seed: int
) -> list[float]:
    """Ask a sampler of Optuna's `count` times; a trial of unknown loss (NaN) is told as running."""
    optuna = import_optional("optuna", f"--sampler {sampler}")
    number = int(np.random.SeedSequence((seed, 2, len(history))).generate_state(1)[0])
    space = {"lr": optuna.distributions.FloatDistribution(low, high, log=True)}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            chosen = (
                optuna.samplers.TPESampler(seed=number, n_startup_trials=0, constant_liar=True)
                if sampler == "tpe"
                else optuna.samplers.GPSampler(seed=number, n_startup_trials=0)
            )
            study = optuna.create_study(sampler=chosen)
            for lr, loss in _as_told(history, low, high):
                study.add_trial(_frozen(optuna, lr, loss, space))
            return [float(study.ask(space).params["lr"]) for _ in range(count)]
    finally:
        optuna.logging.set_verbosity(level)


def _as_told(history: Sequence[Trial], low: float, high: float) -> list[tuple[float, float]]:
    """(lr, loss) with lr inside the range, and a loss without end as one worse than any that is known.

    How much worse says nothing: twice the spread keeps a Gaussian process in scale.
    """
    known = [trial.loss for trial in history if math.isfinite(trial.loss)]
    worst = max(known) + (max(known) - min(known) or 1.0) if known else 1.0
    return [
        (min(max(trial.lr, low), high), worst if math.isinf(trial.loss) else trial.loss) for trial in history
    ]


def _frozen(optuna: Any, lr: float, loss: float, space: dict[str, Any]) -> Any:
    states = optuna.trial.TrialState
    if math.isnan(loss):
        return optuna.trial.create_trial(params={"lr": lr}, distributions=space, state=states.RUNNING)
    return optuna.trial.create_trial(params={"lr": lr}, distributions=space, value=loss)
