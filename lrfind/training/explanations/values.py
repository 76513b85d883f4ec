"""Values: explanations of why a loss is not finite at any lr, or not a loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lrfind.errors import UsageError, first_few
from lrfind.problem.rates import groups_of
from lrfind.training.explanations.forms import batch_parts, form, tensors_in


def nonfinite_parts(batch: Any) -> list[str]:
    """Describe the parts of a batch that hold NaN or inf, with the rows where these are.

    >>> nonfinite_parts((torch.tensor([[0.0, 1.0], [float("nan"), 1.0]]), torch.zeros(2)))
    ['x (2, 2) float32 in row 1']
    """
    return [
        f"{name} {form(tensor)}{_nonfinite_rows(tensor)}"
        for name, part in batch_parts(batch).items()
        for tensor in tensors_in(part)
        if _may_be_nonfinite(tensor) and not bool(tensor.isfinite().all())
    ]


def _may_be_nonfinite(tensor: Tensor) -> bool:
    return tensor.device.type != "meta" and tensor.layout == torch.strided and tensor.is_floating_point()


def _nonfinite_rows(tensor: Tensor) -> str:
    if not tensor.ndim:
        return ""
    rows = (~tensor.isfinite()).flatten(1).any(1) if tensor.ndim > 1 else ~tensor.isfinite()
    places = rows.nonzero().flatten().tolist()
    return f" in {'row' if len(places) == 1 else 'rows'} {first_few(map(str, places))}"


def why_not_float16(optimizer: Any) -> str | None:
    """Say why weights of float16 blow up at every lr with this optimizer; None if they need not.

    Adam and its family divide by the root of a mean of squares plus `eps`. In float16 the squares of small
    gradients are 0, and an eps below 3e-8 is 0 too, so the first update is 0 / 0 or far too large.
    """
    for group in groups_of([optimizer]):
        eps = group.get("eps")
        half = any(parameter.dtype == torch.float16 for parameter in group["params"])
        if half and isinstance(eps, float) and not torch.tensor(eps, dtype=torch.float16).item():
            return (
                f"the weights are float16, in which {type(optimizer).__name__}'s eps of {eps:g} is 0, and so"
                " are the squares of small gradients: the update divides by 0 at any lr. Keep the weights in"
                " float32, and use autocast: precision='float16'."
            )
    return None


def check_loss(loss: float, loss_fn: Any) -> None:
    """Refuse a loss below 0 of a loss function that needs log-probabilities.

    Raises:
        UsageError: if the loss shows that the model returns something else.
    """
    by_log = isinstance(loss_fn, torch.nn.NLLLoss) or loss_fn is torch.nn.functional.nll_loss
    if by_log and loss < 0:
        raise UsageError(
            f"the loss is {loss:.3g}, and below 0 only if the output holds no log-probabilities, which"
            " NLLLoss needs: then it falls at any lr. Use CrossEntropyLoss for scores, or return"
            " log_softmax(scores, dim=1) from forward. skorch takes the logarithm itself: use"
            " lrfind.integrations.skorch.find(net, x, y)."
        )
