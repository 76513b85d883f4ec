"""Single operations in lrfind's faster ways, beside torch's own.

    taskset -c 0 python benchmarks/speed/kernels.py [--turns 5] [--json PATH]

These are the operations of `lrfind.training.kernels`, on one thread: matrix products of the sizes of a small
MLP, of a stack of 8 of them, and of a transformer, and max-pooling of images that are stored channel by
channel. Both ways run in turns. Where this machine has no faster way, the script says so.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from figures import Row, write

from lrfind.training.kernels import MAX_POOL, fastest

SECONDS = 0.05
"""The seconds for which each way runs in a turn."""
aten = torch.ops.aten
POOLED = [[2, 2], [2, 2]]
OPERATIONS: dict[str, tuple[Any, Callable[[], list[Any]]]] = {
    "product, 64 x 784 by 784 x 128": (
        aten.mm.default,
        lambda: [torch.randn(64, 784), torch.randn(784, 128)],
    ),
    "8 products, 64 x 784 by 784 x 128": (
        aten.bmm.default,
        lambda: [torch.randn(8, 64, 784), torch.randn(8, 784, 128)],
    ),
    "product, 512 x 64 by 64 x 256": (
        aten.mm.default,
        lambda: [torch.randn(512, 64), torch.randn(64, 256)],
    ),
    "max-pooling, 64 x 16 x 26 x 26": (MAX_POOL, lambda: [torch.randn(64, 16, 26, 26), *POOLED]),
    "max-pooling, 64 x 32 x 11 x 11": (MAX_POOL, lambda: [torch.randn(64, 32, 11, 11), *POOLED]),
}


def seconds_of(way: Callable[..., object], args: list[Any]) -> float:
    """Return the median time of a call, over about SECONDS."""
    times: list[float] = []
    while len(times) < 5 or sum(times) < SECONDS:
        began = time.perf_counter()
        way(*args)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@click.command()
@click.option("--turns", default=5, type=click.IntRange(min=1), help="How often each way is measured.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write the figures to this file.")
def main(turns: int, path: Path | None) -> None:
    """Print how long operations take in torch's way and in lrfind's."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows: list[Row] = []
    for name, (operation, make) in OPERATIONS.items():
        args = make()
        fast = fastest(operation, args)
        if fast is operation:
            click.echo(f"{name}: torch's own way is the fastest on this machine")
            continue
        turn_of = [(seconds_of(operation, args), seconds_of(fast, args)) for _ in range(turns + 1)][1:]
        ratios = sorted(usual / ours for usual, ours in turn_of)
        ours = statistics.median(ours for _, ours in turn_of)
        usual = statistics.median(usual for usual, _ in turn_of)
        note = f"times as fast as torch's own way, {ratios[0]:.2f} to {ratios[-1]:.2f} in {turns} turns"
        rows += [
            Row(name, "torch", usual, 1.0, ""),
            Row(name, "lrfind", ours, statistics.median(ratios), note),
        ]
        click.echo(f"{name}: {usual:.3g} s, {ours:.3g} s, {statistics.median(ratios):.2f} {note}")
    if path is not None:
        write(path, rows)


if __name__ == "__main__":
    main()
