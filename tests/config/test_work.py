"""Work out of all proportion is refused by the config, at the key that asks for most of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lrfind.config.document import MAX_BYTES, ConfigError
from lrfind.config.experiment import anchored, check, read
from lrfind.errors import UsageError
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["grid.points=10000", "grid.seeds=10000"], "10,000 (grid.seeds) x 10,000 (grid.points) are 100,000,000 lanes; a run has at most 100,000. Lower grid.seeds or grid.points"),
        (["search.trials=10000", "search.seeds=11"], "11 (search.seeds) x 10,000 (search.trials) are 110,000 lanes"),
        (["compare.seeds=10000", "compare.schedules=[a:a, a:b, a:c, a:d, a:e, a:f, a:g, a:h, a:i, a:j, a:k]"], "are 110,000 lanes"),
        (["compare.tuning_seeds=10000"], "4 (compare.schedules) x 10,000 (compare.tuning_seeds) x 11 (compare.peaks) are 440,000 lanes"),
        (["range_test.seeds=10000", "range_test.steps=10000000"], "10,000 (range_test.seeds) lanes of 10,000,000 steps are 100,000,000,000 steps; a run has at most 10,000,000,000. Lower range_test.seeds"),
        (["training.steps=10000000", "training.seeds=1001"], "1,001 (training.seeds) lanes of 10,000,000 steps are"),
    ],
)  # fmt: skip
def test_too_many_lanes_or_steps_are_refused_at_the_largest_number(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        check(LINEAR, overrides)
    (mistake,) = refusal.value.mistakes
    assert message in mistake.message
    assert mistake.place.source == "--set"


def test_the_longest_training_is_allowed_in_every_command() -> None:
    check(LINEAR, ["training.steps=10000000", "range_test.steps=10000000"])


@pytest.mark.parametrize(
    ("override", "bound"),
    [
        ("training.accumulate=100000000000000000", "at most 10000;"),
        ("training.epochs=1000000000000000000", "at most 10000000;"),
        ("training.eval_every=1000000000000000000", "at most 10000000;"),
        ("data.batch_size=1000000000000", "a whole number at most 10000000, 'full' or null"),
        ("data.memory=1e308", "at most 1000000;"),
        ("grid.threads=100000", "at most 1024;"),
        ("find.stack_memory=1e308", "at most 1000000;"),
        ("range_test.start_lr=1e-308", "at least 1e-30;"),
        ("range_test.end_lr=1e300", "at most 1e+30;"),
        ("optimizer.lr=1e-300", "at least 1e-30;"),
        ("looks=100000", "at most 1000;"),
        (f"name={'a' * 101}", "at most 100 characters;"),
        (
            'optimizer.param_groups=[{name: "a\\nb", match: x}]',
            "no line breaks, tabs or other control characters",
        ),
    ],
)
def test_a_value_that_no_run_can_use_is_out_of_bounds(override: str, bound: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        check(LINEAR, [override])
    (mistake,) = refusal.value.mistakes
    assert bound in mistake.message


@pytest.mark.parametrize("name", ["/dev/zero", "large.yaml"])
def test_no_more_of_a_config_is_read_than_a_config_may_have(here: Path, name: str) -> None:
    Path("large.yaml").write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(UsageError, match="is larger than 1,000,000 bytes"):
        read(Path(name))


def test_a_pipe_without_a_writer_counts_as_empty(lrfind: Command) -> None:
    os.mkfifo("pipe")
    assert lrfind("check", "pipe") == 2
    assert "this one is empty" in lrfind.err


def test_line_breaks_of_every_system_are_read_as_one(here: Path) -> None:
    Path("config.yaml").write_bytes(b"a: 1\r\nb: 2\r")
    assert read(Path("config.yaml")) == "a: 1\nb: 2\n"


@pytest.mark.parametrize("file", ["x" * 300, "~nobody-of-this-name/x"])
def test_a_file_name_that_no_file_can_have_is_left_as_it_is(file: str, tmp_path: Path) -> None:
    experiment = check(LINEAR, [f"model={{name: linear, init_from: {file}}}"])
    assert anchored(experiment, tmp_path).model.init_from == file


def test_a_run_that_could_not_start_leaves_no_directory(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--set", "data.args.samples=1000000000000", "--out", "run") in (1, 2)
    assert not Path("run").exists()
