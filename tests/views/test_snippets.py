from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lrfind.config.experiment import Experiment, check
from lrfind.config.shapes import shape_of
from lrfind.problem.param_groups import param_groups
from lrfind.views.snippets.scripts import snippet_of

STEPS, PEAK = 40, 0.0123
GROUPS = (
    "param_groups: [{name: first, match: '0.*', lr_multiplier: 0.1, args: {weight_decay: 0.5}},"
    " {name: middle, match: '1.*', frozen: true}]"
)


def at_half(step: int, steps: int, *, times: float = 1.0) -> float:
    return times if step < steps / 2 else times / 2


def experiment(
    schedule: str, optimizer: str = "name: adamw", training: str = "", length: str = f"steps: {STEPS}"
) -> Experiment:
    return check(
        f"model: linear\ndata: regression\nloss: mse\noptimizer: {{{optimizer}}}\n"
        f"training: {{{length}, schedule: {schedule}{training}}}\n"
    )


def summary(lr: float | None = PEAK, steps: int = STEPS) -> dict[str, Any]:
    suggestion = {"lr": lr, "low": 0.0078, "high": 0.0195, "confidence": "high", "reason": "nothing learns."}
    training = {"steps": steps, "momentum": 0.0}
    return {"answer": suggestion, "training": training, "verification": None}


def executed(text: str, batches: int = 10) -> dict[str, Any]:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    scope: dict[str, Any] = {"model": model, "loader": range(batches)}
    exec(compile(text, "snippet", "exec"), scope)
    return scope


