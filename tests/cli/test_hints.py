"""The commands that each command prints last: they work as they are printed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from lrfind.cli.hints import next_commands
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, start

OWN = (
    "from torch import nn\ndef loss(output, y):\n    return nn.functional.mse_loss(output, y)\n"
    "def nothing(output, y):\n    return 0 * output.sum() + 1\n"
    "def nan(output, y):\n    return float('nan') * output.sum()\n"
    "def huge(output, y):\n    return nn.functional.mse_loss(1e9 * output, y)\n"
)


@pytest.fixture
def own(here: Path) -> Path:
    """A config, with a space in its name, that names code of the user's own, in another folder."""
    (here / "my code").mkdir()
    (here / "my code/hinted_losses.py").write_text(OWN)
    path = here / "my config.yaml"
    path.write_text(f"{LINEAR}\nloss: 'hinted_losses:loss'\n".replace("loss: mse\n", ""))
    return path


def hints(lrfind: Command) -> list[list[str]]:
    """The arguments of the commands that were printed to run next."""
    commands = [
        line.partition("next: ")[2] for line in lrfind.out.splitlines() if line.startswith("  next: ")
    ]
    return [shlex.split(command)[1:] for command in commands]


COMMANDS = {
    "find": (["find", "--set", "find.verify_seeds=1"], ["train", "find"]),
    "low": (
        ["find", "--set", "find.verify_seeds=1", "--budget", "16"],
        ["find", "train"],
    ),  # its confidence is low
    "verified": (["find", "--verify", "--verify-seeds", "1"], ["train"]),
    "range-test": (["range-test"], ["find", "train"]),
    "group": (
        ["range-test", "--group", "w", "--set", "optimizer.param_groups=[{name: w, match: '*weight'}]"],
        ["find"],
    ),
    "grid": (["grid", "--lrs", "1e-3,1e-2,0.1,1,100", "--seeds", "2"], ["train", "grid"]),
    "one rate": (["grid", "--lrs", "0.1", "--seeds", "1"], ["train", "grid"]),
    "search": (["search", "--sampler", "random", "--trials", "5", "--seeds", "1"], None),
    "compare": (["compare", "--schedules", "constant,cosine", "--peaks", "0.1", "--seeds", "2"], ["train"]),
    "train": (["train", "--lr", "0.1"], []),
    "check": (["check"], ["check"]),
    "batch": (["check", "--batch"], ["find"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_to_run_next_and_that_runs_as_it_is(
    name: str, lrfind: Command, own: Path
) -> None:
    (command, *options), expected = COMMANDS[name]
    out = [] if command == "check" else ["--out", "my run"]
    arguments = [command, own.name, *options, *out, "--import-root", "my code"]
    assert lrfind(*arguments) == 0, lrfind.err
    printed = hints(lrfind)
    if expected is not None:
        assert [hint[0] for hint in printed] == expected
    assert len(printed) <= 2
    for hint in printed:
        assert lrfind(*hint) == 0, (hint, lrfind.err)


def test_a_command_in_a_message_runs_as_it_is_though_its_path_has_a_space(
    lrfind: Command, config: Path
) -> None:
    grid = ("grid", config, "--lrs", "0.1,0.2", "--seeds", 1, "--out", "my runs/a grid")
    assert lrfind(*grid) == 0
    for refused in (grid, ("suggest", "my runs/a grid"), ("show", "my runs"), ("show", "my runs/other")):
        assert lrfind(*refused) == 2
        (advice,) = re.findall("`lrfind ([^`]*)`", lrfind.err)
        assert lrfind(*shlex.split(advice)) == 0, advice


def test_best_rates_at_the_end_of_a_grid_lead_outward(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "1e-4,1e-3,1e-2", "--seeds", 1, "--out", "run") == 0
    (grid, train) = hints(lrfind)
    assert grid == ["grid", "run/resolved.yaml", "--lrs", "0.01,0.1,1,10"]
    assert train == ["train", "--from", "run"]


def test_a_finer_grid_has_the_best_rate_of_uneven_ones(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "1e-3,0.2,0.5,100", "--seeds", 2, "--out", "run") == 0
    best = read_result(Run.open(Path("run"))).answer["lr"]
    (grid,) = [hint for hint in hints(lrfind) if hint[0] == "grid"]
    lrs = [float(lr) for lr in grid[-1].split(",")]
    assert len(lrs) == 5
    assert lrs[2] == best


def test_a_ramp_that_ends_too_early_leads_to_a_longer_one(lrfind: Command, config: Path) -> None:
    ends = ("--start-lr", "1e-4", "--end-lr", "1e-2")
    assert lrfind("range-test", config, *ends, "--out", "run") == 3
    assert hints(lrfind)[0] == ["range-test", "run/resolved.yaml", "--set", "range_test.end_lr=0.1"]
    groups = "optimizer.param_groups=[{name: w, match: '*weight'}]"
    assert lrfind("range-test", config, *ends, "--group", "w", "--set", groups, "--out", "group") == 3
    assert hints(lrfind)[1] == ["find", "group/resolved.yaml", "--groups"]


def test_a_check_finds_the_folder_of_the_code_beside_the_config(lrfind: Command, own: Path) -> None:
    Path("my code/beside_losses.py").write_text(OWN)  # no other test has imported it
    config = Path("my code/beside.yaml")
    config.write_text(own.read_text().replace("hinted_losses", "beside_losses"))
    assert lrfind("check", config) == 0
    (batch,) = hints(lrfind)
    assert batch[-2:] == ["--import-root", str(config.parent)]
    assert lrfind(*batch) == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["find", "--verify", "2"], "--verify 2"),
        (["grid", "--lrs", "1e-3", "1e-2"], "Separate several rates with commas, as in `--lrs 1e-3,1e-2`"),
        (
            ["grid", "mnist_cnn", "--lrs", "1e-3", "1e-2", "0.1"],
            "(1e-2 0.1). Separate several rates with commas",
        ),
        (["suggest", "run"], "`lrfind show run` prints its answer"),
    ],
)
def test_a_mistake_is_named_as_it_was_typed(
    command: list[str], words: str, lrfind: Command, config: Path
) -> None:
    if command[-1] == "run":
        start(Path("run"), "grid").release()
    assert lrfind(*command) == 2
    assert words in lrfind.err
    assert "--verify-beyond" not in lrfind.err


