"""The summary of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrfind.analysis.comparisons import Standing, standings, verdict
from lrfind.analysis.sweeps import RateResult
from lrfind.errors import listed
from lrfind.runs.result import RunRecord
from lrfind.runs.summaries.overfitting import overfitting_warning
from lrfind.runs.summaries.parts import (
    data_to_blame,
    early_stop_warning,
    judge_warning,
    skipped_warning,
    unsettled_warning,
)


def ranking_of(record: RunRecord) -> list[Standing]:
    """Rank the variants of a comparison; see `analysis.comparisons.standings`."""
    section = record.experiment.compare
    first_tuning_seed = section.first_tuning_seed(record.experiment.seed)
    return standings(
        record.lanes, [variant.name for variant in record.variants], section.judge, first_tuning_seed
    )


def comparison_summary(record: RunRecord) -> dict[str, Any]:
    """Summarize a comparison.

    Returns:
        A mapping with these keys, and `warnings`.

        - `answer`: the first variant and its best peak (`variant`, `lr`, `reason`).
        - `verdict`: a sentence.
        - `judge`: the loss that decided.
        - `metric`: the name of the task's metric.
        - `common_peak`: the one peak of all variants, if one was requested.
        - `standings`: one row for each variant.
        - `modes`: the modes in which lanes ran.
    """
    ranking = ranking_of(record)
    first = ranking[0].best if ranking[0].rank else None
    return {
        "answer": {
            "lr": first.lr if first else None,
            "low": None,
            "high": None,
            "reason": None if first else _why_no_ranking(record),
            "variant": ranking[0].variant if first else None,
        },
        "verdict": verdict(ranking, record.experiment.compare.seeds),
        "judge": ranking[0].judge,
        "metric": record.facts.metric,
        "common_peak": record.experiment.compare.one_peak,
        "standings": [_row(standing) for standing in ranking],
        "modes": [*record.facts.modes],
        "warnings": _warnings(ranking, record),
    }


def _row(standing: Standing) -> dict[str, Any]:
    """Return a row for one variant; without a best peak, `outcome` is the one that all its peaks share."""
    outcomes = {rate.outcome for rate in standing.peaks}
    outcome = outcomes.pop() if len(outcomes) == 1 else None
    return {
        "variant": standing.variant,
        "rank": standing.rank,
        "lr": standing.best.lr if standing.best else None,
        "early": standing.early,
        "middle": standing.middle,
        "train_loss": standing.train_loss,
        "val_loss": standing.val_loss,
        "best_val_loss": standing.best_val_loss,
        "best_val_step": standing.best.best_val_step if standing.best and standing.rank else None,
        "overfits": standing.best is not None and standing.best.overfits,
        "metric": standing.metric,
        "area": standing.area,
        "spread": list(standing.spread) if standing.spread else None,
        "worse_beyond_noise": standing.worse,
        "outcome": standing.best.outcome if standing.best else outcome,
        "peaks": [{"lr": rate.lr, "outcome": rate.outcome, "loss": rate.loss} for rate in standing.peaks],
        "boundary": standing.boundary,
    }


def _warnings(ranking: Sequence[Standing], record: RunRecord) -> list[str]:
    """Return what the reader of a comparison should know before believing it, in sentences."""
    warnings = unsettled_warning(record)
    peak = record.experiment.compare.one_peak
    if peak is not None and len(ranking) > 1:
        warnings.append(
            f"all variants have the same peak {peak:.3g}, which favours those that it suits; without"
            " --common-peak each variant gets its own best peak."
        )
    if ranking[0].best:
        warnings += judge_warning(record.lanes, record.experiment.compare.judge, ranking[0].judge)
    warnings += _overfitting(ranking)
    warnings += early_stop_warning(record.lanes)
    warnings += skipped_warning(record.lanes)
    for standing in ranking:
        warnings += _variant_warnings(standing, record.unsettled)
    one_seed = ranking[0].best and len(ranking[0].best.lanes) == 1 and len(ranking) > 1
    if one_seed and not record.unsettled:
        warnings.append("there is one seed only, so nothing is known of the noise; use --seeds 5.")
    return warnings


def _overfitting(ranking: Sequence[Standing]) -> list[str]:
    """Say with which variants training overfits, with the losses of the highest ranked of them."""
    ranked = [standing for standing in ranking if standing.rank]
    overfitting = [(s.variant, s.best) for s in ranked if s.best is not None and s.best.overfits]
    if not overfitting:
        return []
    name, rate = overfitting[0]
    where = "every variant" if len(overfitting) == len(ranked) > 1 else listed(n for n, _ in overfitting)
    shown = name if len(overfitting) > 1 else ""
    return [overfitting_warning(f"training overfits with {where}", rate, ranking[0].judge, shown)]


def _variant_warnings(standing: Standing, missing: int) -> list[str]:
    warnings = []
    name, best = standing.variant, standing.best
    if standing.boundary and len(standing.peaks) > 1:
        side = "lowest" if standing.boundary == "low" else "highest"
        warnings.append(
            f"the best peak of {name} is the {side} one that was tried; give --peaks further out."
        )
    rates: list[RateResult] = [*standing.peaks, *([best] if best else [])]
    failed = next((lane for rate in rates for lane in rate.lanes.values() if lane.error), None)
    if failed is not None:
        warnings.append(f"{name} failed at lr {failed.peak:.3g} (seed {failed.seed}): {failed.error}")
    elif best is not None and standing.rank is None:
        nan = "ended with a loss that is not finite for one seed or more"
        end = nan if best.outcome == "finished" else f"was {best.outcome}"
        end = "diverged" if best.outcome == "diverged" else end
        warnings.append(f"{name} {end} at its best peak, {best.lr:.3g}, so it has no rank.")
    elif best is None and not missing:
        outcomes = listed(sorted({rate.outcome for rate in rates})) if rates else "not run"
        warnings.append(f"no peak of {name} finished with a finite loss ({outcomes}).")
    return warnings


def _why_no_ranking(record: RunRecord) -> str:
    if record.unsettled > 0 or not record.lanes:
        return "not enough lanes have run yet."
    return data_to_blame(record.lanes) or "no variant finished at any peak; try lower --peaks."
