"""The summary of a grid or a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.sweep_verdicts import (
    FLAWS,
    answered,
    close,
    doubt_about,
    maybe_worse,
    rate_verdict,
    seeds_outside,
    tied,
)
from lrfind.analysis.sweeps import RateResult, SweepResult, beyond_noise, judged, read_sweep
from lrfind.config.sections import GridSection, SearchSection
from lrfind.errors import counted, listed
from lrfind.runs.result import RunRecord
from lrfind.runs.summaries.health import health_summary
from lrfind.runs.summaries.overfitting import overfitting_warning
from lrfind.runs.summaries.parts import (
    LOOK_FOR_NAN,
    data_to_blame,
    early_stop_warning,
    judge_warning,
    skipped_warning,
    unsettled_warning,
)

NEAR = 2.0
"""The factor within which a rate is near an end of the range of a search."""


def sweep_summary(record: RunRecord) -> dict[str, Any]:
    """Summarize a grid or a search.

    Returns:
        A mapping with these keys, and `warnings`.

        - `answer`: the lr with the lowest judged loss, None if the loss fell at no rate (`lr`, `low`, `high`,
          `reason`), its losses, its `verdict`, the gravest `doubt` about it (see
          `analysis.sweep_verdicts.Doubt`), the rates that are `tied` with it, the `seeds_outside` whose
          lowest loss is not at a rate from `low` to `high` (None without these), and the `rule` by which it
          is the answer.
        - `judge`: the loss that decided, which is the training loss if there is no validation split.
        - `overfitting`: the lrs at which training overfits, and whether these are all that learned something.
        - `metric`: the name of the task's metric.
        - `usable`, `edge` and `sensitivity`: see `analysis.sweeps.SweepResult`.
        - `rates`: one row for each rate.
        - `unfinished`: how many `rates` and `seeds` are planned; None when all trainings have ended.
        - `pruned`: the savings of pruning.
        - `mode`: the mode in which lanes ran.
    """
    section, sweep = record.section, sweep_of(record)
    best = answered(sweep)
    missing = rates_missing(sweep, record)  # then the rates beside the best one are not known
    usable = (None if missing else sweep.usable) or (None, None)
    return {
        "answer": {
            "lr": best.lr if best else None,
            "low": sweep.low if best else None,
            "high": sweep.high if best else None,
            "reason": None if best else why_no_best(sweep),
            "val_loss": best.val_loss if best else None,
            "train_loss": best.train_loss if best else None,
            "best_val_loss": best.best_val_loss if best else None,
            "best_val_step": best.best_val_step if best else None,
            "metric": best.metric if best else None,
            "verdict": _verdict(best, sweep, record) if best else None,
            "doubt": doubt_about(sweep),
            "tied": [rate.lr for rate in tied(sweep)] if best else None,
            "seeds_outside": seeds_outside(sweep) if best and sweep.low is not None else None,
            "rule": "the lowest median of the judged loss over seeds" if best else None,
        },
        "overfitting": {
            "lrs": [rate.lr for rate in sweep.overfitting],
            "everywhere": sweep.overfits_everywhere,
        },
        "judge": sweep.judge,
        "metric": record.facts.metric,
        "usable": {"low": usable[0], "high": usable[1], "tolerance": section.tolerance},
        "edge": sweep.edge,
        "sensitivity": sweep.sensitivity,
        "rates": [_rate(rate, sweep, record) for rate in sweep.rates],
        "unfinished": unfinished(record),
        "pruned": _pruned(record),
        "mode": next(iter(record.facts.modes), None),
        "warnings": _warnings(sweep, record),
    }


def sweep_of(record: RunRecord) -> SweepResult:
    """Draw the conclusions from a sweep's lanes, and from the looks at the gradients of its best rate."""
    sweep = read_sweep(record.lanes, record.section.judge, record.section.tolerance)
    if sweep.best is None:
        return sweep
    health = health_summary(record, {"lr": sweep.best.lr})
    return replace(sweep, troubled=bool(health and health["findings"]))


def _pruned(record: RunRecord) -> dict[str, Any]:
    pruned = [lane for lane in record.lanes if lane.outcome == "pruned"]
    saved = sum(lane.planned - int(lane.lr.size) for lane in pruned)
    steps = sum(int(lane.lr.size) for lane in record.lanes)
    return {"count": len(pruned), "steps_saved": saved, "share_saved": saved / max(1, saved + steps)}


