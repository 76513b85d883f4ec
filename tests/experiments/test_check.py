"""`lrfind check --batch`: the ways in which data, model and loss can fail to fit, each made on purpose."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lrfind.errors import UsageError
from lrfind.training.explanations.failures import explain, own_line, raise_explained
from lrfind.training.explanations.targets import broadcasts, misfit, silent_misfit
from tests.helpers.command import Command

OWN = """
import torch
from dataclasses import dataclass
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

class Rows(Dataset):
    def __init__(self, x=(3,), y=(1,), n=24, x_type="float32", y_type="float32", high=1, keys=None):
        make = torch.Generator().manual_seed(0)
        self.x = self.numbers(make, (n, *x), x_type, high)
        self.y = self.numbers(make, (n, *y), y_type, high)
        self.keys = keys
    def numbers(self, make, shape, kind, high):
        if kind.startswith("int") or kind == "uint8":
            numbers = torch.randint(0, high + 1, shape, generator=make)
            numbers.view(-1)[:high + 1] = torch.arange(high + 1)[:numbers.numel()]
            return numbers.to(getattr(torch, kind)).flip(0)
        return torch.randn(shape, generator=make).to(getattr(torch, kind))
    def __len__(self):
        return len(self.x)
    def __getitem__(self, i):
        return (self.x[i], self.y[i]) if self.keys is None else dict(zip(self.keys, (self.x[i], self.y[i])))

class Net(nn.Module):
    def __init__(self, inputs=3, outputs=1):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, 4), nn.Tanh())
        self.head = nn.Linear(4, outputs)
    def forward(self, x):
        return self.head(self.body(x))

def probabilities():
    return nn.Sequential(nn.Linear(3, 4), nn.Softmax(1))

def classes(outputs=4):
    return Net(outputs=outputs)

class Flat(Net):
    def forward(self, x):
        return super().forward(x).squeeze(-1)

class Tokens(nn.Module):
    def __init__(self, entries=5):
        super().__init__()
        self.table = nn.Embedding(entries, 2)
        self.head = nn.Linear(2, 1)
    def forward(self, x):
        return self.head(self.table(x).mean(1))

class Images(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3)
        self.head = nn.Linear(2, 1)
    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3)))

class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.GRU(7, 4, batch_first=True)
        self.head = nn.Linear(4, 1)
    def forward(self, x):
        return self.head(self.steps(x)[0][:, -1])

class Normed(Net):
    def __init__(self, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(width))

class Raising(Net):
    def forward(self, x):
        hidden = self.body(x)
        raise ValueError("only for images")

class Elsewhere(Net):
    def forward(self, x):
        return super().forward(x) + torch.zeros(1, 1, device="meta")

class Mover(Net):
    def forward(self, x):
        self.to("meta")
        return super().forward(x)

class OnMeta(Net):
    def forward(self, x):
        return super().forward(x).to("meta")

def meta():
    return nn.Linear(3, 1, device="meta")

class Detached(Net):
    def forward(self, x):
        return super().forward(x).detach()

class Quiet(Net):
    def forward(self, x):
        with torch.no_grad():
            hidden = self.body(x)
        return hidden.mean(1, keepdim=True)

class Argmax(Net):
    def forward(self, x):
        return super().forward(x).argmax(1, keepdim=True).float()

class Infinite(Net):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), Root())

class Root(nn.Module):
    def forward(self, x):
        return (x - 100).sqrt()

class Steep(Net):
    def forward(self, x):
        return (super().forward(x) * 0).abs().sqrt()

class Pair(Net):
    def forward(self, x):
        hidden = self.body(x)
        return self.head(hidden), hidden

class Named(Net):
    def forward(self, x):
        return {"logits": super().forward(x)}

@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor

class Answering(Net):
    def forward(self, x):
        hidden = self.body(x)
        return Answer(self.head(hidden), hidden)

class Spare(Net):
    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(2, 2)

class Masked(Net):
    def forward(self, x, mask):
        return super().forward(x * mask)

class Both(Net):
    def forward(self, x, y):
        return super().forward(x)

