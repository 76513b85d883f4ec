"""Overfitting in the summary of a sweep or a comparison: what was seen, and what to do."""

from __future__ import annotations

from statistics import median

from lrfind.analysis.sweeps import RateResult
from lrfind.catalog import Judge


def overfitting_warning(where: str, rate: RateResult, judge: Judge, variant: str = "") -> str:
    """Return a warning of overfitting: where it is, the losses of one rate that shows it, and what to do.

    Args:
        where: where training overfits, a clause.
        rate: a rate that overfits.
        judge: the loss that decides.
        variant: the variant to which the rate belongs, if there are several.
    """
    lanes = list(rate.lanes.values())
    steps, first = int(median(lane.planned for lane in lanes)), median(float(lane.loss[0]) for lane in lanes)
    with_variant = f"with {variant}, " if variant else ""
    evidence = (
        f"{with_variant}at lr {rate.lr:.3g} the training loss fell from {first:.3g} to {rate.train_loss:.3g},"
        f" and the validation loss ended at {rate.val_loss:.3g}"
    )
    several = any(len(lane.evaluations) > 1 for lane in lanes)
    if several:
        evidence += f"; it was lowest ({rate.best_val_loss:.3g}) at step {rate.best_val_step} of {steps}"
    if judge == "best_val_loss":
        advice = (
            f"Train for about {rate.best_val_step} steps, or stop early (training.early_stop); `lrfind train`"
            " also keeps the weights with the lowest validation loss"
        )
    else:
        options = "--judge best_val_loss" + ("" if several else f" --eval-every {max(1, steps // 10)}")
        advice = (
            "Fewer steps, more data or more regularisation may help more than another lr. To compare by the"
            f" lowest validation loss of each training: {options}"
        )
    return f"{where}: {evidence}. {advice}."
