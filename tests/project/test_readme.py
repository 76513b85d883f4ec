"""README.md: it is short, and its figures are those that the benchmarks printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FINDING = (ROOT / "docs/finding.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks/results"
SHORT = (RESULTS / "report.txt").read_text(encoding="utf-8")
SHORT_BUDGETS = (RESULTS / "budgets.txt").read_text(encoding="utf-8")
BEFORE = (RESULTS / "report_seed_12.txt").read_text(encoding="utf-8")
BEFORE_BUDGETS = (RESULTS / "budgets_seed_12.txt").read_text(encoding="utf-8")
OLDER = (RESULTS / "report_seed_11.txt").read_text(encoding="utf-8").split("All lengths")[0]
_, MIDDLE, LONGEST = re.split(r"^(?=3,000 steps|10,000 steps)", OLDER, flags=re.MULTILINE)
OLDER_BUDGETS = (RESULTS / "budgets_seed_11.txt").read_text(encoding="utf-8")
_, MIDDLE_BUDGETS, LONGEST_BUDGETS = re.split(r"3,000 steps:|10,000 steps:", OLDER_BUDGETS)
OTHERS = ("versions", "lengths", "replay", "confidence", "cut_short", "one_seed")

NUMBERS = r"([\d,.]+) +(?:[\d.]+ +)?(0\.\d+) \[(0\.\d+), (0\.\d+)\] +(\d+) \["
ROWS = {
    "**lrfind find**": (SHORT, "ours"),
    "**lrfind find --budget 4x**": (SHORT_BUDGETS, "lrfind find +4T"),
    "**lrfind find --budget 10x**": (SHORT_BUDGETS, "lrfind find +10T"),
    "schedule-free AdamW, no search": (SHORT_BUDGETS, "schedule-free +1T"),
    "random search, 20 trainings": (SHORT_BUDGETS, "random search +20T"),
    "hill climb with whole trainings": (SHORT_BUDGETS, "hill climb +20T"),
    "fastai minimum, 300 steps": (SHORT, "fastai minimum 300"),
    "Ignite, 300 steps": (SHORT, "Ignite 300"),
    "always 0.01": (SHORT, "always 0.01"),
    "fastai valley (its default), 100 steps": (SHORT, "fastai valley 100"),
    "torch-lr-finder, 300 steps": (SHORT, "torch-lr-finder 300"),
    "Lightning, its defaults": (SHORT, "Lightning 100"),
}
"""The rows of the table, with the file and the beginning of the line that they come from."""


def measured(text: str, start: str) -> list[float]:
    """Return the steps, the mean regret, the ends of its interval and the percent of failures of a method."""
    (numbers,) = re.findall(rf"^ *{start} +{NUMBERS}", text, flags=re.MULTILINE)
    return [float(number.replace(",", "")) for number in numbers]


def best_library(text: str) -> float:
    """Return the lowest mean regret of another library in a section of a report."""
    pattern = r"^  ((?:fastai|torch-lr|Ignite|Lightning).*? \d+) +\d+  0"
    regrets = [measured(text, name)[1] for name in re.findall(pattern, text, flags=re.MULTILINE)]
    assert len(regrets) == 11
    return min(regrets)


def tables() -> list[dict[str, list[str]]]:
    """Return the cells of each table by the first cell of their row."""
    found = re.findall(r"(?:^\|.*\n)+", README, flags=re.MULTILINE)
    rows = [[line.strip("| ").split(" | ") for line in table.splitlines()[2:]] for table in found]
    return [{name: cells for name, *cells in table} for table in rows]


def table() -> dict[str, list[str]]:
    """Return the table of the methods."""
    return tables()[0]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
    text = [line for line in README.splitlines() if not line.startswith(("|", "!["))]
    assert [line for line in text if len(line) > 120] == []


def test_the_table_has_the_rows_that_are_checked() -> None:
    assert [*table()] == [*ROWS]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_table_is_what_the_benchmark_printed(name: str) -> None:
    steps, *others = measured(*ROWS[name])
    cells = [[float(n.replace(",", "")) for n in re.findall(r"[\d,]*\.?\d+", cell)] for cell in table()[name]]
    assert cells[0] == [0 if "no search" in name else steps]
    assert [*cells[1], *cells[2]] == pytest.approx(others, abs=0.00051)


def test_the_claim_in_the_first_screen_is_what_the_benchmark_printed() -> None:
    shown = re.search(
        r"lost ([\d.]+) % of .*? lost (\d+) to (\d+) %\. On the 64 tasks of the test before, lrfind"
        r" lost ([\d.]+) % and the others (\d+) to (\d+) %",
        " ".join(README.split()),
    )
    assert shown is not None
    expected = []
    for text in (SHORT, BEFORE):
        others = [
            measured(text, row)[1]
            for name, (_, row) in ROWS.items()
            if re.match("fastai|Ignite|torch-lr|Lightning", name)
        ]
        expected += [100 * measured(text, "ours")[1], 100 * min(others), 100 * max(others)]
    assert [float(number) for number in shown.groups()] == pytest.approx(expected, abs=0.5)
    assert [float(shown[1]), float(shown[4])] == pytest.approx(expected[::3], abs=0.051)


def test_the_regrets_by_length_are_what_the_benchmark_printed() -> None:
    reports = [SHORT, BEFORE, MIDDLE, LONGEST]
    budgets = [SHORT_BUDGETS, BEFORE_BUDGETS, MIDDLE_BUDGETS, LONGEST_BUDGETS]
    expected = {
        "lrfind find": [measured(text, "ours")[1] for text in reports],
        "lrfind find --budget 4x": [measured(text, "lrfind find +4T")[1] for text in budgets],
        "the best other library": [*map(best_library, reports)],
        "always 0.01": [measured(text, "always 0.01")[1] for text in reports],
    }
    shown = {name: [float(cell) for cell in cells] for name, cells in tables()[1].items()}
    assert shown == {name: pytest.approx(regrets, abs=0.00051) for name, regrets in expected.items()}


def test_the_figures_about_trainings_of_3000_steps_are_what_the_benchmark_printed() -> None:
    shown = re.search(
        r"3,000 steps, (\d+) % fail, and (\d+) % with `--budget 4x`\. A decade grid of four trainings has (\.\d+),"
        r" and a random search of twenty (\.\d+)\.",
        " ".join(README.split()),
    )
    assert shown is not None
    expected = [
        measured(MIDDLE, "ours")[4],
        measured(MIDDLE_BUDGETS, "lrfind find +4T")[4],
        measured(MIDDLE_BUDGETS, "decade grid +4T")[1],
        measured(MIDDLE_BUDGETS, "random search +20T")[1],
    ]
    assert [float(number) for number in shown.groups()] == pytest.approx(expected, abs=0.00051)


def test_the_figures_about_hard_tasks_and_schedule_free_are_what_the_benchmark_printed() -> None:
    text = " ".join(README.split())
    median, share = re.search(
        r"Half of the short trainings lose less than (\.\d+), but six of .*? cause (\d+) %", text
    ).groups()
    assert f"The median regret of ours is 0{median}." in SHORT
    losses = re.findall(r"^  (\w+_draw13_\w+) +\w+ +\d+  (\d\.\d+)  \d", SHORT, flags=re.MULTILINE)
    by_task = {name: sum(float(loss) for task, loss in losses if task == name) for name, _ in losses}
    (trainings,) = re.findall(r"Short trainings: \d+ tasks, (\d+) trainings", SHORT)
    whole = int(trainings) * measured(SHORT, "ours")[1]
    assert 100 * sum(sorted(by_task.values())[-6:]) / whole == pytest.approx(float(share), abs=1.5)
    free, within = re.search(
        r"AdamW has (\.\d+) without any search, and `find` within one training (\.\d+)", text
    ).groups()
    expected = [measured(SHORT_BUDGETS, name)[1] for name in ("schedule-free +1T", "lrfind find +1T")]
    assert [float(free), float(within)] == pytest.approx(expected, abs=0.00051)


def test_the_figures_about_the_confidence_are_what_the_benchmark_printed() -> None:
    confidence = (RESULTS / "confidence.txt").read_text(encoding="utf-8")
    expected = []
    for seed in (13, 12, 11):
        judged = confidence.split(f"tasks drawn with seed {seed}, which judged it")[1].split("\nversion")[0]
        expected += [
            float(percent) for percent in re.findall(r"confidence \w+ *: .*? ([\d.]+)% fail", judged)
        ]
    shown = [float(cell.removesuffix(" %")) for cells in tables()[2].values() for cell in cells]
    assert shown == pytest.approx(expected, abs=0.5)
    page = " ".join((ROOT / "docs/find.md").read_text(encoding="utf-8").split())
    told = re.search(
        r"\[(\d+) % of the answers with high confidence failed\]\S+, (\d+) % of those with moderate confidence, and"
        r" (\d+) % of those with low; on the 64 tasks before, it was (\d+), (\d+) and (\d+) %",
        page,
    )
    assert told is not None
    assert [float(percent) for percent in told.groups()] == shown[:6]


def test_the_results_in_finding_are_those_of_the_files() -> None:
    blocks = re.findall(r"^```text\n(.*?)^```$", FINDING, flags=re.MULTILINE | re.DOTALL)
    others = [(RESULTS / f"{name}.txt").read_text(encoding="utf-8") for name in OTHERS]
    assert len(blocks) == 31
    printed = "".join([SHORT, SHORT_BUDGETS, OLDER, OLDER_BUDGETS, *others])
    assert [block for block in blocks if block not in printed] == []


def test_the_results_in_speed_are_those_of_the_file() -> None:
    page = (ROOT / "docs/speed.md").read_text(encoding="utf-8")
    results = (RESULTS / "speed.txt").read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    assert [block for block in blocks if block not in results] == []
