"""Sweeps over learning rates as people usually write them: plain loops, an Optuna study, a Ray Tune grid."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from typing import Any

import optuna
import torch
from cases import BATCH, SEED, Case, Losses, Timed, held_score
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lrfind.problem.randomness import child_seed


def index_batches(case: Case) -> Iterator[tuple[Tensor, Tensor]]:
    x, y = case.tensors.train
    generator = torch.Generator().manual_seed(child_seed(SEED, "order"))
    while True:
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            yield x[chosen], y[chosen]


def trained(case: Case, lr: float, batches: Iterator[Any]) -> nn.Module:
    """Train a model with a loop as people usually write it, which records the loss of each step."""
    model = case.model()
    optimizer = case.optimizer(model, lr)
    losses = []
    for _ in range(case.steps):
        x, y = next(batches)
        optimizer.zero_grad()
        loss = case.loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model


def preloaded_loop(case: Case) -> Timed:
    losses: Losses = {}
    began = time.perf_counter()
    for lr in case.rates:
        model = trained(case, lr, index_batches(case))
        losses[lr], _ = held_score(case.loss_fn, model, [case.tensors.validation])
    return time.perf_counter() - began, losses


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def dataloader_loop(case: Case) -> Timed:
    losses: Losses = {}
    began = time.perf_counter()
    train, held = case.loaders()
    for lr in case.rates:
        model = trained(case, lr, endless(train))
        losses[lr], _ = held_score(case.loss_fn, model, held)
    return time.perf_counter() - began, losses


def optuna_study(case: Case) -> Timed:
    losses: Losses = {}
    classes = case.raw is not None

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", case.rates[0], case.rates[-1], log=True)
        train, held = case.loaders()
        model = case.model()
        optimizer = case.optimizer(model, lr)
        batches = endless(train)
        for _ in range(case.steps):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = case.loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        losses[lr], accuracy = held_score(case.loss_fn, model, held)
        value = accuracy if classes else losses[lr]
        trial.report(value, case.steps)
        return value

    began = time.perf_counter()
    sampler = optuna.samplers.GridSampler({"lr": case.rates}, seed=SEED)
    study = optuna.create_study(direction="maximize" if classes else "minimize", sampler=sampler)
    study.optimize(objective, n_trials=len(case.rates))
    return time.perf_counter() - began, losses


def ray_tune(case: Case) -> Timed:
    """Run a grid of Ray Tune. As many trials run at a time as there are cores, each in its own process."""
    from ray import tune

    setting, loaders = case.setting, case.loaders()

    def objective(config: dict[str, float]) -> None:
        train, held = loaders
        model = setting.make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=setting.momentum)
        batches = endless(train)
        for _ in range(setting.steps):
            x, y = next(batches)
            optimizer.zero_grad()
            loss = setting.loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        loss, accuracy = held_score(setting.loss_fn, model, held)
        tune.report({"loss": loss, "accuracy": accuracy})

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        tuner = tune.Tuner(
            objective,
            param_space={"lr": tune.grid_search(case.rates)},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
        seconds = time.perf_counter() - began
    return seconds, {result.config["lr"]: result.metrics["loss"] for result in results}


def start_ray() -> str:
    """Start Ray outside the clock and return its name and version."""
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    return f"ray {ray.__version__}"
