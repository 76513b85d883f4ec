"""A learning rate for another batch size, and the noise scale, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lrfind.analysis.batch_size import Scaled
from lrfind.errors import counted, listed
from lrfind.views.text.layout import table_block, wrapped
from lrfind.views.text.parts import number_or_dash

if TYPE_CHECKING:
    from lrfind.analysis.noise_scale import NoiseScale


def noise_scale_text(measured: Sequence[NoiseScale]) -> str:
    """Return the noise scales that were measured along a training, one row per measurement."""
    rows = []
    for at in measured:
        interval = "-"
        if at.low is not None:
            interval = (
                f"{number_or_dash(at.low)} to {number_or_dash(at.high)}"
                if at.high
                else f"above {number_or_dash(at.low)}"
            )
        rows.append(
            [
                str(at.step),
                number_or_dash(at.scale),
                interval,
                number_or_dash(at.gradient),
                number_or_dash(at.trace),
            ]
        )
    first = measured[0]
    header = ("step", "scale", "95 %", "|G|^2", "tr(Sigma)")
    measure = f"Gradient noise scale in rows (measured on {counted(first.batches, 'batch')} of {first.rows})"
    notes = [line for at in measured if at.note for line in wrapped(f"step {at.step}: {at.note}")]
    return "\n".join([*wrapped(measure, ""), *table_block(header, rows)[:-1], *notes])


def scaled_text(scaled: Scaled, lr: float, from_batch: int, total: int | None) -> str:
    """Return a learning rate for another batch size, its rule, and the settings that must change with it.

    Args:
        scaled: the result.
        lr: the lr before.
        from_batch: the batch size before, of all workers together.
        total: the batch size afterwards, of all workers together.
    """
    factors = f"batch size x {scaled.batch_factor:.4g}, lr x {scaled.factor:.4g}"
    texts = [f"from {lr:.4g} at {from_batch}: {factors}", f"rule: {scaled.rule}, {scaled.source}"]
    if scaled.settings:
        settings = listed(f"{name} to {_plain(value)}" for name, value in scaled.settings.items())
        texts.append(f"also set {settings}")
    if scaled.warmup:
        texts.append(f"warmup: {scaled.warmup}")
    lines = [f"Learning rate for batches of {total}: {scaled.lr:.4g}"]
    lines += [line for text in texts for line in wrapped(text)]
    return "\n".join([*lines, *(line for text in scaled.notes for line in wrapped(f"note: {text}", ""))])


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_plain, value))})"
    return f"{value:.6g}"
