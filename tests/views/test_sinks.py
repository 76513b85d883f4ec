"""Sinks: what they get, that nothing comes twice, and that one that fails harms nothing."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lrfind.config.document import ConfigError
from lrfind.config.experiment import check
from lrfind.views.plots import runs as plots
from lrfind.views.sinks import delivery
from tests.cli.test_every_command import COMMANDS
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR

PAGE = (Path(__file__).parents[2] / "docs/sinks.md").read_text(encoding="utf-8")
(LINES,) = re.findall(r"^```python [^\n]*\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
OWN = ("--to", "lines:Lines", "--import-root", ".")


@pytest.fixture
def own(lrfind: Command, config: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line in a folder with `lines.py` of docs/sinks.md and with lrfind.yaml."""
    monkeypatch.setattr(delivery, "PATIENCE", 600)  # a busy machine is no failure
    Path("lines.py").write_text(LINES)
    config.rename("lrfind.yaml")
    return lrfind


def quick(command: str) -> list[str]:
    overrides = (COMMANDS[command], "training.steps=6")
    return [command, "-q", "--out", "run", *(word for one in overrides for word in ("--set", one))]


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("lines.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_sink_gets_every_lane_and_then_the_answer(command: str, own: Command) -> None:
    code = own(*quick(command), *OWN)
    assert (code, own.err) in ((0, ""), (3, ""))
    first, *lanes, last = lines()
    assert (first["run"], first["command"], first["optimizer"]) == ("run", command, "sgd")
    table, steps = pd.read_csv("run/lanes.csv"), pd.read_csv("run/steps.csv")
    assert [lane["lr"] for lane in lanes] == [*table.lr]
    assert [lane["outcome"] for lane in lanes] == [*table.outcome]
    assert [lane["loss"] for lane in lanes] == [*steps.groupby("lane").loss.last()]
    assert len({lane["lane"] for lane in lanes}) == len(lanes)
    answer = json.loads(Path("run/summary.json").read_text())["answer"]
    assert (last["lr"], last["reason"]) == (answer["lr"], answer["reason"])
    assert last["plots"] == sorted(path.name for path in Path("run").glob("*.png")) != []


def test_a_resumed_run_writes_nothing_twice(own: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(plots, "plot_run", interrupt)
        assert own(*quick("grid"), *OWN) == 130
    for _ in range(2):
        assert own("resume", "run", "--import-root", ".", "-q") == 0
    assert own("export", "run", *OWN) == 0
    written = lines()
    assert len([line for line in written if "outcome" in line]) == 2
    assert len([line for line in written if "plots" in line]) == 1
    assert len({line["id"] for line in written if "id" in line}) == 1


def test_a_finished_run_is_exported(own: Command) -> None:
    assert own(*quick("grid")) == 0
    assert own("export", "run", *OWN) == 0
    assert own.out == "wrote run to lines:Lines\n"
    assert len(lines()) == 4
    assert own("export", "run") == 2
    assert "give --optuna FILE, --to SINK, or both." in own.err


FAILURES = {
    "import": ("raise ValueError('no licence')", "importing 'bad' failed: ValueError: no licence"),
    "making": ("class Bad:\n    def __init__(self): raise OSError('no server')", "OSError: no server"),
    "lane": (
        "class Bad:\n    def start(self, run): pass\n    def lane(self, lane): 1 / 0",
        "ZeroDivisionError: division by zero",
    ),
    "no methods": ("class Bad: pass", "AttributeError: 'Bad' object has no attribute 'start'"),
    "exit": ("raise SystemExit(0)", "importing 'bad' failed: SystemExit: 0"),
    "death": ("import os; os._exit(7)", "its process ended with the code 7"),
    "hang": ("import threading; threading.Event().wait()", "it wrote nothing for 0.5 seconds"),
}


@pytest.mark.parametrize(("code", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_sink_that_fails_harms_nothing(
    code: str, reason: str, own: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bad.py").write_text(code)
    if "wrote nothing" in reason:
        monkeypatch.setattr(delivery, "PATIENCE", 0.5)
    assert own(*quick("grid"), "--to", "bad:Bad", "--import-root", ".") == 0
    assert own.err == (
        f"warning: the sink bad:Bad failed: {reason}. The run is complete without it; `lrfind export run --to"
        f" bad:Bad --import-root {Path.cwd()}` writes the rest.\n"
    )
    assert [*pd.read_csv("run/lanes.csv").outcome] == ["finished"] * 2
    assert own("resume", "run", "-q") == 0
    assert own.err == ""


def test_one_sink_that_fails_leaves_the_others(own: Command) -> None:
    Path("bad.py").write_text("class Bad:\n    def __init__(self): raise OSError('no server')")
    assert own(*quick("grid"), "--to", "bad:Bad", *OWN) == 0
    assert own.err.count("warning: the sink bad:Bad failed: OSError: no server.") == 1
    assert len(lines()) == 4
    assert own("export", "run", "--to", "bad:Bad", "--import-root", ".") == 1


def test_what_cannot_be_used_is_refused_before_anything_is_trained(
    own: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert own(*quick("grid"), "--to", "wandb") == 2
    assert "the sink wandb needs wandb, which is not installed: pip install 'lrfind[sinks]'." in own.err
    assert own(*quick("grid"), "--to", "nowhere:Sink") == 2
    assert "the sink 'nowhere:Sink': there is no module 'nowhere' on the import path" in own.err
    assert own(*quick("grid"), "--to", "tensorbord") == 2
    assert "unknown sink 'tensorbord'; did you mean tensorboard?" in own.err
    assert not Path("run").exists()
    with pytest.raises(ConfigError, match="wandb: unknown argument 'onlin'; did you mean online"):
        check(LINEAR, ["sinks=[{name: wandb, args: {onlin: true}}]"])


def test_the_config_of_the_page_is_good_and_ls_lists_its_sinks(own: Command) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert [part.name for part in check(f"{LINEAR}{example}").sinks] == ["tensorboard", "mlflow"]
    assert own("ls", "sinks") == 0
    names = [line.split()[0] for line in own.out.splitlines()]
    assert names == re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)


def line_of_the_page(text: str) -> list[str]:
    """Return the arguments of the command on the page that has this text, for a quick run."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith("lrfind ") and text in line)
    command, *rest = line.partition("#")[0].split()[1:]
    return [*quick(command), *rest]


@pytest.mark.rendered
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_what_was_written(own: Command) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def events(folder: Path) -> EventAccumulator:
        (file,) = folder.glob("events.out.tfevents.*")
        return EventAccumulator(str(file), size_guidance={"scalars": 0, "tensors": 0, "images": 0}).Reload()

    assert own(*line_of_the_page("find --to tensorboard  ")) in (0, 3)
    assert own.err == ""
    assert own("export", "run", "--to", "tensorboard") == 0
    assert "  next: tensorboard --logdir run/tensorboard\n" in own.out
    root, steps = Path("run/tensorboard"), pd.read_csv("run/steps.csv")
    lanes = pd.read_csv("run/lanes.csv")
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    assert [folder.name[:8] for folder in folders] == [f"lane-{number:03d}" for number in lanes.lane]
    for number, folder in enumerate(folders):
        of_lane, read = steps[steps.lane == number], events(folder)
        for name in ("lr", "loss"):
            points = [(point.step, point.value) for point in read.Scalars(name)]
            assert points == [(s, pytest.approx(v)) for s, v in zip(of_lane.step, of_lane[name], strict=True)]
        assert b"| outcome | finished |" in read.Tensors("lane")[0].tensor_proto.string_val[0]
    read, answer = events(root), json.loads(Path("run/summary.json").read_text())["answer"]
    assert read.Scalars("answer/lr")[0].value == pytest.approx(answer["lr"])
    assert b"optimizer:" in read.Tensors("config")[0].tensor_proto.string_val[0]
    images = {tag: read.Images(tag)[0].encoded_image_string for tag in read.Tags()["images"]}
    assert images == {f"plots/{path.stem}": path.read_bytes() for path in Path("run").glob("*.png")}


READ_MLFLOW = """
import json, mlflow
client = mlflow.MlflowClient("sqlite:///mlflow.db")
place = client.get_experiment_by_name("tiny").experiment_id
runs = client.search_runs([place], order_by=["attributes.start_time ASC"])
curve = lambda run: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "loss")]
files = lambda run: [file.path for file in client.list_artifacts(run.info.run_id)]
print(json.dumps([{**run.to_dictionary(), "loss": curve(run), "files": files(run)} for run in runs]))
"""


def test_mlflow_reads_what_was_written(own: Command) -> None:
    assert own(*line_of_the_page("grid --to mlflow:")) == 0
    assert own.err == ""
    done = subprocess.run([sys.executable, "-c", READ_MLFLOW], capture_output=True, text=True, check=True)
    answer, *lanes = json.loads(done.stdout.splitlines()[-1])
    table, steps = pd.read_csv("run/lanes.csv"), pd.read_csv("run/steps.csv")
    summary = json.loads(Path("run/summary.json").read_text())
    assert answer["data"]["params"]["optimizer.name"] == "sgd"
    assert answer["data"]["metrics"]["answer/lr"] == summary["answer"]["lr"]
    plots = [path.name for path in Path("run").glob("*.png")]
    assert {*answer["files"]} == {"config.yaml", "resolved.yaml", "summary.json", *plots}
    assert len(lanes) == len(table)
    for lane, row in zip(lanes, table.itertuples(), strict=True):
        of_lane = steps[steps.lane == row.lane]
        assert lane["info"]["status"] == "FINISHED"
        assert lane["data"]["tags"]["mlflow.parentRunId"] == answer["info"]["run_id"]
        assert float(lane["data"]["params"]["lr"]) == row.lr
        assert lane["data"]["metrics"]["final/train_loss"] == row.train_loss
        assert lane["loss"] == [[s, v] for s, v in zip(of_lane.step, of_lane.loss, strict=True)]


def records(file: Path) -> Iterator[Any]:
    """Yield the records of an offline run of Weights & Biases: messages in LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    content, place, part = file.read_bytes(), 7, b""
    while place < len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        part += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(part)
            part = b""


@pytest.mark.rendered
@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_reads_what_was_written(own: Command) -> None:
    assert own(*line_of_the_page("train --lr 0.01 --to wandb")) == 0
    assert own.err == ""
    files = sorted(Path("wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.stem[-3:])
    assert [file.stem[-4:] for file in files] == ["-000", "swer"]
    lane, answer = (list(records(file)) for file in files)
    (run,) = (record.run for record in lane if record.HasField("run"))
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert (run.project, run.run_group[:4], config["lr"]) == ("lrfind", "run-", 0.01)
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in lane
        if record.HasField("history")
    ]
    steps = pd.read_csv("run/steps.csv")
    assert [row["loss"] for row in rows if "loss" in row] == [*steps.loss]
    kept = {
        item.key: json.loads(item.value_json)
        for record in answer if record.HasField("summary") for item in record.summary.update
    }  # fmt: skip
    assert kept["lr"] == 0.01
    images = {path.read_bytes() for path in Path("wandb").rglob("*.png")}
    assert images == {path.read_bytes() for path in Path("run").glob("*.png")}
