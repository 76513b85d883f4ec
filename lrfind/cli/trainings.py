"""The options of trainings, which mean the same in all commands: their plan, their seeds, where they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from lrfind.catalog import SCHEDULES, LaneMode, Precision
from lrfind.cli.completion import complete_names
from lrfind.cli.help import PLACE, PLAN, SEEDS, option, options_of
from lrfind.config.registry import import_root
from lrfind.errors import UsageError

if TYPE_CHECKING:
    from lrfind.training.assembly import TeamRequest

MOST_WORKERS = 1000

length_options = options_of(
    option(
        "--steps",
        group=PLAN,
        key="training.steps",
        metavar="N",
        help="The number of steps of the whole training.",
    ),
    option(
        "--epochs",
        group=PLAN,
        key="training.epochs",
        metavar="N",
        help="Its length in epochs, instead of --steps.",
    ),
)
schedule_option = option(
    "--schedule",
    group=PLAN,
    key="training.schedule",
    metavar="NAME",
    shell_complete=complete_names(SCHEDULES),
    help="The schedule of the training: a name from `lrfind ls schedules`, or {name: ..., args: ...}.",
)
precision_option = option(
    "--precision",
    group=PLAN,
    key="training.precision",
    metavar="NAME",
    shell_complete=complete_names(get_args(Precision)),
    help="The precision of forward and backward: float32, bfloat16 or float16.",
)
plan_options = options_of(
    length_options,
    schedule_option,
    option(
        "--eval-every",
        group=PLAN,
        key="training.eval_every",
        metavar="N",
        help="The number of steps between evaluations on the validation split.",
    ),
    precision_option,
)
"""The options of the training that a rate is for; they mean the same in all commands."""

seed_options = options_of(
    option(
        "--seeds",
        group=SEEDS,
        key=".seeds",
        metavar="N",
        help="The number of seeds: each has its own weights and batch order.",
    ),
    option("--seed", group=SEEDS, key="seed", metavar="N", help="The first seed."),
)
device_option = option(
    "--device",
    group=PLACE,
    key="device",
    metavar="NAME",
    shell_complete=complete_names(("auto", "cpu", "cuda", "mps")),
    help="The device that trains: auto, cpu, cuda or mps.",
)
lanes_option = option(
    "--lanes",
    group=PLACE,
    key=".lanes",
    metavar="MODE",
    shell_complete=complete_names(get_args(LaneMode)),
    help="How trainings run: single (one after another), stacked (together, as one model) or auto.",
)
team_options = options_of(
    option(
        "--workers",
        group=PLACE,
        metavar="N|auto",
        help="Train in N processes of this machine, with one thread each; auto takes one for each GPU or"
        " core.",
    ),
    option(
        "--cluster",
        group=PLACE,
        metavar="ADDRESS|FILE",
        help="Train on the workers of a running Dask scheduler: tcp://HOST:PORT, or its scheduler file.",
    ),
)
"""The options of every command that can train in several processes."""


def requested_team(workers: str | None, cluster: str | None) -> TeamRequest | None:
    """Return the workers that the options ask for; None to train in this process.

    Raises:
        UsageError: if both options were given, or the number of workers is not one.
    """
    if workers is None and cluster is None:
        return None
    if workers is not None and cluster is not None:
        raise UsageError("give --workers or --cluster, not both.")
    if workers not in (None, "auto") and not (workers.isdecimal() and 1 <= int(workers) <= MOST_WORKERS):
        raise UsageError(f"--workers: '{workers}' is not auto, nor a number from 1 to {MOST_WORKERS:,}.")
    from lrfind.training.assembly import TeamRequest

    root = import_root()
    count = None if workers is None else 0 if workers == "auto" else int(workers)
    return TeamRequest(count, cluster, () if root is None else (root,))
