"""Weights from a file: a training starts from them, and the messages about them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from lrfind.config.experiment import check
from lrfind.errors import UsageError
from lrfind.models.linear import Linear
from lrfind.problem.problem import Problem, from_config
from lrfind.problem.weights import read_weights
from lrfind.runs.store import Run
from tests.helpers.command import Command
from tests.helpers.runs import LINEAR, conduct


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """A state dict of the model in the config."""
    torch.manual_seed(99)
    return Linear(4, 1).state_dict()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pt"


def problem(file: Path, *overrides: str) -> Problem:
    return from_config(check(LINEAR, [f"model.init_from='{file}'", *overrides]))


def refusal(content: Any, file: Path, *overrides: str) -> str:
    torch.save(content, file)
    with pytest.raises(UsageError) as caught:
        problem(file, *overrides).setup(0)
    return str(caught.value)


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "model_state_dict"])
def test_every_seed_starts_from_the_files_weights(
    file: Path, weights: dict[str, Tensor], wrapper: str | None
) -> None:
    torch.save(weights if wrapper is None else {"epoch": 3, wrapper: weights, "optimizer": {}}, file)
    loaded = problem(file)
    for seed in (0, 1):
        model = loaded.setup(seed).model
        model.requires_grad_(False)
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        model.affine.weight.fill_(7)  # one lane must not change the weights of the next
    assert loaded.notes == [f"2 of 2 weights were loaded from '{file}'."]


def test_a_partial_load_takes_what_fits_and_says_what_it_left(file: Path, weights: dict[str, Tensor]) -> None:
    torch.save({"affine.weight": torch.zeros(1, 5), "affine.bias": torch.tensor([5.0]), "head": torch.zeros(2)}, file)  # fmt: skip
    loaded = problem(file, "model.init_strict=false")
    model, fresh = loaded.setup(0).model, from_config(check(LINEAR)).setup(0).model
    assert model.affine.bias.item() == 5
    assert torch.equal(model.affine.weight, fresh.affine.weight)
    assert loaded.notes == [
        f"1 of 2 weights was loaded from '{file}'; the others keep their initial values: 1 of another shape or type: affine.weight"
        " (1, 5) where the model has (1, 4); 1 not in the model: head."
    ]


def test_weights_that_do_not_all_fit_are_listed_with_advice(file: Path, weights: dict[str, Tensor]) -> None:
    weights["affine.weight"] = torch.zeros(3, 4)
    message = refusal(weights, file)
    assert f"model.init_from: '{file}' does not fit linear: 1 of another shape or type: " in message
    assert "affine.weight (3, 4) where the model has (1, 4)." in message
    assert "With model.init_strict: false, the weights that fit are loaded" in message


def test_a_file_of_which_nothing_fits_is_refused_also_when_not_strict(
    file: Path, weights: dict[str, Tensor]
) -> None:
    renamed = {f"module.{name}": value for name, value in weights.items()}
    message = refusal(renamed, file, "model.init_strict=false")
    assert "2 missing in the file: affine.weight, affine.bias" in message
    assert "2 not in the model: module.affine.weight, module.affine.bias" in message
    assert "('affine.weight' may be called 'module.affine.weight' in the file.)" in message
    assert "Nothing in it fits, so model.init_strict: false would load nothing." in message


def test_weights_of_another_kind_are_not_cast_and_nonfinite_ones_are_refused(
    file: Path, weights: dict[str, Tensor]
) -> None:
    odd = weights | {"affine.weight": torch.zeros(1, 4, dtype=torch.complex64)}
    assert "affine.weight torch.complex64, torch.strided where the model has torch.float32" in refusal(
        odd, file
    )
    assert "torch.sparse_coo" in refusal(weights | {"affine.weight": torch.zeros(1, 4).to_sparse()}, file)
    nonfinite = weights | {"affine.bias": torch.tensor([float("nan")])}
    assert "has numbers that are not finite, in affine.bias" in refusal(nonfinite, file)


def test_long_lists_of_names_are_cut(file: Path, weights: dict[str, Tensor]) -> None:
    more = {f"extra{i}": torch.zeros(1) for i in range(7)}
    assert "7 not in the model: extra0, extra1, extra2 and 4 more." in refusal(weights | more, file)


class Code:
    """Unpickled without care, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_not_run(file: Path, tmp_path: Path) -> None:
    assert "is not a file with only weights (" in refusal({"affine.weight": Code(tmp_path / "ran")}, file)
    assert not (tmp_path / "ran").exists()
    assert "torch.save(model.state_dict(), path)" in refusal(Linear(4, 1), file)


