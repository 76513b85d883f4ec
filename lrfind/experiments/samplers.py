"""Samplers: pure functions that choose the next lrs to try, from a range and the trials so far.

Random and grid are ours, Sobol is SciPy's, TPE and the Gaussian process are Optuna's. Optuna's study is built
anew from the history at every ask. So an ask depends only on the history and the seed, and it gives the same
lrs after a resume. A user's own sampler is a function of the same arguments as `tpe` and `gp`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lrfind.catalog import SAMPLERS
from lrfind.config.registry import import_path, load, resolve
from lrfind.errors import UsageError, as_exception, counted, import_optional, in_one_line
from lrfind.training.explanations.failures import own_line

STARTUP_SHARE = 0.25  # share of the trials that Sobol draws before TPE or the Gaussian process takes over
FEWEST_STARTUP = 4
ROUNDING = 1e-9  # how far an lr of a user's sampler may lie outside the range, relatively, by rounding


@dataclass(frozen=True)
class Trial:
    """One lr that was tried.

    Attributes:
        lr: the lr, inside the range.
        loss: the final loss; inf if the trial diverged or was pruned, and nan if it is still to be trained.
    """

    lr: float
    loss: float


def grid(low: float, high: float, points: int) -> list[float]:
    """Return points that are spaced evenly in log lr, both ends included.

    >>> grid(1e-3, 1e-1, 3)
    [0.001, 0.01, 0.1]
    """
    inner = [float(f"{lr:.12g}") for lr in np.geomspace(low, high, points)[1:-1]]
    return [low, *inner, high]


def propose(
    sampler: str, low: float, high: float, history: Sequence[Trial], count: int, trials: int, seed: int
) -> list[float]:
    """Propose the next lrs of a search.

    Args:
        sampler: the name of the sampler, or pkg.module:attr of a user's own.
        low: the lower end of the range.
        high: the upper end of the range.
        history: the trials so far, in order.
        count: the number of lrs to propose.
        trials: the number of trials of the whole search; it sets how many lrs are spread evenly at first.
        seed: the seed of the whole search.

    Returns:
        `count` lrs between low and high.

    Raises:
        UsageError: if the sampler's package is not installed, or the user's own sampler fails.
    """
    row, before, known = SAMPLERS.get(sampler), len(history), [trial.lr for trial in history]
    if row is not None and not row.learns:
        drawn: list[float] = load(row.path)(low, high, before + count, seed)
        return _without_repeats(drawn[before:], known, low, high, seed)
    spread = [] if row is None else sobol(low, high, startup(trials), seed)[before : before + count]
    spread = _without_repeats(spread, known, low, high, seed)  # the lr to start from may be one of them
    learned = count - len(spread)
    if learned == 0:
        return spread
    earlier = [*history, *(Trial(lr, math.nan) for lr in spread)]
    number = int(np.random.SeedSequence((seed, 2, len(earlier))).generate_state(1)[0])
    ask = partial(_ask_user, sampler) if row is None else load(row.path)
    proposed = ask(low, high, earlier, learned, number)
    return spread + _without_repeats(proposed, [trial.lr for trial in earlier], low, high, seed)


def first_ask(sampler: str, trials: int, batch: int) -> int:
    """Return how many lrs a search asks for at first.

    Args:
        sampler: the name of the sampler.
        trials: the number of trials of the whole search.
        batch: the number of lrs that are asked for at a time.
    """
    row = SAMPLERS.get(sampler)
    if row is None:
        return min(trials, batch)
    return min(trials, startup(trials)) if row.learns else trials


def startup(trials: int) -> int:
    """Return how many lrs of a search are spread evenly before a sampler can learn from them."""
    return max(FEWEST_STARTUP, math.ceil(STARTUP_SHARE * trials))


def random(low: float, high: float, count: int, seed: int) -> list[float]:
    """Draw log-uniform lrs; a longer draw with the same seed begins with the same lrs."""
    unit = np.random.default_rng(np.random.SeedSequence((seed, 0))).random(count)
    return _spread(low, high, unit)


def sobol(low: float, high: float, count: int, seed: int) -> list[float]:
    """Draw log-uniform lrs with low discrepancy: SciPy's scrambled Sobol sequence (Owen 1998)."""
    qmc = import_optional("scipy.stats.qmc", "--sampler sobol, and the start of tpe and gp,")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The balance properties", UserWarning)
        engine = qmc.Sobol(d=1, scramble=True, rng=np.random.default_rng(np.random.SeedSequence((seed, 1))))
        return _spread(low, high, engine.random(count)[:, 0])


