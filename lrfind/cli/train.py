"""The command of a final training: train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.cli.completion import complete_runs
from lrfind.cli.execute import Output, new_run, start
from lrfind.cli.help import OUTPUT, PLAN, Command, option
from lrfind.cli.options import (
    common_options,
    config_options,
    is_quiet,
    json_option,
    load,
    option_overrides,
    out_option,
    refuse_rivals,
    refuse_unasked_imports,
    report_option,
    to_option,
)
from lrfind.cli.trainings import device_option, plan_options, requested_team, seed_options, team_options
from lrfind.config.document import Override
from lrfind.errors import UsageError, in_shell
from lrfind.views.terminal import note

if TYPE_CHECKING:
    from lrfind.config.experiment import Experiment
    from lrfind.runs.result import RunResult


@click.command(
    cls=Command,
    examples=(
        ("lrfind train --from runs/found", "at the answer of a run"),
        ("lrfind train --from runs/found --steps 3000", "the same, for another plan"),
        ("lrfind train my.yaml --lr 0.02 --epochs 10", "at a rate of your own"),
    ),
)
@option(
    "--lr",
    group=PLAN,
    key="optimizer.lr",
    metavar="LR",
    help="The learning rate, which is the peak of the schedule.",
)
@option(
    "--from",
    "source",
    group=PLAN,
    type=click.Path(path_type=Path),
    metavar="RUN",
    shell_complete=complete_runs,
    help="Take the answer of a run; without CONFIG, take its config too."
    " The rate of a find is moved to the steps and the schedule of this training.",
)
@plan_options
@option(
    "--init-from",
    group=PLAN,
    key="model.init_from",
    metavar="FILE",
    help="A file with a state dict to start from.",
)
@seed_options
@device_option
@team_options
@out_option
@option(
    "--checkpoint-every",
    group=OUTPUT,
    key="training.checkpoint_every",
    metavar="N",
    help="The number of steps between checkpoints; if omitted, every half minute.",
)
@to_option
@report_option
@json_option
@config_options
@common_options
def train(
    config: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    source: Path | None,
    as_json: bool,
    no_report: bool,
    workers: str | None,
    cluster: str | None,
    **options: Any,
) -> int:
    """Train at the chosen lr, and keep the weights.

    The training has a schedule, validation and checkpoints. Use it when a rate is found; `--from` takes it
    from a run.
    """
    refuse_rivals(options, ("steps", "epochs"))
    team = requested_team(workers, cluster)
    typed = [*map(Override.of, overrides), *option_overrides(options)]
    if source is not None and options["lr"] is not None:
        raise UsageError("give --lr or --from, not both.")
    if source is None:
        experiment, text = load(config, typed)
        said = None if config is None else _of_best_config(config, experiment)
    else:
        experiment, text, said = _with_answer(source, config, typed)
    run = new_run(out, "train", experiment, text, typed)
    if said is not None:
        run.add_note(f"{said.rstrip('.')}.")
        if not is_quiet():
            note(said)
    if not is_quiet() and source is not None:
        lr, schedule = f"{experiment.optimizer.lr:.3g}", experiment.training.schedule.name
        note(f"from {source}: lr {lr}, schedule {schedule}")
    return start(run, Output(as_json, report=not no_report), team)


def _with_answer(
    source: Path, config: Path | None, typed: list[Override]
) -> tuple[Experiment, str, str | None]:
    """Return a config with the answer of a run in it: the run's own config, or the one that was given.

    Returns:
        The experiment, the text of its config, and what to know of the rate, in a sentence; None if nothing.
    """
    from lrfind.config.experiment import check, dump
    from lrfind.config.variants import with_lr
    from lrfind.config.yaml12 import dump as yaml_text
    from lrfind.runs.best import answered_experiment, lr_for_plan, moved_in_words, other_plan
    from lrfind.runs.store import Run
    from lrfind.runs.summaries.find import group_multipliers
    from lrfind.runs.summary import read_result

    result = read_result(Run.open(source))
    answered = answered_experiment(result)
    if not result.facts.concluded:
        note(_of_unfinished(result))
    if config is None or len(result.variants) > 1:  # then the run says what is imported, or a part of it
        refuse_unasked_imports(answered, source, result.facts.import_root)
    if config is None:
        text, origin = dump(answered), f"{source} (its config)"
        experiment = check(text, typed, origin)
    else:
        overrides = [Override.option("--from", "optimizer.lr", repr(answered.optimizer.lr))]
        if len(result.variants) > 1:  # then the variant is part of the answer too
            plain = answered.model_dump(mode="json", exclude_none=True)
            parts = {"optimizer": plain["optimizer"], "training.schedule": plain["training"]["schedule"]}
            overrides = [
                Override.option("--from", key, yaml_text(part, flow=True)) for key, part in parts.items()
            ]
        elif group_multipliers(result.summary):  # then the multipliers are part of it
            groups = answered.model_dump(mode="json", exclude_none=True)["optimizer"]["param_groups"]
            overrides.append(
                Override.option("--from", "optimizer.param_groups", yaml_text(groups, flow=True))
            )
        experiment, text = load(config, [*overrides, *typed])
    lr = lr_for_plan(result, experiment)
    if lr is None:
        said = other_plan(result, experiment)
    else:
        said = moved_in_words(result, experiment, lr)
        experiment = with_lr(experiment, lr)
    return experiment, text, said


def _of_unfinished(result: RunResult) -> str:
    """Return a warning that the answer of a run may change until the run has ended."""
    from lrfind.views.text.sweep import rivals_text

    answer = f"lr {result.answer['lr']:.3g} is its answer so far"
    if result.summary.get("unfinished") is not None:
        answer = f"lr {result.answer['lr']:.3g} is {rivals_text(result.summary)}"
    return f"warning: '{result.path}' has not ended; {answer}. To end it, run `{result.resume_command}`."


def _of_best_config(config: Path, experiment: Experiment) -> str | None:
    """Return what to say of a best.yaml of a run whose plan was changed since, in a sentence, or None."""
    from lrfind.runs.best import lr_for_plan, other_plan
    from lrfind.runs.directory import is_run
    from lrfind.runs.store import Run
    from lrfind.runs.summary import read_result

    if config.name != "best.yaml" or not is_run(config.parent):
        return None
    result = read_result(Run.open(config.parent))
    if result.answer["lr"] != experiment.optimizer.lr:
        return None  # the rate was changed too
    if result.facts.planned_training is None:
        return other_plan(result, experiment)
    try:
        moved = lr_for_plan(result, experiment)
    except UsageError as error:
        return str(error)
    if moved is None:
        return None
    return (
        f"the rate {experiment.optimizer.lr:.3g} of {config} is for another plan, and is taken as it is;"
        f" `lrfind train {in_shell(config)} --from {in_shell(config.parent)}` moves it to {moved:.3g}"
    )
