"""Commands for ramps: range-test, suggest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lrfind.cli.execute import start
from lrfind.cli.hints import after_suggestion, show_next
from lrfind.cli.options import (
    as_list,
    config_options,
    json_option,
    load,
    option_overrides,
    out_option,
    print_json,
    quiet_option,
    to_option,
)
from lrfind.config.document import Override
from lrfind.views.terminal import show

KEYS = {
    "seed": "seed",
    "device": "device",
    "to": "sinks",
    **{
        name: f"range_test.{name}"
        for name in (
            "start_lr",
            "end_lr",
            "steps",
            "seeds",
            "method",
            "edge",
            "grad_norm",
            "held_out",
            "group",
            "over",
            "values",
        )
    },
}


@click.command("range-test")
@config_options
@out_option
@click.option("--start-lr", metavar="LR", help="The lr of the first step.")
@click.option("--end-lr", metavar="LR", help="The lr of the last step.")
@click.option("--steps", metavar="N", help="The number of steps of the ramp.")
@click.option(
    "--seeds", metavar="N", help="The number of lanes: each seed has its own weights and batch order."
)
@click.option("--seed", metavar="N", help="The seed of the first lane.")
@click.option("--device", metavar="NAME", help="auto, cpu, cuda or mps.")
@click.option("--method", metavar="NAME", help="The suggestion method; see `lrfind ls methods`.")
@click.option(
    "--group", metavar="NAME", help="Ramp only the lr of this param group; the other groups keep theirs."
)
@click.option(
    "--over", metavar="SETTING", help="momentum or weight_decay: make one ramp for each of its values."
)
@click.option(
    "--values", metavar="A,B,C", help="The values of the --over setting; if omitted, the usual values."
)
@click.option("--edge", is_flag=True, help="Also measure the real edge of stability, by bisection.")
@click.option("--grad-norm", is_flag=True, help="Also record the norm of the gradient.")
@click.option("--held-out", is_flag=True, help="Also record the loss on a fixed held-out batch.")
@to_option
@json_option
@quiet_option
def range_test(
    config: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Raise the learning rate step by step and watch the loss: a curve, a number, a CSV and a plot."""
    options["values"] = None if options["values"] is None else as_list(options["values"])
    typed = [*map(Override.of, overrides), *option_overrides(options, KEYS)]
    experiment, text = load(config, typed, quiet)
    from lrfind.runs.store import Run, default_path

    path = out or default_path(experiment.name, "range-test")
    run = Run.start(path, "range-test", experiment, text, [override.text for override in typed])
    return start(run, as_json=as_json, quiet=quiet)


@click.command()
@click.argument("source", metavar="FILE_OR_RUN", type=click.Path(path_type=Path))
@click.option(
    "--method", default="all", metavar="NAME", help="Print only the answer of this method; default: all."
)
@json_option
@quiet_option
def suggest(source: Path, method: str, as_json: bool, quiet: bool) -> int:
    """Suggest an lr again, from a run of range-test or find, or from a CSV with columns lr and loss."""
    from lrfind.runs.curves import read_curves
    from lrfind.runs.probes import recommended_by

    def show_hint(lr: float | None) -> None:
        if not quiet and not as_json:
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
    from lrfind.analysis.suggestions import method_named
    from lrfind.runs.summaries.methods import brief, curve_warnings, suggestion_table

    curves, raw, default = read_curves(source)
    chosen = default if method == "all" else method_named(method).name
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
