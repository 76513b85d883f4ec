"""The summary of a grid or a search."""

from __future__ import annotations

from typing import Any

from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.sweeps import RateResult, SweepResult, beyond_noise, judged, read_sweep
from lrfind.catalog import Judge
from lrfind.config.sections import GridSection
from lrfind.errors import counted, listed
from lrfind.runs.result import RunRecord
from lrfind.runs.summaries.parts import unsettled, unsettled_warning

OVERFITTING = 0.5  # the validation loss falls by a smaller share of the fall of the training loss
HARDLY = 0.05  # a smaller fall, as a share of the first loss, says little about an lr


def sweep_summary(record: RunRecord) -> dict[str, Any]:
    """Summarize a grid or a search.

    Returns:
        A mapping with these keys, and `warnings`.

        - `answer`: the best lr (`lr`, `low`, `high`, `reason`) and its losses.
        - `judge`: the loss that decided, which is the training loss if there is no validation split.
        - `metric`: the name of the task's metric.
        - `usable`, `edge` and `sensitivity`: see `analysis.sweeps.SweepResult`.
        - `rates`: one row for each rate.
        - `pruned`: the savings of pruning.
        - `mode`: the mode in which lanes ran.
    """
    section = record.section
    sweep = read_sweep(record.lanes, section.judge, section.tolerance)
    best = sweep.best
    usable = sweep.usable or (None, None)
    return {
        "answer": {
            "lr": best.lr if best else None,
            "low": sweep.low,
            "high": sweep.high,
            "reason": None if best else _why_no_best(sweep),
            "val_loss": best.val_loss if best else None,
            "train_loss": best.train_loss if best else None,
            "metric": best.metric if best else None,
        },
        "judge": sweep.judge,
        "metric": record.facts.metric,
        "usable": {"low": usable[0], "high": usable[1], "tolerance": section.tolerance},
        "edge": sweep.edge,
        "sensitivity": sweep.sensitivity,
        "rates": [_rate(rate, sweep) for rate in sweep.rates],
        "pruned": _pruned(record),
        "mode": next(iter(record.facts.modes), None),
        "warnings": _warnings(sweep, record),
    }


def _pruned(record: RunRecord) -> dict[str, Any]:
    pruned = [lane for lane in record.lanes if lane.outcome == "pruned"]
    saved = sum(lane.planned - int(lane.lr.size) for lane in pruned)
    steps = sum(int(lane.lr.size) for lane in record.lanes)
    return {"count": len(pruned), "steps_saved": saved, "share_saved": saved / max(1, saved + steps)}


def _rate(rate: RateResult, sweep: SweepResult) -> dict[str, Any]:
    """Return a row for one lr; `worse_beyond_noise` is None for the best lr, and where it is not known."""
    losses = [loss for lane in rate.lanes.values() if (loss := judged(lane, sweep.judge)) is not None]
    ends = [int(lane.lr.size) - 1 for lane in rate.lanes.values() if lane.outcome == "diverged"]
    best = sweep.best if rate is not sweep.best and rate.loss is not None else None
    return {
        "lr": rate.lr,
        "outcome": rate.outcome,
        "val_loss": rate.val_loss,
        "train_loss": rate.train_loss,
        "metric": rate.metric,
        "spread": [min(losses), max(losses)] if rate.loss is not None and len(losses) > 1 else None,
        "worse_beyond_noise": None if best is None else beyond_noise(rate, best, sweep.judge),
        "diverged_at": min(ends) if ends else None,
        "seeds": [
            {"seed": seed, "outcome": lane.outcome, "val_loss": lane.val_loss}
            for seed, lane in sorted(rate.lanes.items())
        ],
    }


def _why_no_best(sweep: SweepResult) -> str:
    outcomes = {rate.outcome for rate in sweep.rates}
    if outcomes == {"diverged"}:
        lowest = sweep.rates[0].lr
        return f"training diverges at every lr that was tried, down to {lowest:.3g}; try lower ones."
    if "failed" in outcomes:
        return f"no lane finished; {next(lane.error for lane in _lanes(sweep) if lane.outcome == 'failed')}"
    return "no lane has finished yet." if sweep.rates else "no lane has run yet."


