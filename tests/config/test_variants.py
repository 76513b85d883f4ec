"""Variants: what a command compares, each as an experiment of its own."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from lrfind.catalog import OPTIMIZERS
from lrfind.config.experiment import check, dump
from lrfind.config.registry import resolve
from lrfind.config.variants import OVER, Variant, variants_of
from lrfind.errors import UsageError
from tests.helpers.runs import LINEAR

OWN = "optimizer={name: sgd, lr: 0.1, args: {momentum: 0.9, nesterov: true}}"
GROUPS = "optimizer.param_groups=[{name: bias, match: '*bias', lr_multiplier: 2}]"


def variants(command: str, *overrides: str) -> list[Variant]:
    return variants_of(check(LINEAR, overrides), command)


def optimizers(*overrides: str) -> dict[str, tuple[str, float, dict[str, Any]]]:
    compared = variants("compare", *overrides)
    return {v.name: (o.name, o.lr, o.args) for v in compared for o in [v.experiment.optimizer]}


def over(setting: str, *overrides: str, values: str = "[0, 0.5]") -> dict[str, dict[str, Any]]:
    compared = variants("range-test", *overrides, f"range_test.over={setting}", f"range_test.values={values}")
    return {variant.name: variant.experiment.optimizer.args for variant in compared}


@pytest.mark.parametrize("command", ["grid", "search", "train", "range-test"])
def test_a_command_that_compares_nothing_has_one_variant(command: str) -> None:
    experiment = check(LINEAR, ["compare.optimizers=[adam, sgd]"])
    assert variants_of(experiment, command) == [Variant("", experiment)]


def test_schedules_differ_in_nothing_else_and_are_called_by_what_tells_them_apart() -> None:
    listed = "[cosine, {name: cosine, args: {warmup: 5}}, {name: linear, args: {end: 0.1}}]"
    compared = variants("compare", f"compare.schedules={listed}", "training.schedule=constant")
    assert [variant.name for variant in compared] == ["cosine", "cosine (warmup 5)", "linear"]
    assert [variant.experiment.training.schedule.args for variant in compared] == [
        {},
        {"warmup": 5},
        {"end": 0.1},
    ]
    back = [v.experiment.model_copy(update={"training": compared[0].experiment.training}) for v in compared]
    assert all(experiment == compared[0].experiment for experiment in back)


def test_the_configs_own_optimizer_keeps_its_args_and_lr_and_another_takes_its_own_default_lr() -> None:
    assert optimizers(OWN, "compare.optimizers=[sgd, adam, adadelta]") == {
        "sgd": ("sgd", 0.1, {"momentum": 0.9, "nesterov": True}),
        "adam": ("adam", 1e-3, {}),
        "adadelta": ("adadelta", 1.0, {}),
    }


def test_an_lr_that_is_given_wins_and_args_that_are_given_are_all() -> None:
    listed = "[{name: sgd, lr: 0.3}, {name: adam, lr: 0.02, args: {eps: 1e-6}}, {name: sgd, args: {momentum: 0.5}}]"
    assert optimizers(OWN, f"compare.optimizers={listed}") == {
        "sgd (momentum 0.9, nesterov True)": ("sgd", 0.3, {"momentum": 0.9, "nesterov": True}),
        "adam": ("adam", 0.02, {"eps": 1e-6}),
        "sgd (momentum 0.5)": ("sgd", 0.1, {"momentum": 0.5}),  # around the config's lr, as its other self
    }


def test_every_optimizer_has_a_default_lr_of_its_own_and_keeps_the_param_groups() -> None:
    listed = ", ".join(sorted(set(OPTIMIZERS) - {"sgd"}))
    compared = variants("compare", GROUPS, f"compare.optimizers=[{listed}]")
    for variant in compared:
        default = inspect.signature(resolve(OPTIMIZERS[variant.name].path)).parameters["lr"].default
        assert variant.experiment.optimizer.lr == default
        assert [group.name for group in variant.experiment.optimizer.param_groups] == ["bias"]


@pytest.mark.parametrize("listed", ["[adam, sgd, adam]", "[sgd, {name: sgd, lr: 1.0}]"])
def test_two_of_one_name_and_args_are_refused(listed: str) -> None:
    with pytest.raises(
        UsageError, match=r"compare: '(adam|sgd)' is listed twice; list each schedule or optimizer once"
    ):
        variants("compare", f"compare.optimizers={listed}")
    with pytest.raises(UsageError, match="compare: 'linear' is listed twice"):
        variants("compare", "compare.schedules=[linear, cosine, linear]")


def test_a_range_test_over_momentum_keeps_the_other_args_and_drops_nesterov_where_there_is_none() -> None:
    assert over("momentum", OWN, "optimizer.args.weight_decay=0.01") == {
        "momentum 0": {"momentum": 0.0, "weight_decay": 0.01},
        "momentum 0.5": {"momentum": 0.5, "weight_decay": 0.01, "nesterov": True},
    }
    plain = over("momentum", "optimizer={name: rmsprop, lr: 0.1}")
    assert plain == {"momentum 0": {"momentum": 0.0}, "momentum 0.5": {"momentum": 0.5}}


def test_the_momentum_of_adam_is_its_first_beta() -> None:
    assert over("momentum", "optimizer={name: adam}") == {
        "momentum 0": {"betas": [0.0, 0.999]},
        "momentum 0.5": {"betas": [0.5, 0.999]},
    }
    own = over("momentum", "optimizer={name: adamw, args: {betas: [0.8, 0.9], eps: 1e-7}}", values="[0.3]")
    assert own == {"momentum 0.3": {"betas": [0.3, 0.9], "eps": 1e-7}}


def test_a_range_test_over_weight_decay_and_one_over_the_usual_values() -> None:
    assert over("weight_decay", OWN, values="[1e-4]") == {
        "weight_decay 0.0001": {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
    }
    compared = variants("range-test", "range_test.over=weight_decay")
    assert [v.experiment.optimizer.args["weight_decay"] for v in compared] == [*OVER["weight_decay"]]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_a_range_test_varies_reaches_every_optimizer_that_has_it(name: str) -> None:
    for setting in OVER:
        if setting == "momentum" and OPTIMIZERS[name].momentum is None:
            with pytest.raises(
                UsageError, match=f"range_test.over: {name} has no momentum; use an optimizer"
            ):
                over(setting, f"optimizer={{name: {name}}}")
            continue
        (args,) = over(setting, f"optimizer={{name: {name}}}", values="[0.25]").values()
        optimizer = resolve(OPTIMIZERS[name].path)([torch.nn.Parameter(torch.zeros(1))], **args)
        assert 0.25 in (optimizer.defaults.get(setting), optimizer.defaults.get("betas", [None])[0])


@pytest.mark.parametrize(
    "name",
    ["adam", "rmsprop", "sgd", "adamax", "nadam", "radam"],
)
def test_a_variant_is_an_experiment_that_a_config_can_hold(name: str) -> None:
    for variant in variants("range-test", f"optimizer={{name: {name}}}", "range_test.over=momentum"):
        assert check(dump(variant.experiment)) == variant.experiment
