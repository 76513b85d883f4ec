"""All speed benchmarks, in one table for each capability.

    python benchmarks/speed/report.py [--turns 5] [--only sweeps] [--out benchmarks/results/speed.txt]

It runs the other scripts one after another, each in a process of its own, and writes what they measured to a
file, with the machine that it was measured on. README.md and docs/speed.md take their figures from that file.
With --only, the other capabilities keep the tables that the file has.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import torch
from figures import Row

HERE = Path(__file__).parent
OUT = HERE.parent / "results" / "speed.txt"
CAPABILITIES = {
    "sweeps": (
        "Whole sweeps on one core, beside the loops that people write",
        [["sweep.py", "--one-core"], ["sweep.py", "--one-core", "--longer", "4", "--preloaded"]],
    ),
    "cores": (
        "Whole sweeps on all cores",
        [["sweep.py", "--preloaded"], ["sweep.py", "--preloaded", "--longer", "4"]],
    ),
    "busy": (
        "The chosen mode beside named modes, while another process is busy on one core",
        [["sweep.py", "--named", "--busy"]],
    ),
    "range test": ("A step of a range test, beside a bare loop", [["range_test.py"]]),
    "lanes": ("A lane, beside the same arithmetic without modules and optimizers", [["limit.py"]]),
    "kernels": ("Single operations, beside torch's own ways", [["kernels.py"]]),
    "start-up": ("Whole commands, beside a bare `import torch`", [["startup.py"]]),
    "large": ("Large runs", [["large.py"]]),
}
"""For each capability, the title of its table and the scripts that measure it."""


def measured(script: list[str], turns: int) -> list[Row]:
    """Run a script and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        arguments = [str(HERE / script[0]), *script[1:], "--turns", str(turns), "--json", str(path)]
        subprocess.run([sys.executable, *arguments], check=True)
        return [Row(**row) for row in json.loads(path.read_text())]


def table(title: str, rows: list[Row]) -> str:
    """Return the table of a capability."""
    lines = [title, "=" * len(title)]
    case = ""
    for row in rows:
        if row.case != case:
            case = row.case
            lines += ["", case]
        seconds = "" if row.seconds is None else f"{row.seconds:10.4g} s"
        ratio = "" if row.ratio is None else f"{row.ratio:8.2f}"
        lines.append(f"  {row.what:32} {seconds:12} {ratio:8}   {row.note}".rstrip())
    return "\n".join(lines) + "\n"


def tables_of(text: str) -> dict[str, str]:
    """Return the tables of a file by their titles."""
    parts = re.split(r"^(.+)\n=+\n", text, flags=re.MULTILINE)[1:]
    return {
        title: f"{title}\n{'=' * len(title)}\n{body.rstrip()}\n"
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


@click.command()
@click.option("--turns", default=5, type=click.IntRange(min=1), help="How often each way is measured.")
@click.option(
    "--only", multiple=True, type=click.Choice([*CAPABILITIES]), help="Measure only this; may be repeated."
)
@click.option("--out", default=OUT, type=click.Path(path_type=Path), help="The file of the tables.")
def main(turns: int, only: tuple[str, ...], out: Path) -> None:
    """Measure the speed of everything, and write one table for each capability."""
    known = tables_of(out.read_text()) if out.is_file() else {}
    for name in only or CAPABILITIES:
        title, scripts = CAPABILITIES[name]
        rows = [row for script in scripts for row in measured(script, turns)]
        known[title] = table(title, rows)
        order = [title for title, _ in CAPABILITIES.values() if title in known]
        head = (
            f"Measured by benchmarks/speed/report.py with torch {torch.__version__}, Python"
            f" {platform.python_version()}, on {platform.platform()}.\n\n"
        )
        out.write_text(head + "\n".join(known[title] for title in order))
        click.echo(known[title])


if __name__ == "__main__":
    main()
