from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lrfind.analysis.batch_size import scale_lr
from lrfind.catalog import OPTIMIZERS, optimizer_named
from lrfind.cli.scale import scale
from lrfind.errors import UsageError

NOISY = """
name: noisy
model: linear
data: {name: regression, batch_size: 16, args: {samples: 512, features: 4}}
loss: mse
optimizer: {name: sgd, lr: 0.05}
training: {steps: 20}
"""


def test_the_linear_rule_multiplies_by_the_batch_factor_of_all_workers() -> None:
    scaled = scale_lr(0.1, 256, 512, workers=4)
    assert (scaled.lr, scaled.rule, scaled.factor, scaled.batch_factor) == (0.8, "linear", 8.0, 8.0)
    assert "1706.02677" in scaled.source
    assert scaled.settings == {}
    assert scaled.warmup is not None
    assert "from 0.1 to 0.8 over the first 5 epochs" in scaled.warmup


def test_the_square_root_rule_scales_the_averages_and_eps_of_adam() -> None:
    scaled = scale_lr(1e-3, 64, 128, optimizer="adam", betas=(0.95, 0.99), eps=1e-6)
    assert scaled.lr == pytest.approx(1e-3 * math.sqrt(2), rel=1e-15)
    assert scaled.settings == {"betas": (0.9, 0.98), "eps": pytest.approx(1e-6 / math.sqrt(2), rel=1e-15)}
    assert "2205.10287" in scaled.source
    assert scaled.warmup is None
    assert not any("well below" in note for note in scaled.notes)


def test_rmsprop_has_one_average_with_its_own_default() -> None:
    assert scale_lr(1e-3, 64, 256, optimizer="rmsprop").settings == {"alpha": 0.96, "eps": 5e-9}
    assert scale_lr(1e-3, 64, 256, optimizer="rmsprop", betas=(0, 0.999)).settings["alpha"] == 0.996


def test_scaling_down_and_up_again_comes_back() -> None:
    for optimizer in ("sgd", "adam"):
        down = scale_lr(0.1, 1024, 64, optimizer=optimizer)
        assert down.warmup is None
        betas, eps = down.settings.get("betas"), down.settings.get("eps")
        up = scale_lr(down.lr, 64, 1024, optimizer=optimizer, betas=betas, eps=eps)
        assert up.lr == pytest.approx(0.1, rel=1e-12)
        if optimizer == "adam":
            assert up.settings["betas"] == pytest.approx((0.9, 0.999))
            assert up.settings["eps"] == pytest.approx(1e-8)


def test_the_same_batch_size_changes_nothing_and_has_no_notes() -> None:
    for optimizer in OPTIMIZERS:
        scaled = scale_lr(0.1, 64, 32, workers=2, optimizer=optimizer)
        assert (scaled.lr, scaled.factor, scaled.warmup, scaled.notes) == (0.1, 1, None, ())
        assert scaled.settings == {}


def test_averages_that_the_rule_cannot_reach_get_a_note_and_stay_as_they_are() -> None:
    stretched = scale_lr(1e-3, 64, 256, optimizer="adamw")
    assert any("1 - beta1 becomes 0.4" in note for note in stretched.notes)
    beyond = scale_lr(1e-3, 64, 64 * 16, optimizer="adamw")
    assert any("1 - beta1 would have to be 1.6" in note for note in beyond.notes)
    assert set(beyond.settings) == {"eps"}
    assert any(
        "0.25 times what it was; to keep it, multiply weight_decay by 4." in note for note in beyond.notes
    )


def test_the_noise_scale_goes_from_linear_to_constant() -> None:
    def factor(noise_scale: float) -> float:
        return scale_lr(1.0, 100, 400, noise_scale=noise_scale).factor

    assert factor(100) == pytest.approx((1 + 100 / 100) / (1 + 100 / 400), rel=1e-14)
    assert factor(1e9) == pytest.approx(4, rel=1e-5)
    assert factor(1e-6) == pytest.approx(1, rel=1e-5)
    scaled = scale_lr(1.0, 100, 400, noise_scale=100)
    assert scaled.rule == "noise"
    assert "1812.06162" in scaled.source


def test_a_chosen_rule_is_kept_above_the_noise_scale_with_a_note() -> None:
    scaled = scale_lr(1.0, 100, 400, rule="linear", noise_scale=150)
    assert scaled.lr == 4
    assert any("above the measured noise scale of 150" in note for note in scaled.notes)
    adam = scale_lr(1.0, 100, 400, optimizer="adam", noise_scale=150)
    assert adam.lr == 2
    assert any("above the measured noise scale" in note for note in adam.notes)


def test_auto_knows_every_optimizer_of_the_catalog() -> None:
    rules = {name: scale_lr(1.0, 1, 2, optimizer=name).rule for name in OPTIMIZERS}
    assert rules["sgd"] == "linear"
    assert rules["adam"] == rules["rmsprop"] == rules["adagrad"] == rules["adadelta"] == "sqrt"
    assert optimizer_named("torch.optim:SGD") is OPTIMIZERS["sgd"]
    assert optimizer_named("torch.optim:Adam") is OPTIMIZERS["adam"]


