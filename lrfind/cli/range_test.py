"""Commands for ramps: range-test, suggest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from lrfind.catalog import METHODS, Over
from lrfind.cli.completion import complete_names, complete_runs
from lrfind.cli.execute import Output, new_run, start
from lrfind.cli.help import SEARCH, SETTINGS, Command, option
from lrfind.cli.hints import after_suggestion, show_next
from lrfind.cli.options import (
    as_list,
    common_options,
    config_options,
    is_quiet,
    json_option,
    load,
    option_overrides,
    out_option,
    print_json,
    report_option,
    snippet_option,
    to_option,
)
from lrfind.cli.trainings import device_option, precision_option, seed_options
from lrfind.config.document import Override
from lrfind.errors import unknown
from lrfind.views.terminal import show


@click.command(
    "range-test",
    cls=Command,
    examples=(
        ("lrfind range-test my.yaml", "a ramp for each of 3 seeds"),
        ("lrfind range-test my.yaml --end-lr 1 --steps 300", "slower, and not so far"),
        ("lrfind range-test my.yaml --over weight_decay", "one ramp for each value"),
    ),
)
@precision_option
@option("--start-lr", group=SEARCH, key=".start_lr", metavar="LR", help="The lr of the first step.")
@option("--end-lr", group=SEARCH, key=".end_lr", metavar="LR", help="The lr of the last step.")
@option(
    "--steps",
    group=SEARCH,
    key=".steps",
    metavar="N",
    help="The number of steps of the ramp; a ramp has no schedule and no epochs.",
)
@option(
    "--method",
    group=SEARCH,
    key=".method",
    metavar="NAME",
    shell_complete=complete_names(METHODS),
    help="The suggestion method; see `lrfind ls methods`.",
)
@seed_options
@option(
    "--group",
    group=SEARCH,
    key=".group",
    metavar="NAME",
    help="Ramp only the lr of this param group; the other groups keep theirs.",
)
@option(
    "--over",
    group=SEARCH,
    key=".over",
    metavar="SETTING",
    shell_complete=complete_names(get_args(Over)),
    help="momentum or weight_decay: make one ramp for each of its values.",
)
@option(
    "--values",
    group=SEARCH,
    key=".values",
    metavar="A,B,C",
    callback=as_list,
    help="The values of the --over setting; if omitted, the usual values.",
)
@option(
    "--edge",
    group=SEARCH,
    key=".edge",
    is_flag=True,
    help="Also measure the real edge of stability, by bisection.",
)
@option(
    "--grad-norm", group=SEARCH, key=".grad_norm", is_flag=True, help="Also record the norm of the gradient."
)
@option(
    "--held-out",
    group=SEARCH,
    key=".held_out",
    is_flag=True,
    help="Also record the loss on a fixed held-out batch.",
)
@device_option
@out_option
@snippet_option
@to_option
@report_option
@json_option
@config_options
@common_options
def range_test(
    config: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    snippet: bool,
    as_json: bool,
    no_report: bool,
    **options: Any,
) -> int:
    """Raise the lr step by step and watch the loss.

    This is the classical range test: a curve, a suggested rate, a CSV and a plot. It knows neither the length
    nor the schedule of your training; `lrfind find` does.
    """
    typed = [*map(Override.of, overrides), *option_overrides(options)]
    experiment, text = load(config, typed)
    run = new_run(out, "range-test", experiment, text, typed)
    return start(run, Output(as_json, snippet, report=not no_report))


@click.command(
    cls=Command,
    examples=(
        ("lrfind suggest runs/ramp", "all methods, on one curve"),
        ("lrfind suggest curve.csv --method steepest", "one method, on your own curve"),
    ),
)
@click.argument(
    "source", metavar="FILE_OR_RUN", type=click.Path(path_type=Path), shell_complete=complete_runs
)
@option(
    "--method",
    group=SETTINGS,
    default="all",
    show_default=True,
    metavar="NAME",
    shell_complete=complete_names(("all", *METHODS)),
    help="Print only the answer of this method; see `lrfind ls methods`.",
)
@json_option
@common_options
def suggest(source: Path, method: str, as_json: bool) -> int:
    """Read an lr again, from a run or from a CSV with lr and loss.

    The run is one of range-test or find. Nothing is trained.
    """
    from lrfind.runs.curves import read_curves
    from lrfind.runs.probes import recommended_by

    def show_hint(lr: float | None) -> None:
        if not as_json and not is_quiet():
            show_next(*after_suggestion(source, method, lr))

    recommendation = recommended_by(source, method)
    if recommendation is not None:
        from lrfind.views.text.find import recommendation_text

        if as_json:
            print_json({"source": str(source), "answer": recommendation})
        else:
            show(recommendation_text(recommendation))
        show_hint(recommendation["lr"])
        return 0 if recommendation["lr"] is not None else 3
    from lrfind.runs.summaries.methods import brief, curve_warnings, suggestion_table

    curves, raw, default = read_curves(source)
    chosen = default if method == "all" else method
    if chosen not in METHODS:
        raise unknown("method", chosen, METHODS)
    methods = suggestion_table(curves, raw=raw)
    answer, warnings = methods[chosen], curve_warnings(curves, methods[chosen])
    if as_json:
        answers = {"answer": answer, "methods": brief(methods)}
        print_json({"source": str(source), **answers, "warnings": warnings})
    else:
        from lrfind.views.text.range_test import headline, methods_text

        lines = [headline(answer), *(f"warning: {warning}" for warning in warnings)]
        show("\n".join([*lines, *(["", methods_text(methods)] if method == "all" else [])]))
    show_hint(answer["lr"])
    return 0 if answer["lr"] is not None else 3
