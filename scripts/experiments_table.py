"""Every experiment that comes with lrfind: what a range test and a grid of it take and find.

    python scripts/experiments_table.py [NAME ...]

Each is run as it is, by the command line, into a temporary directory; seconds are those of the whole command.
Prints a table in Markdown, and what was said of the gradients of those that are not healthy.
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


def ran(command: str, config: Path, out: Path) -> tuple[float, dict[str, Any]]:
    began = time.perf_counter()
    lrfind = [
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
    done = subprocess.run(lrfind, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{command} of {config.stem} ended with {done.returncode}: {done.stderr}")
    return time.perf_counter() - began, json.loads(done.stdout)


def row(name: str, config: Path) -> tuple[tuple[str, ...], list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        ramp_seconds, ramp = ran("range-test", config, Path(folder))
        grid_seconds, grid = ran("grid", config, Path(folder))
    said = {
        f"{name}: {finding['what']}: {finding['evidence']}"
        for summary in (ramp, grid)
        for finding in summary["health"]["findings"]
    }
    best = grid["best"]
    metric = "-" if best["metric"] is None else f"{grid['metric']} {best['metric']:.3g}"
    shown = (
        name,
        f"{ramp_seconds:.0f} s",
        f"{ramp['suggestion']['lr']:.2g}",
        f"{grid_seconds:.0f} s",
        f"{best['lr']:.2g}",
        f"{best['val_loss']:.3g}",
        metric,
        ", ".join(sorted({line.split(": ")[1] for line in said})) or "healthy",
    )
    return shown, sorted(said)


def main(names: list[str]) -> None:
    click.echo(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    findings: list[str] = []
    for name, config in templates().items():
        if not names or name in names:
            shown, said = row(name, config)
            click.echo(f"| {' | '.join(shown)} |")
            findings += said
    click.echo("\n" + "\n".join(findings))


if __name__ == "__main__":
    main(sys.argv[1:])
