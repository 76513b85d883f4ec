"""Run the commands whose output the pages of docs/ show, and write the new output into the pages.

    python scripts/page_outputs.py [PAGE ...]

A block of output with a comment `<!-- output of: lrfind COMMAND -->` above it gets what this command prints
at 80 columns, without colours. The commands run with the configs of this repository, in a temporary
directory. Look at the difference before you commit it: times, and the last digits of numbers, differ between
machines.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
SHOWN = re.compile(
    r"(<!-- output of: (lrfind [^\n]+) -->\n```text\n).*?(^```$)", flags=re.MULTILINE | re.DOTALL
)


def output(command: str) -> str:
    """Return what a command prints on stdout: its answer, without progress and warnings."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "configs", Path(folder) / "configs")
        environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
        call = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        raise click.ClickException(f"`{command}` ended with exit code {done.returncode}:\n{done.stderr}")
    return done.stdout.rstrip() + "\n"


def refreshed(text: str) -> str:
    """Return the text of a page with the new output of its commands."""
    return SHOWN.sub(lambda match: match[1] + output(match[2]) + match[3], text)


@click.command()
@click.argument("pages", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(pages: tuple[Path, ...]) -> None:
    for page in pages or sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(refreshed(text), encoding="utf-8")


if __name__ == "__main__":
    main()
