"""The trainings of examples/own_training/: each asks `find` in a few lines, and goes on as if it had not asked."""

from __future__ import annotations

import ast
import inspect
import math
import random
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import lrfind
from tests.helpers.states import bits, world

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/own_training"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
MOST_LINES = 3
MOST_REGRET = 0.02
"""The share of the whole fall of the loss by which a training at the answer may end above the best one."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Example:
    """One file of the folder; `parts` are what its `build` makes."""

    def __init__(self, name: str) -> None:
        self.code = SimpleNamespace(**runpy.run_path(str(FOLDER / f"{name}.py")))

    def build(self) -> tuple[Any, ...]:
        parts: tuple[Any, ...] = self.code.build()
        return parts

    def train(self, parts: tuple[Any, ...], *, whole: bool = False, **options: Any) -> list[float]:
        """Ten steps, or an epoch where it trains by epochs; the whole training that was planned if asked."""
        by_epochs = "epochs" in inspect.signature(self.code.train).parameters
        length = (1 if by_epochs else 10) if not whole else self.code.EPOCHS if by_epochs else self.code.STEPS
        losses: list[float] = self.code.train(*parts, length, **options)
        return losses

    def find(self, parts: tuple[Any, ...]) -> lrfind.Recommendation:
        answer: lrfind.Recommendation = self.code.find(*parts)
        return answer


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[Example, lrfind.Recommendation]]:
    """The examples that were asked so far, with the answer for a new model."""
    return {}


@pytest.fixture
def asked(
    name: str, answers: dict[str, tuple[Example, lrfind.Recommendation]]
) -> tuple[Example, lrfind.Recommendation]:
    if name not in answers:
        example = Example(name)
        answers[name] = example, example.find(example.build())
    return answers[name]


def without_times(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """The parts; of a net of skorch, whose history measures seconds, only what it trains."""
    net = parts[0]
    return (net.module_, net.optimizer_, net.criterion_) if hasattr(net, "module_") else parts


@pytest.mark.parametrize("name", NAMES)
def test_an_example_answers(name: str, asked: tuple[Example, lrfind.Recommendation]) -> None:
    _, best = asked
    assert 1e-6 < best.low < best.lr < best.high < 100
    assert math.isfinite(best.lr)
    assert best.cost <= 800


def lines_for_lrfind(name: str) -> int:
    """The statements in `find`, and those that call `best.apply`; a call over several lines is one."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    (find,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "find")
    assert ast.get_docstring(find)
    in_find = [
        node for statement in find.body[1:] for node in ast.walk(statement) if isinstance(node, ast.stmt)
    ]
    applied = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "apply"]
    return len(in_find) + len(applied)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_needs_few_lines_and_the_page_says_how_many(name: str) -> None:
    assert lines_for_lrfind(name) <= MOST_LINES
    page = (ROOT / "docs/own_training.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)\.py` \|.*\| (\d+) \|$", page, flags=re.MULTILINE))
    assert {*rows} == {*NAMES}
    assert int(rows[name]) == lines_for_lrfind(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_goes_on_bit_for_bit_as_if_nobody_had_asked(name: str) -> None:
    example = Example(name)
    worlds = []
    for asks in (False, True):
        random.seed(0)
        np.random.seed(0)
        parts = example.build()
        losses = example.train(parts)
        if asks:
            before = world(parts)
            example.find(parts)
            assert world(parts) == before
        losses += example.train(parts)
        assert len(losses) >= 20
        worlds.append((bits(losses, set()), world(without_times(parts))))
    assert worlds[0] == worlds[1]
    assert world(parts) != before


def with_its_loss(loss_of: Callable[..., Any], *modules: nn.Module) -> nn.Module:
    """A module whose output is the loss of a batch, for `find` without a loss_fn."""

    class WithItsLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleList(modules)

        def forward(self, *batch: Any) -> Any:
            return loss_of(*self.inner, *batch)

    return WithItsLoss()


def a_vae_as_a_loss_of_its_output(code: Any) -> lrfind.Recommendation:
    def loss_fn(output: tuple[Tensor, ...], image: Tensor) -> Tensor:
        return code.negative_elbo(lambda _: output, image)

    model, optimizer, loader = code.build()
    return lrfind.find(model, optimizer, loss_fn, loader, steps=code.EPOCHS * len(loader))


def a_language_model_with_a_loader(code: Any) -> lrfind.Recommendation:
    class Pieces(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            while True:
                yield code.get_batch()

    def loss_fn(output: tuple[Tensor, None], y: Tensor) -> Tensor:
        return functional.cross_entropy(output[0].flatten(0, 1), y.flatten())

    model, optimizer = code.build()
    loader = DataLoader(Pieces(), batch_size=None)
    lrs = [code.get_lr(step) / code.PEAK for step in range(code.STEPS)]
    return lrfind.find(
        model, optimizer, loss_fn, loader, steps=code.STEPS, schedule=lrs.__getitem__, clip_norm=code.CLIP
    )


def autocast_by_hand(code: Any) -> lrfind.Recommendation:
    model, optimizer, scheduler, loader = code.build()

    def step(batch: list[Tensor]) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), code.CLIP)
        optimizer.step()
        scheduler.step()
        return loss

    total = code.EPOCHS * len(loader)
    return lrfind.find(step=step, data=loader, optimizers=[optimizer], steps=total, schedule=scheduler)


