"""How soon lrfind answers, beside a bare `import torch` on the same machine.

    python benchmarks/speed/startup.py [--turns 7] [--all] [--json PATH]
    python benchmarks/speed/startup.py --where        (where the time of one `find` goes)

Each command is a process of its own, with its output in a pipe. The commands run in turns (A B C ... A B C
...), after one turn that does not count and that leaves all files in the cache of the disk. Each turn has a
folder of its own, so `runs` lists the one run of `find`. Seconds are medians over the turns. Ratios to
`import torch` are taken turn by turn.

whole       From the start of the process to its end.
answer      From the start of the process until the first line of the answer is on stdout. Plots and report
            come after it.

With --where, `find` runs once with Python's `-X importtime`, which slows it a little. Its time is divided
into that of imports, by package, and that of the stages in `STAGES`. The imports inside a stage count as
imports, and a stage inside another one counts for itself only.
"""

from __future__ import annotations

import importlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click
from figures import Row, write

CONFIG = str(Path(__file__).parents[2] / "configs" / "mnist_cnn.yaml")
BASE = "import torch"
LRFIND = (sys.executable, "-m", "lrfind")
FIND = (*LRFIND, "find", CONFIG)
COMMANDS: dict[str, Sequence[str]] = {
    BASE: (sys.executable, "-c", "import torch"),
    "lrfind --version": (*LRFIND, "--version"),
    "lrfind --help": (*LRFIND, "--help"),
    "lrfind find": FIND,
    "lrfind runs": (*LRFIND, "runs"),
}
MORE: dict[str, Sequence[str]] = {
    "lrfind range-test": (*LRFIND, "range-test", CONFIG, "--set", "range_test.seeds=1"),
    "lrfind grid": (*LRFIND, "grid", CONFIG, "--lrs", "0.01,0.1", "--seeds", "1", "--steps", "50"),
    "lrfind train": (*LRFIND, "train", CONFIG, "--steps", "100"),
}
TRAINS = ("find", "range-test", "grid", "train")

STAGES = {
    "config": ("lrfind.cli.find:load",),
    "data": ("lrfind.problem.problem:make_stream",),
    "probing": ("lrfind.experiments.find:probe_rates",),
    "store": (
        "lrfind.runs.store:Run.start",
        "lrfind.runs.store:Run.held",
        "lrfind.runs.store:Run.keep_facts",
        "lrfind.runs.store:Run.add_lanes",
        "lrfind.experiments.find:conclude",
    ),
    "plots": ("lrfind.views.plots.runs:plot_run",),
    "report": ("lrfind.views.report.page:write_report",),
}
"""The functions whose time a stage is, where their callers look them up."""

TIMED_FIND = "import sys; sys.path.insert(0, sys.argv[1]); import startup; startup.timed_find()"
SMALLEST = 0.02  # seconds of a package that gets a line of its own


def timed(command: Sequence[str], folder: Path) -> tuple[float, float | None]:
    """Run a command; return its seconds, and those until its first line on stdout, if it prints any."""
    began, answered = time.perf_counter(), None
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        for _ in process.stdout:
            answered = answered or time.perf_counter() - began
    if process.returncode != 0:
        raise click.ClickException(f"`{' '.join(command)}` ended with the code {process.returncode}")
    return time.perf_counter() - began, answered


def measure(commands: dict[str, Sequence[str]], turns: int) -> dict[tuple[str, str], list[float]]:
    """Return the seconds of every command in every turn that counts: (command, what) -> seconds."""
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(turns + 1):
        with tempfile.TemporaryDirectory() as folder:
            for name, command in commands.items():
                whole, answer = timed(command, Path(folder))
                if turn == 0:
                    continue
                times.setdefault((name, "whole"), []).append(whole)
                if answer is not None and name.rpartition(" ")[2] in TRAINS:
                    times.setdefault((name, "answer"), []).append(answer)
    return times