class Inner(Net):
    def forward(self, x):
        return self.head(self.body(x), x)

class Mixing(Net):
    def forward(self, x):
        return super().forward(x).reshape(-1, 2)

class InPlace(Net):
    def forward(self, x):
        hidden = self.body(x)
        made = self.head(hidden)
        hidden += 1
        return made

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.LazyLinear(1)
    def forward(self, x):
        return self.head(x)

class Failing(Rows):
    def __getitem__(self, i):
        return self.x[i], {}["label"]

class Ragged(Rows):
    def __getitem__(self, i):
        return torch.zeros(1 + i % 3), self.y[i]

class Single(Rows):
    def __getitem__(self, i):
        return self.x[i]

class Worded(Rows):
    def __getitem__(self, i):
        return self.x[i], "seven"

class Holes(Rows):
    def __getitem__(self, i):
        return self.x[i] * torch.nan, self.y[i]

class Endless(IterableDataset):
    def __iter__(self):
        return iter([(torch.ones(3), torch.ones(1))] * 10)

class Empty(IterableDataset):
    def __iter__(self):
        return iter([])

def one_row():
    return DataLoader(Rows(), batch_size=1)

def half_failing():
    return Rows(), Failing()

def none_held():
    return DataLoader(Rows(), 4), DataLoader(Rows()[:0] if False else [], 4)

def bad_loader():
    return DataLoader(Rows(n=3), batch_size=8, drop_last=True), None

def squeezing(output, y):
    return (output.squeeze(1) - y).square().mean()

def spread(output, y):
    return (output - y).square().mean()

def by_row(output, y):
    return (output - y).square()

def number(output, y):
    return (output - y).square().mean().item()

def detached(output, y):
    return (output.detach() - y).square().mean()

def logarithm(output, y):
    return (output - output).log().mean()

def pickle(output, y):
    raise KeyError("weights")

def unary(output):
    return output.mean()

def elsewhere(output, y):
    return spread(output, y).to("meta")

def of_batch(output, batch):
    return (output - batch["y"]).square().mean()
