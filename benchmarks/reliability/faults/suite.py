"""Hurt runs in every way that a shared machine does, and show that nothing is lost.

    make test-fault
    python benchmarks/reliability/faults/suite.py [--times 0.1] [--only kills] [--seed 0] [--keep FOLDER]

Each fault is done to runs at moments that the seed draws; then the runs are resumed to their end. The script
prints a table: how often each fault was tried, how many stored lanes were lost, how many are there twice,
whether each final table (lanes.csv without the seconds, steps.csv, all weights, the answer) equals that of an
undisturbed run, and how many processes printed a traceback. It fails if anything was lost or unequal, or if
an exit code or a message was wrong, or if a file was left behind.

Full disks and jumps of the clock are made by a small library in C, `shim.c`. Without a C compiler, or on a
system other than Linux, these faults are left out, and the table says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

LIBRARY = "LRFIND_FAULTS"
"""The variable that names the folder of the library while it is loaded."""
WITH_LIBRARY = ("full", "clocks")
FAULTS = {
    "kills": "kills:drivers",
    "workers": "kills:with_workers",
    "scheduler": "kills:schedulers",
    "full": "disks:full",
    "limits": "disks:limited",
    "read-only": "disks:read_only",
    "vanishing": "disks:vanishing",
    "damage": "files:damaged",
    "clocks": "files:clocks",
    "drivers": "files:two_drivers",
    "config": "files:changed_config",
    "versions": "files:versions",
}
"""The groups of faults: name -> the function that tries them and yields the lines of the table."""
COLUMNS = "{:44} {:>6} {:>6} {:>6} {:>6} {:>11} {:>8}  {}"


def begin_again_with_library() -> None:
    """Compile the library, and start this script again with it; do nothing if there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        os.environ[LIBRARY] = ""
        return
    folder = tempfile.mkdtemp(prefix="lrfind-faults-")
    library, source = f"{folder}/shim.so", str(Path(__file__).with_name("shim.c"))
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    settings = {"LD_PRELOAD": library, LIBRARY: folder, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | settings)


@click.command()
@click.option("--times", default=1.0, help="A factor of the number of times that faults are tried.")
@click.option("--only", type=click.Choice([*FAULTS]), multiple=True, help="Try only these.")
@click.option("--seed", default=0, help="The seed of all that is drawn.")
@click.option("--keep", type=click.Path(path_type=Path), help="A folder in which the runs stay.")
def main(times: float, only: tuple[str, ...], seed: int, keep: Path | None) -> None:
    """Try all faults and print the table."""
    from processes import import_everything
    from trials import Stage

    from lrfind.config.registry import load

    began, folder = time.perf_counter(), Path(keep or tempfile.mkdtemp(prefix="lrfind-hurt-")).resolve()
    folder.mkdir(exist_ok=True)
    import_everything()
    stage, good, total = Stage(folder, seed, times), True, 0
    try:
        click.echo(
            COLUMNS.format("fault", "times", "lost", "twice", "equal", "tracebacks", "seconds", "exit codes")
        )
        for name in only or FAULTS:
            if name in WITH_LIBRARY and not os.environ[LIBRARY]:
                click.echo(f"{name}: not tried, because there is no C compiler")
                continue
            started = time.perf_counter()
            for row in load(FAULTS[name])(stage):
                seconds, started = time.perf_counter() - started, time.perf_counter()
                exits = ", ".join(f"{code}: {number}" for code, number in sorted(row.exits.items()))
                equal = "no" if row.unequal else "yes"
                numbers = (row.times, row.lost, row.twice, equal, row.tracebacks, round(seconds))
                click.echo(COLUMNS.format(row.fault, *numbers, exits))
                for surprise in row.surprises:
                    click.echo(f"    wrong: {surprise}")
                good, total = good and row.good, total + row.times
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(os.environ[LIBRARY] or folder, ignore_errors=True)
    click.echo(f"{total} faults in {time.perf_counter() - began:.0f} s with seed {seed}")
    sys.exit(not good)


if __name__ == "__main__":
    if LIBRARY not in os.environ:
        begin_again_with_library()
    main()
