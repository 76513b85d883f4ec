"""The command that most people begin with: find."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.cli.execute import Output, new_run, start
from lrfind.cli.help import SEARCH, Command, option
from lrfind.cli.options import (
    common_options,
    config_options,
    dry_run_option,
    is_quiet,
    json_option,
    load,
    option_overrides,
    out_option,
    print_plan,
    refuse_rivals,
    report_option,
    snippet_option,
    to_option,
)
from lrfind.cli.trainings import (
    device_option,
    lanes_option,
    plan_options,
    requested_team,
    seed_options,
    team_options,
)
from lrfind.config.document import Override
from lrfind.errors import UsageError, counted
from lrfind.views.terminal import note

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment


class FindCommand(Command):
    """The command `find`, whose option --verify may have a number after it, which is never CONFIG."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, with `--verify 5` as `--verify --verify-beyond 5`."""
        spelled = []
        for before, arg in zip(["", *args], args, strict=False):
            number = before == "--verify" and re.fullmatch(r"\d+(\.\d+)?", arg)
            spelled += ["--verify-beyond", arg] if number else [arg]
        return super().parse_args(ctx, spelled)


@click.command(
    cls=FindCommand,
    examples=(
        ("lrfind find", "a small CNN on MNIST"),
        ("lrfind find my.yaml --steps 3000 --schedule cosine", "another plan"),
        ("lrfind find my.yaml --budget 4x --verify", "a surer answer"),
        ("lrfind find my.yaml --snippet", "with lines to paste"),
    ),
)
@plan_options
@option(
    "--budget",
    group=SEARCH,
    key=".budget",
    metavar="N",
    help="How much to spend: a number of gradient steps, or a number of trainings such as 4x. What the probes"
    " leave goes to trainings that refine their answer.",
)
@option(
    "--max-seconds",
    group=SEARCH,
    key=".max_seconds",
    metavar="S",
    help="How many seconds to spend in the same way, approximately.",
)
@seed_options
@option(
    "--groups",
    group=SEARCH,
    key=".groups",
    is_flag=True,
    help="Then find one rate for each param group too; needs optimizer.param_groups in the config.",
)
@option(
    "--verify",
    group=SEARCH,
    key=".verify",
    is_flag=True,
    help="Then verify the answer: train at a third of this lr, at this lr and at three times this lr. With a"
    " number, as in --verify 5, also at so many times this lr.",
)
@option("--verify-beyond", key=".verify_beyond", group=SEARCH, hidden=True)
@option(
    "--verify-share",
    group=SEARCH,
    key=".verify_share",
    metavar="X",
    help="The length of the verifying trainings, as a share of the planned training.",
)
@option(
    "--verify-seeds",
    group=SEARCH,
    key=".verify_seeds",
    metavar="N",
    help="The number of verifying trainings at each rate.",
)
@device_option
@lanes_option
@team_options
@out_option
@dry_run_option
@snippet_option
@to_option
@report_option
@json_option
@config_options
@common_options
def find(
    config: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    no_report: bool,
    workers: str | None,
    cluster: str | None,
    snippet: bool,
    dry_run: bool,
    **options: Any,
) -> int:
    """Find the learning rate for the training that you plan.

    The answer is a number with its interval, how sure it is, and why. It costs about a hundred gradient
    steps. Begin with this command.
    """
    refuse_rivals(options, ("steps", "epochs"))
    team = requested_team(workers, cluster)
    typed = [*map(Override.of, overrides), *option_overrides(options, verify_beyond="--verify")]
    experiment, text = load(config, typed)
    if team is not None and not experiment.find.verify:
        raise UsageError("--workers and --cluster share out the verifying trainings; give --verify too.")
    said = _of_default_length(experiment)
    if said is not None and not is_quiet():
        note(said)
    if dry_run:
        return _dry_run(experiment, as_json)
    run = new_run(out, "find", experiment, text, typed)
    if said is not None:
        run.add_note(said)
    return start(run, Output(as_json, snippet, report=not no_report), team)


def _of_default_length(experiment: Experiment) -> str | None:
    """Return what to know of a rate whose training has the default length, in a sentence, or None."""
    if "training" in experiment.model_fields_set:
        return None
    length = counted(experiment.training.steps or 0, "step")
    return f"The config has no `training`, so the rate is for {length}. For others, give --steps or --epochs."


def _dry_run(experiment: Experiment, as_json: bool) -> int:
    """Print the plan of a `find`."""
    from dataclasses import asdict

    from lrfind.experiments.find import plan_find
    from lrfind.problem.problem import from_config
    from lrfind.views.text.find import find_plan_text

    plan = asdict(plan_find(from_config(experiment), experiment))
    plan["schedule"] = experiment.training.schedule.name
    return print_plan("find", find_plan_text(plan), as_json, **plan)