"""

CONFIG = """
name: own
model: own_for_fitting:Net
data: {name: "own_for_fitting:Rows", batch_size: 8}
loss: mse
optimizer: {name: sgd, lr: 0.1}
training: {steps: 4}
"""


@pytest.fixture(autouse=True)
def own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "own_for_fitting.py").write_text(OWN)
    (here / "own.yaml").write_text(CONFIG)
    monkeypatch.syspath_prepend(here)
    sys.modules.pop("own_for_fitting", None)


def overrides(text: str) -> list[str]:
    return [
        word for part in text.split(" | ") for word in ("--set", part.replace("own:", "own_for_fitting:"))
    ]


def data(**args: object) -> str:
    arguments = ", ".join(f"{key}: {value}" for key, value in args.items())
    return f"data={{name: 'own:Rows', batch_size: 8, args: {{{arguments}}}}}"


def test_a_batch_that_fits_is_reported_part_by_part(lrfind: Command) -> None:
    assert lrfind("check", "own.yaml", "--batch") == 0, lrfind.err
    batch, model, output, loss, gradient, validation, ok, _ = lrfind.out.splitlines()
    assert batch == "batch: x (8, 3) float32, y (8, 1) float32"
    assert model == "model: own_for_fitting:Net, 21 weights in 4 tensors, all trained"
    assert output == "output: (8, 1) float32"
    assert loss.startswith("loss: ")
    assert loss.endswith(" (mse), a scalar with a gradient")
    assert gradient == "gradient: reaches all 4 tensors"
    assert validation.startswith("validation: loss ")
    assert ", R^2 " in validation
    assert ok == "ok"
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("model='own:Spare'", "gradient: none at spare.weight, spare.bias, which took no part in the loss"),
        ("optimizer.param_groups=[{name: body, match: 'body.*', frozen: true}]", "model: own_for_fitting:Net, 5 of 21 weights are trained; frozen: body.*"),
        ("optimizer.param_groups=[{name: body, match: '*.bias', frozen: true}]", "are trained; frozen: body.0.bias, head.bias"),
        ("data={name: 'own:Endless', batch_size: 4}", "length: the data has none, so give the length of a training in steps, not in epochs"),
        ("data={name: 'own:Endless', batch_size: 4}", "validation: none; give the data as a pair (train, validation) for a validation loss"),
        ("model='own:Lazy'", "model: own_for_fitting:Lazy, with lazy layers, whose shapes come from the first batch"),
        (f"{data(keys='[x, y]')} | model='own:Both' | loss='own:of_batch'", "batch: a dict: x (8, 3) float32, y (8, 1) float32"),
        (f"{data(y='[]')} | loss='own:squeezing'", "ok"),
        (f"{data(y='[]', y_type='int64', high=3)} | model='own:classes' | loss=cross_entropy", ", accuracy "),
        (f"{data(y='[]', y_type='int64', high=3)} | model='own:probabilities' | loss=cross_entropy", "note: the output of the model holds probabilities (each row sums to 1)"),
        (data(y_type="int64"), "note: y is (8, 1) int64 but the output is float32: give mse y.to(torch.float32) (if y holds class numbers, use cross_entropy)"),
    ],
)  # fmt: skip
def test_what_is_unusual_is_reported_and_is_no_mistake(lrfind: Command, change: str, line: str) -> None:
    assert lrfind("check", "own.yaml", "--batch", *overrides(change)) == 0, lrfind.err
    assert line in lrfind.out
    assert "\nok\n  next: lrfind find" in lrfind.out


IMAGES = "data={name: 'own:Rows', batch_size: 8, args: {x: [%s]}} | model='own:Images'"
CLASSES = "model='own:classes' | loss=cross_entropy"


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        # the input
        (data(x="[5]"), ["model: layer 'body.0' (Linear) takes 3 numbers per row but gets 5: its input is (8, 5) float32.", "own_for_fitting.py:", "in forward: return self.head(self.body(x))", "RuntimeError: mat1 and mat2"]),
        (data(x="[1, 3, 1]"), ["takes 3 numbers per row but gets 1: its input is (8, 1, 3, 1) float32; flatten it first: x.flatten(1)"]),
        (data(x_type="float64"), ["layer 'body.0' (Linear) has weights of float32 but its input is (8, 3) float64: give the data as float32, x.float()"]),
        (data(x_type="uint8"), ["has weights of float32 but its input is (8, 3) uint8: give the data as float32, x.float()"]),
        (IMAGES % "1, 8, 8", ["layer 'conv' (Conv2d) takes 3 channels but gets 1: its input is (8, 1, 8, 8) float32"]),
        (IMAGES % "8, 8, 3", ["takes 3 channels but gets 8", "the channels are last: x.movedim(-1, 1)"]),
        (IMAGES % "64", ["takes (rows, 3 channels, height, width): its input is (8, 64) float32"]),
        ("data={name: 'own:Rows', batch_size: 8, args: {x: [8, 8]}} | model={name: 'own:Images', args: {channels: 1}}", ["takes (rows, 1 channel, height, width): its input is (8, 8, 8) float32; add the axis of channels: x.unsqueeze(1)"]),
        (f"{data(x='[5, 6]')} | model='own:Steps'", ["layer 'steps' (GRU) takes 7 numbers per step but gets 6"]),
        (f"{data(x='[5]')} | model='own:Tokens'", ["layer 'table' (Embedding) takes whole numbers, which are places in its table, but gets (8, 5) float32: give it x.long()"]),
        (f"{data(x='[5]', x_type='int64', high=9)} | model='own:Tokens'", ["layer 'table' (Embedding) has 5 entries, 0 to 4, but its input goes from "]),
        ("model={name: 'own:Normed', args: {width: 6}}", ["layer 'body.1' (BatchNorm1d) takes 6 channels but gets 4"]),
        ("model='own:Normed' | data={name: 'own:one_row'}", ["needs more than one number per channel to train", "use a larger data.batch_size"]),
        ("data={name: 'own:Holes', batch_size: 8}", ["data: x (8, 3) float32 of the first batch holds NaN or inf in 24 places"]),
        # the target
        (f"{data(y='[]', y_type='float32')} | {CLASSES}", ["loss: y is (8,) float32: cross_entropy takes class numbers, (8,) int64: y.long(); to predict numbers use mse."]),
        (f"{data(y='[1]', y_type='int64')} | {CLASSES}", ["y is (8, 1) int64: cross_entropy takes class numbers, (8,) int64: y.squeeze(-1)"]),
        (f"{data(y='[]', y_type='int32')} | {CLASSES}", ["y is (8,) int32: cross_entropy takes class numbers, (8,) int64: y.long()"]),
        (f"{data(y='[4]', y_type='int64')} | {CLASSES}", ["y is (8, 4) int64 and seems to be one-hot", "y.argmax(1)"]),
        (f"{data(y='[]', y_type='int64', high=7, n=8)} | {CLASSES} | data.batch_size=7", ["the model has 4 outputs per row, for the classes 0 to 3, but y goes from ", "set the model's out_features to "]),
        (f"{data(y='[]', y_type='int64')} | {CLASSES} | loss.args={{weight: [1, 2, 3]}}", ["loss: the weight of cross_entropy has 3 numbers for 4 classes."]),
        (f"{data(y='[]', y_type='int64')} | {CLASSES} | loss.args={{weight: [[1, 2, 3, 4]]}}", ["loss: the weight of cross_entropy is (1, 4) float32; it must be one list with a number for each class."]),
        (f"{data(y='[]', y_type='int64')} | model='own:Mixing' | loss=cross_entropy", ["the output has 4 rows and y has 8", "look for a reshape in forward that mixes rows."]),
        (f"{data(y='[]')} | loss=cross_entropy | model='own:Flat'", ["the output is (8,) float32, one number per row: cross_entropy takes one number for each class", "use bce_with_logits"]),
        (data(y="[]"), ["loss: mse compares number with number, but the output is (8, 1) float32 and y is (8,) float32, so every row would be compared with every other row; squeeze the output in forward: x.squeeze(-1), or give y as (8, 1)."]),
        ("model='own:Flat'", ["the output is (8,) float32 and y is (8, 1) float32", "squeeze y, or give y as (8,)"]),
        (f"{data(y='[]')} | loss='own:spread'", ["loss: own_for_fitting:spread compares number with number", "every row would be compared with every other row"]),
        (f"{data(y='[]', y_type='int64')} | model='own:classes'", ["if y holds class numbers, use cross_entropy"]),
        (data(y="[2]"), ["the output is (8, 1) float32 and y is (8, 2) float32; make the shapes equal: (8, 2) for the output (out_features?)"]),
        ("model='own:Mixing'", ["they have 4 and 8 rows; look for a reshape that mixes rows."]),
        (f"{data(y_type='int64')} | loss=huber", ["loss: y is (8, 1) int64 but the output is float32: give huber y.to(torch.float32)", "RuntimeError: Found dtype Long but expected Float"]),
        (f"{data(y_type='int64')} | loss=bce_with_logits", ["give bce_with_logits y.to(torch.float32)"]),
        # devices
        ("model='own:Elsewhere'", ["model: Elsewhere failed; its input was (8, 3) float32; a tensor in it is on another device", "create new tensors with device=x.device", 'return super().forward(x) + torch.zeros(1, 1, device="meta")']),
        ("model='own:Mover'", ["layer 'body.0' (Linear) has its weights on meta but its input on cpu; lrfind moves the model"]),
        ("model='own:OnMeta'", ["loss: mse failed", "on meta"]),
        ("model='own:meta'", ["model: it is created on the device 'meta', where tensors hold no numbers"]),
        ("loss='own:elsewhere'", ["loss: the loss is on meta, the batch is on cpu and the weights are on cpu", "move neither in your code"]),
        # the loss
        ("loss={name: mse, args: {reduction: none}}", ["loss: mse gives (8, 1) float32, but the loss must be a tensor with one element", "remove `reduction: none` from its args"]),
        ("loss='own:by_row'", ["loss: own_for_fitting:by_row gives (8, 1) float32", "or call .mean()"]),
        ("loss='own:number'", ["own_for_fitting:number gives a float, but the loss must be a tensor with one element: remove the call of .item()"]),
        ("loss='own:logarithm'", ["loss: it is -inf on the first batch, although batch and output are finite"]),
        ("loss='own:detached'", ["loss: it has no gradient, although the model's output has one, so the loss detaches it"]),
        ("loss='own:pickle'", ["loss: own_for_fitting:pickle failed; the output is (8, 1) float32, y is (8, 1) float32.", 'in pickle: raise KeyError("weights")', "KeyError: 'weights'"]),
        ("loss='own:unary'", ["loss: own_for_fitting:unary is called with the output and y; unary(output): too many positional arguments"]),
        ("loss=null", ["the batch has 2 parts, and forward gets 2 of them (all, as there is no `loss`); forward(x): too many positional arguments"]),
        (f"{data(keys='[x]')} | loss=null", ["there is no loss_fn, and the model's output (Tensor) has no `loss`"]),
        # the model's answer and its gradient
        ("model='own:Infinite'", ["model: its output, (8, 1) float32, holds NaN or inf, although the batch is finite: the first layer whose output is not finite is 'body.1' (Root)"]),
        ("model='own:Detached'", ["model: its output has no gradient, although the outputs of its layers have one, so forward detaches it"]),
        ("model='own:Argmax'", ["model: its output has no gradient, although the outputs of its layers have one"]),
        ("model='own:Quiet'", ["because the output of layer 'body.0' (Linear) has none", "under torch.no_grad()"]),
        ("model='own:Steep'", ["gradient: it is NaN or inf at body.0.weight, body.0.bias, head.weight, head.bias, although the loss is finite"]),
        ("model='own:InPlace'", ["model: forward changes a tensor in place that the gradient needs; write x = x + y, not x += y."]),
        ("model='own:Pair'", ["loss: the model's output is a tuple of 2: (8, 1) float32, (8, 4) float32, but mse takes one tensor: return only that tensor from forward, or write a loss (output, y) that picks it."]),
        ("model='own:Named'", ["the model's output is a dict: logits (8, 1) float32"]),
        ("model='own:Answering'", ["the model's output is an Answer: logits (8, 1) float32, hidden (8, 4) float32"]),
        ("model='own:Raising'", ["model: Raising failed; its input was (8, 3) float32.", 'in forward: raise ValueError("only for images")', "ValueError: only for images"]),
        ("optimizer.param_groups=[{name: all, match: '*', frozen: true}]", ["optimizer.param_groups: nothing is left to train"]),
        # the call
        ("model='own:Masked'", ["model: the batch has 2 parts, and forward gets 1 of them (all but the last); forward(x, mask): missing a required argument: 'mask'."]),
        ("model='own:Inner'", ["model: layer 'head' (Linear) is called with 2 arguments; forward(input): too many positional arguments", "in forward: return self.head(self.body(x), x)"]),
        (data(keys="[tokens, labels]"), ["forward gets the batch as one dict, as it has no arguments named tokens, labels"]),
        (f"{data(keys='[x, mask]')} | model='own:Masked'", ["loss: mse takes tensors, but gets the whole batch, a dict: x (8, 3) float32, mask (8, 1) float32", "remove `loss`"]),
        # the data
        ("data={name: 'own:Failing', batch_size: 8}", ["data: reading the first batch of 'own_for_fitting:Failing' failed: KeyError: 'label'", 'in __getitem__: return self.x[i], {}["label"]']),
        ("data={name: 'own:Ragged', batch_size: 8}", ["the rows of a batch have different shapes: pad them, or give a DataLoader with a collate_fn"]),
        ("data={name: 'own:Single', batch_size: 8}", ["loss: mse compares number with number, but the output is (2, 1) float32 and y is (2, 3) float32"]),
        ("data={name: 'own:Worded', batch_size: 8}", ["loss: mse takes tensors, but gets y, a tuple of 8"]),
        ("data={name: 'own:Empty', batch_size: 8}", ["the loader yields no batches"]),
        ("data={name: 'own:bad_loader'}", ["the loader yields no batches; is drop_last on with too few rows?"]),
        ("data={name: 'own:none_held'}", ["validation: data: the validation split yields no batches"]),
        ("data={name: 'own:half_failing', batch_size: 8}", ["validation: ", 'in __getitem__: return self.x[i], {}["label"]', "KeyError: 'label'"]),
        ("data={name: 'own:Endless', batch_size: 4} | training={epochs: 2}", ["training.epochs: the data has no length; give training.steps instead"]),
        ("range_test.group=head", ["range_test.group: unknown param group 'head'"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_to_do(lrfind: Command, change: str, messages: list[str]) -> None:
    assert lrfind("check", "own.yaml", "--batch", *overrides(change)) == 2, lrfind.out
    assert lrfind.err.startswith("error: ")
    for message in messages:
        assert message in lrfind.err
    assert "Traceback" not in lrfind.err


def test_a_run_explains_its_first_step_as_the_check_does(lrfind: Command) -> None:
    for command in (("range-test",), ("grid", "--lrs", "0.1"), ("train",)):
        assert lrfind(*command, "own.yaml", *overrides(data(x="[5]"))) == 2
        message = (
            "first training step failed: model: layer 'body.0' (Linear) takes 3 numbers per row but gets 5"
        )
        assert f"error: the {message}" in lrfind.err
        assert "RuntimeError: mat1 and mat2 shapes" in lrfind.err
        assert "own_for_fitting.py:" in lrfind.err
    assert lrfind("grid", "own.yaml", *overrides("loss='own:by_row'")) == 2
    assert "error: loss: own_for_fitting:by_row gives (8, 1) float32" in lrfind.err
    assert lrfind("train", "own.yaml", *overrides(f"{data(y_type='int64')} | loss=huber")) == 2
    assert "output and y are of different types; for a loss that compares numbers, make y float" in lrfind.err


OWN_RULES = """
import torch

