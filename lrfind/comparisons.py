"""Reading a comparison: where each variant stands, and whether the differences are larger than the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrfind.catalog import Judge
from lrfind.curves import Array
from lrfind.plan import SETTLED, LaneResult
from lrfind.readings import Rate, Reading, beyond_noise, judged, paired_gaps, read_sweep
from lrfind.summaries import SCHEMA

EARLY, MIDDLE = 0.1, 0.5  # shares of the steps


@dataclass(frozen=True)
class Standing:
    """One variant, at the best of its peaks.

    Attributes:
        variant: its name.
        reading: of all its peaks.
        rank: from 1; None if no peak of it finished.
        early: smoothed training loss after a tenth of the steps, the median over seeds, as all losses here.
        middle: after half of them.
        area: mean training loss over the steps: the area under its curve, per step.
        spread: lowest and highest judged loss of a seed; None with one seed.
        gaps: by seed, how much more judged loss than the first it ended with; empty for the first.
        worse: whether it is worse than the first by more than the noise between seeds (a paired t-test at
            95 %); None for the first, and with one seed.
    """

    variant: str
    reading: Reading
    rank: int | None
    early: float | None
    middle: float | None
    area: float | None
    spread: tuple[float, float] | None
    worse: bool | None
    gaps: Array

    @property
    def best(self) -> Rate | None:
        """Its best peak."""
        return self.reading.best


def standings(results: Sequence[LaneResult], variants: Sequence[str], judge: Judge) -> list[Standing]:
    """Where each variant stands, the best first, those of which nothing finished last.

    Args:
        results: lanes of all variants; of a variant that is not done, see `lrfind.readings.comparable`.
        variants: their names.
        judge: the loss that decides; the training loss does where a variant has no validation loss.
    """
    if not any(result.val_loss is not None for result in results):
        judge = "train_loss"
    readings = {
        name: read_sweep([result for result in results if result.variant == name], judge) for name in variants
    }
    order = sorted(variants, key=lambda name: _loss(readings[name]))
    first = readings[order[0]].best
    return [_standing(name, readings[name], rank, first, judge) for rank, name in enumerate(order, 1)]


def _loss(reading: Reading) -> float:
    return math.inf if reading.best is None or reading.best.loss is None else reading.best.loss


def _standing(name: str, reading: Reading, rank: int, first: Rate | None, judge: Judge) -> Standing:
    best = reading.best
    if best is None or first is None:
        return Standing(name, reading, None, None, None, None, None, None, np.empty(0))
    lanes = [lane for lane in best.lanes.values() if lane.outcome == "finished"]

    def median(value: Callable[[LaneResult], float]) -> float:
        return float(np.median([value(lane) for lane in lanes]))

    losses = [loss for lane in lanes if (loss := judged(lane, judge)) is not None]
    return Standing(
        variant=name,
        reading=reading,
        rank=rank,
        early=median(lambda lane: smoothed_at(lane, EARLY)),
        middle=median(lambda lane: smoothed_at(lane, MIDDLE)),
        area=median(lambda lane: float(np.mean(lane.loss))),
        spread=(min(losses), max(losses)) if len(losses) > 1 else None,
        worse=None if best is first else beyond_noise(best, first, judge),
        gaps=np.empty(0) if best is first else paired_gaps(best, first, judge),
    )


def smoothed_at(lane: LaneResult, share: float) -> float:
    """A lane's smoothed training loss after that share of its planned steps, or at its end."""
    at = min(round(share * lane.planned), lane.curve.length - 1)
    return float(lane.curve.smoothed[at])


def verdict(ranking: Sequence[Standing]) -> str:
    """Who won, and over whom that is sure, in a sentence."""
    done = [each for each in ranking if each.rank is not None]
    if not done:
        return "nothing finished."
    first, others = done[0], done[1:]
    beaten = [each.variant for each in others if each.worse]
    tied = [each.variant for each in others if each.worse is False]
    unknown = [each.variant for each in others if each.worse is None]
    said = [f"{first.variant} ended lowest"]
    if beaten:
        said.append(f"beyond the noise between seeds below {_and(beaten)}")
    if tied:
        said.append(f"not told apart from {_and(tied)} by {_seeds(first)}")
    if unknown:
        said.append(f"with one seed, so nothing is known of the noise against {_and(unknown)}")
    return "; ".join(said) + "."


def _seeds(standing: Standing) -> str:
    count = 0 if standing.best is None else len(standing.best.lanes)
    return f"{count} seeds"


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def plain(standing: Standing) -> dict[str, Any]:
    """A standing as plain data, for summary.json."""
    best = standing.best
    return {
        "variant": standing.variant,
        "rank": standing.rank,
        "lr": best.lr if best else None,
        "early": standing.early,
        "middle": standing.middle,
        "train_loss": best.train_loss if best else None,
        "val_loss": best.val_loss if best else None,
        "metric": best.metric if best else None,
        "area": standing.area,
        "spread": list(standing.spread) if standing.spread else None,
        "worse_beyond_noise": standing.worse,
        "peaks": [
            {"lr": rate.lr, "outcome": rate.outcome, "loss": rate.loss} for rate in standing.reading.rates
        ],
        "boundary": standing.reading.boundary,
    }


def comparison_summary(
    results: Sequence[LaneResult],
    run: str,
    variants: Sequence[str],
    *,
    judge: Judge,
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
        common_peak: the one peak of all, where that was asked for.
        planned: how many lanes it shall have so far.
        engines: how lanes were trained.
        metric: what the task's metric is called.
        notes: what happened on the way and should be known.
    """
    ranking = standings(results, variants, judge)
    first = ranking[0].best
    settled = sum(result.outcome in SETTLED for result in results)
    used = ranking[0].reading.judge
    return {
        "schema": SCHEMA,
        "command": "compare",
        "run": run,
        "best": {
            "variant": ranking[0].variant if first else None,
            "lr": first.lr if first else None,
            "reason": None if first else "no lane of any variant finished; try lower peaks.",
        },
        "verdict": verdict(ranking),
        "judge": used,
        "metric": metric,
        "common_peak": common_peak,
        "standings": [plain(standing) for standing in ranking],
        "lanes": {
            "planned": planned,
            "settled": settled,
            "steps": sum(int(result.lr.size) for result in results),
        },
        "engines": [*engines],
        "warnings": [*_warnings(ranking, judge, planned - settled, run, common_peak), *notes],
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
    if judge != ranking[0].reading.judge and ranking[0].best:
        warnings.append("there is no validation loss, so the final training loss decides.")
    for each in ranking:
        if each.reading.boundary and common_peak is None:
            side = "lowest" if each.reading.boundary == "low" else "highest"
            warnings.append(f"the best peak of {each.variant} is the {side} tried; give --peaks further out.")
        lanes = [lane for rate in each.reading.rates for lane in rate.lanes.values()]
        failed = next((lane for lane in lanes if lane.error), None)
        if failed is not None:
            where = f"lr {failed.peak:.3g} (seed {failed.seed})"
            warnings.append(f"{each.variant} failed at {where}: {failed.error}")
        if each.best is None and not failed:
            outcomes = ", ".join(sorted({rate.outcome for rate in each.reading.rates})) or "not run yet"
            warnings.append(f"no peak of {each.variant} finished ({outcomes}).")
    if ranking[0].best and len(ranking[0].best.lanes) == 1 and len(ranking) > 1:
        warnings.append("one seed only, so nothing is known of the noise; use --seeds 3.")
    return warnings
