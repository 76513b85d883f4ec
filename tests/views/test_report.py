"""The report of runs: its content, its safety, its size, and the commands that write it."""

from __future__ import annotations

import base64
import hashlib
import re
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from lrfind.analysis.health import LayerHealth
from lrfind.analysis.lanes import Evaluation, Lane, LaneResult
from lrfind.config.experiment import check
from lrfind.runs.database import VERSION
from lrfind.runs.facts import Facts
from lrfind.runs.result import RunRecord, RunResult
from lrfind.runs.store import Run
from lrfind.runs.summary import summarize
from lrfind.views.report import drawing, page
from lrfind.views.report.content import Chart, Line, Table
from lrfind.views.report.page import report_html
from lrfind.views.report.scales import Scale, scale_for
from tests.helpers.command import Command
from tests.helpers.pages import RUNS, Page, result_of, run_of
from tests.helpers.runs import LINEAR, conduct, start

SECTIONS = {
    "find": ["Probes"],
    "verified": ["Probes", "Refinement", "Verification", "Gradient health"],
    "range-test": ["Ramp", "Gradient health"],
    "over": ["Ramp", "Gradient health"],
    "grid": ["Sweep", "Gradient health"],
    "search": ["Sweep", "Gradient health"],
    "compare": ["Comparison", "Courses", "Gradient health"],
    "train": ["Training", "Gradient health"],
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: result_of(run_of(name, folder)) for name in RUNS}


def result_with(command: str, lanes: list[LaneResult], *overrides: str, **facts: Any) -> RunResult:
    """A result of lanes that were not trained."""
    known = Facts(VERSION, command, concluded=True, **{"planned": len(lanes), "resolved": LINEAR, **facts})
    record = RunRecord(Path("run"), check(LINEAR, overrides), known, (), lanes)
    return RunResult(**vars(record), summary=summarize(record))


def lane_of(number: int, peak: float, steps: int = 20, **others: Any) -> LaneResult:
    rng = np.random.default_rng(number)
    loss = 2.3 * np.exp(-np.arange(steps) * peak) + 0.1 * rng.random(steps) + 0.1
    val = (Evaluation(steps, float(loss[-1]), 0.9),)
    parts = {"outcome": "finished", "evaluations": val} | others
    return LaneResult(number, 0, steps, peak, lr=np.full(steps, peak), loss=loss, **parts)


@pytest.mark.parametrize("name", RUNS)
def test_the_report_of_every_kind_of_run_has_its_answer_and_its_evidence(
    name: str, results: dict[str, RunResult]
) -> None:
    result = results[name]
    html = report_html([result])
    shown = Page(html)
    assert f'<span class="rate">{result.answer["lr"]:.3g}</span>' in html
    headings = re.findall(r"<h3[^>]*>([^<:]+)", html)
    assert headings == [*SECTIONS[name], "Lanes", "Config, data and environment", "How to reproduce it"]
    assert f"lrfind {result.command} {result.path}/resolved.yaml" in shown.text
    assert "torch.optim.SGD(model.parameters()" in shown.text
    assert ("lrfind train --from" in shown.text) is (name != "train")
    assert ("This rate was given to lrfind train, which trained with it." in shown.text) is (name == "train")
    assert "low: 0.0001" in shown.text  # of the config with its defaults
    assert len(html) < 300_000


def test_probes_of_several_seeds_are_not_said_to_start_alike(results: dict[str, RunResult]) -> None:
    result = results["find"]
    probes = result.summary["probes"]
    two = [*probes, *({**row, "seed": row["seed"] + 1} for row in probes)]
    alike = [
        "All probes of one seed start from" in Page(report_html([replace(result, summary=summary)])).text
        for summary in (result.summary, result.summary | {"probes": two})
    ]
    assert alike == [False, True]


def test_the_cost_of_a_find_counts_the_trainings_that_refined_and_verified_it(
    results: dict[str, RunResult],
) -> None:
    result = results["verified"]
    trained = {
        variant: [lane.lr.size for lane in result.lanes if lane.variant == variant]
        for variant in ("refine", "verify")
    }
    shown = " ".join(Page(report_html([result])).text.split())
    for sizes in trained.values():
        assert f", and {sum(sizes):,} steps in {len(sizes)} training" in shown


