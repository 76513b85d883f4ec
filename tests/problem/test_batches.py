from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrfind.errors import UsageError
from lrfind.problem.batches import batch_loss, loader_batches, tensor_batches, to_device

CPU = torch.device("cpu")


class Two(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor, labels: torch.Tensor | None = None) -> object:
        loss = None if labels is None else (a + b - labels).square().mean()
        return SimpleNamespace(loss=loss, logits=a + b) if labels is not None else a + b


A, B, Y = torch.ones(3), torch.full((3,), 2.0), torch.zeros(3)


def test_the_loss_of_every_form_of_batch() -> None:
    mse = nn.functional.mse_loss
    assert batch_loss(nn.Identity(), mse, (A, Y)).item() == 1
    assert batch_loss(Two(), mse, [A, B, Y]).item() == 9
    assert batch_loss(Two(), None, {"a": A, "b": B, "labels": Y}).item() == 9
    assert batch_loss(Two(), None, (A, B, Y)).item() == 9
    by_dict = batch_loss(Two(), lambda out, batch: mse(out, 0 * batch["a"]), {"a": A, "b": B})
    assert by_dict.item() == 9
    assert batch_loss(nn.Identity(), lambda out, y: {"loss": out.mean()}["loss"], (A, Y)).item() == 1


def test_a_batch_that_is_only_an_input_or_an_object_goes_to_the_model_and_to_the_loss() -> None:
    class Graph:
        x, y = A, Y

    mse = nn.functional.mse_loss
    assert batch_loss(lambda x: x + 1, mse, A).item() == 1
    assert batch_loss(lambda x: x + 1, mse, [A]).item() == 1
    assert batch_loss(lambda graph: graph.x, lambda out, graph: mse(out, graph.y), Graph()).item() == 1


def test_a_dict_goes_whole_to_a_model_that_takes_it_whole() -> None:
    class Whole(nn.Module):
        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return batch["a"]

    class Wrapper(nn.Module):
        def __init__(self, name: str, model: nn.Module) -> None:
            super().__init__()
            setattr(self, name, model)
            self.inner = model

        def forward(self, *args: object, **kwargs: object) -> object:
            return self.inner(*args, **kwargs)

    for model in (Whole(), Wrapper("module", Wrapper("_orig_mod", Whole()))):
        loss = batch_loss(model, lambda out, batch: (out - batch["y"]).square().mean(), {"a": A, "y": Y})
        assert loss.item() == 1


def test_the_only_single_number_in_a_tuple_of_outputs_is_the_loss() -> None:
    assert batch_loss(lambda x, y: (x, (x - y).square().mean()), None, (A, Y)).item() == 1
    with pytest.raises(UsageError, match="the model's output .tuple. has no `loss`"):
        batch_loss(lambda x, y: (x.mean(), y.mean()), None, (A, Y))


