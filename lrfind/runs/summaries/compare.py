"""What a comparison found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrfind.analysis.comparisons import Standing, plain, standings, verdict
from lrfind.analysis.lanes import LaneResult
from lrfind.catalog import Judge
from lrfind.runs.summaries.parts import SCHEMA, count_lanes


def comparison_summary(
    results: Sequence[LaneResult],
    run: str,
    variants: Sequence[str],
    *,
    judge: Judge,
    first_tuning_seed: int,
    common_peak: float | None,
    planned: int,
    engines: Sequence[dict[str, Any]],
    metric: str | None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """What a comparison found, as plain data: the content of summary.json.

    Args:
        results: its lanes so far.
        run: the run directory.
        variants: their names.
        judge: the loss that decides.
        first_tuning_seed: lanes of smaller seeds are compared, the others choose the peaks.
        common_peak: the one peak of all, where that was asked for.
        planned: how many lanes it shall have so far.
        engines: how lanes were trained.
        metric: what the task's metric is called.
        notes: what happened on the way and should be known.
    """
    ranking = standings(results, variants, judge, first_tuning_seed)
    first = ranking[0].best if ranking[0].rank else None
    lanes = count_lanes(results, planned)
    missing = planned - lanes["settled"]
    return {
        "schema": SCHEMA,
        "command": "compare",
        "run": run,
        "best": {
            "variant": ranking[0].variant if first else None,
            "lr": first.lr if first else None,
            "reason": None if first else _nothing(results, missing > 0),
        },
        "verdict": verdict(ranking),
        "judge": ranking[0].judge,
        "metric": metric,
        "common_peak": common_peak,
        "standings": [plain(standing) for standing in ranking],
        "lanes": lanes,
        "engines": [*engines],
        "warnings": _warnings(ranking, judge, missing, run, common_peak),
        "notes": [*notes],
    }


def _warnings(
    ranking: Sequence[Standing], judge: Judge, missing: int, run: str, common_peak: float | None
) -> list[str]:
    warnings = []
    if missing > 0:
        warnings.append(f"{missing} lanes have not run yet; `lrfind resume {run}` goes on with them.")
    if common_peak is not None and len(ranking) > 1:
        warnings.append(
            f"all at the one peak {common_peak:.3g}, which favours those that it suits; without --common-peak"
            " each has its own best."
        )
    if judge != ranking[0].judge and ranking[0].best:
        warnings.append("there is no validation loss, so the final training loss decides.")
    for each in ranking:
        if each.boundary and len(each.peaks) > 1:
            side = "lowest" if each.boundary == "low" else "highest"
            warnings.append(f"the best peak of {each.variant} is the {side} tried; give --peaks further out.")
        rates = [*each.peaks, *([each.best] if each.best else [])]
        lanes = [lane for rate in rates for lane in rate.lanes.values()]
        failed = next((lane for lane in lanes if lane.error), None)
        if failed is not None:
            where = f"lr {failed.peak:.3g} (seed {failed.seed})"
            warnings.append(f"{each.variant} failed at {where}: {failed.error}")
        elif each.best is not None and each.rank is None:
            nan = "ended with a loss that is not finite, for one seed or more,"
            what = nan if each.best.outcome == "finished" else each.best.outcome
            warnings.append(f"{each.variant} {what} at its best peak, {each.best.lr:.3g}; so it has no rank.")
        elif each.best is None and not missing:
            outcomes = ", ".join(sorted({rate.outcome for rate in rates})) or "not run"
            warnings.append(f"no peak of {each.variant} finished with a finite loss ({outcomes}).")
    if ranking[0].best and len(ranking[0].best.lanes) == 1 and len(ranking) > 1:
        warnings.append("one seed only, so nothing is known of the noise; use --seeds 5.")
    return warnings


def _nothing(results: Sequence[LaneResult], unfinished: bool) -> str:
    if unfinished or not results:
        return "not enough lanes have run yet."
    return "no variant finished at any peak; try lower --peaks."