@pytest.mark.parametrize("name", RUNS)
def test_each_chart_has_a_table_behind_it_and_a_name(name: str, results: dict[str, RunResult]) -> None:
    html = report_html([results[name]])
    figures = re.findall(r"<figure.*?</figure>", html, re.DOTALL)
    assert figures
    for figure in figures:
        assert "<figcaption><h4" in figure
        assert len(re.findall(r"<tr><td", figure)) >= 1
    plots = [svg for svg in Page(html).all("svg") if svg.get("role") == "img"]
    assert plots
    assert all(svg.get("aria-labelledby") or svg.get("aria-label") for svg in plots)


@pytest.mark.parametrize("name", ["find", "grid", "search"])
def test_the_loss_at_the_start_is_not_drawn_outside_its_chart(
    name: str, results: dict[str, RunResult]
) -> None:
    html = report_html([results[name]])
    inside = re.findall(r'<g class="marks" clip-path=.*?</g></g>', html, re.DOTALL)
    assert "".join(inside).count("data-level=") == html.count("data-level=") == 1


def test_the_table_behind_a_sweep_has_the_losses_of_the_summary(results: dict[str, RunResult]) -> None:
    shown = Page(report_html([results["grid"]]))
    for rate in results["grid"].summary["rates"]:
        assert f"{rate['lr']:.3g}" in shown.text
        assert rate["val_loss"] is None or f"{rate['val_loss']:.3g}" in shown.text
    points = [float(str(dot["data-y"])) for dot in shown.all("path") if dot.get("data-x") and dot["data-y"]]
    for rate in results["grid"].summary["rates"]:
        assert rate["val_loss"] is None or any(np.isclose(rate["val_loss"], points, rtol=1e-3))


def test_the_snippet_of_a_sweep_makes_the_optimizer_at_its_answer(results: dict[str, RunResult]) -> None:
    for name in ("grid", "compare", "range-test", "train"):
        snippet = re.search(
            r'<pre id="run0-snippet"[^>]*>(.*?)</pre>', report_html([results[name]]), re.DOTALL
        )
        assert snippet is not None
        scope: dict[str, Any] = {"model": nn.Linear(2, 1)}
        exec(snippet[1].replace("&#34;", '"').replace("&gt;", ">"), scope)
        assert scope["optimizer"].defaults["lr"] == pytest.approx(results[name].answer["lr"], rel=0.01)


def test_a_script_gets_its_own_command_and_no_snippet(results: dict[str, RunResult]) -> None:
    section = (
        "{path: /a b/train.py, args: [--epochs, '3'], folder: /a b, python: /usr/bin/python3, links: [data]}"
    )
    typed = ["lrfind", "script", "--steps", "60", "--link", "data", "--", "/a b/train.py", "--epochs", "3"]
    facts = replace(results["find"].facts, command="script", origin={"command": typed})
    experiment = check(LINEAR, [f"script={section}", "training.steps=60"])
    record = RunRecord(Path("run"), experiment, facts, (), results["find"].lanes)
    text = Page(report_html([RunResult(**vars(record), summary=summarize(record))])).text
    assert "cd '/a b' && lrfind script --steps 60 --link data -- '/a b/train.py' --epochs 3" in text
    assert "Paste into your training script" not in text


