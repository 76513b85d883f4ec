"""The assembly of a team: workers of this machine, or those of a running cluster.

Dask distributed, of the extra `cluster`, starts and restarts the workers of this machine.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lrfind.errors import UsageError, import_optional, in_one_line
from lrfind.training.interrupts import deferred, unheard_by_children
from lrfind.training.team import Team

CONNECT_SECONDS = 10.0
"""The seconds in which a scheduler must answer."""
SETTINGS = {
    "distributed.worker.daemon": False,  # a daemon may have no children, such as the workers of a DataLoader
    "distributed.worker.profile.enabled": False,  # its samples slow the training down
    # Otherwise malloc gives memory back at every step, and training takes up to twice as long.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s",
    "distributed.admin.large-graph-warning-threshold": "1TiB",  # a checkpoint is an argument
}


@dataclass(frozen=True)
class TeamRequest:
    """The workers that the user asked for.

    Attributes:
        workers: the number of processes on this machine; 0 for one on each GPU or, without
            GPUs, on each core. None to use a cluster.
        cluster: the address of a running scheduler, or its scheduler file; None to use this machine.
        import_roots: the folders that hold the user's own modules.
    """

    workers: int | None = None
    cluster: str | None = None
    import_roots: tuple[str, ...] = ()


@contextmanager
def assembled(request: TeamRequest, say: Callable[[str], None]) -> Iterator[Team]:
    """Start the workers of this machine, or connect to a cluster; afterwards stop the workers, or leave.

    Args:
        request: the workers that the user asked for.
        say: called with a sentence for the user.

    Raises:
        UsageError: if Dask is not installed, or the scheduler does not answer.
    """
    option = "--workers" if request.cluster is None else "--cluster"
    with deferred():
        distributed = import_optional("distributed", option, "cluster")
        import dask

    for name in logging.root.manager.loggerDict:
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with dask.config.set(SETTINGS), ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if request.cluster is None:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="lrfind-", ignore_cleanup_errors=True)
            )
            with deferred(), unheard_by_children():
                cluster = stack.enter_context(_local_cluster(distributed, request.workers or 0, folder))
            where: dict[str, Any] = {"address": cluster}
            say(f"workers: {len(cluster.workers)} on this machine, each with one thread")
        elif Path(request.cluster).is_file():
            where = {"scheduler_file": request.cluster}
        elif "://" in request.cluster:
            where = {"address": request.cluster}
        else:
            raise UsageError(
                f"--cluster: there is no file '{request.cluster}', and it is no address such as"
                " tcp://10.0.0.5:8786; give the address of a scheduler, or its scheduler file."
            )
        try:
            client = distributed.Client(**where, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise UsageError(
                f"--cluster: the scheduler at '{request.cluster}' does not answer"
                f" ({in_one_line(error, 200)}); is it running, and reachable from here?"
            ) from error
        stack.callback(client.close, timeout=1)
        yield Team(client, request.import_roots, say)


@contextmanager
def _local_cluster(distributed: Any, workers: int, folder: str) -> Iterator[Any]:
    """Yield a scheduler in this process, and workers beside it, which listen on loopback only.

    Each worker has one thread, and one of the GPUs if there are any. At the end the workers are killed, since
    they hold nothing that is needed later.
    """
    from dask.system import CPU_COUNT

    gpus = visible_gpus()
    options = {
        "host": "127.0.0.1",
        "nthreads": 1,
        "memory_limit": 0,
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
        "local_directory": folder,
        "preload": ["lrfind.training.worker"],
    }
    on_gpus = [{"env": {"CUDA_VISIBLE_DEVICES": gpu}, "resources": {"GPU": 1}} for gpu in gpus]
    cluster = distributed.SpecCluster(
        workers={
            number: {
                "cls": distributed.Nanny,
                "options": options | (on_gpus[number % len(gpus)] if gpus else {}),
            }
            for number in range(workers or len(gpus) or CPU_COUNT)
        },
        scheduler={
            "cls": distributed.Scheduler,
            "options": {"host": "127.0.0.1", "port": 0, "dashboard": False},
        },
        silence_logs=logging.CRITICAL,
    )
    try:
        yield cluster
    finally:
        for nanny in cluster.workers.values():
            nanny.close_gracefully()  # so that it starts no other worker instead
            with contextlib.suppress(ProcessLookupError, TypeError):  # it has ended, or has not begun
                os.kill(nanny.pid, signal.SIGKILL)
        cluster.close()


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, each as CUDA_VISIBLE_DEVICES names it."""
    given, count = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count()
    return given.split(",")[:count] if given else [str(gpu) for gpu in range(count)]
