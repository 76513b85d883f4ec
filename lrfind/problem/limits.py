"""What lrfind cannot set back in a training of the user's own, and what it leaves alone."""

from __future__ import annotations

from lrfind.errors import listed
from lrfind.problem.batches import users_function
from lrfind.problem.objects import Objects
from lrfind.problem.rates import all_optimizers, groups_of, innermost
from lrfind.problem.reachable import reachable
from lrfind.problem.snapshot import Snapshot


def limits_of(objects: Objects, snapshot: Snapshot) -> list[str]:
    """Say what lrfind cannot set back, and which weights and optimizers it leaves alone, in sentences."""
    limits = []
    if snapshot.lost:
        things = listed(dict.fromkeys(snapshot.lost))
        limits.append(
            f"the training refers to {things}, which lrfind cannot set back: what it takes from there is"
            " missing in your training afterwards. Give the loader itself, or create the iterator anew."
        )
    given = {id(optimizer) for optimizer in all_optimizers(objects.optimizers)}
    others = {
        type(optimizer).__name__: None
        for optimizer in snapshot.optimizers
        if any(id(inner) not in given for inner in innermost([optimizer]))
    }
    if others and objects.own_step is not None:
        limits.append(
            f"the step refers to {listed(others)}, which `optimizers` does not name: its lr stays as it"
            " is while lrfind trains. Name all optimizers whose lrs you look for."
        )
    elif others:
        limits.append(
            f"the training also refers to {listed(others)}, whose lr stays as it is while lrfind trains. If"
            " it makes updates too, give the whole step: find(step=..., data=..., optimizers=[...])."
        )
    if objects.own_step is not None:
        return limits
    moving = [p for group in groups_of(objects.optimizers) for p in group.get("params", ())]
    known = {id(parameter) for parameter in (*moving, *objects.model.parameters())}
    names = [
        name
        for module in reachable([users_function(objects.loss_fn)]).modules
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad and id(parameter) not in known
    ]
    if names:
        limits.append(
            f"the loss has weights ({listed(names[:3])}) that the optimizer does not have: they stand still"
            " while lrfind trains. If another optimizer trains them, give the whole step: find(step=...,"
            " data=..., optimizers=[...])."
        )
    return limits