class NeedsClosure(torch.optim.SGD):
    def step(self, closure):
        return super().step(closure)

class Ascending(torch.optim.SGD):
    def step(self, closure=None):
        assert closure is not None, "two forward passes"

def late(step, steps):
    return float("nan") if step == steps - 1 else 1.0

def alone():
    return torch.utils.data.TensorDataset(torch.ones(24, 3), torch.ones(24, 1)), None
"""
PLATEAU = "{name: reduce_on_plateau, args: {warmup: %s}}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer={name: 'torch.optim:LBFGS'}", "closure"),
        ("optimizer={name: 'own_rules:NeedsClosure'}", "closure"),
        ("optimizer={name: 'own_rules:Ascending'}", "AssertionError: two forward passes"),
        ("compare={optimizers: [sgd, 'own_rules:Ascending']}", "AssertionError: two forward passes"),
        ("compare={optimizers: [adam, {name: sgd, args: {nesterov: true}}]}", "ValueError: Nesterov"),
        ("training={steps: 9, schedule: 'own_rules:late'}", "own_rules:late must give a number of 0 or more for each of the 9 steps"),
        ("compare={schedules: [constant, 'own_rules:late']}", "own_rules:late must give a number"),
        ("compare={schedules: [constant]}", "compare: there is only constant; name at least two"),
        ("training={epochs: 2, schedule: {name: cosine, args: {warmup: 500}}}", "warmup must be shorter than the run"),
        ("training={steps: 2, schedule: {name: linear, args: {warmup: 2 epochs}}}", "warmup must be shorter than the run, which has 2 steps"),
        ("training={steps: 9, schedule: {name: one_cycle, args: {momentum: [0.9, 0.8]}}} | optimizer='torch.optim:Adagrad'", "Adagrad has no momentum that a schedule could change"),
        (f"data.validation=null | data='own_rules:alone' | training={{steps: 9, eval_every: 3, schedule: {PLATEAU % 2}}}", "watches the validation loss, but the data has no validation part"),
        ("training={epochs: 1, accumulate: 50}", "training.accumulate: a step takes 50 batches"),
    ],
)  # fmt: skip
def test_what_every_training_refuses_is_found_without_one(
    lrfind: Command, here: Path, change: str, message: str
) -> None:
    (here / "own_rules.py").write_text(OWN_RULES)
    assert lrfind("check", "own.yaml", "--batch", *overrides(change)) == 2, lrfind.out
    assert message in lrfind.err
    assert "Traceback" not in lrfind.err


def test_schedules_and_optimizers_that_fit_pass_the_check(lrfind: Command) -> None:
    training = f"training={{steps: 9, eval_every: 3, schedule: {PLATEAU % 2}}}"
    for change in (
        training,
        "compare={optimizers: [sgd, adamw]}",
        "compare={schedules: [cosine, one_cycle]}",
    ):
        assert lrfind("check", "own.yaml", "--batch", *overrides(change)) == 0, lrfind.err
        assert "\nok\n  next: lrfind find" in lrfind.out


def test_a_plain_check_imports_nothing(lrfind: Command, here: Path) -> None:
    assert lrfind("check", "own.yaml", "--imports") == 0
    assert lrfind.out.startswith("ok: own: ")
    (here / "own_for_fitting.py").write_text("raise RuntimeError('imported')")
    code = "import sys; from lrfind.cli.main import run; assert run(['check', 'own.yaml']) == 0; print({'torch', 'numpy'} & {*sys.modules})"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.endswith("set()\n"), process.stderr
    sys.modules.pop("own_for_fitting")
    assert lrfind("check", "own.yaml", "--batch") == 2
    assert (
        "importing 'own_for_fitting' failed: RuntimeError: imported\n  own_for_fitting.py:1, in <module>: raise"
        in lrfind.err
    )


def test_an_error_without_an_explanation_is_quoted() -> None:
    assert "--set device=cpu" in explain(RuntimeError("CUDA error: device-side assert triggered"))
    assert own_line(ValueError("never raised")) == ""
    with pytest.raises(UsageError) as refused:
        raise_explained(ValueError("odd"))
    message = str(refused.value)
    assert message.endswith("fit together (shapes, dtypes, number of outputs).")


def test_a_loss_broadcasts_if_the_order_of_y_does_not_matter_to_it() -> None:
    output, y = torch.randn(6, 1), 1e5 + torch.randn(6)
    assert broadcasts(lambda o, y: (o - y).square().mean(), output, y - 1e5)
    assert not broadcasts(lambda o, y: (o.squeeze(1) - y).square().mean(), output, y - 1e5)
    assert not broadcasts(lambda o, y: (o.squeeze(1) - y).square().mean(), output, y)
    assert not broadcasts(lambda o, y: (o.squeeze(1) - y).square().mean(), 0 * output, y)
    assert not broadcasts(lambda o, y: o.mean(), output, y)
    assert not broadcasts(lambda o, y: (o - y).square().mean(), output, y[:, None])


def test_losses_over_pixels_and_steps_take_classes_on_axis_1() -> None:
    loss = nn.CrossEntropyLoss(ignore_index=-1)
    output, y = torch.zeros(2, 5, 7), torch.zeros(2, 5, dtype=torch.int64)
    assert "takes the classes on axis 1" in str(misfit(loss, output, y))
    assert misfit(loss, output.movedim(-1, 1), y) is None
    assert misfit(loss, output.movedim(-1, 1), y - 1) is None
    assert "count classes from 0, or give the loss that value as ignore_index" in str(
        misfit(loss, output.movedim(-1, 1), y - 2)
    )
    assert "y is (2, 4) int64 and the output is (2, 7, 5)" in str(
        misfit(loss, output.movedim(-1, 1), y[:, :4])
    )
    assert silent_misfit(loss, output, y) is None
    assert "count classes from 0" in str(misfit(loss, torch.zeros(3, 2), torch.tensor([1, 2, 1])))
