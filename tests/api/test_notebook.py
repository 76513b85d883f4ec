"""docs/tutorial.ipynb and the progress of a call, in a real kernel."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import lrfind

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/tutorial.ipynb"
SLOW = """
import time

class Slow(nn.Linear):
    def forward(self, x):
        time.sleep(0.03)
        return super().forward(x)

slow = Slow(20, 3)
options = {"steps": 60, "end_lr": 0.1}
slow_optimizer = torch.optim.SGD(slow.parameters(), 0.1)
"""
CALL = "lrfind.range_test(slow, slow_optimizer, loss_fn, loader, **options);"
pytestmark = pytest.mark.filterwarnings("ignore")  # those of the kernel's own packages


class Watching(NotebookClient):
    """A client that notes when each message of a cell came, in seconds after its start."""

    began = 0.0
    heard: list[tuple[float, dict[str, Any]]]

    def run(self, source: str) -> list[tuple[float, dict[str, Any]]]:
        self.heard, self.began = [], time.monotonic()
        self.nb.cells.append(nbformat.v4.new_code_cell(source))
        self.execute_cell(self.nb.cells[-1], len(self.nb.cells) - 1)
        return self.heard

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        if self.began:
            self.heard.append((time.monotonic() - self.began, msg))
        return super().process_message(msg, cell, cell_index)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    """A kernel in which every cell of the tutorial has run."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(lrfind.__file__).parents[1])
    try:
        client = Watching(
            nbformat.read(TUTORIAL, as_version=4),
            timeout=120,
            kernel_name="python3",
            resources={"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}},
        )
        with client.setup_kernel():
            for number, cell in enumerate(client.nb.cells):
                client.execute_cell(cell, number)
            yield client
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def text_of(client: Watching, part: str) -> str:
    """The texts below the cell whose source has this part."""
    cell = next(cell for cell in client.nb.cells if cell.cell_type == "code" and part in cell.source)
    texts = [output.get("text") or output["data"]["text/plain"] for output in cell.outputs]
    return "\n".join(texts)


def test_the_tutorial_runs_and_says_what_its_text_says(client: Watching) -> None:
    told = r"lr 0\.\d+, from 0\.\d+ to 0\.\d+, confidence (high|moderate)"
    assert re.search(told, text_of(client, "best.table"))
    assert "stands - " in text_of(client, "best.verify(")
    assert "CosineAnnealingLR(optimizer, T_max=190)" in text_of(client, "best.snippet()")
    before, after = map(float, re.findall(r"0\.\d+", text_of(client, "best.apply(optimizer)")))
    assert before < 0.5 < 0.85 < after
    assert "Suggestion(lr=" in text_of(client, "test = ")
    assert "Best learning rate" in text_of(client, "lrfind.grid(")
    assert text_of(client, "broken = ").startswith("no rate: Gradients, no gradient")
    assert "every row would be compared with every other row" in text_of(client, "regression = ")
    assert "confidence" in text_of(client, "own = ")
    shown = [output for cell in client.nb.cells for output in cell.get("outputs", ())]
    assert sum("text/html" in output.get("data", {}) for output in shown) >= 3


def test_the_committed_tutorial_has_no_outputs_and_is_small() -> None:
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert TUTORIAL.stat().st_size < 100_000


def test_a_long_call_shows_something_within_two_seconds_and_cleans_up(client: Watching) -> None:
    client.run(SLOW)
    heard = [(at, message) for at, message in client.run(CALL) if "display" in message["msg_type"]]
    first, last = heard[0], heard[-1]
    assert first[0] < 2.0
    pictures = [message["content"]["data"] for _, message in heard[:-1]]
    assert first[1]["msg_type"] == "display_data"
    assert all(picture["text/plain"] and picture["text/html"].startswith("<pre>") for picture in pictures)
    assert re.search(r"lr \d", pictures[-1]["text/plain"])
    assert last[1]["content"]["data"] == {"text/plain": "", "text/html": ""}
    assert client.run(CALL.replace(")", ", progress=False)"))[-1][1]["msg_type"] == "status"
    assert client.nb.cells[-1].outputs == []
