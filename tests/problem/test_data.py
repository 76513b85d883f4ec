from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lrfind.config.experiment import check
from lrfind.config.sections import DataSection
from lrfind.datasets.images import image_folder
from lrfind.datasets.tensors import TensorData
from lrfind.errors import UsageError
from lrfind.problem.data import Stream, stream
from lrfind.problem.problem import from_config
from tests.helpers.images import write_images

CPU = torch.device("cpu")
TINY = 1e-9  # GiB: less than anything


def streams(data: object, batch_size: int | str) -> tuple[Stream, Stream]:
    """Return the streams of the same data, held in memory and loaded batch by batch."""
    whole, streamed = (
        stream(data, DataSection(name="own:data", batch_size=batch_size, memory=memory), 0, CPU)
        for memory in (1.0, TINY)
    )
    return whole, streamed


def check_equal(whole: Stream, streamed: Stream) -> None:
    for seed in (0, 1):
        for a, b in zip(islice(whole.batches(seed), 7), islice(streamed.batches(seed), 7), strict=True):
            assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    for a, b in zip(whole.validation(), streamed.validation(), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert (whole.sizes, whole.batches_per_epoch) == (streamed.sizes, streamed.batches_per_epoch)
    assert whole.facts["streamed"] is None
    assert (
        "GiB but data.memory allows 1e-09 GiB, so it is loaded batch by batch" in streamed.facts["streamed"]
    )
    assert whole.facts | {"streamed": 0} == streamed.facts | {"streamed": 0}


@pytest.mark.parametrize("batch_size", [8, "full"])
def test_tensors_too_large_for_the_device_give_the_same_batches(batch_size: int | str) -> None:
    data = TensorData(
        (torch.randn(30, 2), torch.arange(30) % 3),
        (torch.randn(300, 2), torch.ones(300).long()),
        3,
        ("as is",),
    )
    whole, streamed = streams(data, batch_size)
    check_equal(whole, streamed)
    rows = 30 if batch_size == "full" else 8
    assert whole.facts == {
        "rows": {"train": 30, "validation": 300},
        "batch": [[[rows, 2], "float32"], [[rows], "int64"]],
        "transforms": ["as is"],
        "streamed": None,
    }


@pytest.mark.parametrize("batch_size", [5, "full"])
def test_images_too_many_for_the_device_give_the_same_batches(tmp_path: Path, batch_size: int | str) -> None:
    write_images(tmp_path, {"a": 9, "b": 8, "c": 7})
    whole, streamed = streams(image_folder(str(tmp_path), size=6), batch_size)
    check_equal(whole, streamed)
    assert whole.sizes["out_features"] == 3
    assert whole.facts["rows"] == {"train": 19, "validation": 5}


def test_the_facts_of_a_users_data_are_what_can_be_known() -> None:
    rows = TensorDataset(torch.randn(24, 2), torch.randn(24, 1))

    def facts(data: object) -> dict:
        return stream(data, DataSection(name="own:data"), 0, CPU).facts

    assert facts((DataLoader(rows, 6), DataLoader(rows, 8)))["rows"] == {"train": 24, "validation": 24}
    assert facts(DataLoader(rows, 6)) == {
        "rows": {"train": 24, "validation": 0},
        "batch": [[[6, 2], "float32"], [[6, 1], "float32"]],
        "transforms": None,
        "streamed": None,
    }
    of_a_list = facts(([{"x": torch.ones(2)}] * 3, None))
    assert of_a_list["rows"] == {"train": None, "validation": 0}
    assert of_a_list["batch"] is None


@pytest.mark.parametrize("batch_size", [8, "full", None])
def test_data_without_a_row_to_train_on_is_refused(batch_size: int | str | None) -> None:
    none, some = TensorDataset(torch.randn(0, 2)), TensorDataset(torch.randn(4, 2))
    with pytest.raises(UsageError, match="there are no rows to train on"):
        stream((none, some), DataSection(name="own:data", batch_size=batch_size), 0, CPU)


def test_the_number_of_tokens_is_that_of_the_vocabulary_and_not_of_the_classes() -> None:
    tokens, labels = torch.arange(60).reshape(10, 6), torch.arange(10) % 2
    data = TensorData((tokens, labels), (tokens, labels), classes=2, vocabulary=60)
    sizes = stream(data, DataSection(name="own:data"), 0, CPU).sizes
    assert sizes == {"sequence_length": 6, "vocabulary": 60, "out_features": 2}


def test_the_validation_share_reaches_a_built_in_data_set_too() -> None:
    experiment = check(
        "model: linear\ndata: {name: wine, validation: 0.5}\nloss: cross_entropy\noptimizer: sgd"
    )
    assert from_config(experiment).data["rows"] == {"train": 89, "validation": 89}
