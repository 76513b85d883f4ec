"""Two processes that train one model together over gloo, each with its shard of the data."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.fsdp import fully_shard

import lrfind

ROWS = 16  # of a batch on one rank
Batches = list[tuple[torch.Tensor, torch.Tensor]]


def on_two_ranks(work: Callable[[int, Any], None], seconds: float = 60.0) -> list[dict[str, Any]]:
    """Call `work(rank, tell)` in two processes, where `tell` takes a result; return each rank's results."""
    context = multiprocessing.get_context("spawn")
    results: list[dict[str, Any]] = [{}, {}]
    with tempfile.TemporaryDirectory() as folder:
        queue = context.SimpleQueue()
        ranks = [
            context.Process(target=_begin, args=(rank, folder, work, queue), daemon=True) for rank in (0, 1)
        ]
        for process in ranks:
            process.start()
        until, ended = time.monotonic() + seconds, 0
        while ended < 2 and time.monotonic() < until:
            if queue.empty():
                ranks[0].join(0.05)
                continue
            rank, name, value = queue.get()
            ended += name == "end"
            results[rank][name] = value
        for process in ranks:
            process.kill()
            process.join()
    return results


def _begin(rank: int, folder: str, work: Callable[[int, Any], None], queue: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{Path(folder) / 'store'}", rank=rank, world_size=2)
    work(rank, lambda name, value: queue.put((rank, name, value)))
    queue.put((rank, "end", None))
    time.sleep(60)  # a training would go on here; the other rank must not wait for it


def shards() -> list[Batches]:
    """Return the batches of two ranks."""
    make = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, ROWS, 6, generator=make)
    y = x[..., :3].argmax(-1)
    return [[*zip(x[rank], y[rank], strict=True)] for rank in (0, 1)]


def joined() -> Batches:
    """Return the batches of a single process that has the rows of both ranks."""
    return [(torch.cat([a, c]), torch.cat([b, d])) for (a, b), (c, d) in zip(*shards(), strict=True)]


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def wrapped(way: str) -> nn.Module:
    """Return the network for two ranks, by `DistributedDataParallel` or in shards."""
    model = network()
    if way == "DDP":
        return nn.parallel.DistributedDataParallel(model)
    for layer in (model[0], model[2]):
        fully_shard(layer)
    return fully_shard(model)


def answers_of(model: nn.Module, batches: Batches, form: str) -> float:
    """Ask in one of the forms, and return the lr."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss_fn = nn.CrossEntropyLoss()

    def step(batch: Any) -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_fn(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    if form == "step":
        return lrfind.find(step=step, data=batches, optimizers=[optimizer], steps=100).lr
    if form == "range test":
        return lrfind.range_test(model, optimizer, loss_fn, batches, steps=40).suggest().lr
    return lrfind.find(model, optimizer, loss_fn, batches, steps=100).lr


def local(parameter: torch.Tensor) -> list[float]:
    """Return the numbers of a parameter, or of this rank's shard of it."""
    values = parameter.detach()
    return getattr(values, "_local_tensor", values).flatten().tolist()