def test_a_grid_that_diverged_everywhere_leads_to_lower_rates(lrfind: Command, config: Path) -> None:
    assert lrfind("grid", config, "--lrs", "1e5,1e6", "--seeds", 1, "--out", "run") == 3
    assert hints(lrfind)[0] == ["grid", "run/resolved.yaml", "--lrs", "100,1e+03,1e+04"]


@pytest.mark.parametrize("command", ["find", "grid", "range-test"])
def test_a_run_in_which_nothing_learns_leads_to_a_check(command: str, lrfind: Command, own: Path) -> None:
    nothing = ("--set", "loss='hinted_losses:nothing'", "--import-root", "my code")
    assert lrfind(command, own, *nothing, "--out", "run") == 3
    first = hints(lrfind)[0]
    assert first[:3] == ["check", "run/resolved.yaml", "--batch"]
    assert first[-2:] == ["--import-root", str(Path("my code").absolute())]


@pytest.mark.parametrize(
    ("options", "first"),
    [
        (["grid", "--set", "loss='hinted_losses:nan'"], ["check"]),
        (["range-test", "--set", "loss='hinted_losses:nan'"], ["check"]),
        (["find", "--set", "loss='hinted_losses:nan'"], ["check"]),
        (["find", "--budget", "16", "--set", "optimizer.lr=1e-9", "--set", "loss='hinted_losses:huge'"], ["find", "--budget"]),
        (["range-test", "--start-lr", "1e-6", "--end-lr", "1e-5"], ["range-test", "--set"]),
    ],
)  # fmt: skip
def test_a_refusal_leads_to_what_may_help(
    options: list[str], first: list[str], lrfind: Command, own: Path
) -> None:
    (command, *rest) = options
    assert lrfind(command, own, *rest, "--import-root", "my code", "--out", "run") == 3
    assert set(first) <= set(hints(lrfind)[0])


