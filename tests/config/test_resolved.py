"""A run is what was written: every number is read as it stands, or refused with its place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lrfind.config.document import ConfigError
from lrfind.config.experiment import Experiment, check, dump
from lrfind.config.resolved import difference, resolved_text
from lrfind.config.sections import ModelSection
from lrfind.errors import UsageError
from lrfind.runs.store import Run
from tests.helpers.runs import LINEAR, start

OWN = LINEAR.replace("model: linear", "model: {name: 'my:net', args: {a: VALUE}}")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (".inf", math.inf), ("-.inf", -math.inf), (".nan", math.nan), ("null", None), ("-0.0", -0.0),
        ("1e308", 1e308), ("5e-324", 5e-324), ("18446744073709551615", 2**64 - 1), ("0x10", 16), ("1e3", 1000.0),
        ("'1e3'", "1e3"), ("'.inf'", ".inf"), ('"\\e[2J\\u202e"', "\x1b[2J\u202e"), ("[1, {b: .nan}]", [1, {"b": math.nan}]),
    ],
)  # fmt: skip
def test_what_was_written_is_what_the_run_reads(tmp_path: Path, written: str, value: object) -> None:
    run = start(tmp_path / "run", "find", config=OWN.replace("VALUE", written))
    kept = Run.open(run.path).experiment.model.args["a"]
    assert difference(kept, value) is None
    assert math.copysign(1, kept) == math.copysign(1, value) if isinstance(value, float) else True


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("1e400", "1e400 is larger than the largest number of 64 bits, 1.8e308; for infinity write .inf"),
        ("1e-400", "1e-400 is closer to 0 than the smallest number of 64 bits"),
        ("18446744073709551616", "18446744073709551616 is a whole number of more than 64 bits"),
        ("-9223372036854775809", "-9223372036854775809 is a whole number of more than 64 bits"),
        ("9" * 5000, "9 is a whole number of more than 64 bits"),
        ('"\\ud800"', "this text holds half of a surrogate pair"),
        ('"\\0"', "this text holds a null character"),
        ('{"\\ud800": 1}', "this key holds half of a surrogate pair"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_its_place(written: str, reason: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        check(OWN.replace("VALUE", written))
    (mistake,) = refusal.value.mistakes
    assert reason in mistake.message
    assert (mistake.place.line, mistake.place.column) == (3, 35 + written.startswith("{"))


def test_a_run_does_not_start_from_an_experiment_that_its_config_cannot_hold(tmp_path: Path) -> None:
    experiment = check(LINEAR)
    odd = experiment.model_copy(update={"model": ModelSection(name="my:net", args={"a": b"bytes"})})
    with pytest.raises(UsageError, match=r"model.args.a: b'bytes' cannot be written into a config"):
        Run.start(tmp_path / "run", "find", odd, LINEAR, [])
    assert not (tmp_path / "run").exists()


def test_every_ready_experiment_is_read_again_as_it_was(ready: Experiment) -> None:
    assert difference(check(dump(ready)).model_dump(), ready.model_dump()) is None
    assert resolved_text(ready) == dump(ready)


@pytest.fixture(params=["mnist_cnn", "linear_regression"])
def ready(request: pytest.FixtureRequest) -> Experiment:
    return check((Path(__file__).parents[2] / f"configs/{request.param}.yaml").read_text())
