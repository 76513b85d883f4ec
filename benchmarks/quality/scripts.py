"""Whether `lrfind script` answers as `lrfind.find` does, and how well trainings at its answers end.

    python benchmarks/quality/scripts.py             (eight programs, and the regret of six)
    python benchmarks/quality/scripts.py gan lbfgs   (only these)

The programs in `programs/` are training scripts as people write them, each of another kind. `lrfind script`
starts them as they are. `lrfind.find` gets the objects that their function `build` makes. The regret is that
of the answer against trainings of the same script at a tenth, a third, once, three times and ten times the
answer, with two seeds, at a constant lr: the share of the possible fall of the loss that the answer gives
away.
"""

from __future__ import annotations

import json
import math
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

import lrfind
from lrfind.config.sections import ScriptSection
from lrfind.experiments.script.starts import start_script
from lrfind.problem.randomness import reseed

FOLDER = Path(__file__).parent / "programs"
MULTIPLES = (0.1, 1 / 3, 1.0, 3.0, 10.0)
SEEDS = (0, 1)
HALF_A_DECADE = 0.5
LOST = 0.05  # a regret above it is a losing case


def of_own_loop(program: Mapping[str, Any]) -> dict[str, Any]:
    model, optimizer, loader = program["build"]()
    return {"model": model, "optimizer": optimizer, "loss_fn": nn.functional.cross_entropy, "data": loader}