def a_module_that_keeps_its_state(code: Any) -> lrfind.Recommendation:
    class Stateful(nn.Module):
        def __init__(self, reader: nn.Module) -> None:
            super().__init__()
            self.reader, self.state = reader, None

        def forward(self, x: Tensor) -> Tensor:
            output, state = self.reader(x, self.state)
            self.state = tuple(part.detach() for part in state)
            return output

    trainer, batches = code.build()
    model, total = Stateful(trainer.model), code.EPOCHS * len(batches)
    return lrfind.find(model, trainer.optimizer, nn.MSELoss(), batches, steps=total)


def a_detector_with_its_sum(code: Any) -> lrfind.Recommendation:
    model, optimizer, loader = code.build()
    whole = with_its_loss(lambda inner, images, targets: sum(inner(images, targets).values()), model)
    return lrfind.find(whole, optimizer, None, loader, steps=code.EPOCHS * len(loader))


def triplets_in_one_pass(code: Any) -> lrfind.Recommendation:
    def loss_of(encoder: nn.Module, anchor: Tensor, same: Tensor, other: Tensor) -> Tensor:
        codes = encoder(torch.cat([anchor, same, other])).chunk(3)
        near, far = ((codes[0] - code + 1e-6).norm(dim=1) for code in codes[1:])
        return (near - far + 1).relu().mean()

    encoder, optimizer, _, loader = code.build()
    whole = with_its_loss(loss_of, encoder)
    return lrfind.find(whole, optimizer, None, loader, steps=code.EPOCHS * len(loader))


def a_dense_graph(code: Any) -> lrfind.Recommendation:
    model, optimizer, graph = code.build()
    dense = graph.adjacency.to_dense()
    whole = with_its_loss(lambda inner, x: inner(x, dense), model)
    batch = graph.x, graph.y.where(graph.known, torch.tensor(-100))
    return lrfind.find(whole, optimizer, nn.CrossEntropyLoss(), [batch], steps=code.STEPS)


def the_same_without_accelerate(code: Any) -> lrfind.Recommendation:
    _, model, optimizer, loader = code.build()
    plain = torch.optim.AdamW(model.parameters(), lr=optimizer.param_groups[0]["lr"])
    rows = DataLoader(loader.dataset, batch_size=64, shuffle=True)
    return lrfind.find(
        model, plain, nn.CrossEntropyLoss(), rows, steps=code.EPOCHS * len(rows), clip_norm=1.0
    )


def the_same_without_skorch(code: Any) -> lrfind.Recommendation:
    net, x, y = code.build()
    rows = DataLoader(TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adam(net.module_.parameters())
    return lrfind.find(net.module_, optimizer, nn.CrossEntropyLoss(), rows, steps=code.EPOCHS * len(rows))


REWRITTEN: dict[str, Callable[[Any], lrfind.Recommendation]] = {
    "accelerate_loop": the_same_without_accelerate,
    "autocast": autocast_by_hand,
    "detector": a_detector_with_its_sum,
    "graph": a_dense_graph,
    "language_model": a_language_model_with_a_loader,
    "lstm_state": a_module_that_keeps_its_state,
    "siamese": triplets_in_one_pass,
    "skorch_net": the_same_without_skorch,
    "vae": a_vae_as_a_loss_of_its_output,
}
"""The same trainings in the form loss_fn(model(x), y), or with steps by hand for `autocast`."""

TRAINED = {"gan", "lbfgs", "muon", "sam", "schedule_free"}
"""Trainings that have no such form: their own `train`, at a few rates, is the reference."""


def test_every_example_has_a_reference() -> None:
    assert {*REWRITTEN} | TRAINED == {*NAMES}


@pytest.mark.parametrize("name", REWRITTEN)
def test_the_answer_is_that_of_the_same_training_rewritten(
    name: str, asked: tuple[Example, lrfind.Recommendation]
) -> None:
    example, best = asked
    rewritten = REWRITTEN[name](example.code)
    assert rewritten.training == best.training
    assert best.lr / 1.5 < rewritten.lr < best.lr * 1.5


def mean_distance(code: Any, generator: nn.Module) -> float:
    """The distance of the GAN's points from real ones, the mean of several batches."""
    return float(np.mean([code.distance(generator, code.real_points()) for _ in range(8)]))


def end_of_training(example: Example, lr: float, seed: int) -> tuple[float, float]:
    """The loss at the start and at the end of a whole training at an lr; of the GAN, the distance."""
    parts = example.build()
    optimizers = [entry for part in parts for entry in (part if isinstance(part, list) else [part])]
    groups = [
        g for entry in optimizers if isinstance(entry, torch.optim.Optimizer) for g in entry.param_groups
    ]
    factor = lr / groups[0]["lr"]
    for group in groups:
        group["lr"] *= factor
    torch.manual_seed(seed)
    if hasattr(example.code, "distance"):
        first = mean_distance(example.code, parts[0])
        example.train(parts, whole=True)
        return first, mean_distance(example.code, parts[0])
    losses = example.train(parts, whole=True)
    return losses[0], float(np.mean(losses[-len(losses) // 10 :]))


@pytest.mark.parametrize("name", sorted(TRAINED))
def test_a_whole_training_ends_no_higher_than_at_rates_far_from_the_answer(
    name: str, asked: tuple[Example, lrfind.Recommendation]
) -> None:
    example, best = asked
    seeds = range(2)
    runs = {
        factor: np.array([end_of_training(example, best.lr * factor, seed) for seed in seeds])
        for factor in (1 / 4, 1, 4)
    }
    first = runs[1][:, 0].mean()
    ends = {factor: np.nan_to_num(run[:, 1], nan=first, posinf=first).mean() for factor, run in runs.items()}
    lowest = min(ends.values())
    assert (ends[1] - lowest) / (first - lowest) < MOST_REGRET
