"""What a run found, as plain data: the content of summary.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrfind.catalog import DEFAULT_METHOD, Judge
from lrfind.curves import Curve
from lrfind.errors import NoSuggestion
from lrfind.plan import SETTLED, LaneResult
from lrfind.readings import Rate, Reading, beyond_noise, judged, read_sweep
from lrfind.suggestions import METHODS, RAMP_EDGE, suggest_over

SCHEMA = 1
HARDLY = 0.05  # of the first loss: a smaller fall tells little of an lr


def answer(summary: dict[str, Any]) -> dict[str, Any]:
    """What a run found, whatever its command: a mapping with lr, which is None where there is none."""
    found: dict[str, Any] = summary["suggestion" if "suggestion" in summary else "best"]
    return found


def count_lanes(results: Sequence[LaneResult], planned: int) -> dict[str, int]:
    """How many lanes a run shall have, how many have settled, and the training steps that all took."""
    return {
        "planned": planned,
        "settled": sum(result.outcome in SETTLED for result in results),
        "steps": sum(int(result.lr.size) for result in results),
    }


def suggestion_table(curves: Sequence[Curve], *, raw: bool) -> dict[str, dict[str, Any]]:
    """What every method says of these lanes: {name: {lr, low, high, reason}}, lr None where it refuses."""
    return {name: ask(curves, name, raw=raw) for name in METHODS}


def ask(curves: Sequence[Curve], method: str, *, raw: bool) -> dict[str, Any]:
    """One method's answer as plain data; a refusal has lr None and says why in `reason`."""
    try:
        found = suggest_over(curves, method, raw=raw)
    except NoSuggestion as refused:
        return {"lr": None, "low": None, "high": None, "method": method, "reason": refused.reason}
    return {
        "lr": found.lr,
        "low": found.low,
        "high": found.high,
        "method": method,
        "reason": found.reason,
    }


