"""Training resumed on a user's own data: the same batches again, whatever they are drawn from, or a refusal."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lrfind.errors import UsageError
from lrfind.experiments.checkpoint import load_checkpoint
from lrfind.runs.store import Run
from tests.experiments.test_train import Crash, crash_at, weights
from tests.helpers.runs import conduct, start

DATA = """
import random
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

def rows():
    make = torch.Generator().manual_seed(1)
    x = torch.randn(48, 4, generator=make)
    return TensorDataset(x, x[:, :1] + 0.1 * torch.randn(48, 1, generator=make))

class Augmented(Dataset):
    rng = np.random.default_rng(3)

    def __len__(self):
        return 48

    def __getitem__(self, row):
        x, y = rows()[row]
        noise = random.random() + np.random.rand() + torch.rand(()).item() + self.rng.random()
        return x + 0.1 * noise, y

class Streamed(IterableDataset):
    def __iter__(self):
        yield from (rows()[row] for row in torch.randperm(48).tolist())

def shuffled(): return DataLoader(rows(), batch_size=8, shuffle=True)
def sampled(): return DataLoader(rows(), batch_size=8, sampler=torch.utils.data.RandomSampler(rows(), replacement=True))
def augmented(): return DataLoader(Augmented(), batch_size=8, shuffle=True)
def streamed(): return DataLoader(Streamed(), batch_size=8)
def workers(): return DataLoader(Augmented(), batch_size=8, shuffle=True, num_workers=2, persistent_workers=True)
def unseeded(): return TensorDataset(torch.randn(48, 4), torch.randn(48, 1))

class Counting(Dataset):
    reads = 0

    def __len__(self):
        return 48

    def __getitem__(self, row):
        Counting.reads += 1
        return rows()[row][0] + 0.01 * Counting.reads, rows()[row][1]

def counting(): return DataLoader(Counting(), batch_size=8)
"""
WAY = (
    "model={name: mlp, args: {hidden: [8], dropout: 0.5, in_features: 4, out_features: 1}}",
    "optimizer={name: adam, lr: 0.01}",
    "training={steps: 20, checkpoint_every: 3}",
    "data.batch_size=null",
)


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data_to_resume.py").write_text(DATA)
    monkeypatch.syspath_prepend(tmp_path)


def way(data: str) -> tuple[str, ...]:
    return (*WAY, f"data={{name: 'data_to_resume:{data}'}}")


KINDS = ("shuffled", "sampled", "augmented", "streamed", "unseeded")


# Step 4 is in the first epoch, step 17 in the third. Worker processes take long to start, so they are tried once.
@pytest.mark.parametrize(("data", "step"), [*product(KINDS, (4, 17)), ("workers", 17)])
def test_a_resumed_training_sees_the_same_batches_and_masks(data: str, step: int, tmp_path: Path) -> None:
    calm = start(tmp_path / "calm", "train", *way(data))
    conduct(calm)
    run = start(tmp_path / "run", "train", *way(data))
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(0, step))
    conduct(Run.open(run.path))
    assert weights(run.path) == weights(calm.path)
    assert (run.path / "steps.csv").read_text() == (calm.path / "steps.csv").read_text()


def test_data_that_gives_other_batches_after_an_interruption_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(tmp_path / "run", "train", *way("counting"))
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(0, 17))
    files = {path: path.read_bytes() for path in run.path.iterdir() if path.suffix == ".pt"}
    with pytest.raises(UsageError, match=r"the data gives other batches .* delete it to start this lane"):
        conduct(Run.open(run.path))  # which goes on counting where the first process stopped
    assert files == {path: path.read_bytes() for path in run.path.iterdir() if path.suffix == ".pt"}


def test_no_flipped_bit_and_no_cut_of_a_checkpoint_is_accepted(tmp_path: Path) -> None:
    run = start(tmp_path / "run", "train", *way("shuffled"))
    with pytest.raises(Crash):
        conduct(run, watch=crash_at(0, 4))
    file = run.path / "checkpoint.seed0.pt"
    whole = file.read_bytes()
    draw = np.random.default_rng(0)
    flips = [(int(at), 1 << int(bit)) for at, bit in draw.integers((len(whole), 8), size=(25, 2))]
    flipped = [whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :] for at, bit in flips]
    for damaged in (*flipped, *(whole[:size] for size in (0, 20, len(whole) // 2, len(whole) - 1))):
        file.write_bytes(damaged)
        with pytest.raises(UsageError, match=r"is damaged, .* delete it to start this lane"):
            load_checkpoint(None, file, "whose")  # type: ignore[arg-type] # it is refused before it is used
    file.write_bytes(whole)
    conduct(Run.open(run.path))
