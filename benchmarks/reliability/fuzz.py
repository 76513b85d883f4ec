"""Try random configs and curves: no traceback, each mistake with its place, each answer in its range.

    python benchmarks/reliability/fuzz.py [COUNT] [SEED]

COUNT configs (10,000 if omitted) are drawn from the schema and broken at random. Each must be right or have
mistakes with places, and what is right must be the same after it is written and read again. COUNT curves are
put to every method, raw and not: each must answer within the range of the curve, or refuse with a reason.
COUNT more curves are scaled and shifted, and the answers must follow. It prints the counts, and for each
failure the seed that repeats it. Warnings of numpy count as failures.
"""

from __future__ import annotations

import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.helpers import fuzz

KINDS: dict[str, Callable[[Random], str | int]] = {
    "configs": lambda random: fuzz.checked(*fuzz.config_text(random)),
    "curves": fuzz.asked,
    "changed curves": fuzz.followed,
}


@click.command()
@click.argument("count", default=10_000)
@click.argument("seed", default=0)
@click.option("--only", type=click.Choice([*KINDS]), help="Try only one kind.")
def main(count: int, seed: int, only: str | None) -> None:
    """Try COUNT of each kind, from SEED on."""
    warnings.simplefilter("error")
    failures = 0
    for kind, attempt in KINDS.items():
        if only not in (None, kind):
            continue
        counts: Counter[str] = Counter()
        began = time.perf_counter()
        for number in range(seed, seed + count):
            try:
                result = attempt(Random(number))
            except Exception as error:
                failures += 1
                counts["failures"] += 1
                if counts["failures"] <= 10:
                    last = traceback.extract_tb(error.__traceback__)[-1]
                    where = f"{last.filename}:{last.lineno}"
                    click.echo(f"  seed {number}: {type(error).__name__}: {str(error)[:200]!r} ({where})")
            else:
                if isinstance(result, str):
                    counts[result] += 1
                else:
                    counts["answers"] += result
        words = ", ".join(f"{number:,} {word}" for word, number in sorted(counts.items()))
        click.echo(f"{count:,} {kind} from seed {seed}: {words}; {time.perf_counter() - began:.0f} s")
    click.echo(f"failures: {failures}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
