"""One affine map: a linear regression, or the logits of a logistic regression."""

from __future__ import annotations

from torch import Tensor, nn


class Linear(nn.Module):
    """y = W x + b on the flattened input.

    Args:
        in_features: the number of values in one input; taken from the data when omitted.
        out_features: the number of outputs for one input; taken from the data when omitted.
        bias: whether b is added.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.affine = nn.Linear(in_features, out_features, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, ...) -> (B, out_features)
        """Map a batch."""
        out: Tensor = self.affine(x.flatten(1))
        return out


class Logistic(Linear):
    """The logits of a (multinomial) logistic regression, which begins at W = 0 and b = 0.

    With cross-entropy its loss is convex and begins at log(classes), because all classes are equally likely.
    Seeds therefore differ only in the order of their batches.

    Args:
        in_features: the number of values in one input; taken from the data when omitted.
        out_features: the number of classes, or 1 for `bce_with_logits`; taken from the data when omitted.
        bias: whether b is added.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
