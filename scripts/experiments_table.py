"""Run a range test and a grid of every experiment that comes with lrfind, and print their times and results.

    python scripts/experiments_table.py [NAME ...]

Each experiment is run as it is, from the command line, into a temporary directory. The seconds are those of
the whole command. The script prints a table in Markdown, and the findings about gradients that are not
healthy.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from lrfind.config.templates import templates

COLUMNS = (
    "experiment",
    "range test",
    "suggestion",
    "grid",
    "best lr",
    "validation loss",
    "metric",
    "gradients",
)


def run(command: str, config: Path, out: Path) -> tuple[float, dict[str, Any]]:
    began = time.perf_counter()
    call = [
        sys.executable,
        "-m",
        "lrfind",
        command,
        str(config),
        "--out",
        str(out / command),
        "--json",
        "-q",
    ]
    process = subprocess.run(call, capture_output=True, text=True)
    if process.returncode:
        raise click.ClickException(
            f"`lrfind {command}` of {config.stem} ended with exit code {process.returncode}: {process.stderr}"
        )
    return time.perf_counter() - began, json.loads(process.stdout)


def row(name: str, config: Path) -> tuple[tuple[str, ...], list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        ramp_seconds, ramp = run("range-test", config, Path(folder))
        grid_seconds, grid = run("grid", config, Path(folder))
    findings = {
        f"{name}: {finding['what']}: {finding['evidence']}"
        for summary in (ramp, grid)
        for finding in summary["health"]["findings"]
    }
    best = grid["answer"]
    metric = "-" if best["metric"] is None else f"{grid['metric']} {best['metric']:.3g}"
    cells = (
        name,
        f"{ramp_seconds:.0f} s",
        f"{ramp['answer']['lr']:.2g}",
        f"{grid_seconds:.0f} s",
        f"{best['lr']:.2g}",
        f"{best['val_loss']:.3g}",
        metric,
        ", ".join(sorted({line.split(": ")[1] for line in findings})) or "healthy",
    )
    return cells, sorted(findings)


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Print the table of the experiments NAMES, or of all."""
    click.echo(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    findings: list[str] = []
    for name, config in templates().items():
        if not names or name in names:
            cells, sentences = row(name, config)
            click.echo(f"| {' | '.join(cells)} |")
            findings += sentences
    click.echo("\n" + "\n".join(findings))


if __name__ == "__main__":
    main()