@pytest.mark.parametrize(
    ("loss_fn", "batch", "message"),
    [
        (
            None,
            (A,),
            r"no `loss`\. Leave out .* collate_fn, or .*: loss=lambda batch: loss_fn\(model\(batch\[0\]\)",
        ),
        (None, {"input": A}, "no loss_fn, and the model's output .Tensor. has no `loss`"),
        (lambda out, y: out - y, (A, Y), r"one element; found shape \(3,\)\. Return its mean: loss.mean"),
        (lambda out, y: 1.0, (A, Y), "found the number 1, which has no gradient. Return the tensor itself"),
        (lambda out, y: (out != y).sum(), (A, Y), "found torch.int64. Return a floating-point number"),
        (lambda out, y: None, (A, Y), "found None. End the function with `return loss`"),
        (lambda out, y: (out, y), (A, Y), "found a tuple of 2 parts. Return the tensor to minimise alone"),
    ],
)
def test_a_wrong_batch_or_loss_is_explained(loss_fn: object, batch: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        batch_loss(nn.Identity(), loss_fn, batch)


def test_tensor_batches_go_through_every_row_once_in_a_seeded_order() -> None:
    rows = torch.arange(12)
    epoch = [batch[0] for batch in islice(tensor_batches((rows, rows), 4, seed=1), 6)]
    assert sorted(torch.cat(epoch[:3]).tolist()) == list(range(12))
    assert sorted(torch.cat(epoch[3:]).tolist()) == list(range(12))
    assert not torch.equal(torch.cat(epoch[:3]), torch.cat(epoch[3:]))
    again = [batch[0] for batch in islice(tensor_batches((rows, rows), 4, seed=1), 6)]
    assert all(map(torch.equal, epoch, again))
    other = next(tensor_batches((rows, rows), 4, seed=2))[0]
    assert not torch.equal(epoch[0], other)


def test_a_model_that_changes_a_batch_in_place_leaves_the_data_as_it_is() -> None:
    rows = torch.ones(4)
    batches = tensor_batches((rows,), 4, seed=0)
    next(batches)[0].zero_()
    assert next(batches)[0].tolist() == rows.tolist() == [1, 1, 1, 1]


def test_a_dict_of_losses_is_answered_with_their_sum() -> None:
    losses = {"loss_box": torch.tensor(1.0), "loss_class": torch.tensor(2.0)}
    message = (
        r"a dict of loss_box and loss_class, has no `loss`. .*loss=lambda batch: sum\(model\({}batch\).values"
    )
    for batch, stars in (((A, A), r"\*"), ({"x": A}, r"\*\*")):
        with pytest.raises(UsageError, match=message.format(stars)):
            batch_loss(lambda *args, **named: losses, None, batch)
    features = {"features": torch.zeros(2)}
    with pytest.raises(UsageError, match=r"a dict of features, has no `loss`. Leave out"):
        batch_loss(lambda *args: features, None, (A, A))


def test_a_model_of_transformers_without_labels_is_told_so() -> None:
    output = pytest.importorskip("transformers.modeling_outputs").SequenceClassifierOutput(logits=A)
    with pytest.raises(
        UsageError, match=r"of logits, has no .* has `labels`, .* the batch has x and label\."
    ):
        batch_loss(lambda **named: output, None, {"x": A, "label": A})


def test_rows_that_do_not_fill_a_batch_wait_for_another_epoch() -> None:
    batches = list(islice(tensor_batches((torch.arange(10),), 4, seed=0), 4))
    assert [len(batch[0]) for batch in batches] == [4, 4, 4, 4]


def test_a_loader_starts_again_and_an_empty_one_is_refused() -> None:
    assert list(islice(loader_batches([1, 2], CPU), 5)) == [1, 2, 1, 2, 1]
    with pytest.raises(UsageError, match="yields no batches"):
        next(loader_batches([], CPU))


def test_nested_batches_move_as_a_whole() -> None:
    batch = {"x": (A, [A, "text"]), "n": 3}
    moved = to_device(batch, torch.device("meta"))
    assert moved["x"][0].device.type == "meta"
    assert moved["x"][1][0].device.type == "meta"
    assert (moved["x"][1][1], moved["n"]) == ("text", 3)


def test_a_copy_to_the_cpu_is_complete_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[bool] = []
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, device, non_blocking: waits.append(not non_blocking) or tensor
    )
    for place in ("cpu", "cuda"):
        to_device(torch.zeros(2, device="meta"), torch.device(place))
    assert waits == [True, False]


def test_a_data_loader_in_this_process_gives_the_batches_that_it_gives_by_itself() -> None:
    rows = TensorDataset(torch.arange(7))
    loader = DataLoader(rows, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(3))
    given = [batch[0].tolist() for _ in range(2) for batch in loader]
    loader.generator.manual_seed(3)
    assert [batch[0].tolist() for batch in islice(loader_batches(loader, CPU), 8)] == given