@pytest.mark.parametrize("held", [torch.zeros(3), [torch.zeros(3)], {}, {"epoch": 3}], ids=str)
def test_a_file_without_a_state_dict_is_refused(held: Any, file: Path) -> None:
    assert refusal(held, file) == f"model.init_from: '{file}' holds no state dict; save model.state_dict()."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "model.init_from: there is no file '"),
        (b"", "is not a file with only weights"),
        (b"hello", "is not a file with only weights"),
        (b"PK\x03\x04 half an archive", "is not a file with only weights"),
    ],
)
def test_a_file_that_torch_did_not_write_is_refused(content: bytes | None, message: str, file: Path) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_weights(file)
    assert message in str(caught.value)
    with pytest.raises(UsageError, match="cannot read '.*': Is a directory"):
        read_weights(file.parent)


RUNS = {
    "range-test": ("--seeds", 2),
    "grid": ("--lrs", "0.01,0.1", "--seeds", 2, "--lanes", "single"),
    "train": ("--seeds", 2),
}


@pytest.mark.parametrize("command", RUNS)
def test_a_command_starts_its_lanes_from_the_file(
    lrfind: Command, config: Path, file: Path, weights: dict[str, Tensor], command: str
) -> None:
    torch.save(weights, file)
    start = ("--set", f"model.init_from={file.name}")
    assert lrfind(command, config, *RUNS[command], *start, "-q", "--out", "run") in (0, 3), lrfind.err
    assert pd.read_csv("run/steps.csv").query("step == 0").groupby("seed").loss.nunique().tolist() == [1, 1]
    model = Linear(4, 1)
    model.load_state_dict(weights)
    x, y = next(from_config(check(LINEAR)).setup(0).batches)
    expected = torch.nn.functional.mse_loss(model(x), y).item()
    assert pd.read_csv("run/steps.csv").loss[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("command", ["range-test", "grid", "train"])
def test_a_commands_notes_list_what_a_partial_load_left_out(
    tmp_path: Path, file: Path, weights: dict[str, Tensor], command: str
) -> None:
    torch.save({"affine.weight": weights["affine.weight"]}, file)
    overrides = [f"model.init_from='{file}'", "model.init_strict=false", "grid.points=2", "grid.lanes=single"]
    summary = conduct(Run.start(tmp_path / "run", command, check(LINEAR, overrides), LINEAR, overrides))
    note = (
        "1 of 2 weights was loaded from '.*'; the others keep their initial values: 1 missing in the file: .*"
    )
    assert [text for text in summary["notes"] if re.fullmatch(note, text)]


def test_a_file_that_does_not_fit_leaves_no_run_behind(
    lrfind: Command, config: Path, weights: dict[str, Tensor]
) -> None:
    assert lrfind("train", config, "--init-from", "none.pt") == 2
    assert f"error: model.init_from: there is no file '{Path('none.pt').absolute()}'" in lrfind.err
    torch.save({"affine.weight": weights["affine.weight"]}, "part.pt")
    assert lrfind("grid", config, "--set", "model.init_from=part.pt") == 2
    assert "1 missing in the file: affine.bias" in lrfind.err
    assert list(Path("runs").iterdir()) == []
