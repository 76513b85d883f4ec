"""What lrfind does on a CUDA GPU: are its answers those of the CPU, and how much do stacks of lanes gain?

    python benchmarks/speed/gpu.py [--seconds 480] [--json FILE]     (on a machine with a CUDA GPU)
    python benchmarks/speed/gpu.py --device cpu --tiny               (all parts at tiny size, as in the tests)

It needs nothing beyond lrfind itself, and no network. The parts are:

answers      `find`, `range-test`, `grid` and `train` on the GPU, in float32 and bfloat16, beside the same
             commands on the CPU. On the GPU the lanes of the grid are stacked, on the CPU they are not.
restored     `lrfind.find`, `range_test` and `grid` in Python, on a model in the middle of its training: are
             its weights, buffers, gradients, optimizer and all random states the same bits afterwards?
MLP, ...     1 to 128 lanes as one stack, beside the same lanes one after another in a bare eager loop. A
             stack is also timed with its whole step as one CUDA graph, and 32 lanes also compiled
             (`compile: true`), beside a loop that torch compiles (`mode="reduce-overhead"`). GPT also has
             stacks whose attention is written out, since torch's own kernel runs lane by lane.
             Beforehand, the losses of the first steps of every lane are compared with those of the same lane
             in a bare loop by itself. For this, convolutions compute without TF32.
processes    8 processes that share the GPU, each with a bare eager loop, beside one such process.
choice       Whole sweeps with `lanes: auto`, with their calibration, beside sweeps with a named mode.

`seconds` are those of a step of a lane; in `answers` and `restored` those of a command, with all that the
first use of a GPU costs, and in `choice` those of a sweep. `ratio` is how many times as fast this is as the
bare eager loop, as the CPU (`answers`), or as the best named mode (`choice`): the median of the turns. Clocks
stop when the GPU has done its work. Recording, compiling and first steps are outside of them, but not in
`choice`.

Each part runs in a process of its own, which is ended when the part takes too long. A part may use its share
of the time that is left. When time is short there are fewer turns, lanes and cases, and rows say which were
left out. What a part has reported is kept whatever happens later; FILE is written after each part.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import torch
from figures import Row, write
from gpu_stage import FAILED, LEFT_OUT, Stage, perform

from lrfind.errors import counted

LEAST_SECONDS = 5.0  # a part is left out if it may not take so long
FINISHING_SHARE = 0.15  # of the time of a part, for what it has begun when it should end
PRELOADED = [
    "torch._dynamo",
    "lrfind.experiments.find",
    "lrfind.experiments.sweep",
    "lrfind.experiments.train",
]


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes:
        name: its name.
        function: the path of a function of (stage, *args) that yields its rows.
        share: its share of the time, relative to those of the other parts.
        args: further arguments of the function.
    """

    name: str
    function: str
    share: float
    args: tuple[Any, ...] = ()


PARTS = [
    Part("machine", "gpu_answers:machine", 3),
    Part("answers", "gpu_answers:answers", 16),
    Part("restored", "gpu_answers:restored", 5),
    Part("MLP", "gpu_lanes:lanes", 10, ("MLP",)),
    Part("CNN", "gpu_lanes:lanes", 12, ("CNN",)),
    Part("processes", "gpu_processes:processes", 12),
    Part("GPT", "gpu_lanes:lanes", 13, ("GPT",)),
    Part("choice", "gpu_choice:choice", 13),
    Part("ResNet-18", "gpu_lanes:lanes", 17, ("ResNet-18",)),
]


def rows_of(part: Part, stage: Stage) -> Iterator[Row]:
    """Run a part in a process of its own, and yield its rows; end it if it is not ready in time.

    Args:
        part: the part.
        stage: where it runs, and the latest time at which it is ended. It is asked to end before that.
    """
    seconds = stage.left
    if seconds < LEAST_SECONDS:
        message = f"{LEFT_OUT}its share of the time that is left is {seconds:.0f} s"
        yield Row(part.name, "the part", None, None, message)
        return
    asked = replace(stage, ends=stage.ends - FINISHING_SHARE * seconds)
    context = multiprocessing.get_context("forkserver")  # a copy of a process in which CUDA never began
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=perform, args=(part.function, part.args, asked, sender))
    process.start()
    sender.close()
    try:
        while (row := _received(receiver, stage)) is not None:
            yield row
    except TimeoutError:
        message = f"its share of the time, {seconds:.0f} s, was over before its next row"
        yield Row(part.name, "the part", None, None, FAILED + message)
    except EOFError:
        process.join()
        message = f"its process ended with code {process.exitcode}"
        yield Row(part.name, "the part", None, None, FAILED + message)
    finally:
        process.kill()
        process.join()


def _received(receiver: Connection, stage: Stage) -> Row | None:
    """Return the next row of a part; None after its last one.

    Raises:
        TimeoutError: if none comes in time.
        EOFError: if the process of the part has died.
    """
    if not receiver.poll(max(0.0, stage.left)):
        raise TimeoutError
    row: Row | None = receiver.recv()
    return row


def line(row: Row, seconds: str = "", ratio: str = "") -> str:
    """Return a row as one line of the table; `seconds` and `ratio` stand where it has none."""
    seconds = seconds if row.seconds is None else f"{row.seconds:.3g}"
    ratio = ratio if row.ratio is None else f"{row.ratio:.2f}"
    return f"{row.case:30} {row.what:20} {seconds:>9} {ratio:>6}  {row.note}"


@click.command()
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--tiny", is_flag=True, help="Run everything at a tiny size; this shows only that it runs.")
@click.option(
    "--seconds",
    default=480.0,
    show_default=True,
    type=click.FloatRange(min=10),
    help="The seconds that all parts may take together.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="The precision of the trainings that are timed; answers are compared in both.",
)
@click.option(
    "--part",
    "names",
    type=click.Choice([part.name for part in PARTS]),
    multiple=True,
    help="Run only this part; may be repeated.",
)
@click.option(
    "--json",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the figures to this file after each part.",
)
def main(
    device: str, tiny: bool, seconds: float, precision: str, names: tuple[str, ...], path: Path | None
) -> None:
    """Compare lrfind on a CUDA GPU with the CPU, and stacks of lanes with loops and processes."""
    if device == "cuda" and not torch.cuda.is_available():
        click.echo(
            "torch finds no CUDA GPU on this machine, so nothing was measured; --device cpu --tiny tries the"
            " parts on the CPU."
        )
        return
    whole = Stage(device, tiny, precision, time.monotonic() + seconds)
    parts = [part for part in PARTS if not names or part.name in names]
    rows: list[Row] = []
    click.echo(line(Row("case", "what", None, None, "note"), "seconds", "ratio"))
    for number, part in enumerate(parts):
        share = part.share / sum(other.share for other in parts[number:])
        for row in rows_of(part, replace(whole, ends=time.monotonic() + share * whole.left)):
            rows.append(row)
            click.echo(line(row))
        if path is not None:
            write(path, rows)
    failed = [row for row in rows if row.note.startswith(FAILED)]
    click.echo(
        f"\n{counted(len(rows), 'row')} in {seconds - whole.left:.0f} s, {len(failed)} of them failed."
    )
    for row in failed:
        click.echo(line(row))


if __name__ == "__main__":
    main()