# Safety.

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>`{{ 7*7 }}`\u202e\x1b[2J</pre></style>"


def hostile_results() -> list[RunResult]:
    health = (LayerHealth(0, HOSTILE, 4, True, True, 0.1, 0.2, 0.3, 0.4, 0.0, None, None),)
    known = {
        "notes": [HOSTILE],
        "overrides": [HOSTILE],
        "resolved": f"# {HOSTILE}\n{LINEAR}",
        "environment": {HOSTILE: HOSTILE},
        "data": {"rows": {"train": 1, "validation": None}, "transforms": [HOSTILE], "streamed": HOSTILE},
        "metric": HOSTILE,
        "import_root": HOSTILE,
        "holder": {"pid": 1, "host": HOSTILE, "since": HOSTILE},
    }
    lanes = [lane_of(0, 0.1, health=health), lane_of(1, 0.2, outcome="failed", error=HOSTILE)]
    grid = replace(result_with("grid", lanes, **known), path=Path(f"runs/{HOSTILE}"))
    variants = {"": LINEAR, HOSTILE: LINEAR}
    both = [lane_of(k, 0.1, variant=variant) for k, variant in enumerate(variants)]
    compared = result_with(
        "compare", both, "compare={common_peak: 0.1, seeds: 1}", variants=variants, **known
    )
    return [grid, compared, result_with("train", lanes, **known)]


def test_no_text_of_a_run_becomes_an_element_or_hides_another() -> None:
    tame = {
        tag
        for tag, _ in Page(report_html([result_with("grid", [lane_of(0, 0.1), lane_of(1, 0.2)])])).elements
    }
    for runs in ([hostile_results()[0]], [hostile_results()[1]], [hostile_results()[2]], hostile_results()):
        html = report_html(runs)
        shown = Page(html)
        assert {tag for tag, _ in shown.elements} <= tame | {"h2", "ol", "figure", "h4", "i"}
        assert len(shown.all("script")) == 1
        assert len(shown.all("style")) == 1
        assert not {"\x1b", "\u202e"} & {*html}
        assert "{{ 7*7 }}" in shown.text
        assert "alert(1)" in shown.text


def test_the_policy_lets_only_the_script_and_the_style_of_lrfind_run(results: dict[str, RunResult]) -> None:
    html = report_html([results["grid"]])
    shown = Page(html)
    policy = next(m["content"] for m in shown.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for tag, attributes in shown.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")], tag
        assert tag == "link" or not (attributes.get("href") or "#").lstrip("#").startswith(
            ("http", "data", "java")
        )


def test_a_report_imports_no_code_that_a_run_names() -> None:
    foreign = result_with(
        "grid",
        [lane_of(0, 0.1), lane_of(1, 0.2)],
        "model={name: 'no_such_module:Net'}",
        "optimizer={name: 'no_such_module:Opt'}",
    )
    assert "from no_such_module import Opt" in Page(report_html([foreign])).text


# Size.


def test_what_is_thinned_covers_what_all_values_would_cover() -> None:
    y = np.random.default_rng(0).standard_normal(10_001)
    y[4000:4100] = np.nan
    few, at = drawing.thinned(y, 9), drawing.thinned_x(np.arange(y.size), 9)
    assert few.size == at.size
    for begin in range(0, y.size, 9):
        part, kept = y[begin : begin + 9], few[(at >= begin) & (at < begin + 9)]
        if np.isfinite(part).any():
            assert (np.nanmin(kept), np.nanmax(kept)) == (np.nanmin(part), np.nanmax(part))


def test_a_line_that_is_short_enough_is_drawn_whole() -> None:
    line = Line("a", np.arange(900.0), np.sin(np.arange(900.0)), "c0")
    chart = Chart("t", "", "x", "y", [line], Table("t", [], []), [-1, 1], log_x=False)
    (drawn,) = drawing.draw(chart).fine
    assert len(drawn.attributes["data-y"].split()) == 900
    assert drawn.attributes["d"].count("l") == 899


@pytest.mark.parametrize(("lanes", "steps"), [(64, 300), (64, 5000), (300, 300)])
def test_a_report_of_a_large_sweep_has_at_most_300_kilobytes(lanes: int, steps: int) -> None:
    peaks = np.geomspace(1e-4, 1, lanes)
    result = result_with("grid", [lane_of(k, float(peak), steps) for k, peak in enumerate(peaks)])
    html = report_html([result])
    assert len(html.encode()) <= page.LARGEST
    lines = [
        p for p in Page(html).all("path") if (p.get("class") or "").startswith("line") and p.get("data-g")
    ]
    assert len(lines) >= 64
    assert len(report_html([result, result, result]).encode()) <= page.LARGEST


def test_a_very_long_config_is_shortened() -> None:
    assert len(report_html([result_with("grid", [lane_of(0, 0.1)], resolved="a: b\n" * 100_000)])) < 150_000


# Axes.


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("low", "high"), [(1e-4, 1), (0.37, 0.38), (1e-300, 1e300), (5, 5), (2.1, 70), (1e-9, 1)]
)
def test_an_axis_holds_its_values_and_has_a_few_ticks_on_it(low: float, high: float, log: bool) -> None:
    scale = scale_for([low, high], log=log)
    assert scale is not None
    assert 0 <= scale.share(low) <= scale.share(high) <= 1
    assert 1 <= len(scale.ticks) <= 9
    assert all(-0.01 <= share <= 1.01 for share, _ in scale.ticks)


def test_a_logarithmic_axis_needs_positive_values() -> None:
    assert scale_for([0.0, 1.0], log=True) is None
    assert np.isnan(Scale(1, 10, True).share(np.array([-1.0, 0.0]))).all()


# Several runs, and runs without an answer.


def test_several_runs_are_compared_on_one_page(results: dict[str, RunResult]) -> None:
    again = replace(results["grid"], path=Path("elsewhere/grid"))
    runs = [results["grid"], again, results["find"], results["range-test"]]
    html = report_html(runs)
    text = Page(html).text
    assert "4 runs compared" in text
    for name in ("grid (1)", "grid (2)", "find", "range-test"):
        assert name in text
    assert re.findall(r"<h4[^>]*>([^<]+)", html)[:2] == [
        "The answers on one axis",
        "Sweeps: final validation loss against the learning rate",
    ]
    assert text.count("How to reproduce it") == 4


def test_runs_that_plan_other_trainings_are_told_apart(results: dict[str, RunResult]) -> None:
    longer = replace(result_with("grid", [lane_of(0, 0.1)], "training.steps=900"), path=Path("longer"))
    text = Page(report_html([results["range-test"], longer])).text
    assert "They plan different trainings" not in text
    text = Page(report_html([result_with("grid", [lane_of(0, 0.1)]), longer])).text
    assert "trainings: 20 steps of sgd, constant schedule, batch size full (run); 900 steps of sgd" in text


def test_runs_of_different_problems_are_not_called_comparable(results: dict[str, RunResult]) -> None:
    assert "All runs have the same model" in Page(report_html([results["grid"], results["find"]])).text
    other = result_with("grid", [lane_of(0, 0.1)], "model=mlp")
    assert "The runs differ in: model." in Page(report_html([results["grid"], other])).text


@pytest.mark.parametrize("command", ["find", "range-test", "grid", "compare", "train"])
def test_a_run_without_any_lane_gets_an_honest_report(command: str, tmp_path: Path) -> None:
    run = start(tmp_path / "run", command)
    shown = Page(report_html([result_of(run.path)]))
    assert "No answer" in shown.text
    assert f"lrfind resume {run.path}" in shown.text
    assert "Paste into" not in shown.text


def test_an_interrupted_run_says_what_there_is_so_far(tmp_path: Path, lrfind: Command) -> None:
    def interrupt(lanes: Sequence[Lane], step: int, losses: Sequence[float]) -> None:
        if lanes[0].lane == 2:
            raise KeyboardInterrupt

    run = start(tmp_path / "run", "grid", "grid={lrs: [1e-3, 1e-2, 0.1], seeds: 2, lanes: single}")
    with pytest.raises(KeyboardInterrupt):
        conduct(run, lambda lanes, steps: interrupt)
    result = result_of(run.path)
    shown = Page(report_html([result]))
    assert "This run is not finished." in shown.text
    assert "Trainings: 2 of 6 (" in shown.text
    assert "The number of seeds at a rate is 1, of 2 that are planned." in shown.text
    assert "measured by whole trainings" not in shown.text
    rank = "the best of 2 of 3 rates so far, with 1 of 2 seeds"
    assert rank in shown.text
    assert result.answer["verdict"] == "lowest"
    assert result.summary["usable"]["low"] is None  # the next rate was not tried
    assert not any("one that was tried" in warning for warning in result.summary["warnings"])
    assert lrfind("show", run.path) == 0
    assert "Best learning rate so far: 0.01, by one seed" in lrfind.out
    assert "usable:" not in lrfind.out
    assert lrfind("train", "--from", run.path, "-q") == 0
    assert f"warning: '{run.path}' has not ended; lr 0.01 is {rank}." in lrfind.err


def test_a_range_test_without_a_suggestion_gives_the_reason() -> None:
    rising = LaneResult(0, 0, 30, 1.0, "finished", lr=np.geomspace(1e-3, 1, 30), loss=np.linspace(1, 3, 30))
    result = result_with("range-test", [rising])
    text = Page(report_html([result])).text
    assert "No answer" in text
    assert result.answer["reason"] in text


# The commands.


def test_every_run_ends_with_a_report_unless_told_otherwise(lrfind: Command, config: Path) -> None:
    assert lrfind("range-test", config, "--out", "run", "-q") == 0
    assert "\n  report: run/report.html\n" in lrfind.out
    assert Path("run/report.html").read_text().startswith("<!DOCTYPE html>")
    assert lrfind("range-test", config, "--out", "bare", "-q", "--no-report") == 0
    assert "report:" not in lrfind.out
    assert not Path("bare/report.html").exists()
    Run.open(Path("bare")).keep_facts(concluded=False)  # as if it had been stopped before its end
    assert lrfind("resume", "bare") == 0
    assert not Path("bare/report.html").exists()
    assert (lrfind("report", "bare"), lrfind.out) == (0, "wrote bare/report.html\n")


def test_a_report_that_cannot_be_written_is_a_warning_after_the_answer(
    lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(results: list[RunResult]) -> str:
        raise ValueError("no such color")

    with monkeypatch.context() as broken:
        broken.setattr(page, "report_html", fail)
        assert lrfind("range-test", config, "--out", "run", "-q") == 0
    assert "Suggested learning rate: " in lrfind.out
    assert lrfind.err == (
        "warning: the report could not be written: ValueError: no such color. `lrfind report run` writes it"
        " again.\n"
    )


def test_the_command_of_the_report_gives_the_same_numbers_again(lrfind: Command, config: Path) -> None:
    lrfind("range-test", config, "--out", "run", "-q", "--steps", "20")
    (line,) = re.findall(
        r"lrfind (range-test \S+)",
        Page(Path("run/report.html").read_text()).text.split("How to reproduce")[1],
    )
    assert lrfind(*line.split(), "--out", "again", "-q") == 0
    assert pd.read_csv("run/steps.csv").equals(pd.read_csv("again/steps.csv"))


def test_several_runs_never_overwrite_a_report_that_nobody_named(lrfind: Command, config: Path) -> None:
    for name in ("a", "b"):
        lrfind("range-test", config, "--out", name, "-q", "--no-report")
    assert (lrfind("report", "a", "b"), lrfind.out) == (0, "wrote report.html\n")
    assert lrfind("report", "a", "b") == 2
    assert lrfind.err == "error: 'report.html' exists already; give --out FILE.\n"
    assert lrfind("report", "a", "b", "--out", "report.html") == 0
    assert lrfind("report", "a", "--out", "nowhere/x.html") == 2
    assert "cannot write 'nowhere/x.html': No such file or directory" in lrfind.err


def test_a_report_overwrites_no_other_file(lrfind: Command, config: Path) -> None:
    lrfind("range-test", config, "--out", "run", "-q")
    before = Path("run/run.sqlite").read_bytes()
    for file in ("run/run.sqlite", config):
        assert lrfind("report", "run", "--out", file) == 2
        assert "is no report of lrfind" in lrfind.err
    assert Path("run/run.sqlite").read_bytes() == before
    assert lrfind("report", "run", "--out", "run/report.html") == 0


def test_a_report_opens_in_the_browser(
    lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch, here: Path
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: bool(opened.append(url)))
    lrfind("range-test", config, "--out", "run", "-q", "--no-report")
    assert lrfind("report", "run", "--open") == 0
    assert opened == [(here / "run/report.html").as_uri()]
    assert lrfind.err == "no web browser was found; open run/report.html in one.\n"
    assert lrfind("report", "run", "--open", "-q") == 0
    assert lrfind.err == ""


def test_a_link_in_place_of_the_report_is_replaced_and_never_followed(lrfind: Command, config: Path) -> None:
    lrfind("range-test", config, "--out", "run", "-q", "--no-report")
    Path("precious").write_text("mine")
    Path("run/report.html").symlink_to(Path("precious").absolute())
    assert lrfind("report", "run") == 0
    assert Path("precious").read_text() == "mine"
    assert not Path("run/report.html").is_symlink()
