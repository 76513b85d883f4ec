"""How near a lane comes to the limit: the same arithmetic without modules, optimizers and bookkeeping.

    taskset -c 0 python benchmarks/speed/limit.py [--turns 5] [--case cnn] [--steps N] [--json PATH]

The cases are the MLP and the CNN of cases.py (the CNN has the size of configs/mnist_cnn.yaml) and the
transformer of configs/char_transformer.yaml. Everything runs in one process with one thread. The ways train
the same lanes, from the same weights, on the same batches, and evaluate each lane once on the validation
split after its training:

single lanes     `run_lanes`, one lane after another, with the data loaded before the clock.
stacked lanes    `run_lanes` with all lanes in one stack, whose graph is recorded before the clock.
limit            Functions of `torch.nn.functional` on tensors, gradients by `torch.autograd.grad`, and one
                 fused kernel for the update. Images and their weights are channels-last. Losses are read
                 after the last step.
preloaded loop   The usual loop on preloaded tensors, with `nn.Module`, `torch.optim` and its default
                 settings, and `.item()` at each step.

All must end at the same validation losses, within one part in a thousand. The ways run in turns, after one
turn that does not count. Seconds are those of one lane, the median over the turns; the share of the limit is
the time of the limit divided by that of the way, turn by turn.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from cases import CONFIG, HIGH, LOW, SEED, SETTINGS
from figures import Row, write
from torch import Tensor, nn
from torch.nn import functional

from lrfind.analysis.lanes import Lane, LaneResult
from lrfind.config.experiment import Experiment, check
from lrfind.config.registry import import_path, resolve
from lrfind.datasets.tensors import TensorData
from lrfind.problem.problem import from_config
from lrfind.problem.randomness import child_seed
from lrfind.training.executor import Conditions
from lrfind.training.mode import Mode
from lrfind.training.run import run_lanes

TRANSFORMER = Path(__file__).parents[2] / "configs/char_transformer.yaml"
LANES = 4
VALIDATION_ROWS = 250
CLOSE = 1e-3  # the largest relative difference between validation losses
SINGLE, STACKED, LIMIT, LOOP = "single lanes", "stacked lanes", "limit", "preloaded loop"

Weights = Sequence[Tensor]


def pairs(weights: Weights) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (weight, bias) of each layer."""
    return zip(weights[::2], weights[1::2], strict=True)


def mlp(weights: Weights, x: Tensor) -> Tensor:  # (B, 1, 28, 28) -> (B, 10)
    x = x.flatten(1)
    for weight, bias in pairs(weights[:-2]):
        x = functional.linear(x, weight, bias).relu_()
    return functional.linear(x, *weights[-2:])


def cnn(weights: Weights, x: Tensor) -> Tensor:  # (B, 1, 28, 28) -> (B, 10)
    first, *others = pairs(weights[:-4])
    x = functional.conv2d(x, *first)
    for weight, bias in others:
        x = functional.conv2d(functional.max_pool2d(x, 2).relu_(), weight, bias)
    return mlp(weights[-4:], x.relu_())


def transformer(weights: Weights, x: Tensor) -> Tensor:  # (B, T) -> (B, vocabulary, T)
    tokens, positions, *rest = weights
    width, heads = tokens.shape[1], 4
    x = functional.embedding(x, tokens) + positions[: x.shape[1]]
    while len(rest) > 4:
        (scale, shift, *attention), rest = rest[:6], rest[6:]
        qkv = functional.linear(functional.layer_norm(x, (width,), scale, shift), *attention[:2])
        query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + functional.linear(mixed.transpose(1, 2).flatten(2), *attention[2:])
        (scale, shift, *hidden), rest = rest[:6], rest[6:]
        wide = functional.linear(functional.layer_norm(x, (width,), scale, shift), *hidden[:2])
        x = x + functional.linear(functional.gelu(wide), *hidden[2:])
    x = functional.layer_norm(x, (width,), *rest[:2])
    return functional.linear(x, *rest[2:]).transpose(1, 2)


