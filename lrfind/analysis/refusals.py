"""Why probes recommend no rate, or show that nothing was learned of the inputs, in words."""

from __future__ import annotations

import math

import numpy as np

from lrfind.analysis.probing import FEWEST_STEPS, ProbeResult, rate
from lrfind.errors import counted, listed

PREDICTS = (
    "the untouched model predicts its targets (the loss rises if they are shuffled among the rows of a batch)"
)
NO_RELATION = (
    "the loss stays the same if the targets are shuffled among the rows of a batch: the model predicts"
    " nothing but what all targets share. Either the targets have nothing to do with the inputs (check that"
    " they belong together), or the training begins on a plateau that is longer than the probes, or the model"
    " or the loss has a mistake"
)
SAME_OUTPUT = (
    "the output is the same for every input: look for inputs that are all alike, dead units, saturation,"
    " masks and dropout that hide everything"
)
COLLAPSED = (
    "the output is the same for every input, which it was not before them: the rates may be too high for this"
    " model"
)


def why_no_rate(result: ProbeResult, *, explained: bool = False) -> str | None:
    """Return why one seed's probes recommend no rate, and what to do; None if they recommend one.

    Args:
        result: the probes.
        explained: whether something is wrong with the gradients, which explains that nothing learns.
    """
    untouched = result.untouched_loss[:FEWEST_STEPS]
    if not np.isfinite(untouched).all():
        bad = ~np.isfinite(untouched)
        where = "" if bad.all() else f" on batch {int(bad.argmax()) + 1}"
        return (
            f"the loss of the untouched model is not finite{where}; look at the inputs, the first layers"
            " and the loss function."
        )
    if not result.probes:
        return "the budget of steps or of seconds does not allow a single probe; give a larger one."
    scores = {place: score for place, score in result.scores.items() if math.isfinite(score)}
    steps = counted(result.steps, "step")
    if not scores:
        blew_up = f"the loss blew up within {steps} at every rate that was tried, down to"
        blew_up += f" {rate(min(result.scores)):.1g}"
        if result.cut:
            return f"{blew_up}; the budget or the memory for batches allowed no lower rate: give more."
        return f"{blew_up}; check whether the inputs or the loss have a huge scale."
    if result.identical:
        return (
            "the lr has no effect: the losses are the same at all rates that were tried. The optimizer, or"
            " the step, does not use the lr of its param groups."
        )
    if result.indifferent:
        tried = listed(f"{probe.lr:.2g}" for probe in result.probes.values())
        if result.converged:
            return f"converged already: {PREDICTS}, and no rate changes the loss (tried: {tried})."
        return (
            f"no rate changes the loss (tried: {tried}). Either the gradients are zero, or the loss is so"
            " small that its gradients cannot change the weights, or the loss does not depend on the trained"
            " parameters, or the step never calls optimizer.step()."
        )
    if result.significant or result.informed:
        return None
    return _why_nothing_learns(result, explained=explained)


def may_learn_later(result: ProbeResult) -> bool:
    """Return whether longer trainings may learn what the probes did not: only that nothing fell is wrong."""
    return (
        bool(np.isfinite(result.untouched_loss).all())
        and any(map(math.isfinite, result.scores.values()))
        and not result.identical
        and not result.indifferent
    )


def _why_nothing_learns(result: ProbeResult, *, explained: bool) -> str:
    """Return why no rate lowers the loss by more than noise, as far as the probes tell, and what to do."""
    lrs = sorted(probe.lr for probe in result.probes.values())
    nothing = (
        f"none of {counted(len(lrs), 'rate')} from {lrs[0]:.3g} to {lrs[-1]:.3g} lowers the loss in"
        f" {counted(result.steps, 'step')} by more than the noise between batches"
    )
    if result.converged:
        reason = f"converged already, as far as so few steps can tell: {PREDICTS}, and {nothing}"
    elif result.uninformed and not (explained and result.varies):
        reason = f"nothing learns: {nothing}, and {why_uninformed(result)}"
    else:
        reason = f"nothing learns: {nothing}; check model, data and loss"
    if result.cut:
        reason += (
            ". The budget, or the memory for batches, did not allow longer probes; more of it may show more"
        )
    return f"{reason}."


def why_uninformed(result: ProbeResult) -> str:
    """Say what shows that the best probe predicts nothing of the inputs, and what may explain that."""
    if result.varies:
        return NO_RELATION
    return COLLAPSED if result.before is not None and result.before.varies else SAME_OUTPUT