def tpe(low: float, high: float, history: Sequence[Trial], count: int, seed: int) -> list[float]:
    """Propose lrs with Optuna's tree-structured Parzen estimator (Bergstra et al. 2011)."""
    optuna = import_optional("optuna", "--sampler tpe")
    sampler = optuna.samplers.TPESampler
    return _ask_optuna(optuna, sampler, low, high, history, count, seed=seed, constant_liar=True)


def gp(low: float, high: float, history: Sequence[Trial], count: int, seed: int) -> list[float]:
    """Propose lrs with Optuna's Gaussian process, where they are expected to improve the loss most."""
    optuna = import_optional("optuna", "--sampler gp")
    return _ask_optuna(optuna, optuna.samplers.GPSampler, low, high, history, count, seed=seed)


def _ask_user(
    name: str, low: float, high: float, history: Sequence[Trial], count: int, seed: int
) -> list[float]:
    """Ask a user's own sampler, with the settled trials and finite losses.

    Raises:
        UsageError: if it fails, or returns anything but `count` lrs between low and high.
    """
    settled = [trial for trial in history if not math.isnan(trial.loss)]
    known = [Trial(lr, loss) for lr, loss in _bounded(settled, low, high)]
    function = resolve(import_path("sampler", name))
    try:
        with as_exception():
            lrs = [float(lr) for lr in function(low, high, known, count, seed)]
    except Exception as error:
        line = own_line(error)
        raise UsageError(
            f"the sampler '{name}' failed when it was asked for {counted(count, 'lr')}: {in_one_line(error)}."
            " A sampler is a function of (low, high, history, count, seed) that returns a list of lrs."
            + (f"\n  {line}" if line else "")
        ) from error
    if len(lrs) != count:
        raise UsageError(
            f"the sampler '{name}' was asked for {counted(count, 'lr')} and returned {len(lrs):,}."
        )
    for lr in lrs:
        if not low * (1 - ROUNDING) <= lr <= high * (1 + ROUNDING):
            raise UsageError(
                f"the sampler '{name}' proposed the lr {lr:g}, which is not between low ({low:g}) and high"
                f" ({high:g})."
            )
    return [min(max(lr, low), high) for lr in lrs]


def _without_repeats(
    lrs: Sequence[float], earlier: Sequence[float], low: float, high: float, seed: int
) -> list[float]:
    """Return the lrs with repeated ones replaced: a second training at the same lr would show nothing new."""
    result = list(earlier)
    unit = np.random.default_rng(np.random.SeedSequence((seed, 3, len(earlier)))).random(len(lrs))
    for lr, substitute in zip(lrs, _spread(low, high, unit), strict=True):
        repeated = any(math.isclose(lr, other, rel_tol=1e-6) for other in result)
        result.append(substitute if repeated else lr)
    return result[len(earlier) :]


def _spread(low: float, high: float, unit: Any) -> list[float]:
    return [float(lr) for lr in np.clip(low * (high / low) ** unit, low, high)]


def _ask_optuna(
    optuna: Any,
    sampler: Any,
    low: float,
    high: float,
    history: Sequence[Trial],
    count: int,
    **options: Any,
) -> list[float]:
    """Ask one of Optuna's samplers `count` times; a trial of unknown loss (NaN) is passed on as running."""
    space = {"lr": optuna.distributions.FloatDistribution(low, high, log=True)}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(sampler=sampler(n_startup_trials=0, **options))
            for lr, loss in _bounded(history, low, high):
                study.add_trial(_optuna_trial(optuna, lr, loss, space))
            return [float(study.ask(space).params["lr"]) for _ in range(count)]
    finally:
        optuna.logging.set_verbosity(level)


def _bounded(history: Sequence[Trial], low: float, high: float) -> list[tuple[float, float]]:
    """Return (lr, loss) of each trial, with lr inside the range and a bounded loss.

    An infinite loss becomes a loss that is worse than any finite one. How much worse has no meaning; the
    lowest loss plus twice the spread keeps a Gaussian process in scale.
    """
    losses = [trial.loss for trial in history if math.isfinite(trial.loss)]
    worst = max(losses) + (max(losses) - min(losses) or 1.0) if losses else 1.0
    return [
        (min(max(trial.lr, low), high), worst if math.isinf(trial.loss) else trial.loss) for trial in history
    ]


def _optuna_trial(optuna: Any, lr: float, loss: float, space: dict[str, Any]) -> Any:
    states = optuna.trial.TrialState
    if math.isnan(loss):
        return optuna.trial.create_trial(params={"lr": lr}, distributions=space, state=states.RUNNING)
    return optuna.trial.create_trial(params={"lr": lr}, distributions=space, value=loss)
