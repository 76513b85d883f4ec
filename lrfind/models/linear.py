"""One affine map: linear regression, and the logits of a logistic regression."""

from __future__ import annotations

from torch import Tensor, nn


class Linear(nn.Module):
    """y = W x + b on the flattened input.

    Args:
        in_features: numbers in one input; from the data when omitted.
        out_features: numbers in one output; from the data when omitted.
        bias: whether there is a b.
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

    With cross-entropy its loss is convex and begins at log(classes), every class being as likely as another,
    so that seeds differ in the order of their batches alone.

    Args:
        in_features: numbers in one input; from the data when omitted.
        out_features: classes, or 1 for `bce_with_logits`; from the data when omitted.
        bias: whether there is a b.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