def rows_of(times: dict[tuple[str, str], list[float]]) -> list[Row]:
    """Return a row for each figure. Its ratio says how many times as long it takes as `import torch`."""
    rows = []
    for (name, what), values in times.items():
        ratios = [value / base for value, base in zip(values, times[BASE, "whole"], strict=True)]
        note = f"times `{BASE}`, {min(ratios):.2f} to {max(ratios):.2f}"
        rows.append(
            Row("commands", f"{name}, {what}", statistics.median(values), statistics.median(ratios), note)
        )
    return rows


def timed_find() -> None:
    """Run a `find` in this process, and write to stderr when its stages begin and end."""
    for stage, functions in STAGES.items():
        for path in functions:
            module, _, names = path.partition(":")
            *owners, name = names.split(".")
            holder: Any = importlib.import_module(module)
            for owner in owners:
                holder = getattr(holder, owner)
            raw = vars(holder)[name]
            of_class = isinstance(raw, classmethod)
            marked = _marked(raw.__func__ if of_class else raw, stage)
            setattr(holder, name, classmethod(marked) if of_class else marked)
    from lrfind.cli.main import main as lrfind

    sys.argv[1:] = FIND[3:]
    _marked(lrfind, "other")()


def _marked(function: Callable[..., Any], stage: str) -> Callable[..., Any]:
    @wraps(function)
    def marked(*args: Any, **kwargs: Any) -> Any:
        _mark("begin", stage)
        try:
            return function(*args, **kwargs)
        finally:
            _mark("end", stage)

    return marked


def _mark(what: str, stage: str) -> None:
    print(f"stage: {what} {stage} {time.time()}", file=sys.stderr, flush=True)  # noqa: T201


def divided(lines: Iterable[str], began: float, ended: float) -> tuple[Counter[str], Counter[str]]:
    """Return the seconds of the stages and of the imports by package, from the lines on stderr of a find."""
    stages, packages, open_stages = Counter[str](), Counter[str](), ["start of Python"]
    since, imported = began, 0.0

    def take(now: float) -> None:
        nonlocal since, imported
        stages[open_stages[-1]] += now - since - imported
        since, imported = now, 0.0

    for line in lines:
        if match := re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", line):
            seconds = int(match[1]) / 1e6
            parts = match[2].split(".")
            packages[".".join(parts[: 2 if parts[0] == "torch" else 1])] += seconds
            imported += seconds
        elif match := re.match(r"stage: (begin|end) (.+) ([\d.]+)$", line):
            take(float(match[3]))
            if match[1] == "begin":
                open_stages.append(match[2])
            else:
                open_stages.pop()
                open_stages[0] = "end of Python"
    take(ended)
    return stages, packages


def report_where() -> None:
    """Print where the time of a `find` goes."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        process = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", TIMED_FIND, str(Path(__file__).parent)],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        ended = time.time()
    stages, packages = divided(process.stderr.splitlines(), began, ended)
    small = [name for name, seconds in packages.items() if seconds < SMALLEST]
    rest = sum(packages.pop(name) for name in small)
    click.echo(f"lrfind find: {ended - began:.2f} s with -X importtime, of which")
    for name, seconds in stages.most_common():
        click.echo(f"  {name:28} {seconds:6.2f}")
    click.echo(f"  {'imports':28} {rest + packages.total():6.2f}, of which")
    for name, seconds in packages.most_common():
        click.echo(f"    {name:26} {seconds:6.2f}")
    click.echo(f"    {f'{len(small)} others':26} {rest:6.2f}")


@click.command()
@click.option("--turns", default=7, type=click.IntRange(min=1), help="How often each command is measured.")
@click.option("--all", "everything", is_flag=True, help="Also measure range-test, grid and train.")
@click.option("--where", is_flag=True, help="Print where the time of one `find` goes instead.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write the figures to this file.")
def main(turns: int, everything: bool, where: bool, path: Path | None) -> None:
    """Print how long commands take, and how soon they answer."""
    if where:
        report_where()
        return
    rows = rows_of(measure(COMMANDS | (MORE if everything else {}), turns))
    click.echo(f"seconds are medians of {turns}")
    for row in rows:
        click.echo(f"{row.what:26} {row.seconds:7.2f} s {row.ratio:6.2f} {row.note}")
    if path is not None:
        write(path, rows)


if __name__ == "__main__":
    main()