@pytest.mark.parametrize("loss", ["nothing", "nan"])
def test_no_smaller_budget_is_proposed_than_the_one_that_was_spent(
    loss: str, lrfind: Command, own: Path
) -> None:
    options = ("--set", f"loss='hinted_losses:{loss}'", "--import-root", "my code", "--out", "run")
    assert lrfind("find", own, "--budget", "20x", *options) == 3
    assert [hint[0] for hint in hints(lrfind)] == ["check"]


def test_a_limit_that_allowed_no_probe_is_raised(lrfind: Command, own: Path) -> None:
    limits = ("--budget", "100", "--max-seconds", "1e-9")
    assert lrfind("find", own, *limits, "--import-root", "my code", "--out", "run") == 3
    assert "--max-seconds" in hints(lrfind)[0]
    assert lrfind(*hints(lrfind)[0]) == 0


def test_a_loss_that_is_not_finite_at_the_start_is_no_reason_to_lower_the_rate(
    lrfind: Command, own: Path
) -> None:
    nan = ("--set", "loss='hinted_losses:nan'", "--import-root", "my code")
    assert lrfind("grid", own, *nan, "--out", "run") == 3
    assert "the loss is not finite before the first update" in " ".join(lrfind.out.split())
    assert "lower ones" not in lrfind.out