def of_trainer(program: Mapping[str, Any]) -> dict[str, Any]:
    model, rows = program["build"]()
    loader = DataLoader(rows, batch_size=64, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    return {"optimizer": optimizer, "model": model, "data": loader, "loss": lambda b: model(**b)["loss"]}


def of_lightning(program: Mapping[str, Any]) -> dict[str, Any]:
    module, loader = program["build"]()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
    return {
        "model": module.net,
        "optimizer": optimizer,
        "loss_fn": nn.functional.cross_entropy,
        "data": loader,
    }


def of_accelerate(program: Mapping[str, Any]) -> dict[str, Any]:
    return of_own_loop(program) | {"clip_norm": 1.0}


def of_skorch(program: Mapping[str, Any]) -> dict[str, Any]:
    net, x, y = program["build"]()
    loader = DataLoader([*zip(x, y, strict=True)], batch_size=64, shuffle=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    return {"model": net, "optimizer": optimizer, "loss_fn": nn.functional.cross_entropy, "data": loader}


def of_gan(program: Mapping[str, Any]) -> dict[str, Any]:
    critic, generator, optimizers = program["build"]()
    bce = nn.functional.binary_cross_entropy_with_logits

    def step(points: Any) -> float:
        optimizers[0].zero_grad()
        fake = generator(torch.randn(128, 8))
        on_real, on_fake = critic(points), critic(fake.detach())
        losses = [bce(on_real, torch.ones_like(on_real)), bce(on_fake, torch.zeros_like(on_fake))]
        sum(losses).backward()
        optimizers[0].step()
        optimizers[1].zero_grad()
        losses.append(bce(critic(fake), torch.ones_like(on_fake)))
        losses[-1].backward()
        optimizers[1].step()
        return statistics.fmean(loss.item() for loss in losses)

    return {"step": step, "optimizers": optimizers, "data": program["real"], "keep": [critic, generator]}


def of_lbfgs(program: Mapping[str, Any]) -> dict[str, Any]:
    model, optimizer, x, y = program["build"]()

    def step(batch: Any) -> Any:
        def closure() -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            return loss

        return optimizer.step(closure)

    return {"step": step, "optimizers": [optimizer], "data": [(x, y)], "keep": [model]}


def of_arguments(program: Mapping[str, Any]) -> dict[str, Any]:
    model, optimizer = program["build"]()
    return {
        "model": model,
        "optimizer": optimizer,
        "loss_fn": nn.functional.mse_loss,
        "data": lambda: program["batch"](32),
        "accumulate": 2,
    }


@dataclass(frozen=True)
class Program:
    """A training script.

    Attributes:
        steps: T, the number of steps of its training.
        api: makes the arguments of `lrfind.find` from the names that the script defines.
        judged: whether the loss tells how good a training is, so that there is a regret.
        seeded: whether the script has an argument --seed, because it seeds everything itself.
    """

    steps: int
    api: Callable[[Mapping[str, Any]], dict[str, Any]]
    judged: bool = True
    seeded: bool = False

    def args(self, seed: int) -> list[str]:
        return ["--seed", str(seed)] if self.seeded else []


PROGRAMS = {
    "own_loop": Program(500, of_own_loop),
    "trainer": Program(500, of_trainer, seeded=True),
    "lightning_module": Program(500, of_lightning),
    "accelerate_cnn": Program(500, of_accelerate),
    "skorch_net": Program(500, of_skorch),
    "gan": Program(1000, of_gan, judged=False),
    "lbfgs": Program(200, of_lbfgs, judged=False),
    "arguments": Program(500, of_arguments),
}


def answer_of_script(name: str, program: Program) -> dict[str, Any]:
    """Return the summary that `lrfind script` prints as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lrfind", "script", "--steps", str(program.steps), "--json", "-q"]
        command += ["--out", f"{folder}/run", "--", str(FOLDER / f"{name}.py"), *program.args(0)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise click.ClickException(f"{name}: {done.stderr}")
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def answer_of_api(name: str, program: Program) -> float:
    """Return the lr that `lrfind.find` recommends for the same training."""
    reseed(0)
    parts = program.api(runpy.run_path(str(FOLDER / f"{name}.py"), run_name="parts"))
    return lrfind.find(**parts, steps=program.steps, progress=False).lr


def final_losses(name: str, program: Program, lr: float, seed: int) -> tuple[float, float]:
    """Return the first loss and the final one of a whole training at an lr."""
    section = ScriptSection(
        path=str(FOLDER / f"{name}.py"),
        args=(*program.args(seed),),
        folder=str(FOLDER),
        python=sys.executable,
    )
    with tempfile.TemporaryDirectory() as folder:
        start = start_script(
            section, lr, seed, program.steps, program.steps,
            ceiling=np.zeros(0), log=Path(folder, "log"), watch=lambda step, loss: None,
        )  # fmt: skip
    whole = len(start.losses) == program.steps and math.isfinite(start.losses[-1])
    return start.losses[0], statistics.fmean(start.losses[-program.steps // 20 :]) if whole else math.inf


def regrets(name: str, program: Program, lr: float) -> dict[float, float]:
    """Return the regret of each multiple of an answer, as the mean over seeds."""
    rows = []
    for seed in SEEDS:
        ends = {multiple: final_losses(name, program, lr * multiple, seed) for multiple in MULTIPLES}
        first, lowest = ends[MULTIPLES[0]][0], min(final for _, final in ends.values())
        rows.append({m: min((final - lowest) / (first - lowest), 1.0) for m, (_, final) in ends.items()})
    return {multiple: statistics.fmean(row[multiple] for row in rows) for multiple in MULTIPLES}


@click.command()
@click.argument("names", nargs=-1)
@click.option("--regret/--no-regret", default=True, help="Whether to train at and around the answers.")
def main(names: Sequence[str], regret: bool) -> None:
    """Compare `lrfind script` with `lrfind.find` on programs, and train at its answers."""
    chosen = {name: PROGRAMS[name] for name in names or PROGRAMS}
    answers: dict[str, float] = {}
    click.echo("program             script     find  decades apart  starts  seconds")
    for name, program in chosen.items():
        began = time.monotonic()
        summary = answer_of_script(name, program)
        seconds, lr = time.monotonic() - began, summary["answer"]["lr"]
        if lr is None:
            click.echo(f"{name:18} no answer: {summary['answer']['reason']}")
            continue
        answers[name], other = lr, answer_of_api(name, program)
        apart = math.log10(lr / other)
        verdict = "" if abs(apart) <= HALF_A_DECADE else "  more than half a decade"
        starts = summary["script"]["starts"]
        click.echo(f"{name:18} {lr:7.3g}  {other:7.3g}  {apart:+13.2f}  {starts:6}  {seconds:7.0f}{verdict}")
    judged = [name for name in answers if chosen[name].judged] if regret else []
    if not judged:
        return
    click.echo(f"\nregret at {', '.join(f'{m:.2g}x' for m in MULTIPLES)} the answer")
    own = {}
    for name in judged:
        row = regrets(name, chosen[name], answers[name])
        own[name] = row[1.0]
        lost = "  LOST" if row[1.0] > LOST else ""
        click.echo(f"{name:18} {'  '.join(f'{row[m]:.3f}' for m in MULTIPLES)}{lost}")
    click.echo(f"mean regret of the answers: {statistics.fmean(own.values()):.3f}")


if __name__ == "__main__":
    main()