def test_notes_say_when_a_rule_is_a_guess_or_made_for_other_optimizers() -> None:
    notes = scale_lr(1.0, 1, 4, optimizer="mine:Lion").notes
    assert any("'mine:Lion', so sqrt is a guess" in note for note in notes)
    assert any("by analogy" in note for note in scale_lr(1.0, 1, 4, optimizer="adagrad").notes)
    assert any("made for SGD" in note for note in scale_lr(1.0, 1, 4, rule="linear", optimizer="adam").notes)
    krizhevsky = scale_lr(1.0, 1, 4, rule="sqrt")
    assert (krizhevsky.lr, "1404.5997" in krizhevsky.source) == (2, True)
    assert any("about 8k" in note for note in scale_lr(1.0, 256, 16384).notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "lr must be a positive number; found 0"),
        ({"lr": math.nan}, "found nan"),
        ({"from_batch": 0}, "from_batch must be a positive number"),
        ({"to_batch": 1.5}, "to_batch must be a whole number"),
        ({"workers": -1}, "workers must be a positive number; found -1"),
        ({"rule": "sqr"}, "unknown rule 'sqr'; did you mean sqrt?"),
        ({"optimizer": "adamm"}, "did you mean adam"),
        ({"optimizer": "adam", "betas": (0.9, 1.0)}, "betas must be two numbers"),
        ({"optimizer": "adam", "eps": -1.0}, "eps must be a number of at least 0"),
        ({"noise_scale": math.inf}, "noise_scale must be a positive number; found inf"),
    ],
)
def test_arguments_that_cannot_be_scaled_are_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"lr": 0.1, "from_batch": 64, "to_batch": 256} | change
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        scale_lr(**arguments)  # type: ignore[arg-type]


def run(*arguments: object) -> tuple[str, str]:
    done = CliRunner().invoke(scale, [str(a) for a in arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    assert done.return_value == 0
    return done.stdout, done.stderr


def test_the_command_does_plain_arithmetic_without_torch() -> None:
    out, err = run("--lr", 0.1, "--from-batch", 256, "--to-batch", 1024)
    assert out.startswith("Learning rate for batches of 1024: 0.4\n")
    assert "rule: linear, Goyal" in out
    assert err == ""
    code = (
        "from lrfind.cli.scale import scale; import sys\n"
        "scale(['--lr=1', '--from-batch=1', '--to-batch=2', '--optimizer=adam'], standalone_mode=False)\n"
        "assert not {'torch', 'matplotlib', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_command_measures_a_config_and_takes_its_numbers(tmp_path: Path) -> None:
    config = tmp_path / "noisy.yaml"
    config.write_text(NOISY)
    out, err = run(config, "--measure", "--to-batch", 64, "--json")
    result = json.loads(out)
    assert [at["step"] for at in result["noise_scale"]] == [0, 5, 10, 20]
    assert "along 20 steps at lr 0.05" in err
    last = next(at["scale"] for at in reversed(result["noise_scale"]) if at["scale"] is not None)
    scaled = scale_lr(0.05, 16, 64, noise_scale=last)
    assert result["answer"]["lr"] == scaled.lr
    assert result["answer"]["rule"] == "noise"
    assert any("A batch of 64 is" in sentence for sentence in result["implies"])
    out, err = run(config, "--measure", "--steps", 8, "--batches", 6, "-q")
    assert out.startswith("Gradient noise scale in rows (measured on 6 batches of 16)")
    assert "Learning rate for" not in out
    assert err == ""


def test_the_command_takes_the_settings_of_the_config(tmp_path: Path) -> None:
    config = tmp_path / "noisy.yaml"
    config.write_text(
        NOISY.replace("{name: sgd, lr: 0.05}", "{name: adam, lr: 0.01, args: {betas: [0.95, 0.99]}}")
    )
    out, _ = run(config, "--measure", "--steps", 4, "--to-batch", 32, "-q")
    assert "rule: sqrt, Malladi" in out
    assert "also set betas to (0.9, 0.98) and eps to 7.07107e-09" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", 1], "give --from-batch and --to-batch too, or give --measure"),
        (["config.yaml", "--lr", 1], "CONFIG is of use only with --measure"),
        (
            ["--lr", 1, "--from-batch", 1, "--to-batch", 2, "--steps", 3],
            "--steps is of use only with --measure",
        ),
        (["--lr", 1, "--from-batch", 0, "--to-batch", 2], "from_batch must be a positive number"),
    ],
)
def test_the_command_refuses_missing_and_unused_options(arguments: list[object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(*arguments)


def test_arguments_that_cannot_be_scaled_are_refused_before_anything_is_trained(config: Path) -> None:
    with pytest.raises(UsageError, match="workers must be"):
        run(config, "--measure", "--to-batch", 2, "--workers", 0)
    with pytest.raises(UsageError, match="the batch is the whole training set"):
        run(config, "--measure")