def test_a_suggestion_of_a_run_leads_to_a_training_with_it(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--out", "run", "-q") == 0
    for method in ((), ("--method", "minimum")):
        assert lrfind("suggest", "run", *method) == 0
        (train,) = hints(lrfind)
        assert lrfind(*train, "--out", f"trained{len(method)}") == 0
    assert lrfind("suggest", "run/steps.csv", "-q") == 0
    assert hints(lrfind) == []


@pytest.mark.parametrize("options", [("-q",), ("--json",)])
def test_quiet_and_json_print_no_hints(options: tuple[str, ...], lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--out", "run", *options) == 0
    assert "next:" not in lrfind.out + lrfind.err
    if options == ("--json",):
        json.loads(lrfind.out)


def test_the_line_that_continues_a_run_names_the_folder_of_the_code(lrfind: Command, own: Path) -> None:
    for line in ("status", "resume"):
        if line == "status":
            _interrupted(own)
        assert lrfind(line, "run", *(["--import-root", "my code"] if line == "resume" else [])) == 0
        if line == "status":
            code = Path("my code").absolute()
            assert f"Run `lrfind resume run --import-root '{code}'`" in " ".join(lrfind.out.split())


def _interrupted(config: Path) -> None:
    """Make the directory of a run that has not trained yet."""
    from lrfind.config.experiment import check
    from lrfind.config.registry import set_import_root

    set_import_root(Path("my code"))
    text = config.read_text()
    Run.start(Path("run"), "grid", check(text, ["grid={lrs: [0.1]}"], "c"), text, []).release()


def test_init_leads_to_a_check_and_a_find(lrfind: Command) -> None:
    assert lrfind("init", "mine.yaml", "--template", "linear_regression") == 0
    assert hints(lrfind) == [["check", "mine.yaml", "--batch"], ["find", "mine.yaml"]]
    assert lrfind("init", "./-odd.yaml") == 0
    assert hints(lrfind) == [["check", "./-odd.yaml", "--batch"], ["find", "./-odd.yaml"]]
    assert lrfind("init", "-q", "other.yaml") == 0
    assert hints(lrfind) == []


def test_init_writes_a_config_for_a_table_that_can_be_used_at_once(lrfind: Command) -> None:
    rows = "".join(
        f"{i};{i % 7},5;{'x' if i == 3 else ''}{i % 5};{['Yes', 'no', 'yes'][i % 3]}\n" for i in range(60)
    )
    Path("my table.csv").write_text(f"id;width;rank;bought\n{rows}")
    assert lrfind("init", "--csv", "my table.csv", "--target", "bought") == 0
    assert "left out: id" in lrfind.out
    assert "wrote lrfind.yaml" in lrfind.out
    for hint in hints(lrfind):
        assert lrfind(*hint) in (0, 3), lrfind.err
    assert lrfind("init", "--csv", "my table.csv", "--target", "bougth", "x.yaml") == 2
    assert "unknown column 'bougth'; did you mean bought?" in lrfind.err
    assert lrfind("init", "--csv", "my table.csv") == 2
    assert "--target COLUMN" in lrfind.err


@pytest.mark.parametrize("rows", [4, 39])
def test_a_config_for_a_small_table_can_be_used_at_once(rows: int, lrfind: Command) -> None:
    Path("small.csv").write_text("x,y\n" + "".join(f"{i * 0.37},{(i % 7) * 1.5}\n" for i in range(rows)))
    assert lrfind("init", "--csv", "small.csv", "--target", "y", "small.yaml") == 0
    assert lrfind("check", "small.yaml", "--batch") == 0, lrfind.err


def test_a_table_with_null_characters_is_refused_with_its_line(lrfind: Command) -> None:
    Path("odd.csv").write_text("x,y\n1,2\n3\0,4\n")
    assert lrfind("init", "--csv", "odd.csv", "--target", "y", "odd.yaml") == 2
    assert "line 3 holds a null character" in lrfind.err
    assert not Path("odd.yaml").exists()


def test_a_run_that_is_not_finished_leads_to_its_continuation(own: Path) -> None:
    _interrupted(own)
    assert next_commands(read_result(Run.open(Path("run")))) == [["resume", "run"]]


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("grid", [], None),
        ("grid", ["--steps", "40"], "the rate 0.1 was measured with 20 steps of sgd, constant schedule"),
        ("grid", ["--epochs", "2"], "It is taken as it is for 2 epochs of sgd, constant schedule"),
        (
            "grid",
            ["--schedule", "{name: cosine, args: {warmup: 3}}"],
            "20 steps of sgd, cosine schedule (warmup 3)",
        ),
        ("grid", ["--set", "data.batch_size=8"], "for 20 steps of sgd, constant schedule, batch size 8"),
        (
            "range-test",
            [],
            "comes from ramps, which know no plan; `lrfind find` looks for one for 20 steps of sgd",
        ),
        ("find", [], None),
        (
            "find",
            ["--steps", "2000"],
            "was found for 20 steps. For 2,000 steps, lrfind lowers it to",
        ),
    ],
)
def test_a_training_says_if_its_rate_is_from_another_plan(
    command: str, options: list[str], words: str | None, lrfind: Command, config: Path
) -> None:
    arguments = ["--lrs", "0.1", "--seeds", "1"] if command == "grid" else []
    assert lrfind(command, config, *arguments, "--out", "run", "-q") == 0
    assert lrfind("train", "--from", "run", *options, "--out", "trained") == 0
    notes = [line for line in lrfind.err.splitlines() if line.lower().startswith("the rate")]
    assert len(notes) == (words is not None)
    assert (words or "") in "".join(notes)
    assert lrfind("train", "--from", "run", *options, "--out", "quiet", "-q") == 0
    assert lrfind.err == ""
    assert (words or "") in lrfind.text  # the answer says it, and the record of the run


def test_a_best_config_whose_plan_was_edited_says_so(lrfind: Command, config: Path) -> None:
    assert lrfind("find", config, "--out", "run", "-q") == 0
    best = Path("run/best.yaml")
    assert lrfind("train", best, "--out", "same") == 0
    assert "the rate" not in lrfind.err
    best.write_text(best.read_text().replace("steps: 20\n", "steps: 2000\n"))
    assert lrfind("train", best, "--out", "longer") == 0
    assert (
        "of run/best.yaml is for another plan, and is taken as it is; `lrfind train run/best.yaml --from"
        in lrfind.err
    )
    assert lrfind("train", best, "--set", "optimizer.lr=0.5", "--out", "other") == 0
    assert "the rate" not in lrfind.err
