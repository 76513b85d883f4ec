"""Linear regression, or the logits of a logistic regression: one affine map."""

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
