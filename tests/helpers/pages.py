"""Reports: of small runs of every kind, and read as a browser would read them."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from lrfind.config.experiment import check
from lrfind.runs.result import RunResult
from lrfind.runs.store import Run
from lrfind.runs.summary import read_result
from tests.helpers.runs import LINEAR, conduct

RUNS = {
    "find": ("find", "training.steps=60"),
    "verified": ("find", "training.steps=60", "find={verify: true, verify_seeds: 2, budget: 8x}"),
    "range-test": ("range-test",),
    "over": ("range-test", "range_test={over: weight_decay, values: [0, 0.1], steps: 20, seeds: 1}"),
    "grid": ("grid", "grid={lrs: [1e-3, 1e-2, 0.1, 10], seeds: 2}", "training.eval_every=5"),
    "search": ("search", "search={sampler: random, trials: 3, low: 1e-3, high: 0.1, seeds: 1}"),
    "compare": ("compare", "compare={schedules: [constant, cosine], peaks: [0.01, 0.1], seeds: 3}"),
    "train": ("train", "training={steps: 20, seeds: 2, eval_every: 5}"),
}
"""A name -> the command and the overrides of a run that takes a fraction of a second."""


def run_of(name: str, folder: Path) -> Path:
    """Make the run of this name in a folder; return its directory."""
    command, *overrides = RUNS[name]
    run = Run.start(folder / name, command, check(LINEAR, overrides), LINEAR, overrides)
    conduct(run)
    run.keep_facts(concluded=True)
    run.release()
    return run.path


def result_of(path: Path) -> RunResult:
    """Read and summarize a run."""
    return read_result(Run.open(path))


VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """The elements of a page with their attributes, and its visible text; wrong nesting is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] not in (["script"], ["style"]):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements with this tag."""
        return [attributes for name, attributes in self.elements if name == tag]