def trajectory(scope: dict[str, Any], steps: int = STEPS) -> tuple[list[list[float]], list[float]]:
    """Return the lrs (G, T) of every group that the script uses, and the momentum (T,) of the first group."""
    optimizer, scheduler = scope["optimizer"], scope.get("scheduler")
    lrs, momentum = [], []
    for _ in range(steps):
        lrs.append([group["lr"] for group in optimizer.param_groups])
        first = optimizer.param_groups[0]
        momentum.append(first["betas"][0] if "betas" in first else first["momentum"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return np.transpose(lrs).tolist(), momentum


SCHEDULES = [
    "constant",
    "linear_warmup",
    "linear",
    "{name: linear, args: {warmup: 4, end: 0.1}}",
    "cosine",
    "{name: cosine, args: {end: 0.1}}",
    "{name: cosine, args: {warmup: 0.1, end: 0.1}}",
    "{name: cosine, args: {warmup: 7}}",
    "{name: cosine, args: {warmup: 0.5 epochs}}",
    "one_cycle",
    "{name: one_cycle, args: {rise: 0.01}}",
    "{name: one_cycle, args: {three_phase: true, anneal: linear, end: 0.01, momentum: null}}",
    "wsd",
    "{name: wsd, args: {decay: 10, shape: sqrt}}",
    "step_decay",
    "{name: step_decay, args: {warmup: 5, every: 9}}",
    "{name: multi_step, args: {warmup: 5}}",
    "{name: cosine_restarts, args: {period: 3, growth: 2}}",
    "{name: cosine_restarts, args: {warmup: 4, end: 0.1}}",
    "{name: cosine_restarts, args: {period: 6, growth: 1.5, warmup: 0.1}}",
    "{name: cosine_restarts, args: {period: 20, growth: 0.8}}",
    "inverse_sqrt",
    "{name: join, args: {parts: [linear_warmup, {name: cosine, args: {end: 0.2}}], at: [10]}}",
    "{name: 'tests.views.test_snippets:at_half', args: {times: 0.7}}",
]


@pytest.mark.parametrize("groups", ["", f", {GROUPS}"], ids=["one group", "groups"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_lrs_of_the_snippet_are_those_of_lrfind_at_every_step(schedule: str, groups: str) -> None:
    chosen = experiment(schedule, f"name: sgd, args: {{momentum: 0.9}}{groups}")
    scope = executed(snippet_of(chosen, summary()))
    lrs, momentum = trajectory(scope)
    shape = shape_of(chosen.training.schedule, STEPS, 10)
    expected = [PEAK * times * shape.multiplier for times in ([0.1, 1.0] if groups else [1.0])]
    np.testing.assert_allclose(lrs, expected, rtol=1e-9, atol=1e-12)
    if shape.momentum is not None and "0.01}" not in schedule:
        np.testing.assert_allclose(momentum, shape.momentum, rtol=1e-9)


EPOCHS, BATCHES = 4, 10
"""A training in epochs as lrfind counts it; the user's loader has one batch more, the last and smaller one."""


@pytest.mark.parametrize("groups", ["", f", {GROUPS}"], ids=["one group", "groups"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_schedule_ends_with_the_users_epochs_whose_loader_keeps_the_last_batch(
    schedule: str, groups: str
) -> None:
    chosen = experiment(schedule, f"name: sgd, args: {{momentum: 0.9}}{groups}", length=f"epochs: {EPOCHS}")
    text = snippet_of(chosen, summary(steps=EPOCHS * BATCHES))
    steps = EPOCHS * (BATCHES + 1)
    lrs, _ = trajectory(executed(text, BATCHES + 1), steps)
    shape = shape_of(chosen.training.schedule, steps, BATCHES + 1)
    expected = [PEAK * times * shape.multiplier for times in ([0.1, 1.0] if groups else [1.0])]
    np.testing.assert_allclose(lrs, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loop", ["across epochs", "whole groups", "with the rest"])
def test_one_cycle_survives_every_way_of_accumulating_over_epochs(loop: str) -> None:
    chosen = experiment("one_cycle", training=", accumulate: 4", length="epochs: 3")
    scope = executed(snippet_of(chosen, summary(steps=3 * BATCHES // 4)), BATCHES + 1)
    steps = 3 * (BATCHES + 1) // 4
    if loop != "across epochs":
        steps = 3 * ((BATCHES + 1) // 4 + (loop == "with the rest"))
    lrs, _ = trajectory(scope, steps)
    assert max(lrs[0]) > 0.9 * PEAK


REACTING = [
    ("{name: reduce_on_plateau, args: {factor: 0.5, patience: 1%s}}", "val_loss"),
    ("{name: join, args: {at: [0.2], parts: [{name: cosine, args: {end: 0.3}}, {name: reduce_on_plateau, args: {factor: 0.5, patience: 1%s}}]}}", "val_loss"),
    ("{name: grad_norm, args: {percentile: 50%s}}", "grad_norm"),
    ("{name: join, args: {at: [1 epoch], parts: [linear_warmup, {name: join, args: {at: [0.1], parts: [constant, {name: grad_norm, args: {window: 9%s}}]}}]}}", "grad_norm"),
]  # fmt: skip


@pytest.mark.parametrize("length", [f"steps: {STEPS}", "epochs: 4"])
@pytest.mark.parametrize("warmup", ["", ", warmup: 7", ", warmup: 0.15", ", warmup: 0.5 epochs"])
@pytest.mark.parametrize(("schedule", "watched"), REACTING)
def test_a_schedule_that_reacts_does_the_same_in_plain_torch(
    schedule: str, watched: str, warmup: str, length: str
) -> None:
    chosen = experiment(schedule % warmup, f"name: sgd, {GROUPS}", ", eval_every: 3", length)
    shape = shape_of(chosen.training.schedule, STEPS, BATCHES, 3)
    assert shape.reaction is not None
    scope = executed(snippet_of(chosen, summary()))
    optimizer, start = scope["optimizer"], scope.get("start", 0)
    measured: list[float] = []
    expected, lrs = [], []
    for step, loss in enumerate(np.random.default_rng(0).uniform(1, 2, STEPS).tolist()):
        if watched == "grad_norm":  # the norm is known before the step
            measured.append(loss)
            scope["lower_lr"](loss)
        multiplier = shape.multiplier[step] * shape.reaction.multiplier(measured, PEAK)
        expected.append([0.1 * PEAK * multiplier, PEAK * multiplier])
        lrs.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        taken = step + 1
        if "warmup" in scope and taken <= start:
            scope["warmup"].step()
        if watched == "val_loss" and taken % 3 == 0:
            measured.append(loss)
            if taken >= start:
                scope["scheduler"].step(loss)
    np.testing.assert_allclose(lrs, expected, rtol=1e-9)
    assert len({round(lr, 9) for _, lr in lrs[start:]}) > 1
    assert (start > 0) == (bool(warmup) or "join" in schedule)


def test_a_warmup_before_a_plateau_is_torchs_own_and_the_loop_is_told_when_to_call_it() -> None:
    plateau = "{name: reduce_on_plateau, args: {warmup: 0.25}}"
    text = snippet_of(experiment(plateau, training=", eval_every: 10"), summary())
    assert "lrfind" not in text
    assert "start = 10  # the step at which the schedule begins to react\n" in text
    assert "warmup = LinearLR(optimizer, start_factor=1 / (start + 1), total_iters=start)\n" in text
    assert text.endswith(
        "# In the training loop, call warmup.step() after each of the first `start` steps.\n"
        "# In the training loop, call scheduler.step(validation_loss) after every 10 steps, from step `start` on."
    )


def test_restarts_are_torchs_own_where_the_periods_grow_by_a_whole_factor() -> None:
    for growth, own in ((1, True), (2.0, True), (1.5, False), (0.9, False)):
        schedule = f"{{name: cosine_restarts, args: {{period: 12, growth: {growth}}}}}"
        text = snippet_of(experiment(schedule), summary())
        assert ("CosineAnnealingWarmRestarts(" in text) == own
        assert ("LambdaLR(" in text) == (not own)


@pytest.mark.parametrize(
    ("optimizer", "moves"),
    [("name: sgd", False), ("name: adam", True), ("name: rmsprop, args: {momentum: 0.5}", True)],
)
def test_one_cycle_moves_a_momentum_only_where_there_is_one(optimizer: str, moves: bool) -> None:
    _, momentum = trajectory(executed(snippet_of(experiment("one_cycle", optimizer), summary())))
    assert (len(set(momentum)) > 1) == moves


def test_the_optimizer_of_the_snippet_has_the_configs_settings_and_groups() -> None:
    chosen = experiment("constant", f"name: adamw, args: {{betas: [0.8, 0.95]}}, {GROUPS}, lr: {PEAK}")
    scope = executed(snippet_of(chosen, summary()))
    optimizer, model = scope["optimizer"], scope["model"]
    assert type(optimizer) is torch.optim.AdamW
    assert not any(p.requires_grad for p in model[1].parameters())
    for group, expected in zip(optimizer.param_groups, param_groups(chosen.optimizer, model), strict=True):
        assert list(map(id, group["params"])) == list(map(id, expected["params"]))
        assert group["lr"] == pytest.approx(expected["lr"])
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    assert [*optimizer.param_groups[1]["betas"]] == [0.8, 0.95]


def test_a_schedule_that_watches_the_validation_loss_is_torchs_own() -> None:
    plateau = "{name: reduce_on_plateau, args: {patience: 0, min_lr: 0.01}}"
    chosen = experiment(plateau, f"name: sgd, {GROUPS}", ", eval_every: 10")
    text = snippet_of(chosen, summary())
    assert "call scheduler.step(validation_loss) after every 10 steps." in text
    scope = executed(text)
    for loss in (1.0, 1.0, 1.0):
        scope["scheduler"].step(loss)
    assert [group["lr"] for group in scope["optimizer"].param_groups] == pytest.approx([0.001, 0.01])


def test_a_schedule_that_watches_the_gradient_is_lrfinds_own() -> None:
    scope = executed(snippet_of(experiment("grad_norm", "name: sgd"), summary()))
    for norm in (1.0, 1.0, 1.0, 4.0):
        scope["lower_lr"](norm)
    assert scope["optimizer"].param_groups[0]["lr"] == pytest.approx(PEAK / 4)


def test_the_snippet_reads_like_a_persons_lines() -> None:
    training = ", accumulate: 4, clip_norm: 1.0"
    warm = "{name: cosine, args: {warmup: 4}}"
    text = snippet_of(experiment(warm, "name: adamw, args: {weight_decay: 0.01}", training), summary())
    assert text == (
        "import torch\n"
        "from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR\n"
        "\n"
        "# Learning rates from 0.0078 to 0.0195 should train about as well as this one.\n"
        "# Confidence: high.\n"
        "# The rate is for this number of steps and this schedule; another plan needs another rate.\n"
        "peak = 0.0123\n"
        "steps = 40  # the number of optimizer steps of the training, one for every 4 batches\n"
        "optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.01)\n"
        "warmup = LinearLR(optimizer, start_factor=1 / 5, total_iters=4)\n"
        "decay = CosineAnnealingLR(optimizer, T_max=36)\n"
        "scheduler = SequentialLR(optimizer, [warmup, decay], milestones=[4])\n"
        "# In the training loop, call scheduler.step() after every optimizer.step().\n"
        "# The lr was measured with clip_norm 1.0. Use the same in your training loop."
    )


def test_the_snippet_says_that_the_rate_was_verified() -> None:
    training = {"lr": PEAK, "outcome": "finished"}
    verification = {"verdict": "stands", "lr": PEAK, "steps": 10, "trainings": [training]}
    text = snippet_of(experiment("constant"), summary() | {"verification": verification})
    assert "# Confidence: high, verified on 10 of 40 steps.\n" in text
    executed(text)


def test_without_an_answer_there_is_a_sentence_instead() -> None:
    sentence = "no snippet, because there is no learning rate: nothing learns."
    assert snippet_of(experiment("cosine"), summary(lr=None)) == sentence
