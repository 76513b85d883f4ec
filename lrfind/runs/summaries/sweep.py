"""What a grid or a search found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrfind.analysis.lanes import LaneResult
from lrfind.analysis.sweeps import Rate, Reading, beyond_noise, judged, read_sweep
from lrfind.catalog import Judge
from lrfind.runs.summaries.parts import SCHEMA, count_lanes

HARDLY = 0.05  # of the first loss: a smaller fall tells little of an lr


def sweep_summary(
    results: Sequence[LaneResult],
    run: str,
    command: str,
    *,
    judge: Judge,
    tolerance: float,
    planned: int,
    engine: dict[str, Any] | None,
    metric: str | None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """What a grid or a search found.

    Args:
        results: its lanes so far.
        run: the run directory.
        command: grid or search.
        judge: the loss that decides; the training loss does where there is no validation split.
        tolerance: for the usable range, see `SweepSection`.
        planned: how many lanes it shall have.
        engine: how lanes were trained.
        metric: what the task's metric is called.
        notes: what happened on the way and should be known.
    """
    reading = read_sweep(results, judge, tolerance)
    best = reading.best
    usable = reading.usable or (None, None)
    lanes = count_lanes(results, planned)
    steps, settled = lanes["steps"], lanes["settled"]
    pruned = [result for result in results if result.outcome == "pruned"]
    saved = sum(result.planned - int(result.lr.size) for result in pruned)
    return {
        "schema": SCHEMA,
        "command": command,
        "run": run,
        "best": {
            "lr": best.lr if best else None,
            "low": reading.low,
            "high": reading.high,
            "val_loss": best.val_loss if best else None,
            "train_loss": best.train_loss if best else None,
            "metric": best.metric if best else None,
            "reason": None if best else _no_best(reading),
        },
        "judge": reading.judge,
        "metric": metric,
        "usable": {"low": usable[0], "high": usable[1], "tolerance": tolerance},
        "edge": reading.edge,
        "sensitivity": reading.sensitivity,
        "rates": [_rate(rate, reading) for rate in reading.rates],
        "lanes": lanes,
        "pruned": {"lanes": len(pruned), "steps_saved": saved, "share_saved": saved / max(1, saved + steps)},
        "engine": engine,
        "warnings": _sweep_warnings(reading, judge, planned - settled, run, command),
        "notes": [*notes],
    }


def _rate(rate: Rate, reading: Reading) -> dict[str, Any]:
    losses = [judged(lane, reading.judge) for lane in rate.lanes.values()]
    known = [loss for loss in losses if loss is not None]
    ended = [int(lane.lr.size) - 1 for lane in rate.lanes.values() if lane.outcome == "diverged"]
    compared = reading.best is not None and rate is not reading.best and rate.loss is not None
    return {
        "lr": rate.lr,
        "outcome": rate.outcome,
        "val_loss": rate.val_loss,
        "train_loss": rate.train_loss,
        "metric": rate.metric,
        "spread": [min(known), max(known)] if rate.loss is not None and len(known) > 1 else None,
        "worse_beyond_noise": beyond_noise(rate, reading.best, reading.judge)
        if compared and reading.best
        else None,
        "diverged_at": min(ended) if ended else None,
        "lanes": [
            {"seed": seed, "outcome": lane.outcome, "val_loss": lane.val_loss}
            for seed, lane in sorted(rate.lanes.items())
        ],
    }


def _no_best(reading: Reading) -> str:
    outcomes = {rate.outcome for rate in reading.rates}
    if outcomes == {"diverged"}:
        lowest = reading.rates[0].lr
        return f"training diverges at every lr tried, down to {lowest:.3g}; try lower ones."
    if "failed" in outcomes:
        lanes = [lane for rate in reading.rates for lane in rate.lanes.values()]
        return f"no lane finished; {next(lane.error for lane in lanes if lane.outcome == 'failed')}"
    return "no lane finished yet." if reading.rates else "no lane has run yet."


def _sweep_warnings(reading: Reading, judge: Judge, missing: int, run: str, command: str) -> list[str]:
    warnings = []
    best, rates = reading.best, reading.rates
    if missing > 0:
        warnings.append(f"{missing} lanes have not run yet; `lrfind resume {run}` goes on with them.")
    if judge != reading.judge and best:
        warnings.append("there is no validation loss, so the final training loss decides.")
    if best and reading.boundary:
        side, way = ("lowest", "lower") if reading.boundary == "low" else ("highest", "higher")
        more = "--extend goes on" if command == "grid" else "widen --low and --high"
        warnings.append(f"the best lr is the {side} one tried; {way} ones may be better ({more}).")
    if best and len(best.lanes) == 1 and len(rates) > 1 and not missing:
        warnings.append("one seed only, so nothing is known of the noise; use --seeds 3.")
    ties = [rate for rate in rates if best and rate is not best and _tied(rate, best, reading.judge)]
    if ties:
        lrs = ", ".join(f"{rate.lr:.3g}" for rate in ties)
        warnings.append(f"so few seeds do not show that these are worse than the best: lr {lrs}.")
    first, last = reading.first_loss, best.loss if best else None
    if last is not None and first - last < HARDLY * abs(first):
        warnings.append(f"the loss hardly fell (from {first:.3g} to {last:.3g}); train longer to tell.")
    for rate in rates:
        part = [lane for lane in rate.lanes.values() if lane.outcome == "diverged"]
        if 0 < len(part) < len(rate.lanes):
            warnings.append(f"lr {rate.lr:.3g} diverged for {len(part)} of {len(rate.lanes)} seeds.")
        failed = next((lane for lane in rate.lanes.values() if lane.outcome == "failed"), None)
        if failed is not None:
            warnings.append(f"lr {rate.lr:.3g} failed (seed {failed.seed}): {failed.error}")
    diverged = next((rate.lr for rate in rates if rate.outcome == "diverged"), None)
    above = [rate.lr for rate in rates if diverged and rate.outcome == "finished" and rate.lr > diverged]
    if diverged and above:
        warnings.append(f"lr {diverged:.3g} diverged, but {above[0]:.3g} finished: the edge is not sharp.")
    return warnings


def _tied(rate: Rate, best: Rate, judge: Judge) -> bool:
    return rate.loss is not None and beyond_noise(rate, best, judge) is False
