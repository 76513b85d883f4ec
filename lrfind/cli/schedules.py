"""The command for schedules: their values, without a training."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrfind.catalog import SCHEDULES
from lrfind.cli.completion import complete_names
from lrfind.cli.help import OUTPUT, PLAN, Command, option
from lrfind.cli.options import common_options, import_options, json_option, print_json
from lrfind.config.document import ConfigError, Document, Mistake, parse
from lrfind.errors import UsageError
from lrfind.views.terminal import show

if TYPE_CHECKING:
    from lrfind.config.sections import Component
    from lrfind.views.plots.schedules import SchedulesView

SUFFIXES = (".png", ".svg", ".csv")
COUNT = click.IntRange(min=1, max=10_000_000)


@click.command(
    cls=Command,
    examples=(
        ("lrfind schedules cosine one_cycle --steps 200", "a table"),
        ("lrfind schedules cosine wsd --out shapes.png", "a plot"),
        ("lrfind schedules '{name: cosine, args: {warmup: 10}}'", "with arguments"),
    ),
)
@click.argument(
    "texts", metavar="SCHEDULE...", nargs=-1, required=True, shell_complete=complete_names(SCHEDULES)
)
@option(
    "--steps",
    group=PLAN,
    type=COUNT,
    default=100,
    show_default=True,
    metavar="N",
    help="The number of steps of the whole training.",
)
@option(
    "--epoch-steps",
    group=PLAN,
    type=COUNT,
    metavar="N",
    help="The number of steps of an epoch, for lengths in epochs.",
)
@option(
    "--peak", group=PLAN, type=float, default=1.0, show_default=True, metavar="LR", help="The lr at the peak."
)
@option(
    "--out",
    group=OUTPUT,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw a plot (.png, .svg) or write every step (.csv).",
)
@json_option
@import_options
@common_options
def schedules(
    texts: tuple[str, ...],
    steps: int,
    peak: float,
    epoch_steps: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Show or draw schedules, without training.

    SCHEDULE is a name from `lrfind ls schedules`, or pkg.module:attr for your own. To give arguments, write
    it as in a config: '{name: cosine, args: {warmup: 10}}'.
    """
    from lrfind.config.arguments import length_in_epochs
    from lrfind.schedules.functions import require

    require("--peak", peak, 0 < peak <= 1e30, "a positive number, at most 1e30")
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out: the name '{out}' must end in .png, .svg or .csv.")
    parts = _components(texts)
    late = next((text for part in parts if (text := length_in_epochs(part.args))), None)
    if late is not None and epoch_steps is None:
        raise UsageError(f"'{late}' needs the length of an epoch; give --epoch-steps N.")
    from lrfind.views.plots.schedules import view_schedules

    view = view_schedules(parts, steps, peak, epoch_steps)
    if out is not None:
        _write(out, view)
    if as_json:
        print_json(_plain(parts, view))
    elif out is not None:
        show(f"wrote {out}")
    else:
        from lrfind.views.text.schedules import schedules_text

        show(schedules_text(view))
    return 0


def _components(texts: tuple[str, ...]) -> list[Component]:
    """Return the schedules that were typed.

    Raises:
        ConfigError: lists every mistake in all of them.
    """
    from pydantic import ValidationError

    from lrfind.config.mistakes import mistake_at
    from lrfind.config.sections import Component

    parts: list[Component] = []
    mistakes: list[Mistake] = []
    for text in texts:
        document = parse(text, "SCHEDULE")
        if isinstance(document.value, str):
            document.value = {"name": document.value}
        mistakes += document.mistakes
        if not document.mistakes:
            try:
                parts.append(Component.model_validate(document.value))
            except ValidationError as error:
                mistakes += [mistake_at(document, details, Component) for details in error.errors()]
            mistakes += _name_mistakes(document)
    if mistakes:
        raise ConfigError(mistakes)
    return parts


def _name_mistakes(document: Document) -> list[Mistake]:
    """Return the mistakes in names and args, as if the schedule stood in a config."""
    from lrfind.config.arguments import name_mistakes

    at = ("training", "schedule")
    config = Document(
        {"training": {"schedule": document.value}},
        {(*at, *path): place for path, place in document.values.items()},
        {(*at, *path): place for path, place in document.keys.items()},
    )
    prefix = f"{'.'.join(at)}."
    return [Mistake(wrong.place, wrong.message.removeprefix(prefix)) for wrong in name_mistakes(config)]


def _plain(parts: list[Component], view: SchedulesView) -> dict[str, Any]:
    return {
        "steps": view.steps,
        "peak": view.peak,
        "schedules": [
            {
                "name": part.name,
                "args": json.loads(json.dumps(part.args), parse_constant=str),  # JSON has no infinity
                "lr": lr.tolist(),
                "momentum": view.momentum[label].tolist() if label in view.momentum else None,
            }
            for part, (label, lr) in zip(parts, view.lr.items(), strict=True)
        ],
    }


def _write(out: Path, view: SchedulesView) -> None:
    suffix = out.suffix.lower()
    if suffix == ".csv":
        from lrfind.views.text.schedules import schedules_csv

        content = schedules_csv(view)
    else:
        from lrfind.views.plots.schedules import schedules_image

        content = schedules_image(view, suffix.lstrip("."))
    try:
        out.write_bytes(content)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise UsageError(f"cannot write '{out}': {error.strerror}; give another --out.") from None