Update = Callable[[list[Tensor], list[Tensor]], None]


def sgd(weights: Weights, lr: float) -> Update:
    """Return SGD with a momentum of 0.9, as a function that changes weights by their gradients."""
    momenta: list[Tensor] = []

    def update(weights: list[Tensor], gradients: list[Tensor]) -> None:
        first = not momenta
        if first:
            momenta.extend(torch.empty_like(weight) for weight in weights)
        torch._fused_sgd_(
            weights,
            gradients,
            momenta,
            weight_decay=0.0,
            momentum=0.9,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=first,
        )

    return update


def adamw(weights: Weights, lr: float) -> Update:
    """Return AdamW with a weight decay of 0.1, as a function that changes weights by their gradients."""
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    steps = [torch.zeros(()) for _ in weights]

    def update(weights: list[Tensor], gradients: list[Tensor]) -> None:
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            weights,
            gradients,
            first,
            second,
            [],
            steps,
            lr=lr,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.1,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    return update


class Kind(NamedTuple):
    """What a case trains: the text of its config, its forward pass and its update as functions."""

    config: str
    forward: Callable[[Weights, Tensor], Tensor]
    update: Callable[[Weights, float], Update]
    optimizer: Callable[..., torch.optim.Optimizer]
    low: float
    high: float