def unfinished(record: RunRecord) -> dict[str, int] | None:
    """Return how many `rates` and `seeds` a sweep plans; None when all its trainings have ended."""
    if not record.unsettled:
        return None
    seeds = record.section.seeds
    return {"rates": record.planned // seeds, "seeds": seeds}


def rates_missing(sweep: SweepResult, record: RunRecord) -> bool:
    """Return whether not one training of some planned rate has a result that is compared."""
    planned = unfinished(record)
    return planned is not None and len(sweep.rates) < planned["rates"]


def _verdict(rate: RateResult, sweep: SweepResult, record: RunRecord) -> str:
    """Return the verdict on a rate; while trainings are missing, the best one is only the best so far."""
    verdict = rate_verdict(rate, sweep)
    return verdict.replace("best", "best so far") if record.unsettled else verdict


def _rate(rate: RateResult, sweep: SweepResult, record: RunRecord) -> dict[str, Any]:
    """Return a row for one lr; `worse_beyond_noise` is None for the best lr, and where it is not known."""
    losses = [loss for lane in rate.lanes.values() if (loss := judged(lane, sweep.judge)) is not None]
    ends = [int(lane.lr.size) - 1 for lane in rate.lanes.values() if lane.outcome == "diverged"]
    best = sweep.best if rate is not sweep.best and rate.loss is not None else None
    return {
        "lr": rate.lr,
        "verdict": _verdict(rate, sweep, record),
        "outcome": rate.outcome,
        "overfits": sweep.overfits_at(rate),
        "val_loss": rate.val_loss,
        "train_loss": rate.train_loss,
        "best_val_loss": rate.best_val_loss,
        "best_val_step": rate.best_val_step,
        "metric": rate.metric,
        "spread": [min(losses), max(losses)] if rate.loss is not None and len(losses) > 1 else None,
        "worse_beyond_noise": None if best is None else beyond_noise(rate, best, sweep.judge),
        "diverged_at": min(ends) if ends else None,
        "seeds": [
            {
                "seed": seed,
                "outcome": lane.outcome,
                "val_loss": lane.val_loss,
                "best_val_loss": lane.best_val_loss,
                "best_val_step": lane.lowest_evaluation.step if lane.lowest_evaluation else None,
            }
            for seed, lane in sorted(rate.lanes.items())
        ],
    }


def why_no_best(sweep: SweepResult) -> str:
    """Return the reason why a sweep has no answer."""
    if sweep.best is not None and sweep.best.loss is not None:
        course = (
            f"At lr {sweep.best.lr:.3g}, which ended lowest, it began at {sweep.first_loss:.4g} and ended at"
            f" {sweep.best.loss:.4g}."
        )
        if sweep.best.loss - sweep.first_loss > abs(sweep.first_loss):
            return f"the loss rose at every rate. {course} Try lower rates, or run `lrfind find`."
        hardly = "the loss hardly fell beside its noise between batches, at any rate"
        if sweep.fell and sweep.troubled:
            hardly += ", and something is wrong with the gradients (see below)"
        return f"{hardly}. {course} Train longer, or run `lrfind find`, which looks for reasons."
    outcomes = {rate.outcome for rate in sweep.rates}
    if sweep.rates and not math.isfinite(sweep.first_loss) and outcomes == {"diverged"}:
        return "the loss is not finite before the first update; no lr helps: look at data, model and loss."
    if (blame := data_to_blame(_lanes(sweep))) is not None:
        return blame
    if outcomes == {"diverged"}:
        lowest = sweep.rates[0].lr
        return f"training diverges at every lr that was tried, down to {lowest:.3g}; try lower ones."
    if "failed" in outcomes:
        return f"no lane finished; {next(lane.error for lane in _lanes(sweep) if lane.outcome == 'failed')}"
    if "interrupted" in outcomes or not sweep.rates:
        return "no lane has finished yet." if sweep.rates else "no lane has run yet."
    if "finished" in outcomes:
        return f"no lr ended with a finite loss for more than half of the seeds; {LOOK_FOR_NAN}."
    diverged = [rate for rate in sweep.rates if rate.outcome == "diverged"]
    if diverged:
        return f"training diverged at lr {_lrs(diverged)}, and the other rates were pruned; try lower ones."
    return "every lr was pruned with half of the seeds or more; run it without --prune."


def _lanes(sweep: SweepResult) -> list[LaneResult]:
    return [lane for rate in sweep.rates for lane in rate.lanes.values()]


def _warnings(sweep: SweepResult, record: RunRecord) -> list[str]:
    """Return what the reader of a sweep should know before believing it, in sentences."""
    warnings = []
    best, rates = sweep.best, sweep.rates
    # Lanes that have not run, and a judge other than the requested one.
    warnings += unsettled_warning(record)
    if best:
        warnings += judge_warning(_lanes(sweep), record.section.judge, sweep.judge)
    # How far to trust the best lr.
    doubt = doubt_about(sweep)
    answer = None if doubt == "learned less" else answered(sweep)
    if answer and sweep.boundary and not rates_missing(sweep, record):
        name = "answered lr" if doubt in FLAWS else "best lr"
        side, way = ("lowest", "lower") if sweep.boundary == "low" else ("highest", "higher")
        more = _how_to_try_more(record.section, answer.lr, sweep.boundary)
        warnings.append(f"the {name} is the {side} one that was tried; {way} ones may be better: {more}.")
    if best and len(best.lanes) == 1 and len(rates) > 1 and not record.unsettled:
        warnings.append(_one_seed(sweep))
    warnings += _noise_warnings(sweep)
    warnings += _learning_warnings(sweep)
    warnings += early_stop_warning(record.lanes)
    warnings += skipped_warning(record.lanes)
    # What happened at single rates.
    for rate in rates:
        warnings += _rate_warnings(rate)
    diverged = next((rate.lr for rate in rates if rate.outcome == "diverged"), None)
    above = [rate.lr for rate in rates if diverged and rate.outcome == "finished" and rate.lr > diverged]
    if diverged and above:
        warnings.append(f"lr {diverged:.3g} diverged, but {above[0]:.3g} finished: the edge is not sharp.")
    return warnings


def _how_to_try_more(
    section: GridSection | SearchSection, lr: float, boundary: Literal["low", "high"]
) -> str:
    """Return what tries rates beyond one that is the lowest or the highest of those tried."""
    if isinstance(section, GridSection):
        return "give --extend"
    if boundary == "low":
        return "lower --low" if lr <= section.low * NEAR else "give more --trials"
    return "raise --high" if lr >= section.high / NEAR else "give more --trials"


def _noise_warnings(sweep: SweepResult) -> list[str]:
    """Say which rates cannot be told from the answered one, by which rule, and what would tell them apart."""
    best = answered(sweep)
    if best is None or len(best.lanes) == 1:
        return []
    seeds, more = counted(len(best.lanes), "seed"), f"more seeds would tell (--seeds {2 * len(best.lanes)})"
    warnings = []
    if ties := tied(sweep):
        warnings.append(
            f"lr {_lrs([best, *ties])} are tied: with {seeds}, their differences are small, and within"
            f" the noise (paired t-test at 95 %). The one with the lowest median loss is answered,"
            f" {best.lr:.3g}; {more}."
        )
    if unsure := maybe_worse(sweep):
        warnings.append(
            f"lr {_lrs(unsure)} ended higher than {best.lr:.3g}, but {seeds} are too few to be sure"
            f" (paired t-test at 95 %); {more}."
        )
    return warnings


def _one_seed(sweep: SweepResult) -> str:
    near = close(sweep)
    ties = f" lr {_lrs(near)} ended nearly as low and may be as good;" if near else ""
    return (
        f"there is one seed only, so the noise between seeds is not known:{ties} the rate with the lowest"
        " loss is answered; --seeds 3 shows the noise."
    )


def _learning_warnings(sweep: SweepResult) -> list[str]:
    """Say where training overfits, and whether the loss fell at all."""
    best, doubt = sweep.best, doubt_about(sweep)
    if best is None:
        return []
    warnings = []
    if sweep.overfitting and (sweep.overfits_at(best) or sweep.judge != "best_val_loss"):
        lowest = min(sweep.overfitting, key=lambda rate: math.inf if rate.val_loss is None else rate.val_loss)
        rate = best if sweep.overfits_at(best) else lowest
        where = f"training overfits at lr {_lrs(sweep.overfitting)}"
        if sweep.judge == "best_val_loss":
            where = "after its lowest validation loss, training overfits"
        elif sweep.overfits_everywhere:
            where = "training overfits at every rate that learned something"
        if doubt == "learned less":
            where += f", and lr {best.lr:.3g} ended lower only because it learned less"
        warnings.append(overfitting_warning(where, rate, sweep.judge))
    return warnings


def _lrs(rates: Sequence[RateResult]) -> str:
    return listed(f"{rate.lr:.3g}" for rate in sorted(rates, key=lambda rate: rate.lr))


def _rate_warnings(rate: RateResult) -> list[str]:
    diverged = sum(lane.outcome == "diverged" for lane in rate.lanes.values())
    failed = next((lane for lane in rate.lanes.values() if lane.outcome == "failed"), None)
    warnings = []
    if 0 < diverged < len(rate.lanes):
        warnings.append(f"lr {rate.lr:.3g} diverged for {diverged} of {counted(len(rate.lanes), 'seed')}.")
    if failed is not None:
        warnings.append(f"lr {rate.lr:.3g} failed (seed {failed.seed}): {failed.error}")
    return warnings
