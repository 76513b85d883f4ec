"""Check that a change of the code changed no answer: run every ready experiment with two source trees.

    git worktree add ../before main~5
    python benchmarks/reliability/same_answers.py ../before

Each experiment in configs/ is run with `find`, `range-test` and `grid`, lanes one after another on one
thread, once with the other tree and once with this one. The two runs must agree to the last digit in every
table (steps.csv, lanes.csv, health.csv, without the seconds that lanes took) and in every number of
summary.json. Keys, words and the order of the summary may differ. About 20 minutes on two cores.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

HERE = Path(__file__).resolve().parents[2]
COMMANDS = {
    "find": ["--lanes", "single"],
    "range-test": [],
    "grid": ["--lanes", "single", "--threads", "1"],
}
TABLES = ("steps.csv", "lanes.csv", "health.csv")
MEASURED = ("train_seconds", "seconds", "seconds_per_step", "ratio")
"""Columns and keys whose values are times, which differ from run to run."""


def run(tree: Path, config: Path, command: str, out: Path) -> None:
    """Run one command with the package of a source tree; a run that exists already is kept."""
    if (out / "summary.json").is_file():
        return
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    arguments = [sys.executable, "-m", "lrfind", command, str(config), "--out", str(out), "--quiet"]
    done = subprocess.run(
        [*arguments, *COMMANDS[command]], env=environment, capture_output=True, text=True, cwd=out.parent
    )
    if done.returncode not in (0, 3):  # 3: a refusal is an answer too
        raise click.ClickException(f"{command} {config.name} with {tree}: {done.stderr.strip()}")


def table(path: Path) -> list[list[str]]:
    """Read a table's rows as text, without the columns that hold times."""
    if not path.is_file():
        return []
    header, *rows = csv.reader(path.open(newline=""))
    kept = [i for i, name in enumerate(header) if name not in MEASURED]
    return [[row[i] for i in kept] for row in (header, *rows)]


def numbers(value: Any) -> Iterator[float]:
    """Yield every number that is not whole in a summary, wherever it stands."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in MEASURED:
                yield from numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner)
    elif isinstance(value, float) and not value.is_integer():
        yield value


def differences(before: Path, after: Path) -> list[str]:
    """Name what differs between two runs of the same experiment."""
    found = [name for name in TABLES if table(before / name) != table(after / name)]
    old, new = (set(numbers(json.loads((run / "summary.json").read_text()))) for run in (before, after))
    return found + [f"summary.json: {value!r}" for value in sorted(old ^ new)]


@click.command()
@click.argument("other", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--keep", type=click.Path(path_type=Path), help="Where runs stay; those that exist are reused.")
@click.option("--only", default=None, help="One tree alone: before or after.")
def main(other: Path, keep: Path | None, only: str | None) -> None:
    """Compare the answers of OTHER, a source tree, with those of this one."""
    folder = keep or Path(tempfile.mkdtemp(prefix="same-answers-"))
    outcomes: Counter[str] = Counter()
    for config in sorted((HERE / "configs").glob("*.yaml")):
        for command in COMMANDS:
            runs = {}
            for side, tree in (("before", other.resolve()), ("after", HERE)):
                runs[side] = folder.resolve() / side / f"{config.stem}-{command}"
                runs[side].parent.mkdir(parents=True, exist_ok=True)
                if only in (None, side):
                    run(tree, config.resolve(), command, runs[side])
            if only is None:
                apart = differences(runs["before"], runs["after"])
                outcomes["differ" if apart else "same"] += 1
                click.echo(f"{config.stem:22} {command:11} {'; '.join(apart) or 'the same'}")
    click.echo(f"{outcomes['same']} the same, {outcomes['differ']} differ")
    sys.exit(bool(outcomes["differ"]))


if __name__ == "__main__":
    main()