def sgd_optimizer(parameters: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def adamw_optimizer(parameters: Iterator[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=0.1)


def sgd_config(name: str) -> str:
    return CONFIG.format(seed=SEED, low=LOW, high=HIGH, **vars(SETTINGS[name]))


KINDS = {
    "mlp": Kind(sgd_config("mlp"), mlp, sgd, sgd_optimizer, LOW, HIGH),
    "cnn": Kind(sgd_config("cnn"), cnn, sgd, sgd_optimizer, LOW, HIGH),
    "transformer": Kind(TRANSFORMER.read_text(), transformer, adamw, adamw_optimizer, 3e-4, 3e-3),
}


class Case:
    """One case, with all that is made before the clock."""

    def __init__(self, name: str, steps: int | None) -> None:
        self.name, self.kind = name, KINDS[name]
        self.experiment: Experiment = check(self.kind.config)
        self.steps = steps or int(self.experiment.training.steps or 0)
        self.lrs = np.geomspace(self.kind.low, self.kind.high, LANES).tolist()
        self.problem = from_config(self.experiment)
        data = self.experiment.data
        self.tensors: TensorData = resolve(import_path("data", data.name))(**data.args)
        self.rows = data.batch_size
        splits = (tensor.split(VALIDATION_ROWS) for tensor in self.tensors.validation)
        self.validation = [*zip(*splits, strict=True)]
        self.weights = [
            weight.detach() for weight in self.model().to(memory_format=torch.channels_last).parameters()
        ]

    def model(self) -> nn.Module:
        """Return a fresh model in torch's default memory format, with the weights that lrfind starts from."""
        return self.problem.setup(SEED).model.to(memory_format=torch.contiguous_format)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches that lrfind takes."""
        x, y = self.tensors.train
        generator = torch.Generator().manual_seed(child_seed(SEED, "order"))
        while True:
            order = torch.randperm(len(x), generator=generator)
            for start in range(0, len(x) - self.rows + 1, self.rows):
                places = order[start : start + self.rows]
                yield x.index_select(0, places), y.index_select(0, places)


def run(case: Case, mode: Mode) -> list[float]:
    lanes = [Lane(i, SEED, np.full(case.steps, lr)) for i, lr in enumerate(case.lrs)]
    results: list[LaneResult] = []
    run_lanes(case.problem, lanes, Conditions(), mode, keep=results.extend)
    return [float(lane.val_loss or "nan") for lane in results]


def single_lanes(case: Case) -> list[float]:
    return run(case, Mode("single", "", 1, 0.0, usual_digits=False))


def stacked_lanes(case: Case) -> list[float]:
    return run(case, Mode("stacked", "", 1, 0.0, stack_size=LANES, usual_digits=False))


def limit(case: Case) -> list[float]:
    ends = []
    for lr in case.lrs:
        plain = [weight.clone() for weight in case.weights]
        weights = [weight.detach().requires_grad_() for weight in plain]
        update, batches, losses = case.kind.update(plain, lr), case.batches(), []
        for _ in range(case.steps):
            x, y = next(batches)
            loss = functional.cross_entropy(case.kind.forward(weights, x), y)
            update(plain, [*torch.autograd.grad(loss, weights)])
            losses.append(loss.detach())
        torch.stack(losses).tolist()
        with torch.no_grad():
            total = sum(
                functional.cross_entropy(case.kind.forward(plain, x), y) * len(x) for x, y in case.validation
            )
        ends.append(float(total) / len(case.tensors.validation[0]))
    return ends


def preloaded_loop(case: Case) -> list[float]:
    loss_fn, ends = nn.CrossEntropyLoss(), []
    for lr in case.lrs:
        model = case.model()
        optimizer, batches, losses = case.kind.optimizer(model.parameters(), lr), case.batches(), []
        for _ in range(case.steps):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            x, y = case.tensors.validation
            ends.append(loss_fn(model(x), y).item())
    return ends


WAYS: dict[str, Callable[[Case], list[float]]] = {
    SINGLE: single_lanes,
    STACKED: stacked_lanes,
    LIMIT: limit,
    LOOP: preloaded_loop,
}


def measure(case: Case, turns: int) -> dict[str, list[float]]:
    """Return the seconds of a lane of every way, in every turn that counts."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    expected = limit(case)
    for turn in range(turns + 1):
        for name, way in WAYS.items():
            gc.collect()
            began = time.perf_counter()
            ends = way(case)
            seconds = time.perf_counter() - began
            if not np.allclose(ends, expected, rtol=CLOSE, atol=0):
                raise click.ClickException(f"{case.name}: {name} ends at {ends}, the limit at {expected}")
            if turn > 0:
                times[name].append(seconds / LANES)
    return times


def rows_of(case: Case, times: dict[str, list[float]]) -> list[Row]:
    title, rows = f"{case.name}, {LANES} lanes x {case.steps} steps", []
    for name, seconds in times.items():
        shares = [best / value for best, value in zip(times[LIMIT], seconds, strict=True)]
        spread = f"share of the limit; {min(shares):.2f} to {max(shares):.2f} in {len(shares)} turns"
        rows.append(Row(title, name, statistics.median(seconds), statistics.median(shares), spread))
    return rows


def report(rows: Sequence[Row]) -> None:
    click.echo(f"\n{rows[0].case}: seconds a lane, and the share of the limit")
    for row in rows:
        click.echo(f"  {row.what:15} {row.seconds:8.4f}   {row.ratio:6.1%}   ({row.note.split('; ')[1]})")


@click.command()
@click.option("--turns", default=5, type=click.IntRange(min=1), help="How often each way is measured.")
@click.option(
    "--case",
    "names",
    type=click.Choice([*KINDS]),
    multiple=True,
    help="Measure only this case; may be repeated.",
)
@click.option("--steps", type=click.IntRange(min=1), help="The steps of a lane, instead of the case's own.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Also write the figures to this file.")
def main(turns: int, names: tuple[str, ...], steps: int | None, path: Path | None) -> None:
    """Print how near a lane comes to the limit, for an MLP, a CNN and a transformer."""
    torch.set_num_threads(1)
    click.echo(f"torch {torch.__version__}, 1 thread, seed {SEED}")
    rows: list[Row] = []
    for name in names or KINDS:
        case = Case(name, steps)
        rows += rows_of(case, measure(case, turns))
        report(rows[-len(WAYS) :])
    if path is not None:
        write(path, rows)


if __name__ == "__main__":
    main()
