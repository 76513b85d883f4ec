"""From the results of runs to plots in files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from lrfind.config.registry import load
from lrfind.errors import UsageError, in_shell
from lrfind.runs.result import RunResult
from lrfind.views.plots.drawing import save
from lrfind.views.plots.health import health_figures


def plot_run(result: RunResult, folder: Path | None = None) -> list[Path]:
    """Draw a run, each plot as PNG and SVG.

    Args:
        result: the run.
        folder: where to draw it; into its directory when omitted.

    Returns:
        The paths of the PNGs.
    """
    folder = folder or result.path
    figures = load(result.kind.figures)(result) | health_figures(result)
    for stem, figure in figures.items():
        save(figure, folder / stem)
    return [folder / f"{stem}.png" for stem in figures]


def free_path(path: Path) -> Path:
    """Return a path at which no PNG or SVG exists: this one, or else with -2, -3, ... after its name."""
    names = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(
        free
        for free in itertools.chain([path], names)
        if not any(free.with_suffix(suffix).exists() for suffix in (".png", ".svg"))
    )


def plot_overlay(results: Sequence[RunResult], path: Path) -> list[Path]:
    """Draw several runs into one figure, and write it as PNG and SVG.

    If there is only one run, and its kind cannot be laid over others, it is drawn as in its own directory.

    Returns:
        The paths of the two files.

    Raises:
        UsageError: if the runs cannot be laid over each other, or the path cannot be written to.
    """
    stem = path.with_suffix("") if path.suffix in (".png", ".svg") else path
    if len(results) == 1 and (results[0].kind.overlay is None or results[0].summary.get("over")):
        (figure,) = load(results[0].kind.figures)(results[0]).values()
    else:
        figure = load(_common_overlay(results))(results)
    try:
        save(figure, stem)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(f"cannot write '{stem}.png': {reason}.") from None
    return [Path(f"{stem}.png"), Path(f"{stem}.svg")]


def _common_overlay(results: Sequence[RunResult]) -> str:
    """Return the import path of the function that draws these runs over each other.

    Raises:
        UsageError: if there is no such function. The message names the run that does not fit.
    """
    for result in results:
        if result.summary.get("over"):
            raise UsageError(
                f"'{result.path}' has ramps for several values of {result.summary['over']}; `lrfind plot"
                f" {in_shell(result.path)}` draws it by itself."
            )
        if result.kind.overlay is None:
            reason = "whose losses cannot be compared with those of other runs"
            if result.kind.lanes == "probes":
                reason = "whose probes have different lengths, so their losses cannot be laid over others"
            raise UsageError(
                f"'{result.path}' is a run of {result.command}, {reason}; `lrfind plot"
                f" {in_shell(result.path)}` draws it by itself."
            )
        if result.kind.overlay != results[0].kind.overlay:
            raise UsageError(
                f"'{result.path}' is a run of {result.command} and '{results[0].path}' one of"
                f" {results[0].command}, which cannot be laid over each other. Give only trainings, or only"
                " range tests, grids and searches."
            )
    overlay = results[0].kind.overlay
    assert overlay is not None  # refused above
    return overlay
