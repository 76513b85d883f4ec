"""Two processes that train one model: the same answer on both, and none that waits for one that left."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

import lrfind
from tests.helpers.ranks import Batches, answers_of, joined, local, network, on_two_ranks, shards, wrapped

FORMS = ("loss_fn", "step", "range test")


def asks_in_every_form(rank: int, tell: Any) -> None:
    for way in ("DDP", "FSDP2"):
        for form in FORMS:
            model = wrapped(way)
            before = [local(p) for p in model.parameters()]
            tell((way, form), answers_of(model, shards()[rank], form))
            tell((way, form, "restored"), [local(p) for p in model.parameters()] == before)


def test_both_ranks_give_the_answer_of_one_process_on_the_joined_batches() -> None:
    first, second = on_two_ranks(asks_in_every_form)
    assert first == second
    for form in FORMS:
        expected = answers_of(network(), joined(), form)
        for way in ("DDP", "FSDP2"):
            assert first[way, form] == pytest.approx(expected, rel=0.02), (way, form)
            assert first[way, form, "restored"]


class Failing:
    """A shard whose batches end with an exception on the second rank."""

    def __init__(self, batches: Batches, rank: int) -> None:
        self.batches, self.rank = batches, rank

    def __iter__(self) -> Any:
        yield from self.batches[:4]
        if self.rank == 1:
            raise OSError("the disk of rank 1 is gone")
        yield from self.batches[4:]


def fails_on_one_rank(rank: int, tell: Any) -> None:
    model = wrapped("DDP")
    before, began = [local(p) for p in model.parameters()], time.monotonic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        lrfind.find(model, optimizer, nn.CrossEntropyLoss(), Failing(shards()[rank], rank), steps=100)
    except lrfind.LrfindError as error:
        tell("message", str(error))
    tell("in time", time.monotonic() - began < 10)
    tell("restored", [local(p) for p in model.parameters()] == before)


def fails_in_the_middle_of_a_step(rank: int, tell: Any) -> None:
    model = wrapped("DDP")
    before, began = [local(p) for p in model.parameters()], time.monotonic()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    taken: list[int] = []

    def step(batch: Any) -> torch.Tensor:
        taken.append(1)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        if rank == 1 and len(taken) == 25:
            raise ZeroDivisionError("on purpose")  # the other rank waits in `backward` for this one
        loss.backward()
        optimizer.step()
        return loss

    try:
        lrfind.find(step=step, data=shards()[rank], optimizers=[optimizer], steps=100)
    except lrfind.LrfindError as error:
        tell("message", str(error))
    tell("in time", time.monotonic() - began < 10)
    tell("restored", [local(p) for p in model.parameters()] == before and not optimizer.state)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (fails_on_one_rank, "OSError: the disk of rank 1 is gone"),
        (fails_in_the_middle_of_a_step, "ZeroDivisionError: on purpose"),
    ],
)
def test_a_rank_that_raises_ends_both_with_its_message_and_everything_restored(
    work: Any, message: str
) -> None:
    waiting, failing = on_two_ranks(work)
    assert message in failing["message"]
    assert "rank 1 of 2 failed, so all ranks stop: " in waiting["message"]
    assert message in waiting["message"]
    for results in (waiting, failing):
        assert (results["in time"], results["restored"]) == (True, True)