def range_test_summary(
    results: Sequence[LaneResult],
    run: str,
    method: str = DEFAULT_METHOD,
    measured_edge: dict[str, Any] | None = None,
    notes: Sequence[str] = (),
    group: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What a range test found.

    Args:
        results: its lanes.
        run: the run directory.
        method: whose answer is the suggestion.
        measured_edge: lr, and what it is in words, where it was bisected for.
        notes: what should be known of it.
        group: name of the one param group whose lr was ramped, and the optimizer's lr; None for all.
    """
    curves = [result.curve for result in results if result.complete]
    methods = suggestion_table(curves, raw=True)
    chosen = methods[method]
    ramp_edge = {"lr": methods["edge"]["lr"], "is": RAMP_EDGE}
    edge = measured_edge if measured_edge and measured_edge["lr"] else ramp_edge
    return {
        "schema": SCHEMA,
        "command": "range-test",
        "run": run,
        "suggestion": chosen,
        "group": group,
        "methods": brief(methods),
        "edge": edge["lr"],
        "edge_is": edge["is"],
        "lanes": [_brief_lane(result) for result in results],
        "warnings": [
            *_warnings(results, chosen, edge["lr"]),
            *([f"edge {measured_edge['is']}"] if measured_edge and measured_edge["lr"] is None else []),
        ],
        "notes": [*notes],
    }


def brief(methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A `suggestion_table` with lr and reason alone: why there is no lr, or what must be known of it."""
    return {
        name: {
            "lr": answer["lr"],
            "reason": answer["reason"] if answer["lr"] is None or name == "edge" else None,
        }
        for name, answer in methods.items()
    }


def _warnings(results: Sequence[LaneResult], chosen: dict[str, Any], edge_lr: float | None) -> list[str]:
    warnings = []
    if len(results) == 1 and chosen["lr"] is not None:
        warnings.append("one seed only, so there is no interval; use --seeds 3.")
    if chosen["low"] and chosen["high"] > 10 * chosen["low"]:
        warnings.append(
            f"the lanes disagree by more than a decade ({chosen['low']:.2g} to {chosen['high']:.2g}); use"
            " more steps or more seeds."
        )
    if chosen["lr"] and edge_lr and chosen["lr"] > edge_lr / 3:
        warnings.append(f"the suggestion is more than a third of the edge ({edge_lr:.2g}); start lower.")
    cut = [r for r in results if not r.complete]
    if cut:
        warnings.append(f"{len(cut)} of {len(results)} lanes was cut off ({cut[0].outcome}) and is left out.")
    refusing = [r for r in results if r.complete and ask([r.curve], chosen["method"], raw=True)["lr"] is None]
    if chosen["lr"] and refusing:
        seeds = ", ".join(str(r.seed) for r in refusing)
        warnings.append(f"{len(refusing)} of {len(results)} lanes have no answer (seed {seeds}).")
    outcomes = [r.outcome for r in results]
    if "diverged" in outcomes and "finished" in outcomes:
        warnings.append(f"{outcomes.count('diverged')} of {len(outcomes)} lanes diverged before end_lr.")
    return warnings


def over_summary(
    results: Sequence[LaneResult],
    run: str,
    variants: Sequence[str],
    method: str,
    over: str,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """What range tests side by side over another setting found: each value's suggestion and lowest loss.

    The value whose ramp reaches the lowest loss is the best one (Smith 2018, arXiv:1803.09820, who compares
    weight decays so; ramping the setting itself tells little, since the lr that goes with it moves too).

    Args:
        results: lanes of all values.
        run: the run directory.
        variants: of `LaneResult.variant`, in order.
        method: whose answer is the suggestion.
        over: the setting.
        notes: what should be known of it.
    """
    rows = []
    for variant in variants:
        curves = [result.curve for result in results if result.variant == variant and result.complete]
        lows = [float(curve.smoothed[: curve.length].min()) for curve in curves if curve.length]
        edge = ask(curves, "edge", raw=True)["lr"] if curves else None
        nothing = {"lr": None, "low": None, "high": None, "method": method, "reason": "no lane ended."}
        found = ask(curves, method, raw=True) if curves else nothing
        lowest = float(np.median(lows)) if lows else None
        rows.append({"variant": variant, **found, "edge": edge, "lowest_loss": lowest})
    cut = sum(not result.complete for result in results)
    warnings = [f"{cut} of {len(results)} lanes were cut off and are left out."] if cut else []
    if len({result.seed for result in results}) == 1:
        warnings.append("one seed only, so nothing is known of the noise; use --seeds 3.")
    known = [row for row in rows if row["lr"] is not None and row["lowest_loss"] is not None]
    best = min(known, key=lambda row: row["lowest_loss"], default=rows[0])
    return {
        "schema": SCHEMA,
        "command": "range-test",
        "over": over,
        "run": run,
        "suggestion": best,
        "variants": rows,
        "lanes": [_brief_lane(result) for result in results],
        "warnings": [
            *(f"{row['variant']}: {row['reason']}" for row in rows if row["lr"] is None and row is not best),
            *warnings,
        ],
        "notes": [*notes],
    }


def training_summary(
    results: Sequence[LaneResult],
    run: str,
    *,
    lr: float,
    schedule: str,
    planned: int,
    metric: str | None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """What a final training came to.

    Args:
        results: its lanes so far, one a seed.
        run: the run directory.
        lr: the peak.
        schedule: its name.
        planned: how many lanes it shall have.
        metric: what the task's metric is called.
        notes: what happened on the way and should be known.
    """
    finished = [result for result in results if result.outcome == "finished"]
    lanes = count_lanes(results, planned)
    early = [result for result in finished if result.lr.size < result.planned]
    skipped = sum(int(result.skipped.sum()) for result in results if result.skipped is not None)
    warnings = [
        f"seed {result.seed} {result.outcome} at step {result.lr.size - 1}"
        f"{f': {result.error}' if result.error else '; try a lower lr.'}"
        for result in results
        if result.outcome in ("diverged", "failed")
    ]
    if left := planned - lanes["settled"]:
        warnings.append(f"{left} trainings are not done; `lrfind resume {run}` goes on with them.")
    if early:
        warnings.append(
            f"stopped early, at step {', '.join(str(result.lr.size) for result in early)} of"
            f" {early[0].planned}: the validation loss no longer fell."
        )
    if skipped:
        warnings.append(f"{skipped} steps were skipped, because float16 overflowed (see steps.csv).")
    return {
        "schema": SCHEMA,
        "command": "train",
        "run": run,
        "best": {
            "lr": lr if finished else None,
            "reason": None if finished else "no training finished.",
        },
        "schedule": schedule,
        "metric": metric,
        "train_loss": mean_and_deviation([result.train_loss for result in finished]),
        "val_loss": mean_and_deviation([result.val_loss for result in finished]),
        "score": mean_and_deviation([result.metric for result in finished]),
        "trainings": [
            {
                **_brief_lane(result),
                "train_loss": result.train_loss,
                "val_loss": result.val_loss,
                "metric": result.metric,
                "best_evaluation": _best_evaluation(result),
                "seconds": result.seconds,
            }
            for result in results
        ],
        "lanes": lanes,
        "warnings": warnings,
        "notes": [*notes],
    }


def mean_and_deviation(values: Sequence[float | None]) -> dict[str, float] | None:
    """The mean over seeds, and the standard deviation between them (0 of one seed); None without a value."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": float(np.mean(known)), "deviation": float(np.std(known, ddof=min(1, len(known) - 1)))}


def _best_evaluation(result: LaneResult) -> dict[str, Any] | None:
    known = [each for each in result.evaluations if math.isfinite(each.val_loss)]
    return min(known, key=lambda each: each.val_loss)._asdict() if known else None


def _brief_lane(result: LaneResult) -> dict[str, Any]:
    return {
        "lane": result.lane,
        "seed": result.seed,
        "outcome": result.outcome,
        "steps": int(result.lr.size),
    } | ({"variant": result.variant} if result.variant else {})


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