def _lanes(sweep: SweepResult) -> list[LaneResult]:
    return [lane for rate in sweep.rates for lane in rate.lanes.values()]


def _warnings(sweep: SweepResult, record: RunRecord) -> list[str]:
    """Return what the reader of a sweep should know before believing it, in sentences."""
    warnings = []
    best, rates, judge = sweep.best, sweep.rates, record.section.judge
    # Lanes that have not run, and a judge other than the requested one.
    warnings += unsettled_warning(record)
    if judge != sweep.judge and best:
        warnings.append("there is no validation loss, so the final training loss decides.")
    # How far to trust the best lr.
    if best and sweep.boundary:
        side, way = ("lowest", "lower") if sweep.boundary == "low" else ("highest", "higher")
        more = "give --extend" if isinstance(record.section, GridSection) else "widen --low and --high"
        warnings.append(f"the best lr is the {side} one that was tried; {way} ones may be better: {more}.")
    if best and len(best.lanes) == 1 and len(rates) > 1 and not unsettled(record):
        warnings.append("there is one seed only, so nothing is known of the noise; use --seeds 3.")
    ties = [rate.lr for rate in rates if best and rate is not best and _tied(rate, best, sweep.judge)]
    if best and ties:
        seeds = counted(len(best.lanes), "seed")
        others = listed(f"{lr:.3g}" for lr in ties)
        warnings.append(
            f"with {seeds}, the difference between the best lr and lr {others} is within the noise."
        )
    first, last = sweep.first_loss, best.loss if best else None
    overfits = _overfitting(sweep)
    if overfits is not None:
        warnings.append(overfits)
    elif last is not None and first - last < HARDLY * abs(first):
        fell = "hardly fell" if last < first else "did not fall"
        ends = f"it began at {first:.3g} and ended at {last:.3g}"
        warnings.append(f"even at the best lr, the loss {fell}: {ends}; train longer.")
    # What happened at single rates.
    for rate in rates:
        warnings += _rate_warnings(rate)
    diverged = next((rate.lr for rate in rates if rate.outcome == "diverged"), None)
    above = [rate.lr for rate in rates if diverged and rate.outcome == "finished" and rate.lr > diverged]
    if diverged and above:
        warnings.append(f"lr {diverged:.3g} diverged, but {above[0]:.3g} finished: the edge is not sharp.")
    return warnings


def _overfitting(sweep: SweepResult) -> str | None:
    """Say that the validation loss fell far less than the training loss; None if it did not."""
    best, first = sweep.best, sweep.first_loss
    if best is None or best.val_loss is None or best.train_loss is None:
        return None
    learned, held = first - best.train_loss, first - best.val_loss
    if not (learned > HARDLY * abs(first) and held < OVERFITTING * learned):
        return None
    lowest = [
        min(lane.evaluations, key=lambda evaluation: evaluation.val_loss)
        for lane in best.lanes.values()
        if len(lane.evaluations) > 1
    ]
    when = "`--set training.eval_every=N` shows where the validation loss was lowest"
    if lowest:
        steps, loss = sorted((point.step, point.val_loss) for point in lowest)[len(lowest) // 2]
        when = f"the validation loss was lowest after about {counted(steps, 'step')} ({loss:.3g})"
    return (
        f"even at the best lr, training overfits: the training loss fell from {first:.3g} to"
        f" {best.train_loss:.3g}, and the validation loss ended at {best.val_loss:.3g}. Fewer steps, more"
        f" data or more regularisation may do more than another lr; {when}."
    )


def _rate_warnings(rate: RateResult) -> list[str]:
    diverged = sum(lane.outcome == "diverged" for lane in rate.lanes.values())
    failed = next((lane for lane in rate.lanes.values() if lane.outcome == "failed"), None)
    warnings = []
    if 0 < diverged < len(rate.lanes):
        warnings.append(f"lr {rate.lr:.3g} diverged for {diverged} of {counted(len(rate.lanes), 'seed')}.")
    if failed is not None:
        warnings.append(f"lr {rate.lr:.3g} failed (seed {failed.seed}): {failed.error}")
    return warnings


def _tied(rate: RateResult, best: RateResult, judge: Judge) -> bool:
    return rate.loss is not None and beyond_noise(rate, best, judge) is False
